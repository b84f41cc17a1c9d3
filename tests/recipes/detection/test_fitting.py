"""What a detector needs of a fit beside its loss: the epoch's number, a look before the first step, honest progress."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import paddle
import pytest

from paddle_warm_callbacks import EveryNSteps, PeriodicCheckpoint, WarmStartCallback
from recipes.detection.fitting import DetectorProgress, EpochNumber, EvaluationAtStart
from tests.callbacks.runs import BATCH, STEPS, Interrupted, Losses, Points, bits, fit, model


def test_a_look_at_the_start_is_what_evaluate_gives_and_changes_nothing() -> None:
    data = paddle.io.DataLoader(Points(), batch_size=BATCH)
    expected = model().evaluate(data, verbose=0)
    plain = model()
    fit(plain, eval_data=Points())
    looked, look = model(), EvaluationAtStart(data)
    fit(looked, look, eval_data=Points())
    assert look.found == {"loss": pytest.approx(expected["loss"][0]), "acc": pytest.approx(expected["acc"])}
    assert bits(looked) == bits(plain)


def resumable(directory: Path, *more: Any) -> list[Any]:
    return [
        WarmStartCallback(run_dir=directory, resume_from="latest"),
        PeriodicCheckpoint(directory, save=EveryNSteps(1)),
        *more,
    ]


def test_a_resumed_run_does_not_look_again(tmp_path: Path) -> None:
    data = paddle.io.DataLoader(Points(), batch_size=BATCH)
    first, again = EvaluationAtStart(data), EvaluationAtStart(data)
    with pytest.raises(Interrupted):
        fit(model(), *resumable(tmp_path, first, Losses(fail_after=(1, 1))))
    fit(model(), *resumable(tmp_path, again))
    assert first.found.keys() == {"loss", "acc"}
    assert again.found == {}


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


def test_progress_shows_no_loss_of_evaluations_and_no_metric_of_training(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class NoLoss(paddle.metric.Accuracy):  # type: ignore[misc]  # Paddle is untyped
        """Accuracy by the name of what the recipe measures."""

        def name(self) -> list[str]:
            return ["mAP"]

    trained = model()
    trained._metrics = [NoLoss()]
    trained.fit(Points(), Points(), batch_size=BATCH, epochs=1, verbose=1, callbacks=[DetectorProgress()])
    training, _, evaluation = capsys.readouterr().out.partition("Eval begin")
    assert "loss:" in training
    assert "mAP" not in training
    assert "mAP:" in evaluation
    assert "loss" not in evaluation
