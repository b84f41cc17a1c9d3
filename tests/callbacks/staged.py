"""A small network that the tests of this room freeze and thaw, and its plan in two stages."""

from __future__ import annotations

from typing import Any

import paddle

from paddle_warm_callbacks import Stage

nn = paddle.nn


def made(optimizer: str = "Adam", **options: Any) -> paddle.Model:
    """Return a prepared model whose every parameter has a gradient: a body, a norm, and a head named ``fc``."""
    paddle.seed(0)
    network = nn.Sequential(
        ("body", nn.Linear(3, 5)), ("norm", nn.BatchNorm1D(5)), ("act", nn.Sigmoid()), ("fc", nn.Linear(5, 3))
    )
    model = paddle.Model(network)
    options.setdefault("learning_rate", 0.05)
    built = getattr(paddle.optimizer, optimizer)(parameters=network.parameters(), **options)
    model.prepare(built, nn.CrossEntropyLoss(), paddle.metric.Accuracy())
    return model


TWO = [Stage(0, "fc"), Stage(1, ".*")]
