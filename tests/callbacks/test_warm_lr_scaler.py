"""The rates a fit trains with, beside those of the same fit without the scaler, straight through and resumed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

import numpy as np
import paddle
import pytest
from paddle.optimizer import lr as paddle_lr

from paddle_warm_callbacks import (
    EveryNSteps,
    InvalidArgumentError,
    KeepLatest,
    PatternError,
    PeriodicCheckpoint,
    Stage,
    StagedUnfreeze,
    WarmLRScaler,
    WarmStartCallback,
)
from paddle_warm_callbacks.hapi.callback import FitCallback
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.hapi.lr import effective_lr
from tests.callbacks.runs import STEPS, Interrupted, Losses, Points, bits, fit
from tests.hapi.schedules import SCHEDULES, advance

GROUPS = {"body": 0.5, "fc": 2.0}


def steady_half(learning_rate: float = 0.1) -> Any:
    return paddle_lr.StepDecay(learning_rate, 2, 0.5)


def a_float(learning_rate: float = 0.1) -> float:
    return learning_rate


RATES: dict[str, Callable[..., Any]] = {"float": a_float, "schedule": steady_half}


def made(rate: Any, optimizer: str = "Adam", loss: Any = None) -> paddle.Model:
    """Return a prepared model: a body, dropout, and a head named ``fc``."""
    paddle.seed(0)
    network = paddle.nn.Sequential(
        ("body", paddle.nn.Linear(3, 5)),
        ("drop", paddle.nn.Dropout(0.3)),
        ("fc", paddle.nn.Linear(5, 3)),
    )
    model = paddle.Model(network)
    built = getattr(paddle.optimizer, optimizer)(rate, parameters=network.parameters())
    model.prepare(built, loss or paddle.nn.CrossEntropyLoss(), paddle.metric.Accuracy())
    return model


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


class Said(paddle.callbacks.Callback):  # type: ignore[misc]
    """Each step's rate by (epoch, step)."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: dict[tuple[int, int], float] = {}
        self.epoch = -1

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        self.rates[self.epoch, step] = float(self.model._optimizer.get_lr())


class Plateaus(paddle.callbacks.Callback):  # type: ignore[misc]
    """Step a schedule that Paddle's own callback cannot step."""

    def on_train_batch_end(self, step: int, logs: Any = None) -> None:
        advance(self.model._optimizer._learning_rate)


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


# -- resumed ---------------------------------------------------------------------------------------------------------
# The control saves too: where Paddle's CPU generator cannot be put back (2.6), saving makes each step draw anew.


def saving(run_dir: Path) -> PeriodicCheckpoint:
    return PeriodicCheckpoint(str(run_dir), save=EveryNSteps(1), keep=KeepLatest(2))


def interrupt(model: Any, run_dir: Path, *callbacks: Any, after: tuple[int, int] = (1, 0)) -> None:
    start = WarmStartCallback(run_dir=str(run_dir), resume_from="latest")
    with pytest.raises(Interrupted):
        fit(model, start, *callbacks, saving(run_dir), Losses(fail_after=after))


def resume(model: Any, run_dir: Path, *callbacks: Any, on_change: str = "raise", **options: Any) -> None:
    start = WarmStartCallback(run_dir=str(run_dir), resume_from="latest", on_change=on_change)
    fit(model, start, *callbacks, saving(run_dir), **options)


class Forgetful(WarmLRScaler):
    """A scaler whose state is lost."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        state.update(base=None, scaled_by=1.0)
        super().load_state_dict(state)


def a_scaler(kind: type[WarmLRScaler] = WarmLRScaler) -> WarmLRScaler:
    return kind(0.3, warmup_steps=7, groups=GROUPS)


NESTED = {**RATES, "LinearWarmup(Cosine)": SCHEDULES["LinearWarmup(Cosine)"]}


@pytest.mark.parametrize("after", [(0, 0), (1, 1)])
@pytest.mark.parametrize("rate", NESTED.values(), ids=NESTED)
def test_an_interrupted_run_goes_on_to_the_bit(
    tmp_path: Path, rate: Callable[[], Any], after: tuple[int, int]
) -> None:
    control, uninterrupted, losses = Said(), made(rate()), Losses()
    fit(uninterrupted, a_scaler(), saving(tmp_path / "control"), control, losses)
    interrupt(made(rate()), tmp_path / "run", a_scaler(), after=after)
    said, continued, more = Said(), made(rate()), Losses()
    resume(continued, tmp_path / "run", a_scaler(), said, more)
    assert said.rates == {at: value for at, value in control.rates.items() if at > after}
    assert more.seen == {at: loss for at, loss in losses.seen.items() if at > after}
    assert bits(continued) == bits(uninterrupted)


def test_without_its_state_a_float_would_be_scaled_twice(tmp_path: Path) -> None:
    control = Said()
    fit(made(0.1), a_scaler(Forgetful), control)
    interrupt(made(0.1), tmp_path, a_scaler(Forgetful))
    said = Said()
    resume(made(0.1), tmp_path, a_scaler(Forgetful), said)
    assert said.rates[2, 2] < control.rates[2, 2] / 2


@pytest.mark.parametrize("rate", RATES.values(), ids=RATES)
def test_twice_interrupted_it_still_goes_on_to_the_bit(tmp_path: Path, rate: Callable[[], Any]) -> None:
    control, uninterrupted = Said(), made(rate())
    fit(uninterrupted, a_scaler(), saving(tmp_path / "control"), control)
    run_dir = tmp_path / "run"
    interrupt(made(rate()), run_dir, a_scaler(), after=(0, 1))
    interrupt(made(rate()), run_dir, a_scaler(), after=(1, 1))
    said, continued = Said(), made(rate())
    resume(continued, run_dir, a_scaler(), said)
    assert said.rates == {at: value for at, value in control.rates.items() if at > (1, 1)}
    assert bits(continued) == bits(uninterrupted)
    finished = made(rate())  # the same command once more: nothing is left to train
    resume(finished, run_dir, a_scaler())
    assert bits(finished) == bits(uninterrupted)
    held = finished._optimizer._learning_rate
    assert held == 0.1 if isinstance(held, float) else type(held) is paddle_lr.StepDecay


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_a_plateau_callback_and_the_scaler_resume_to_the_bit(tmp_path: Path, factor: float) -> None:
    def plateau() -> Any:
        return paddle.callbacks.ReduceLROnPlateau(
            "loss", patience=0, factor=0.5, min_delta=9, verbose=0, cooldown=0
        )

    def scaler() -> WarmLRScaler:
        return WarmLRScaler(factor, warmup_steps=8)

    control, uninterrupted = Said(), made(0.1)
    saved = saving(tmp_path / "control")
    fit(uninterrupted, scaler(), plateau(), saved, control, eval_data=Points(), epochs=4)
    run_dir, failing = tmp_path / "run", Losses(fail_after=(2, 0))
    with pytest.raises(Interrupted):
        fit(made(0.1), scaler(), plateau(), saving(run_dir), failing, eval_data=Points(), epochs=4)
    said, continued = Said(), made(0.1)
    resume(continued, run_dir, scaler(), plateau(), said, eval_data=Points(), epochs=4)
    assert said.rates == {at: value for at, value in control.rates.items() if at > (2, 0)}
    assert bits(continued) == bits(uninterrupted)
    assert control.rates[3, 2] < 0.1 * factor / 2  # control: the plateau did reduce


# What the fifth step is trained with: saved by factor 0.1 over a rate of 0.1, resumed by a script that says factor 0.5
# over 0.2 with a warm-up of 4 steps. By then the schedule has halved twice, and three times at the eighth.
AFTER_RESUME = {"keep": 0.01, "reconfigure": 0.1, "rewarm": 0.01 / 4, "extend": 0.02}


@pytest.mark.parametrize("choice", AFTER_RESUME)
@pytest.mark.parametrize(("kind", "decayed"), [("float", 1.0), ("schedule", 0.25)])
def test_each_choice_follows_what_it_says_and_logs_both_rates(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, choice: str, kind: str, decayed: float
) -> None:
    interrupt(made(RATES[kind](0.1)), tmp_path, WarmLRScaler(0.1))
    said, now = Said(), AFTER_RESUME[choice] * decayed
    with caplog.at_level(logging.INFO, "paddle_warm_callbacks"):
        resume(made(RATES[kind](0.2)), tmp_path, WarmLRScaler(0.5, warmup_steps=4, on_resume=choice), said)
    assert said.rates[1, 1] == pytest.approx(now)
    assert f"({choice}): {0.01 * decayed:g} when saved, {now:g} now" in caplog.text
    follows = f"WarmLRScaler(on_resume={choice!r}) follows the checkpoint"
    assert (follows in caplog.text) == (choice != "reconfigure")
    later = 4 * now if choice == "rewarm" else now
    assert said.rates[2, 1] == pytest.approx(later * (0.5 if kind == "schedule" else 1.0))


def test_the_rates_told_on_resume_are_those_trained_with_the_stages_factor_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def stages() -> StagedUnfreeze:
        return StagedUnfreeze([Stage(0, ".*"), Stage(1, ".*", lr_factor=0.25)])

    groups = {"body": 0.5, "fc": 1.0}
    interrupt(made(0.1), tmp_path, WarmLRScaler(1.0, groups=groups), stages())
    with caplog.at_level(logging.INFO, "paddle_warm_callbacks"):
        resume(made(0.1), tmp_path, WarmLRScaler(1.0, groups=groups), stages())
    assert "(keep): body 0.0125, fc 0.025 when saved, body 0.0125, fc 0.025 now" in caplog.text


def test_a_scaler_that_is_new_in_a_resumed_run_says_that_it_does_nothing_or_does_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    interrupt(made(0.1), tmp_path)
    kept = Said()
    resume(made(0.1), tmp_path, WarmLRScaler(0.5), kept, Losses())
    assert set(kept.rates.values()) == {0.1}
    assert "saved without a WarmLRScaler" in caplog.text
    assert "to take the script's: on_resume='reconfigure', in YAML lr.on_resume" in caplog.text
    interrupt(made(0.1), tmp_path / "again")
    changed = Said()
    resume(made(0.1), tmp_path / "again", WarmLRScaler(0.5, on_resume="reconfigure"), changed)
    assert set(changed.rates.values()) == {0.05}


def test_the_same_settings_resumed_give_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    interrupt(made(0.1), tmp_path, a_scaler())
    resume(made(0.1), tmp_path, a_scaler())
    assert "WarmLRScaler(" not in caplog.text


@pytest.mark.parametrize(
    ("was", "is_now", "optimizer", "expected"),
    [
        ("float", "float", "Adam", 0.01),  # only the accumulation has changed: the checkpoint's rate
        ("schedule", "schedule", "Adam", 0.0025),
        ("float", "float", "SGD", 0.02),  # another optimizer: the script's rate, with the checkpoint's factor
        ("float", "schedule", "Adam", 0.02),
        ("schedule", "float", "Adam", 0.02),
    ],
)
def test_a_resume_that_adapts_keeps_the_factor(
    tmp_path: Path, was: str, is_now: str, optimizer: str, expected: float
) -> None:
    interrupt(made(RATES[was](0.1)), tmp_path, WarmLRScaler(0.1))
    said = Said()
    model = made(RATES[is_now](0.2), optimizer)
    resume(model, tmp_path, WarmLRScaler(0.1), said, on_change="adapt", accumulate_grad_batches=2)
    assert said.rates[1, 0] == pytest.approx(expected)


# -- refused ---------------------------------------------------------------------------------------------------------


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
