"""PaddleDetection's moving average in a fit: ppdet's own numbers, in every checkpoint, and used to evaluate."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks import (
    CheckpointStore,
    EveryNEpochs,
    EveryNSteps,
    PeriodicCheckpoint,
    WarmStartCallback,
)
from tests.callbacks.runs import STEPS, Interrupted, Losses, Points, bits, fit, model

pytest.importorskip("ppdet")
from recipes.detection.ema import KEPT, EmaWeights, average_of, kept_average

Weights = dict[str, Any]


class EachStep(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
    """The weights after each step, and what evaluations compute with."""

    def __init__(self) -> None:
        super().__init__()
        self.trained: list[Weights] = []
        self.evaluated_with: list[Weights] = []

    def _weights(self) -> Weights:
        return {name: tensor.numpy() for name, tensor in self.model.network.state_dict().items()}

    def on_train_batch_end(self, step: int, logs: Any = None) -> None:
        self.trained.append(self._weights())

    def on_eval_batch_end(self, step: int, logs: Any = None) -> None:
        self.evaluated_with.append(self._weights())


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def by_ppdet(history: list[Weights], **settings: Any) -> Weights:
    """Return ppdet's average of weights that were those after each step."""
    from ppdet.optimizer import ModelEMA

    network = model().network
    ema = ModelEMA(network, **settings)
    for weights in history:
        network.set_state_dict({name: paddle.to_tensor(array) for name, array in weights.items()})
        ema.update()
    return {name: tensor.numpy() for name, tensor in ema.apply().items()}


@pytest.mark.parametrize(
    "settings", [{}, {"decay": 0.9, "decay_type": "normal"}, {"decay_type": "exponential"}]
)
def test_it_is_ppdets_average_and_evaluations_use_it(settings: dict[str, Any]) -> None:
    seen, ema = EachStep(), EmaWeights(**settings)
    fit(model(), ema, seen, eval_data=Points(), epochs=2)
    if "decay_type" in settings:
        settings["ema_decay_type"] = settings.pop("decay_type")
    per_epoch = len(seen.evaluated_with) // 2
    for epoch in (1, 2):
        expected = by_ppdet(seen.trained[: epoch * STEPS], **settings)
        assert not same(expected, seen.trained[epoch * STEPS - 1])
        for used in seen.evaluated_with[(epoch - 1) * per_epoch : epoch * per_epoch]:
            assert same(used, expected)
    assert same(ema.weights(), expected)


def test_training_is_as_without_it_and_the_trained_weights_are_left_behind() -> None:
    plain = model()
    fit(plain, eval_data=Points())
    averaged = model()
    fit(averaged, EmaWeights(), eval_data=Points())
    assert bits(averaged) == bits(plain)


def test_evaluations_use_the_trained_weights_where_that_is_asked_for() -> None:
    seen = EachStep()
    fit(model(), EmaWeights(evaluate=False), seen, eval_data=Points(), epochs=1)
    assert all(same(used, seen.trained[-1]) for used in seen.evaluated_with)


def test_an_accumulation_window_moves_it_once() -> None:
    ema = EmaWeights()
    fit(model(), ema, epochs=2, accumulate_grad_batches=2)
    assert ema.state_dict()["step"] == 4  # windows of two steps and of one, twice


def run(directory: Path, *callbacks: Any, epochs: int = 3) -> paddle.Model:
    trained = model()
    fit(
        trained,
        WarmStartCallback(run_dir=directory, resume_from="latest"),
        EmaWeights(),
        PeriodicCheckpoint(directory, save=EveryNSteps(1)),
        *callbacks,
        eval_data=Points(),
        epochs=epochs,
    )
    return trained


def kept(directory: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    checkpoint = CheckpointStore(str(directory)).latest_verified()
    assert checkpoint is not None
    arrays = {name: array.tobytes() for name, array in checkpoint.read_extra().items()}
    return arrays, checkpoint.read_state()["callbacks"]["EmaWeights"]


@pytest.mark.parametrize("after", [(0, 0), (1, 1), (1, STEPS - 1)])
def test_interrupted_anywhere_it_ends_in_the_bits_of_an_uninterrupted_run(
    tmp_path: Path, after: tuple[int, int]
) -> None:
    seen, resumed = EachStep(), EachStep()
    run(tmp_path / "whole", seen)
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", Losses(fail_after=after))
    run(tmp_path / "cut", resumed)
    arrays, counts = kept(tmp_path / "whole")
    assert kept(tmp_path / "cut") == (arrays, counts)
    assert sorted(arrays) == sorted(f"kept@{KEPT}{name}" for name in model().network.state_dict())
    assert counts["step"] == 3 * STEPS
    assert same(resumed.evaluated_with[-1], seen.evaluated_with[-1])


def test_a_checkpoint_holds_the_average_as_ppdet_would_save_it(tmp_path: Path) -> None:
    seen = EachStep()
    run(tmp_path, seen)
    checkpoint = CheckpointStore(str(tmp_path)).latest_verified()
    assert checkpoint is not None
    arrays = {name[len("kept@") :]: array for name, array in checkpoint.read_extra().items()}
    counts = checkpoint.read_state()["callbacks"]["EmaWeights"]
    ema = average_of(model(seed=5).network, kept_average(arrays), counts)
    assert same({name: tensor.numpy() for name, tensor in ema.apply().items()}, by_ppdet(seen.trained))
    assert same(checkpoint.read_model(), seen.trained[-1])


def test_a_checkpoint_in_the_middle_of_an_evaluation_holds_the_trained_weights(tmp_path: Path) -> None:
    class Kill(EachStep):
        """Sends a signal at the second evaluation's first batch, and reads what that has saved at the others."""

        saved: tuple[tuple[int, Weights], ...] = ()

        def on_eval_batch_begin(self, step: int, logs: Any = None) -> None:
            if len(self.trained) == 2 * STEPS:
                if step == 0:
                    os.kill(os.getpid(), signal.SIGTERM)
                found = CheckpointStore(str(tmp_path)).list()
                self.saved = tuple((each.progress.step_in_epoch, each.read_model()) for each in found)

    seen = Kill()
    fit(model(), EmaWeights(), PeriodicCheckpoint(tmp_path, save=EveryNEpochs(50)), seen, eval_data=Points())
    expected = by_ppdet(seen.trained)
    assert not same(expected, seen.trained[-1])
    ((position, in_its_middle),) = seen.saved
    assert position == STEPS
    assert same(in_its_middle, seen.trained[-1])
    # The epoch's end has taken its place.
    (after,) = CheckpointStore(str(tmp_path)).list()
    assert after.progress.step_in_epoch == 0
    assert same(after.read_model(), seen.trained[-1])
    # And what came after it in the evaluation was evaluated with the average all the same.
    assert same(seen.evaluated_with[-1], expected)


def test_an_exception_in_an_evaluation_leaves_the_trained_weights() -> None:
    class Fail(EachStep):
        def on_eval_batch_begin(self, step: int, logs: Any = None) -> None:
            if step == 1:
                raise Interrupted

    seen, trained = Fail(), model()
    with pytest.raises(Interrupted):
        fit(trained, EmaWeights(), seen, eval_data=Points())
    assert same(seen.evaluated_with[-1], by_ppdet(seen.trained))
    assert bits(trained) == {name: array.tobytes() for name, array in seen.trained[-1].items()}
