"""What a detector needs of a fit beside its loss: the epoch's number."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import paddle

from recipes.detection.fitting import EpochNumber
from tests.callbacks.runs import BATCH, STEPS, Interrupted, Losses, Points, model
from tests.recipes.test_fitting import resumable


class Epochs(Points):
    """Points that note the epochs they are told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.told.append(epoch)


def test_network_and_dataset_are_told_the_true_epoch_after_a_resume_too(tmp_path: Path) -> None:
    def told(*callbacks: Any) -> tuple[list[int], int]:
        data, trained = Epochs(), model()
        loader = paddle.io.DataLoader(data, batch_size=BATCH, shuffle=True)
        with contextlib.suppress(Interrupted):
            trained.fit(
                loader, epochs=4, verbose=0, callbacks=[*resumable(tmp_path), EpochNumber(), *callbacks]
            )
        return data.told, trained.network.epoch

    assert told(Losses(fail_after=(2, STEPS - 2))) == ([0, 1, 2], 2)
    assert told() == ([2, 3], 3)
