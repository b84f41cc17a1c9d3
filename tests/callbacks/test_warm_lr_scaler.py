"""The rates a fit trains with, beside those of the same fit without the scaler, straight through and resumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

import numpy as np
import paddle
import pytest
from paddle.optimizer import lr as paddle_lr

from paddle_warm_callbacks import (
    InvalidArgumentError,
    PatternError,
    WarmLRScaler,
)
from paddle_warm_callbacks.hapi.callback import FitCallback
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.hapi.lr import effective_lr
from tests.callbacks.rates import GROUPS, RATES, Plateaus, Said, made, steady_half
from tests.callbacks.runs import STEPS, Interrupted, fit
from tests.hapi.schedules import SCHEDULES


class Rates(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
    """Each step's rate, as said, and as far as SGD moved a bias whose gradient is 1."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[float] = []
        self.used: list[float] = []

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        self.said.append(float(self.model._optimizer.get_lr()))
        self.model.network.fc.bias.set_value(np.zeros([3], "float32"))

    def on_train_batch_end(self, step: int, logs: Any = None) -> None:
        self.used.append(-float(self.model.network.fc.bias.numpy()[0]))


def rates_of(rate: Any, *callbacks: Any) -> Rates:
    """Fit twelve steps on a loss whose gradient for the head's bias is 1."""
    rates = Rates()
    stepping: tuple[Any, ...] = ()
    if isinstance(rate, paddle_lr.ReduceOnPlateau):  # which the callback that fit adds cannot step
        stepping = (Plateaus(), paddle.callbacks.LRScheduler(by_step=False, by_epoch=False))
    model = made(rate, "SGD", lambda output, label: output.sum(axis=1).mean())
    fit(model, *callbacks, rates, *stepping, epochs=4)
    assert len(rates.said) == 4 * STEPS
    return rates


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_is_scaled_through_a_whole_fit(name: str) -> None:
    plain = rates_of(SCHEDULES[name]())
    schedule = SCHEDULES[name]()
    kind = type(schedule)
    scaled = rates_of(schedule, WarmLRScaler(0.2))
    assert scaled.said == [0.2 * rate for rate in plain.said]
    assert scaled.used == [float(np.float32(rate)) for rate in scaled.said]
    assert plain.used == [float(np.float32(rate)) for rate in plain.said]
    assert len(set(plain.said)) > 1
    assert type(schedule) is kind


@pytest.mark.parametrize("rate", RATES.values(), ids=RATES)
def test_the_warm_up_rises_over_global_steps(rate: Callable[[], Any]) -> None:
    plain = rates_of(rate())
    scaled = rates_of(rate(), WarmLRScaler(0.2, warmup_steps=5))
    factors = [0.2 * min(1.0, (step + 1) / 5) for step in range(12)]
    assert scaled.said == pytest.approx([rate * factor for rate, factor in zip(plain.said, factors)])
    assert scaled.used == pytest.approx(scaled.said)


def test_groups_train_at_their_own_rates() -> None:
    plain, grouped = rates_of(0.1), rates_of(0.1, WarmLRScaler(0.5, groups={"^fc": 0.25, "": 3.0}))
    assert plain.used == [pytest.approx(0.1)] * 12
    assert grouped.said == [0.05] * 12
    assert grouped.used == [pytest.approx(0.0125)] * 12


class Seen(FitCallback):
    """What the effective rates are at each step, and the parameters' own."""

    def __init__(self) -> None:
        super().__init__()
        self.effective: list[Mapping[str, float]] = []
        self.own: dict[str, float] = {}

    def step_starting(self, loop: FitLoop) -> None:
        self.effective.append(effective_lr(loop))
        self.own = own_rates(loop.network)


def own_rates(network: Any) -> dict[str, float]:
    return {name: p.optimize_attr["learning_rate"] for name, p in network.named_parameters()}


def test_the_effective_rate_is_shown_by_group() -> None:
    model, seen = made(0.1), Seen()
    model.network.body.weight.stop_gradient = model.network.body.bias.stop_gradient = True
    fit(model, WarmLRScaler(0.5, groups={"body": 0.5, r"fc\.weight": 2.0}), seen, epochs=1)
    assert seen.effective[0] == {"body": 0.0, r"fc\.weight": 0.1, "others": 0.05}
    alone = Seen()
    fit(made(0.1), alone, epochs=1)
    assert alone.effective[0] == {"all": 0.1}


@pytest.mark.parametrize("rate", RATES.values(), ids=RATES)
@pytest.mark.parametrize("end", [None, Interrupted, KeyboardInterrupt])
def test_the_users_objects_are_as_before_however_fit_ends(rate: Callable[[], Any], end: type | None) -> None:
    learning_rate, seen = rate(), Seen()
    kind = type(learning_rate)
    model = made(learning_rate)
    model.network.fc.bias.optimize_attr["learning_rate"] = 3.0
    before = own_rates(model.network)

    class Ending(paddle.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, step: int, logs: Any = None) -> None:
            if end is not None and step == 1:
                raise end

    scaler = WarmLRScaler(0.2, warmup_steps=4, groups=GROUPS)
    if end is None:
        fit(model, scaler, seen, epochs=1)
    else:
        with pytest.raises(end):
            fit(model, scaler, seen, Ending(), epochs=1)
    assert seen.own["fc.bias"] == 6.0  # control: it was changed
    assert own_rates(model.network) == before
    held = model._optimizer._learning_rate
    assert type(held) is kind
    if kind is float:
        assert held == 0.1
    else:
        assert held is learning_rate
        assert held() == held.last_lr


def test_a_second_fit_is_scaled_as_the_first() -> None:
    model, scaler, twice = made(0.1), WarmLRScaler(0.2, warmup_steps=3), Said()
    rates = []
    for _ in range(2):
        fit(model, scaler, twice, epochs=1)
        rates.append(dict(twice.rates))
    assert rates[0] == rates[1]
    assert rates[0][0, 2] == 0.1 * 0.2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"factor": 0}, "WarmLRScaler(factor)"),
        ({"factor": -0.1}, "WarmLRScaler(factor)"),
        ({"factor": float("nan")}, "WarmLRScaler(factor)"),
        ({"factor": "0.1"}, "WarmLRScaler(factor)"),
        ({"warmup_steps": -1}, "WarmLRScaler(warmup_steps=)"),
        ({"warmup_steps": 1.5}, "WarmLRScaler(warmup_steps=)"),
        ({"groups": {"fc": -1}}, "groups['fc']"),
        ({"groups": {"(": 1.0}}, "not a regular expression"),
        ({"groups": [("fc", 1.0)]}, "a mapping from regular expression to factor"),
        ({"on_resume": "restart"}, "'keep' | 'reconfigure' | 'rewarm' | 'extend'"),
        ({"on_resume": "rewarm"}, "warmup_steps of at least 1"),
    ],
)
def test_wrong_arguments_are_refused_when_it_is_built(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        WarmLRScaler(**arguments)
    assert says in str(caught.value)


def test_a_group_that_names_nothing_is_refused_before_the_first_step() -> None:
    said, rate = Said(), steady_half()
    model = made(rate)
    with pytest.raises(PatternError, match="did you mean 'body'") as caught:
        fit(model, WarmLRScaler(groups={"fc": 1.0, "bdoy": 0.1}), said)
    assert "bdoy" in caught.value.received
    assert said.rates == {}
    assert type(rate) is paddle_lr.StepDecay
    assert set(own_rates(model.network).values()) == {1.0}


def test_two_scalers_in_one_fit_are_refused() -> None:
    model = made(0.1)
    with pytest.raises(InvalidArgumentError, match="2 WarmLRScaler"):
        fit(model, WarmLRScaler(0.5), WarmLRScaler(0.5))
    assert model._optimizer.get_lr() == 0.1
