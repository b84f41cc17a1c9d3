"""An exception in the middle of a run: what save=OnException() saves, and when it saves nothing."""

from __future__ import annotations

import logging
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks import (
    CheckpointStore,
    EveryNEpochs,
    OnException,
    PeriodicCheckpoint,
    WarmStartCallback,
)
from tests.callbacks.runs import STEPS, Interrupted, Losses, Points, bits, fit, model


class Failing(Points):
    """Raises after so many samples, over all workers; with noise, so that the order of draws matters."""

    def __init__(self, samples: int | None) -> None:
        self.left = None if samples is None else multiprocessing.Value("i", samples)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if self.left is not None:
            with self.left:
                self.left.value -= 1
                if self.left.value < 0:
                    raise OSError("the disk is gone")
        x, label = super().__getitem__(index)
        return x + np.random.normal(size=3).astype("float32"), label


# Without workers there is nothing to save: Paddle's own reader hangs when a data set raises.
@pytest.mark.parametrize("samples", [5 * 4 + 1, 6 * 4 + 2, 7 * 4])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # Paddle's reader thread
def test_the_state_before_a_failing_batch_is_saved_and_resumed_to_the_bit(
    tmp_path: Path, samples: int, workers: int
) -> None:
    def train(run_dir: Path, samples: int | None, *callbacks: Any) -> paddle.Model:
        np.random.seed(3)
        trained = model()
        loader = paddle.io.DataLoader(
            Failing(samples), batch_size=4, shuffle=True, num_workers=workers, use_buffer_reader=False
        )
        saver = PeriodicCheckpoint(run_dir, save=EveryNEpochs(9) | OnException())
        start = WarmStartCallback(run_dir=run_dir, resume_from="latest")
        trained.fit(loader, epochs=3, callbacks=[start, saver, *callbacks], verbose=0)
        return trained

    straight = train(tmp_path / "straight", None)
    with pytest.raises(SystemError, match="data reader raises an exception"):
        train(tmp_path / "cut", samples)
    saved = CheckpointStore(str(tmp_path / "cut")).latest_verified()
    assert saved is not None
    assert saved.progress.global_step >= 1
    losses = Losses()
    assert bits(train(tmp_path / "cut", None, losses)) == bits(straight)
    assert len(losses.seen) == 3 * STEPS - saved.progress.global_step


class FailsInEvaluation(paddle.callbacks.Callback):  # type: ignore[misc]
    """Ends the second epoch's evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = 0

    def on_eval_batch_begin(self, step: int, logs: Any = None) -> None:
        self.begun += 1
        if self.begun == STEPS + 2:
            raise Interrupted


def test_an_exception_in_an_evaluation_saves_what_it_was_made_of(tmp_path: Path) -> None:
    def callbacks(run_dir: Path, save: Any) -> list[Any]:
        return [
            WarmStartCallback(run_dir=run_dir, resume_from="latest"),
            PeriodicCheckpoint(run_dir, save=save, save_on_signal=False),
        ]

    straight = model()
    fit(straight, *callbacks(tmp_path / "straight", EveryNEpochs(9)), eval_data=Points(), epochs=3)
    saving, control = EveryNEpochs(9) | OnException(), EveryNEpochs(9)
    for save, kept in ((saving, [2 * STEPS]), (control, [])):
        run_dir = tmp_path / f"kept {len(kept)}"
        with pytest.raises(Interrupted):
            fit(model(), *callbacks(run_dir, save), FailsInEvaluation(), eval_data=Points(), epochs=3)
        assert [c.progress.global_step for c in CheckpointStore(str(run_dir)).list()] == kept
    resumed = model()
    fit(resumed, *callbacks(tmp_path / "kept 1", saving), eval_data=Points(), epochs=3)
    assert bits(resumed) == bits(straight)


def test_an_exception_within_a_step_saves_nothing(tmp_path: Path) -> None:
    saver = PeriodicCheckpoint(tmp_path, save=EveryNEpochs(9) | OnException())
    with pytest.raises(Interrupted):
        fit(model(), saver, Losses(fail_after=(1, 0)), epochs=3)
    assert not CheckpointStore(str(tmp_path)).list()


def test_an_ended_run_says_where_the_same_command_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def said() -> list[str]:
        found = [r.getMessage() for r in caplog.records if "an exception has ended fit" in r.getMessage()]
        assert all(r.levelno == logging.WARNING for r in caplog.records if r.getMessage() in found)
        caplog.clear()
        return found

    def train(*callbacks: Any) -> None:
        start = WarmStartCallback(run_dir=tmp_path / "run", resume_from="latest")
        fit(model(), start, PeriodicCheckpoint(tmp_path / "run"), *callbacks, epochs=3)

    with pytest.raises(Interrupted):
        train(Losses((0, 1)))
    (line,) = said()
    assert "after step 2; no checkpoint had been taken: run again, it begins anew" in line
    with pytest.raises(Interrupted):
        train(Losses((1, 1)))
    (line,) = said()
    newest = CheckpointStore(tmp_path / "run").list()[-1].name
    assert f"the newest checkpoint is {newest}: the same command, run again, goes on from there" in line
    train()
    assert said() == []
