"""The same command again after a run's end: with more epochs it goes on, else it says that nothing is left."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import paddle
import pytest

from paddle_warm_callbacks import (
    PeriodicCheckpoint,
)
from tests.callbacks.runs import (
    STEPS,
    Losses,
    Points,
    bits,
    fit,
    model,
    resumed,
)


def test_more_epochs_are_fine(tmp_path: Path) -> None:
    control, continued = model(), model()
    fit(control, PeriodicCheckpoint(str(tmp_path / "control")), epochs=4)
    fit(model(), PeriodicCheckpoint(str(tmp_path)), epochs=2)
    fit(continued, resumed(tmp_path), epochs=4)
    assert bits(continued) == bits(control)


def test_a_finished_run_trains_no_more(tmp_path: Path) -> None:
    finished, again, losses = model(), model(), Losses()
    fit(finished, PeriodicCheckpoint(str(tmp_path)), epochs=2)
    fit(again, resumed(tmp_path), PeriodicCheckpoint(str(tmp_path)), losses, epochs=2)
    assert losses.seen == {}
    assert bits(again) == bits(finished)


def nothing_left(caplog: pytest.LogCaptureFixture) -> list[str]:
    said = [r.getMessage() for r in caplog.records if "nothing is left to train" in r.getMessage()]
    caplog.clear()
    return said


def test_a_finished_run_says_that_nothing_is_left_and_what_would_change_that(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "paddle_warm_callbacks")
    fit(model(), resumed(tmp_path), PeriodicCheckpoint(str(tmp_path)), epochs=2)
    assert nothing_left(caplog) == []
    fit(model(), resumed(tmp_path), epochs=2)
    (said,) = nothing_left(caplog)
    assert "2 epochs are done, and fit(epochs=2) asks for no more" in said
    losses = Losses()
    fit(model(), resumed(tmp_path), losses, epochs=3)
    assert nothing_left(caplog) == []
    assert {epoch for epoch, _ in losses.seen} == {2}, "as it says, a greater number trains on"


def test_so_does_one_that_num_iters_or_a_callback_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "paddle_warm_callbacks")
    for _ in range(2):
        fit(model(), resumed(tmp_path), PeriodicCheckpoint(str(tmp_path)), epochs=9, num_iters=STEPS)
    (said,) = nothing_left(caplog)
    assert f"num_iters={STEPS} is used up" in said
    stopped = tmp_path / "stopped"
    for _ in range(2):
        stopping = paddle.callbacks.EarlyStopping(
            "acc", patience=1, verbose=0, save_best_model=False, baseline=2
        )
        saver = PeriodicCheckpoint(stopped)
        fit(model(), resumed(stopped), saver, stopping, epochs=9, eval_data=Points())
    (said,) = nothing_left(caplog)
    assert "WarmStartCallback(source=…) with a new run_dir" in said


def test_a_run_that_early_stopping_ended_stays_ended(tmp_path: Path) -> None:
    def stopping() -> Any:
        return paddle.callbacks.EarlyStopping(
            "acc", patience=1, verbose=0, save_best_model=False, baseline=2.0
        )

    control = Losses()
    fit(model(), PeriodicCheckpoint(str(tmp_path)), stopping(), control, epochs=5, eval_data=Points())
    assert max(control.seen)[0] == 0
    losses, warm = Losses(), resumed(tmp_path)
    fit(model(), warm, stopping(), losses, epochs=5, eval_data=Points())
    assert losses.seen == {}
    assert warm.report is not None
    assert any("early stopping" in note for note in warm.report.notes)
