"""Learning rates: the formula's factors, groups by first match, and what each kind of resume keeps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_warm_callbacks.errors import InvalidArgumentError, PatternError
from paddle_warm_callbacks.plan.lr import (
    LRGroups,
    ScalerSettings,
    after_resume,
    effective_lr,
    global_factor,
    layerwise_groups,
    stage_factor,
    warmup_factor,
)
from paddle_warm_callbacks.progress import Progress


@given(st.integers(1, 500))
def test_a_warm_up_rises_in_equal_steps_from_above_0_to_1(steps: int) -> None:
    factors = [warmup_factor(done, steps) for done in range(steps + 3)]
    assert factors[0] == 1 / steps
    assert factors[steps - 1 :] == [1.0] * 4
    rises = [after - before for before, after in zip(factors, factors[1:steps])]
    assert all(abs(rise - 1 / steps) < 1e-12 for rise in rises)


def test_no_warm_up_is_a_factor_of_1_from_the_first_step() -> None:
    assert warmup_factor(0, 0) == 1.0


@given(st.integers(0, 100), st.integers(0, 50), st.integers(0, 100))
def test_a_factor_is_a_function_of_position(step: int, warmup: int, begins: int) -> None:
    expected = 0.2 * warmup_factor(max(step - begins, 0), warmup)
    for epoch in (0, 3):
        assert global_factor(0.2, Progress(step, epoch, 0), warmup, begins) == expected


def test_the_formula_multiplies_every_factor_once() -> None:
    lr = effective_lr(2.0, everywhere=3.0, group=5.0, stage=7.0, own=11.0)
    assert lr == 2 * 3 * 5 * 7 * 11
    assert effective_lr(2.0) == 2.0
    assert stage_factor(0.5, 0, 4) == 0.125
    assert stage_factor(0.5, 4, 4) == stage_factor(0.5, 0, 0) == 0.5


def test_the_first_pattern_found_gives_the_factor() -> None:
    groups = LRGroups({"layer4": 0.5, "layer": 0.1, "bias$": 2.0})
    names = ["layer4.w", "layer1.bias", "fc.bias", "fc.weight"]
    assert groups.factors(names) == {"layer4.w": 0.5, "layer1.bias": 0.1, "fc.bias": 2.0, "fc.weight": 1.0}
    assert [groups.group_of(name) for name in names] == ["layer4", "layer", "bias$", None]
    assert LRGroups().factors(names) == dict.fromkeys(names, 1.0)


def test_a_group_that_cannot_have_an_effect_is_an_error() -> None:
    with pytest.raises(PatternError, match="matches nothing") as failure:
        LRGroups({"fc": 1.0, "bakcbone": 0.1}).factors(["backbone.w", "fc.w"])
    assert "backbone" in failure.value.remedy
    with pytest.raises(PatternError, match="no parameter left"):
        LRGroups({"layer": 0.1, "layer4": 0.5}).factors(["layer4.w", "layer1.w"])


@pytest.mark.parametrize("groups", [{"fc": -1.0}, {"fc": float("inf")}, {"fc": "1"}, {"(": 1.0}, {3: 1.0}])
def test_wrong_groups_are_refused_when_built(groups: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        LRGroups(groups)


def test_layerwise_decay_shrinks_towards_the_input() -> None:
    assert layerwise_groups(["stem", "mid", "head"], 0.1) == {"stem": 0.1**2, "mid": 0.1, "head": 1.0}
    with pytest.raises(InvalidArgumentError, match="twice"):
        layerwise_groups(["stem", "stem"], 0.1)
    with pytest.raises(InvalidArgumentError, match="above 0"):
        layerwise_groups(["stem", "head"], 0.0)


SAVED = ScalerSettings(0.2, warmup_steps=10, groups=(("fc", 1.0),))
WRITTEN = ScalerSettings(0.5, warmup_steps=4, groups=(("conv", 0.1),))


@pytest.mark.parametrize(
    ("on_resume", "settings", "scheduler"),
    [
        ("keep", SAVED, "checkpoint"),
        ("reconfigure", WRITTEN, "script"),
        ("rewarm", ScalerSettings(0.2, warmup_steps=4, warmup_from=70, groups=SAVED.groups), "checkpoint"),
        ("extend", SAVED, "script"),
    ],
)
def test_a_resume_goes_on_with_what_was_asked_for(
    on_resume: str, settings: ScalerSettings, scheduler: str
) -> None:
    resumed = after_resume(on_resume, SAVED, WRITTEN, Progress(70, 3, 1))
    assert (resumed.settings, resumed.scheduler) == (settings, scheduler)


def test_a_rewarm_begins_where_the_run_was_resumed() -> None:
    settings = after_resume("rewarm", SAVED, WRITTEN, Progress(70, 3, 1)).settings
    assert [settings.factor_at(Progress(step, 3, 1)) for step in (70, 71, 73, 90)] == [0.05, 0.1, 0.2, 0.2]


def test_a_checkpoint_without_a_scaler_counts_as_factor_1() -> None:
    assert after_resume("keep", None, WRITTEN, Progress(5)).settings.factor_at(Progress(5)) == 1.0


def test_impossible_resumes_are_errors() -> None:
    with pytest.raises(InvalidArgumentError, match="extend"):
        after_resume("restart", SAVED, WRITTEN, Progress())
    with pytest.raises(InvalidArgumentError, match="warmup_steps=0"):
        after_resume("rewarm", SAVED, ScalerSettings(0.5), Progress())
    with pytest.raises(InvalidArgumentError, match="WarmLRScaler"):
        ScalerSettings(0.0)
