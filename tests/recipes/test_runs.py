"""The runs of a recipe: one that a signal stops does not count as done, and goes on."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle
import pytest

from recipes.common.runs import Runs, Start, Stopped
from tests.callbacks.runs import BATCH, Points, bits, model
from tests.recipes.commands import newest

EPOCHS = 3


@dataclass
class Config:
    """A recipe's configuration."""

    seed: int = 0


class Signal(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
    """Sends a signal to this process in the second epoch."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def fitted(folder: Path, *callbacks: Any) -> dict[str, bytes]:
    trained = model()
    Runs(folder, Config()).fit(
        "new",
        trained,
        (Points(), Points()),
        epochs=EPOCHS,
        labels=["a", "b", "c"],
        trained_on=folder,
        start=Start(),
        callbacks=callbacks,
        batch_size=BATCH,
    )
    return bits(trained)


def test_a_run_that_a_signal_stops_is_not_done_and_the_same_command_goes_on(tmp_path: Path) -> None:
    expected = fitted(tmp_path / "control")
    with pytest.raises(Stopped, match="SIGTERM"):
        fitted(tmp_path / "stopped", Signal())
    assert newest(tmp_path / "stopped" / "new").manifest.progress.epoch < EPOCHS
    assert fitted(tmp_path / "stopped") == expected
