"""The rates of a fit that is interrupted and resumed, beside those of the uninterrupted one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Callable

import paddle
import pytest
from paddle.optimizer import lr as paddle_lr

from paddle_warm_callbacks import (
    Stage,
    StagedUnfreeze,
    WarmLRScaler,
)
from tests.callbacks.rates import GROUPS, RATES, Said, interrupt, made, resume, saving
from tests.callbacks.runs import Interrupted, Losses, Points, bits, fit
from tests.hapi.schedules import SCHEDULES


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
