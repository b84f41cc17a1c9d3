"""Checkpoints fall where policies say, hold one step's state, and leave nothing behind."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks import (
    CheckpointStore,
    EveryNEpochs,
    EveryNSeconds,
    EveryNSteps,
    KeepBest,
    KeepLatest,
    OnNewBest,
    PeriodicCheckpoint,
    Stage,
    StagedUnfreeze,
    WarmStartCallback,
)
from paddle_warm_callbacks.callbacks import periodic_checkpoint
from paddle_warm_callbacks.errors import CheckpointWriteError, InvalidArgumentError, RunDirectoryBusyError
from paddle_warm_callbacks.hapi.callback import FitCallback
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.plan.saving import SaveMoment, SavePolicy
from tests.callbacks.runs import STEPS, Interrupted, Losses, Points, bits, fit, model, names


def test_checkpoints_fall_where_the_policy_says(tmp_path: Path) -> None:
    callback = PeriodicCheckpoint(str(tmp_path), save=EveryNEpochs(1) | EveryNSteps(2), keep=KeepLatest(99))
    fit(model(), callback, epochs=2)
    assert names(tmp_path) == [
        "step-00000002",
        "step-00000003-epoch-0001",
        "step-00000004",
        "step-00000006-epoch-0002",
    ]
    assert [event.name for event in callback.events] == names(tmp_path)


class Shown(FitCallback):
    """What was put up to be logged."""

    def fit_closed(self, loop: FitLoop) -> None:
        self.points = loop.board.points


def test_one_position_is_one_checkpoint_and_one_row_of_each_log(tmp_path: Path) -> None:
    saver = PeriodicCheckpoint(str(tmp_path), save=EveryNSteps(1), keep=KeepLatest(3))
    shown = Shown()
    fit(model(), saver, shown, epochs=2, eval_data=Points())
    assert names(tmp_path) == ["step-00000004", "step-00000005", "step-00000006-epoch-0002"]
    before_evaluation = ["step-00000003", "step-00000006"]
    assert set(before_evaluation) < {event.name for event in saver.events}, "an evaluation may take long"
    steps = [step for tag, step, _ in shown.points if tag == "checkpoint/seconds_to_durable"]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_what_is_due_at_an_epochs_last_step_without_an_evaluation_is_saved_once_at_its_end(
    tmp_path: Path,
) -> None:
    class InTheMiddle(SavePolicy):
        """A user's policy that is never due at an epoch's end."""

        def due(self, now: SaveMoment, last: SaveMoment | None) -> bool:
            return not now.epoch_completed and now.progress.global_step % STEPS == 0

    for policy in (EveryNSteps(STEPS), InTheMiddle()):
        saver = PeriodicCheckpoint(tmp_path / type(policy).__name__, save=policy)
        fit(model(), saver, epochs=2)
        assert [event.name for event in saver.events] == [
            "step-00000003-epoch-0001",
            "step-00000006-epoch-0002",
        ]


def test_seconds_of_wall_clock_are_counted_from_the_save_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0

    class Slow(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
        def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
            nonlocal now
            now += 10

    monkeypatch.setattr(periodic_checkpoint, "time", SimpleNamespace(monotonic=lambda: now))
    callback = PeriodicCheckpoint(str(tmp_path), save=EveryNSeconds(25), keep=KeepLatest(99))
    fit(model(), callback, Slow(), epochs=3)
    assert [int(name[5:13]) for name in names(tmp_path)] == [3, 6, 9]


def test_retention_keeps_what_it_is_told_and_the_newest(tmp_path: Path) -> None:
    fit(model(), PeriodicCheckpoint(str(tmp_path), save=EveryNSteps(1), keep=KeepLatest(2)), epochs=2)
    assert len(names(tmp_path)) == 2
    assert names(tmp_path)[-1] == "step-00000006-epoch-0002"


def test_a_frozen_body_is_written_once_and_the_run_goes_on_to_the_bit(tmp_path: Path) -> None:
    def stages() -> StagedUnfreeze:
        return StagedUnfreeze([Stage(0, "fc"), Stage(3, ".*")])

    def saving(name: str) -> PeriodicCheckpoint:
        return PeriodicCheckpoint(str(tmp_path / name), keep=KeepLatest(99), layout="shards")

    def wide(seed: int = 0) -> Any:
        paddle.seed(seed)
        network = paddle.nn.Sequential(
            ("body", paddle.nn.Linear(3, 50)),
            ("deep", paddle.nn.Linear(50, 50)),
            ("fc", paddle.nn.Linear(50, 3)),
        )
        made = paddle.Model(network)
        adam = paddle.optimizer.Adam(0.01, parameters=network.parameters())
        made.prepare(adam, paddle.nn.CrossEntropyLoss(), paddle.metric.Accuracy())
        return made

    whole, again = wide(), wide(seed=9)
    fit(whole, stages(), saving("whole"), epochs=4)
    with pytest.raises(Interrupted):
        fit(wide(), stages(), saving("killed"), Losses(fail_after=(1, STEPS - 1)), epochs=4)
    warm = WarmStartCallback(run_dir=str(tmp_path / "killed"), resume_from="latest")
    fit(again, warm, stages(), saving("killed"), epochs=4)
    assert bits(again) == bits(whole)
    first, second, *_, last = CheckpointStore(str(tmp_path / "whole")).list()
    homes = [
        {t.name: t.stored_in for t in c.read_tensors() if t.file == "model.pdparams"}
        for c in (first, second, last)
    ]
    assert homes[0]["deep.weight"] == homes[1]["deep.weight"] != homes[2]["deep.weight"]
    assert homes[0]["fc.weight"] != homes[1]["fc.weight"]


def test_the_last_state_is_saved_even_if_no_policy_asks(tmp_path: Path) -> None:
    trained = model()
    fit(trained, PeriodicCheckpoint(str(tmp_path), save=EveryNEpochs(50)), epochs=2)
    (last,) = CheckpointStore(str(tmp_path)).list()
    assert {name: array.tobytes() for name, array in last.read_model().items()} == bits(trained)


def test_each_file_holds_the_state_of_exactly_one_step(tmp_path: Path) -> None:
    class Stamp(paddle.callbacks.Callback):  # type: ignore[misc]
        """Write the step's number over every parameter, right after the checkpoint of that step was asked for."""

        def on_train_batch_end(self, step: int, logs: Any = None) -> None:
            self.count = getattr(self, "count", 0) + 1
            for parameter in self.model.network.parameters():
                parameter.set_value(np.full(parameter.shape, self.count, "float32"))

    fit(
        model(),
        PeriodicCheckpoint(str(tmp_path), save=EveryNSteps(1), keep=KeepLatest(99)),
        Stamp(),
        epochs=4,
    )
    for checkpoint in CheckpointStore(str(tmp_path)).list():
        values = {float(value) for array in checkpoint.read_model().values() for value in array.ravel()}
        assert values == {float(checkpoint.progress.global_step)}


TRAIN = """
import sys
sys.path.insert(0, {root!r})
from paddle_warm_callbacks import PeriodicCheckpoint
from tests.callbacks.runs import bits, fit, model
trained = model()
fit(trained, PeriodicCheckpoint({run_dir!r}), epochs=1)
for name, value in bits(trained).items():
    print(name, value.hex())
"""
LOAD = """
import sys
sys.modules["paddle_warm_callbacks"] = None  # not importable
import paddle
network = paddle.nn.Sequential(
    ("body", paddle.nn.Linear(3, 5)), ("drop", paddle.nn.Dropout(0.3)), ("fc", paddle.nn.Linear(5, 3)))
model = paddle.Model(network)
optimizer = paddle.optimizer.Adam(paddle.optimizer.lr.StepDecay(0.05, 2), parameters=network.parameters())
model.prepare(optimizer, paddle.nn.CrossEntropyLoss())
model.load({path!r})
for name, value in paddle.load({path!r} + ".pdparams").items():
    assert value.numpy().tobytes() == network.state_dict()[name].numpy().tobytes(), name
    print(name, value.numpy().tobytes().hex())
saved = paddle.load({path!r} + ".pdopt")
model.train_batch([paddle.ones([2, 3])], [paddle.zeros([2, 1], dtype="int64")])
beta1 = next(key for key in saved if "beta1_pow" in key)
assert abs(float(optimizer.state_dict()[beta1]) / float(saved[beta1]) - 0.9) < 1e-6, "its Adam goes on from ours"
"""


def test_paddle_reads_the_files_without_us(tmp_path: Path) -> None:
    def printed(script: str) -> dict[str, str]:
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stderr
        return dict(line.split() for line in done.stdout.splitlines() if line.count(" ") == 1)

    trained = printed(TRAIN.format(root=str(Path(__file__).parents[2]), run_dir=str(tmp_path)))
    path = Path(CheckpointStore(str(tmp_path)).list()[-1].path) / "model"
    assert printed(LOAD.format(path=str(path))) == trained
    assert len(trained) == 4


def test_a_checkpoint_never_falls_inside_an_accumulation_window(tmp_path: Path) -> None:
    callback = PeriodicCheckpoint(str(tmp_path), save=EveryNSteps(1), keep=KeepLatest(99))
    fit(model(), callback, epochs=1, accumulate_grad_batches=2)
    saved = CheckpointStore(str(tmp_path)).list()
    assert [checkpoint.progress.step_in_epoch for checkpoint in saved] == [2, 0]
    assert saved[0].manifest.metadata["waited_for_accumulation_window"] == 1


def test_metrics_of_the_evaluation_name_the_best(tmp_path: Path) -> None:
    fit(
        model(),
        PeriodicCheckpoint(str(tmp_path), keep=KeepBest("acc") | KeepLatest(1)),
        epochs=3,
        eval_data=Points(),
    )
    store = CheckpointStore(str(tmp_path))
    best = store.best()
    assert best is not None
    assert best.manifest.metrics["acc"] == max(c.manifest.metrics["acc"] for c in store.list())
    assert {"acc", "loss", "train_acc", "train_loss"} <= best.manifest.metrics.keys()


def test_a_save_that_waits_for_the_one_before_is_counted_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def slow(descriptor: int) -> None:
        time.sleep(0.05)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    callback = PeriodicCheckpoint(str(tmp_path), save=EveryNSteps(1), keep=KeepLatest(99))
    with caplog.at_level(logging.INFO, "paddle_warm_callbacks"):
        fit(model(), callback, epochs=1)
    assert callback.waited >= STEPS - 1
    assert len(names(tmp_path)) == STEPS, "none is left out"
    assert caplog.text.count("a save waited") == callback.waited
    assert sum(event.seconds_blocked for event in callback.events) > 0.05


def test_two_processes_on_one_run_directory_are_told_apart(tmp_path: Path) -> None:
    with CheckpointStore(str(tmp_path)).lock(), pytest.raises(RunDirectoryBusyError, match=str(os.getpid())):
        fit(model(), PeriodicCheckpoint(str(tmp_path)))
    fit(model(), PeriodicCheckpoint(str(tmp_path)), epochs=1)


@pytest.mark.parametrize("on_error", ["raise", "warn"])
def test_a_failed_save_surfaces_and_the_earlier_ones_are_intact(
    tmp_path: Path, on_error: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Spoil(Losses):
        """Put a file where checkpoints are staged from the second epoch on."""

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            super().on_epoch_begin(epoch)
            if epoch == 1:
                while not names(tmp_path):
                    time.sleep(0.01)  # the first one is being written
                (tmp_path / "checkpoints").rename(tmp_path / "elsewhere")
                (tmp_path / "checkpoints").write_text("in the way")

    losses = Spoil()
    callback = PeriodicCheckpoint(str(tmp_path), on_error=on_error)
    if on_error == "raise":
        with pytest.raises(CheckpointWriteError):
            fit(model(), callback, losses)
    else:
        fit(model(), callback, losses)
        assert max(losses.seen) == (2, STEPS - 1)
        assert "a checkpoint was lost" in caplog.text
    (tmp_path / "checkpoints").unlink()
    (tmp_path / "elsewhere").rename(tmp_path / "checkpoints")
    newest = CheckpointStore(str(tmp_path)).latest_verified()
    assert newest is not None
    assert newest.name == f"step-{STEPS:08d}-epoch-0001"


def test_nothing_is_left_after_an_exception(tmp_path: Path) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    threads = {thread.name for thread in threading.enumerate()}
    callback = PeriodicCheckpoint(str(tmp_path), save=EveryNSteps(1))
    with pytest.raises(Interrupted):
        fit(model(), callback, Losses(fail_after=(1, 0)))
    assert {number: signal.getsignal(number) for number in before} == before
    assert {thread.name for thread in threading.enumerate()} <= threads
    assert names(tmp_path)[-1] == f"step-{STEPS + 1:08d}", "what was saved is durable when fit has raised"
    fit(model(), PeriodicCheckpoint(str(tmp_path)), epochs=1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"save": 5}, "EveryNEpochs(1) | EveryNSteps(500)"),
        ({"keep": 3}, 'KeepLatest(3) | KeepBest("acc")'),
        ({"on_error": "ignore"}, "'raise' | 'warn'"),
    ],
)
def test_wrong_arguments_are_refused_at_once(tmp_path: Path, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        PeriodicCheckpoint(str(tmp_path), **arguments)
    assert says in str(caught.value)


class Accuracies(paddle.metric.Metric):  # type: ignore[misc]  # Paddle is untyped
    """Gives each evaluation the next of these values."""

    values = (0.3, 0.5, 0.4, 0.6)

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def compute(self, scores: Any, label: Any) -> Any:
        return scores

    def update(self, scores: Any) -> float:
        return 0.0

    def reset(self) -> None:
        """Forget nothing."""

    def accumulate(self) -> float:
        return self.values[min(self.asked, len(self.values) - 1)]

    def name(self) -> str:
        return "chosen"


class NextEvaluation(paddle.callbacks.Callback):  # type: ignore[misc]
    """Counts the epochs, which choose the metric's value."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.model._metrics[0].asked = epoch


def chosen() -> paddle.Model:
    made = model()
    made.prepare(made._optimizer, paddle.nn.CrossEntropyLoss(), Accuracies())
    return made


def best_saved(run_dir: Path) -> list[int]:
    return [c.progress.epoch for c in CheckpointStore(str(run_dir)).list() if c.progress.step_in_epoch == 0]


def test_a_new_best_is_saved_and_a_resumed_run_knows_the_old_one(tmp_path: Path) -> None:
    def callbacks(run_dir: Path) -> list[Any]:
        saver = PeriodicCheckpoint(run_dir, save=OnNewBest("chosen"), keep=KeepLatest(9))
        return [WarmStartCallback(run_dir=run_dir, resume_from="latest"), saver, NextEvaluation()]

    fit(chosen(), *callbacks(tmp_path / "straight"), eval_data=Points(), epochs=4)
    assert best_saved(tmp_path / "straight") == [1, 2, 4]
    with pytest.raises(Interrupted):
        fit(chosen(), *callbacks(tmp_path / "cut"), Losses((2, 1)), eval_data=Points(), epochs=4)
    fit(chosen(), *callbacks(tmp_path / "cut"), eval_data=Points(), epochs=4)
    assert best_saved(tmp_path / "cut") == [1, 2, 4]


def test_a_metric_that_nothing_has_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said_before_a_step: list[str] = []

    class FirstStep(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
        def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
            said_before_a_step.extend(caplog.messages if not said_before_a_step else ())

    saver = PeriodicCheckpoint(tmp_path, keep=KeepLatest(1) | KeepBest("accuracy"))
    with caplog.at_level(logging.WARNING, logger="paddle_warm_callbacks"):
        fit(model(), saver, FirstStep(), eval_data=Points(), epochs=3)
        fit(model(), PeriodicCheckpoint(tmp_path / "ok", keep=KeepBest("acc")), eval_data=Points(), epochs=1)
        trained = PeriodicCheckpoint(tmp_path / "trained", keep=KeepBest("train_acc"))
        fit(model(), trained, epochs=1)
    (said,) = (message for message in caplog.messages if "metric" in message)
    assert (
        "no metric is called accuracy: did you mean acc? There are: loss, acc, train_loss, train_acc" in said
    )
    assert said in said_before_a_step  # not after an hour, when the first evaluation is there


def test_a_metric_of_evaluation_without_one_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(model(), PeriodicCheckpoint(tmp_path, save=EveryNSteps(2) | OnNewBest("acc")), epochs=1)
    assert "acc will never be there: it is of an evaluation, and fit was given no eval_data" in caplog.text
