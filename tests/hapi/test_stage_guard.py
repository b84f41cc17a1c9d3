"""The old task is looked at without training noticing; a stage begins from the best of the one before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks import (
    EveryNSteps,
    InvalidArgumentError,
    PeriodicCheckpoint,
    Stage,
    StagedUnfreeze,
    WarmStartCallback,
    WarmVisualDL,
)
from tests.callbacks.runs import STEPS, Interrupted, Losses, Points, bits, fit, model

STAGES = [Stage(0, "fc"), Stage(2, ".*")]
EPOCHS = 4


class OldTask(Points):
    """Other points, with noise from NumPy's generator."""

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        x, label = super().__getitem__(index)
        return x + np.random.normal(size=3).astype("float32"), label


class Weights(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
    """Every tensor at the first step of each epoch, and after its last."""

    def __init__(self) -> None:
        super().__init__()
        self.first: list[dict[str, bytes]] = []
        self.last: list[dict[str, bytes]] = []
        self.moments: list[int] = []

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        if step == 0:
            self.first.append(bits(self.model))
            self.moments.append(sum(map(len, self.model._optimizer._accumulators.values())))

    def on_train_batch_end(self, step: int, logs: Any = None) -> None:
        if step == STEPS - 1:
            self.last.append(bits(self.model))


def test_the_old_task_is_evaluated_at_the_end_of_each_stage(tmp_path: Path) -> None:
    watched = StagedUnfreeze(STAGES, watch=Points())
    trained = model()
    fit(trained, watched, WarmVisualDL(tmp_path), epochs=EPOCHS)
    assert [(found["stage"], found["epoch"]) for found in watched.watched] == [(0, 2), (1, EPOCHS)]
    first_stage = model()
    fit(first_stage, StagedUnfreeze(STAGES), epochs=2)
    for found, by_hand in zip(watched.watched, (first_stage, trained)):
        evaluated = by_hand.evaluate(Points(), batch_size=4, verbose=0)
        assert found["loss"] == pytest.approx(np.mean(evaluated["loss"]))
        assert found["acc"] == pytest.approx(evaluated["acc"])
    records = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    shown = [(record["step"], record["value"]) for record in records if record["tag"] == "watch/acc"]
    assert shown == [(2 * STEPS, watched.watched[0]["acc"]), (EPOCHS * STEPS, watched.watched[1]["acc"])]


class Naive(paddle.callbacks.Callback):  # type: ignore[misc]
    """Evaluates as a user might."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.evaluate(OldTask(), batch_size=4, verbose=0)


def test_training_does_not_notice_that_the_old_task_was_evaluated() -> None:
    def run(*callbacks: Any) -> tuple[dict[str, bytes], dict[Any, Any]]:
        np.random.seed(1)
        trained, losses = model(), Losses()
        trained.fit(OldTask(), batch_size=4, epochs=EPOCHS, callbacks=[*callbacks, losses], verbose=0)
        return bits(trained), losses.seen

    plain = run(StagedUnfreeze(STAGES))
    assert run(StagedUnfreeze(STAGES, watch=OldTask())) == plain
    assert run(StagedUnfreeze(STAGES), Naive()) != plain  # the control


def test_fit_still_ends_after_as_many_batches_as_it_was_told() -> None:
    def batches(*callbacks: Any) -> int:
        seen = Losses()
        fit(model(), *callbacks, seen, epochs=9, num_iters=7)
        return len(seen.seen)

    assert batches(StagedUnfreeze(STAGES)) == 7
    assert batches(StagedUnfreeze(STAGES, watch=Points())) == 7
    assert batches(StagedUnfreeze(STAGES), Naive()) > 7  # the control


def guarded(**options: Any) -> StagedUnfreeze:
    # Training lowers the loss: the "best" epoch of this stage is its first.
    return StagedUnfreeze(STAGES, restore_best_between_stages=True, monitor="loss", mode="max", **options)


def test_the_next_stage_begins_from_the_best_epoch_with_a_fresh_optimizer() -> None:
    seen, control = Weights(), Weights()
    fit(model(), guarded(), seen, eval_data=Points(), epochs=EPOCHS)
    fit(model(), StagedUnfreeze(STAGES), control, eval_data=Points(), epochs=EPOCHS)
    assert seen.last[:2] == control.last[:2]
    assert control.first[2] == control.last[1] != control.last[0]
    assert seen.first[2] == seen.last[0]
    assert seen.moments[1] > 0
    assert seen.moments[2] == 0
    assert control.moments[2] > 0


def test_where_the_last_epoch_was_the_best_nothing_changes() -> None:
    seen, control = Weights(), Weights()
    lowest = StagedUnfreeze(STAGES, restore_best_between_stages=True, monitor="loss", mode="min")
    fit(model(), lowest, seen, eval_data=Points(), epochs=EPOCHS)
    fit(model(), StagedUnfreeze(STAGES), control, eval_data=Points(), epochs=EPOCHS)
    assert seen.last == control.last


@pytest.mark.parametrize("after", [(0, 2), (1, 0), (1, 2), (2, 0), (3, 1)])
def test_a_resumed_run_goes_back_to_the_same_weights(tmp_path: Path, after: tuple[int, int]) -> None:
    def callbacks(run_dir: Path) -> list[Any]:
        return [
            WarmStartCallback(run_dir=run_dir, resume_from="latest"),
            guarded(watch=OldTask()),
            PeriodicCheckpoint(run_dir, save=EveryNSteps(1)),
        ]

    straight = model()
    fit(straight, *callbacks(tmp_path / "straight"), eval_data=Points(), epochs=EPOCHS)
    with pytest.raises(Interrupted):
        fit(model(), *callbacks(tmp_path / "cut"), Losses(after), eval_data=Points(), epochs=EPOCHS)
    resumed = model()
    fit(resumed, *callbacks(tmp_path / "cut"), eval_data=Points(), epochs=EPOCHS)
    assert bits(resumed) == bits(straight)


def test_a_second_fit_does_not_go_back_to_the_weights_of_the_first() -> None:
    unfreeze, seen = guarded(), Weights()
    fit(model(), unfreeze, eval_data=Points(), epochs=1)
    fit(model(seed=5), unfreeze, seen, eval_data=Points(), epochs=EPOCHS)
    assert seen.first[2] == seen.last[0]


@pytest.mark.parametrize("options", [{"watch": Points()}, {"restore_best_between_stages": True}])
def test_stages_by_step_cannot_be_evaluated_at_their_end(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match="stages by epoch"):
        StagedUnfreeze([Stage(None, "fc", from_step=0), Stage(None, ".*", from_step=4)], **options)


def test_a_best_epoch_needs_evaluations_with_its_metric() -> None:
    with pytest.raises(InvalidArgumentError, match="evaluates nothing"):
        fit(model(), guarded())
    wrong = StagedUnfreeze(STAGES, restore_best_between_stages=True, monitor="accuracy")
    with pytest.raises(InvalidArgumentError, match="one of acc, loss"):
        fit(model(), wrong, eval_data=Points())
    with pytest.raises(InvalidArgumentError, match="max"):
        StagedUnfreeze(STAGES, mode="best")
