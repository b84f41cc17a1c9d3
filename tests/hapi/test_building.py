"""Networks, schedules and optimizers by name: those of Paddle, and a near miss told."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.hapi.building import (
    build_network,
    build_optimizer,
    build_schedule,
    seed_all,
    vision_architectures,
)


def test_a_network_has_the_outputs_and_arguments_asked_for() -> None:
    assert build_network("resnet18", 7).fc.weight.shape == [512, 7]
    assert build_network("resnet18").fc.weight.shape == [512, 1000]
    thin = build_network("mobilenet_v2", 2, {"scale": 0.25})
    assert thin.features[0][0].weight.shape[0] == 8


def test_the_same_seed_gives_the_same_network() -> None:
    def first_weights(seed: int) -> bytes:
        seed_all(seed)
        weights: bytes = build_network("squeezenet1_1", 2).state_dict()["_conv.weight"].numpy().tobytes()
        return weights + np.random.rand(1).tobytes()

    assert first_weights(5) == first_weights(5)
    assert first_weights(5) != first_weights(6)


def test_only_constructors_of_networks_are_architectures() -> None:
    known = vision_architectures()
    assert {"resnet50", "mobilenet_v3_small", "vgg16"} <= set(known)
    assert "ResNet" not in known


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("CosineAnnealingDecay", {"T_max": 10}),
        ("StepDecay", {"step_size": 3}),
        ("PolynomialDecay", {"decay_steps": 10}),
        ("LinearWarmup", {"warmup_steps": 2, "start_lr": 0.0, "end_lr": 0.5}),
        ("NoamDecay", {"d_model": 10, "warmup_steps": 4}),
    ],
)
def test_schedules_are_built_with_the_rate(name: str, arguments: dict[str, Any]) -> None:
    schedule = build_schedule(name, 0.5, arguments)
    assert type(schedule).__name__ == name
    assert getattr(schedule, "learning_rate", None) == 0.5 or schedule.base_lr == 0.5


def test_a_schedule_that_has_all_its_rates_is_given_no_other() -> None:
    assert build_schedule("PiecewiseDecay", 0.5, {"boundaries": [2], "values": [0.1, 0.01]}).get_lr() == 0.1


def test_an_optimizer_has_decay_clipping_and_arguments() -> None:
    def moved(**options: Any) -> float:
        layer = paddle.nn.Linear(1, 1, weight_attr=paddle.nn.initializer.Constant(1.0), bias_attr=False)
        optimizer = build_optimizer("Momentum", layer.parameters(), 0.25, **options)
        assert optimizer.get_lr() == 0.25
        for _ in range(2):
            layer(paddle.full([1, 1], 8.0)).sum().backward()
            optimizer.step()
            optimizer.clear_grad()
        return 1.0 - float(layer.weight.item())

    plain = moved(arguments={"momentum": 0.0})
    assert plain == 0.25 * 8 * 2
    assert moved(arguments={"momentum": 0.0}, clip_norm=2.0) == 0.25 * 2 * 2
    assert moved(arguments={"momentum": 0.5}) == 0.25 * (8 + 12)
    assert moved(arguments={"momentum": 0.0}, weight_decay=0.5) != plain


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: build_network("resnet51"), "did you mean resnet50?"),
        (lambda: build_network("LeNett"), "one of: "),
        (lambda: build_network("resnet18", 2, {"deepth": 3}), "resnet18 does not take these arguments"),
        (lambda: build_schedule("CosineAnealingDecay", 0.1, {}), "did you mean CosineAnnealingDecay?"),
        (lambda: build_schedule("CosineAnnealingDecay", 0.1, {}), "T_max"),
        (lambda: build_optimizer("adamw", [], 0.1), "did you mean AdamW?"),
        (lambda: build_optimizer("Optimizer", [], 0.1), "there is no such class of paddle.optimizer"),
        (
            lambda: build_optimizer(
                "SGD", paddle.nn.Linear(1, 1).parameters(), 0.1, arguments={"beta1": 0.9}
            ),
            "SGD does not take these arguments",
        ),
    ],
)
def test_what_is_not_there_or_does_not_fit_is_an_error_of_ours(build: Any, says: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        build()
    assert says in str(raised.value)
