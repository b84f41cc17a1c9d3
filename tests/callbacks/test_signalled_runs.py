"""A signal in the middle of a run: its state is saved, training stops, and the rerun goes on to the bit."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks import (
    CheckpointStore,
    EveryNEpochs,
    PeriodicCheckpoint,
    WarmStartCallback,
)
from paddle_warm_callbacks.errors import InvalidArgumentError
from tests.callbacks.runs import STEPS, Losses, Points, bits, fit, model, names


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_at_the_steps_end_and_stops(tmp_path: Path, number: signal.Signals) -> None:
    class Kill(Losses):
        def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
            if (self.epoch, step) == (1, 1):
                os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    losses, callback = Kill(), PeriodicCheckpoint(str(tmp_path), save=EveryNEpochs(50))
    fit(model(), callback, losses)
    assert max(losses.seen) == (1, 1)
    assert callback.preempted_by == number.name
    assert names(tmp_path) == [f"step-{STEPS + 2:08d}"]
    assert signal.getsignal(number) is before


def test_the_signals_can_be_chosen(tmp_path: Path) -> None:
    class Kill(Losses):
        def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
            if (self.epoch, step) == (1, 1):
                os.kill(os.getpid(), signal.SIGUSR2)

    callback = PeriodicCheckpoint(str(tmp_path), save=EveryNEpochs(50), save_on_signal=["SIGUSR2"])
    fit(model(), callback, Kill())
    assert callback.preempted_by == "SIGUSR2"
    for wrong in (["SIGTREM"], ["SIGKILL"], "SIGTERM"):
        with pytest.raises(InvalidArgumentError, match="SIGUSR2"):
            PeriodicCheckpoint(str(tmp_path), save_on_signal=wrong)


def test_a_signal_during_evaluation_saves_the_state_before_it_at_once(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    class Kill(Losses):
        def on_eval_batch_begin(self, step: int, logs: Any = None) -> None:
            if step == 0 and self.epoch == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            if step == 2 and self.epoch == 1:
                seen.append(names(tmp_path))

    losses = Kill()
    fit(model(), PeriodicCheckpoint(str(tmp_path), save=EveryNEpochs(50)), losses, eval_data=Points())
    assert seen == [[f"step-{2 * STEPS:08d}"]], "on disk before the evaluation has ended"
    assert max(losses.seen)[0] == 1
    (after,) = CheckpointStore(str(tmp_path)).list()
    assert after.progress.epoch == 2, "the later takes the earlier one's place"


def test_a_signal_while_data_is_awaited_saves_at_once(tmp_path: Path) -> None:
    in_time: list[bool] = []

    class Slow(Points):
        """The fifth batch arrives only once the checkpoint is there."""

        asked = 0

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            Slow.asked += 1
            if Slow.asked == 4 * STEPS + 5:
                os.kill(os.getpid(), signal.SIGTERM)
                deadline = time.monotonic() + 20
                while not callback.events and time.monotonic() < deadline:
                    time.sleep(0.01)
                in_time.append(bool(callback.events))
            return super().__getitem__(index)

    callback = PeriodicCheckpoint(str(tmp_path), save=EveryNEpochs(50))
    loader = paddle.io.DataLoader(Slow(), batch_size=4, use_buffer_reader=False)
    losses = Losses()
    model().fit(loader, epochs=3, callbacks=[callback, losses], verbose=0)
    assert in_time == [True]
    assert callback.preempted_by == "SIGTERM"
    assert len(callback.events) == 1, "one signal, one checkpoint"
    (saved,) = CheckpointStore(str(tmp_path)).list()
    assert saved.progress.global_step == len(losses.seen), "no step is done after it, to be done again"


class CountsEpochs(paddle.callbacks.Callback):  # type: ignore[misc]
    """A user's callback with a state that each epoch's beginning changes, and a signal at the fourth's first sample."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.begun += 1

    def state_dict(self) -> dict[str, int]:
        return {"begun": self.begun}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.begun = state["begun"]


@pytest.mark.parametrize("sample", [4 * STEPS + 1, 4 * STEPS + 5, 2 * 4 * STEPS + 1])
def test_a_run_stopped_while_it_waits_for_data_goes_on_to_the_bit(tmp_path: Path, sample: int) -> None:
    class Slow(Points):
        def __init__(self, signals: bool) -> None:
            self.asked, self.signals = 0, signals

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            self.asked += 1
            if self.signals and self.asked == sample:
                os.kill(os.getpid(), signal.SIGTERM)
                deadline = time.monotonic() + 20
                while not saver.events and time.monotonic() < deadline:
                    time.sleep(0.01)
            return super().__getitem__(index)

    saver: Any = None

    def train(run_dir: Path, signals: bool) -> tuple[paddle.Model, Losses, CountsEpochs, PeriodicCheckpoint]:
        nonlocal saver
        np.random.seed(5)
        trained, losses, counted = model(), Losses(), CountsEpochs()
        saver = PeriodicCheckpoint(run_dir, save=EveryNEpochs(50))
        start = WarmStartCallback(run_dir=run_dir, resume_from="latest")
        loader = paddle.io.DataLoader(Slow(signals), batch_size=4, shuffle=True, use_buffer_reader=False)
        trained.fit(loader, epochs=4, callbacks=[start, counted, saver, losses], verbose=0)
        return trained, losses, counted, saver

    whole, every, counted, _ = train(tmp_path / "whole", False)
    _, before, _, stopped = train(tmp_path / "cut", True)
    assert [event.name for event in stopped.events] == names(tmp_path / "cut")
    assert len(stopped.events) == 1
    assert 0 < len(before.seen) < len(every.seen)
    again, after, counted_again, _ = train(tmp_path / "cut", False)
    assert bits(again) == bits(whole)
    assert {**before.seen, **after.seen} == every.seen
    assert len(before.seen) + len(after.seen) == len(every.seen), "no step is done twice"
    assert counted_again.begun == counted.begun


def test_the_log_of_a_signal_says_how_to_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Kill(Losses):
        def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    fit(
        model(),
        PeriodicCheckpoint(tmp_path),
        WarmStartCallback(run_dir=tmp_path, resume_from="latest"),
        Kill(),
    )
    assert "run the same command again to go on" in caplog.text
    caplog.clear()
    fit(model(), PeriodicCheckpoint(tmp_path / "other"), Kill())
    assert "same command" not in caplog.text
    assert 'add WarmStartCallback(run_dir=…, resume_from="latest")' in caplog.text
