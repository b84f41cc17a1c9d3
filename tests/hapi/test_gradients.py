"""The gradients' norm is that of what the optimizer is about to use, and measuring it leaves nothing behind."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks.hapi.gradients import GradientNorm


class Body(paddle.nn.Layer):  # type: ignore[misc]  # Paddle is untyped
    """An embedding, sparse or not, a layer that may be frozen, and a head."""

    def __init__(self, *, sparse: bool = False) -> None:
        super().__init__()
        paddle.seed(0)
        self.embedding = paddle.nn.Embedding(6, 3, sparse=sparse)
        self.body, self.fc = paddle.nn.Linear(3, 3), paddle.nn.Linear(3, 2)

    def forward(self, numbers: Any) -> Any:
        return self.fc(self.body(self.embedding(numbers)))


NUMBERS, LABELS = np.array([1, 4, 4, 0]), np.array([[0], [1], [0], [1]])


def prepared(network: paddle.nn.Layer, clip: float | None = None, **options: Any) -> paddle.Model:
    model = paddle.Model(network)
    sgd = paddle.optimizer.SGD(
        0.1,
        parameters=network.parameters(),
        grad_clip=None if clip is None else paddle.nn.ClipGradByGlobalNorm(clip),
    )
    model.prepare(sgd, paddle.nn.CrossEntropyLoss(), **options)
    return model


def by_hand(network: paddle.nn.Layer, passes: int = 1) -> float:
    for _ in range(passes):
        loss = paddle.nn.CrossEntropyLoss()(network(paddle.to_tensor(NUMBERS)), paddle.to_tensor(LABELS))
        loss.backward()
    found = [p.grad.numpy() for p in network.parameters() if p.grad is not None]
    network.clear_gradients()
    return float(np.sqrt(sum((g.astype("float64") ** 2).sum() for g in found)))


def measured(model: paddle.Model, passes: int = 1) -> float | None:
    norm = GradientNorm(model.network, model._optimizer)
    norm.request()
    for number in range(1, passes + 1):
        model.train_batch([NUMBERS], [LABELS], update=number == passes)
    norm.close()
    return norm.take()


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("passes", [1, 3])
def test_it_is_the_norm_of_the_sum_of_a_windows_gradients(sparse: bool, passes: int) -> None:
    expected = by_hand(Body(), passes)
    assert expected > 0.1
    assert measured(prepared(Body(sparse=sparse)), passes) == pytest.approx(expected, rel=1e-5)


def test_clipping_comes_after_it() -> None:
    expected = by_hand(Body())
    assert expected > 1e-3
    assert measured(prepared(Body(), clip=1e-3)) == pytest.approx(expected, rel=1e-5)


def test_frozen_parameters_have_no_part_in_it() -> None:
    network = Body()
    whole = by_hand(network)
    for parameter in network.body.parameters():
        parameter.stop_gradient = True
    part = by_hand(network)
    assert part < whole
    assert measured(prepared(network)) == pytest.approx(part, rel=1e-5)


def test_only_the_requested_step_is_measured_and_the_update_is_the_same() -> None:
    plain, watched = prepared(Body()), prepared(Body())
    norm = GradientNorm(watched.network, watched._optimizer)
    found = []
    for step in range(3):
        plain.train_batch([NUMBERS], [LABELS])
        if step == 1:
            norm.request()
        watched.train_batch([NUMBERS], [LABELS])
        found.append(norm.take() is not None)
    assert found == [False, True, False]
    norm.close()
    assert "minimize" not in vars(watched._optimizer)
    for one, other in zip(plain.network.parameters(), watched.network.parameters()):
        assert one.numpy().tobytes() == other.numpy().tobytes()
