"""The loss of a probability map: cross entropy, Dice, and only what counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest

from recipes.text_detection.loss import ProbabilityMapLoss


def by_definition(chances: Any, text: Any, counts: Any) -> float:
    entropy = -np.where(text == 1, np.log(chances), np.log(1 - chances))
    dice = 1 - 2 * (chances * text * counts).sum() / ((chances * counts).sum() + (text * counts).sum())
    return float(2 * entropy[counts == 1].mean() + dice)


def test_it_is_what_its_definition_says() -> None:
    random = np.random.default_rng(0)
    chances = random.uniform(0.05, 0.95, (2, 1, 8, 8)).astype("float32")
    text, counts = ((random.random(chances.shape) < p).astype("float32") for p in (0.2, 0.8))
    loss = ProbabilityMapLoss()(*map(paddle.to_tensor, (chances, text, counts)), paddle.to_tensor([[7]]))
    assert float(loss) == pytest.approx(by_definition(chances, text, counts), rel=1e-5)


def test_pixels_that_do_not_count_teach_nothing() -> None:
    chances = paddle.full([1, 1, 4, 4], 0.5)
    chances.stop_gradient = False
    text, counts = paddle.zeros([1, 1, 4, 4]), paddle.ones([1, 1, 4, 4])
    text[0, 0, 0] = 1.0
    counts[0, 0, 3] = 0.0
    ProbabilityMapLoss()(chances, text, counts).backward()
    gradient = chances.grad.numpy()[0, 0]
    assert (gradient[0] < 0).all()
    assert (gradient[1:3] > 0).all()
    assert not gradient[3].any()


def test_a_batch_without_text_has_a_finite_loss() -> None:
    nothing = paddle.zeros([1, 1, 4, 4])
    loss = ProbabilityMapLoss()(paddle.full([1, 1, 4, 4], 0.5), nothing, paddle.ones([1, 1, 4, 4]))
    assert float(loss) == pytest.approx(2 * np.log(2) + 1)
