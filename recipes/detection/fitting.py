"""What a detector needs of ``fit`` beside losses and metrics: its epoch's number."""

from __future__ import annotations

from paddle_warm_callbacks.hapi.callback import FitCallback
from paddle_warm_callbacks.hapi.fit_loop import FitLoop


class EpochNumber(FitCallback):
    """Tell detector and dataset which epoch it is: some assign boxes, or mix images, in another way at first."""

    def epoch_starting(self, loop: FitLoop) -> None:
        """Set the number that a resumed run is at, too."""
        loop.network.epoch = loop.progress.epoch
        loop.train_loader.dataset.set_epoch(loop.progress.epoch)
