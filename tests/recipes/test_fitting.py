"""What recipes need of a fit beside the callbacks: a look before the first step, and honest progress."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import paddle
import pytest

from paddle_warm_callbacks import EveryNSteps, PeriodicCheckpoint, WarmStartCallback
from recipes.common.fitting import EvaluationAtStart, SparseProgress
from tests.callbacks.runs import BATCH, Interrupted, Losses, Points, bits, fit, model


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


def test_progress_shows_no_loss_of_evaluations_and_no_metric_of_training(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class NoLoss(paddle.metric.Accuracy):  # type: ignore[misc]  # Paddle is untyped
        """Accuracy by the name of what the recipe measures."""

        def name(self) -> list[str]:
            return ["mAP"]

    trained = model()
    trained._metrics = [NoLoss()]
    trained.fit(Points(), Points(), batch_size=BATCH, epochs=1, verbose=1, callbacks=[SparseProgress()])
    training, _, evaluation = capsys.readouterr().out.partition("Eval begin")
    assert "loss:" in training
    assert "mAP" not in training
    assert "mAP:" in evaluation
    assert "loss" not in evaluation
