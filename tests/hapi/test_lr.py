"""Learning rates on live optimizers: each rate beside that of a twin that nobody scales."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import numpy as np
import paddle
import pytest
from paddle.optimizer import lr as paddle_lr

from paddle_warm_callbacks.errors import UnsupportedFitError
from paddle_warm_callbacks.hapi import attributes, optimizer_state
from paddle_warm_callbacks.hapi.lr import GlobalFactor, ParameterFactors
from tests.hapi.schedules import SCHEDULES, STEPS, Halving, advance

FACTOR = 0.2


def in_float32(rate: float) -> float:
    """Return what the optimizer's tensor makes of a rate."""
    return float(np.float32(rate))


class Twin:
    """A parameter whose gradient is 1, so that a step of SGD moves it by exactly the learning rate."""

    def __init__(self, rate: Any) -> None:
        self.rate = rate
        self.network = paddle.nn.Linear(1, 1)
        self.optimizer = paddle.optimizer.SGD(rate, parameters=self.network.parameters())

    def step(self) -> tuple[float, float]:
        """Take one step; return the rate that is said and the rate that was used, the latter in float32."""
        said = float(self.optimizer.get_lr())
        bias = self.network.bias
        bias.set_value(np.zeros([1], "float32"))
        bias.sum().backward()
        self.optimizer.step()
        self.optimizer.clear_grad()
        if isinstance(self.rate, paddle_lr.LRScheduler):
            advance(self.rate)
        return said, -float(bias.item())


def test_the_table_has_every_scheduler_of_this_paddle() -> None:
    theirs = {
        name
        for name, kind in vars(paddle_lr).items()
        if inspect.isclass(kind)
        and issubclass(kind, paddle_lr.LRScheduler)
        and kind is not paddle_lr.LRScheduler
    }
    assert theirs == {name for name in SCHEDULES if name.isidentifier()}


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_is_scaled_at_every_step_and_really_used(name: str) -> None:
    plain, scaled = Twin(SCHEDULES[name]()), Twin(SCHEDULES[name]())
    GlobalFactor(scaled.optimizer).set(FACTOR)
    said = []
    for _ in range(STEPS):
        (unscaled, unscaled_used), (now, used) = plain.step(), scaled.step()
        assert now == unscaled * FACTOR
        assert used == in_float32(now)
        assert unscaled_used == in_float32(unscaled)
        said.append(unscaled)
    assert len(set(said)) > 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_scaled_schedule_is_captured_as_an_unscaled_one(name: str) -> None:
    plain, scaled = Twin(SCHEDULES[name]()), Twin(SCHEDULES[name]())
    GlobalFactor(scaled.optimizer).set(FACTOR)
    for _ in range(5):
        plain.step(), scaled.step()
    captured = optimizer_state.capture_learning_rate(scaled.optimizer)
    assert captured == optimizer_state.capture_learning_rate(plain.optimizer)
    assert attributes.kind_name(scaled.rate) == attributes.kind_name(plain.rate)
    assert scaled.rate.state_dict() == plain.rate.state_dict()
    fresh = Twin(SCHEDULES[name]())
    optimizer_state.restore_learning_rate(fresh.optimizer, captured)
    GlobalFactor(fresh.optimizer).set(FACTOR)
    for _ in range(STEPS - 5):
        unscaled, _ = plain.step()
        now, used = fresh.step()
        assert now == unscaled * FACTOR
        assert used == in_float32(now)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_the_users_again_after_close(name: str) -> None:
    schedule = SCHEDULES[name]()
    kind, attributes_before = type(schedule), set(vars(schedule))
    twin = Twin(schedule)
    scale = GlobalFactor(twin.optimizer)
    scale.set(FACTOR)
    assert type(schedule) is not kind  # control
    assert isinstance(schedule, kind)
    assert (type(schedule).__name__, type(schedule).__qualname__) == (kind.__name__, kind.__qualname__)
    plain = Twin(SCHEDULES[name]())
    for _ in range(3):
        twin.step(), plain.step()
    scale.close()
    assert type(schedule) is kind
    assert twin.optimizer._learning_rate is schedule
    assert set(vars(schedule)) == attributes_before | set(vars(plain.rate))
    assert twin.step() == plain.step()


def test_a_copy_made_meanwhile_goes_on_unscaled_after_close() -> None:
    twin = Twin(Halving(0.1))
    scale = GlobalFactor(twin.optimizer)
    scale.set(FACTOR)
    copied = copy.deepcopy(twin.rate)
    assert copied() == twin.rate() == 0.101 * FACTOR
    scale.close()
    assert copied() == twin.rate() == 0.101


def test_the_factor_may_change_with_every_step() -> None:
    for rate in (0.1, paddle_lr.StepDecay(0.1, 100)):
        twin = Twin(rate)
        scale = GlobalFactor(twin.optimizer)
        for factor in (0.25, 0.5, 1.0, 0.5):
            scale.set(factor)
            assert twin.step() == (0.1 * factor, in_float32(0.1 * factor))
        scale.close()
        assert twin.step() == (0.1, in_float32(0.1))


def test_a_float_is_scaled_and_given_back() -> None:
    plain, twin = Twin(0.1), Twin(0.1)
    scale = GlobalFactor(twin.optimizer)
    for _ in range(3):
        scale.set(FACTOR)
        assert twin.step() == (0.1 * FACTOR, in_float32(0.1 * FACTOR))
        assert plain.step() == (0.1, in_float32(0.1))
    scale.close()
    assert twin.optimizer._learning_rate == 0.1
    assert twin.step() == (0.1, in_float32(0.1))


def test_a_float_that_is_scaled_already_is_not_scaled_twice() -> None:
    twice, once = Twin(0.1 * FACTOR), Twin(0.1 * FACTOR)
    GlobalFactor(twice.optimizer).set(FACTOR)
    scale = GlobalFactor(once.optimizer, 0.1, FACTOR)
    scale.set(FACTOR)
    assert twice.step()[0] == pytest.approx(0.1 * FACTOR * FACTOR)  # control
    assert once.step()[0] == 0.1 * FACTOR
    scale.close()
    assert once.step()[0] == 0.1


def test_a_float_somebody_sets_is_the_scaled_rate() -> None:
    twin = Twin(0.1)
    scale = GlobalFactor(twin.optimizer)
    scale.set(0.5)
    twin.optimizer.set_lr(twin.optimizer.get_lr() / 10)  # as a plateau callback does
    for factor, expected in ((0.5, 0.005), (0.5, 0.005), (1.0, 0.01)):
        scale.set(factor)
        assert twin.step()[0] == pytest.approx(expected)
    scale.close()
    assert twin.optimizer.get_lr() == pytest.approx(0.01)


def test_a_float_the_tensor_does_not_follow_is_left_so_while_the_factor_stays() -> None:
    twin = Twin(0.1)
    scale = GlobalFactor(twin.optimizer)
    scale.set(1.0)
    twin.step()
    twin.optimizer._learning_rate = 0.01  # what Paddle's ReduceLROnPlateau does: the tensor in use stays
    scale.set(1.0)
    assert twin.step() == (0.01, in_float32(0.1))
    scale.close()
    assert twin.step() == (0.01, in_float32(0.1))


def test_a_schedule_put_in_anothers_place_is_scaled_too() -> None:
    first, second = paddle_lr.StepDecay(0.1, 100), paddle_lr.StepDecay(0.3, 100)
    twin = Twin(first)
    scale = GlobalFactor(twin.optimizer)
    scale.set(FACTOR)
    twin.optimizer.set_lr_scheduler(second)
    scale.set(FACTOR)
    assert twin.optimizer.get_lr() == 0.3 * FACTOR
    assert type(first) is paddle_lr.StepDecay
    assert first() == 0.1
    scale.close()
    assert type(second) is paddle_lr.StepDecay


@pytest.mark.parametrize("close_after", [True, False])
def test_a_float_that_becomes_a_schedule_is_scaled_too(close_after: bool) -> None:
    twin = Twin(0.1)
    scale = GlobalFactor(twin.optimizer)
    scale.set(FACTOR)
    twin.optimizer.set_lr_scheduler(paddle_lr.StepDecay(0.3, 100))
    if close_after:
        scale.set(FACTOR)
        assert twin.optimizer.get_lr() == 0.3 * FACTOR
    scale.close()
    assert twin.optimizer.get_lr() == 0.3


def two_layers() -> Any:
    return paddle.nn.Sequential(("body", paddle.nn.Linear(2, 2)), ("fc", paddle.nn.Linear(2, 2)))


def rates(network: Any) -> dict[str, float]:
    return {name: p.optimize_attr["learning_rate"] for name, p in network.named_parameters()}


def test_owners_and_the_user_multiply_and_give_back() -> None:
    network = two_layers()
    network.fc.bias.optimize_attr["learning_rate"] = 3.0
    before = rates(network)
    factors = ParameterFactors(network, paddle.optimizer.SGD(0.1, parameters=network.parameters()))
    assert factors.names == tuple(before)
    factors.set("groups", {"body.weight": 0.5, "fc.bias": 0.25})
    factors.set("stage", dict.fromkeys(before, 0.5))
    assert rates(network) == {"body.weight": 0.25, "body.bias": 0.5, "fc.weight": 0.5, "fc.bias": 0.375}
    factors.set("stage", {"fc.bias": 0.0})
    assert rates(network) == {"body.weight": 0.5, "body.bias": 1.0, "fc.weight": 1.0, "fc.bias": 0.0}
    factors.clear("stage")
    assert rates(network) == {"body.weight": 0.5, "body.bias": 1.0, "fc.weight": 1.0, "fc.bias": 0.75}
    factors.clear("nobody")
    factors.clear("groups")
    assert rates(network) == before
    factors.set("groups", {"fc.bias": 9.0})
    factors.set("stage", {"fc.bias": 9.0})
    factors.close()
    assert rates(network) == before


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("SGD", {}),
        ("Momentum", {}),
        ("Momentum", {"use_multi_tensor": True}),
        ("Adam", {}),
        ("Adam", {"use_multi_tensor": True}),
        ("AdamW", {"weight_decay": 0.1}),
        ("Adamax", {}),
        ("Adagrad", {}),
        ("RMSProp", {}),
        ("Adadelta", {}),
        ("Lamb", {}),
        ("NAdam", {}),
        ("RAdam", {}),
    ],
)
def test_every_optimizer_heeds_the_factors_of_its_parameters(kind: str, options: dict[str, Any]) -> None:
    if not hasattr(paddle.optimizer, kind):
        pytest.skip(f"this Paddle has no {kind}")
    network = two_layers()
    optimizer = getattr(paddle.optimizer, kind)(learning_rate=0.1, parameters=network.parameters(), **options)
    factors = ParameterFactors(network, optimizer)
    factors.set("stage", {"body.weight": 0.0, "body.bias": 0.0})
    before = {name: p.numpy().copy() for name, p in network.named_parameters()}
    for _ in range(2):
        (network(paddle.ones([3, 2])) ** 2).sum().backward()
        optimizer.step()
        optimizer.clear_grad()
    moved = {name: bool((p.numpy() != before[name]).any()) for name, p in network.named_parameters()}
    assert moved == {"body.weight": False, "body.bias": False, "fc.weight": True, "fc.bias": True}


def test_an_optimizer_with_parameter_groups_is_refused() -> None:
    network = two_layers()
    grouped = paddle.optimizer.SGD(0.1, parameters=[{"params": network.parameters(), "learning_rate": 0.5}])
    with pytest.raises(UnsupportedFitError, match="parameter groups"):
        ParameterFactors(network, grouped)


def test_an_optimizer_around_another_is_refused() -> None:
    network = two_layers()
    inner = paddle.optimizer.SGD(0.1, parameters=network.parameters())
    with pytest.raises(UnsupportedFitError, match="LookAhead around SGD"):
        ParameterFactors(network, paddle.incubate.LookAhead(inner))
