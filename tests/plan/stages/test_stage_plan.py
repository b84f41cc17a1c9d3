"""Stages: trainability is a function of position, and a plan that cannot mean anything is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_warm_callbacks.errors import InvalidArgumentError, PatternError
from paddle_warm_callbacks.plan.stages import Stage, StagePlan
from paddle_warm_callbacks.progress import Progress

NAMES = ("conv1.weight", "layer4.0.conv.weight", "layer4.0.conv.bias", "fc.weight", "fc.bias")
starts = st.lists(st.integers(1, 12), unique=True, max_size=5).map(lambda later: [0, *sorted(later)])


def by_epoch(first_epochs: list[int]) -> StagePlan:
    return StagePlan(Stage(epoch, "fc") for epoch in first_epochs)


@given(starts, st.lists(st.integers(1, 6), min_size=1, max_size=14))
def test_walking_through_training_and_looking_a_position_up_agree(
    first_epochs: list[int], epoch_lengths: list[int]
) -> None:
    """A walk that changes stage when it comes to one, as a callback driven by events would, is the reference."""
    plan = by_epoch(first_epochs)
    progress, index = Progress(), 0
    for epoch, length in enumerate(epoch_lengths):
        if index + 1 < len(first_epochs) and epoch == first_epochs[index + 1]:
            index += 1
        for _ in range(length):
            assert plan.stage_at(progress).index == index
            progress = progress.after_step()
        assert plan.stage_at(progress).index == index  # evaluation belongs to the epoch it ends
        progress = progress.after_epoch()


@given(starts, st.integers(1, 7), st.integers(0, 14), st.integers(0, 6))
def test_steps_into_a_stage_are_exact_when_epochs_are_equally_long(
    first_epochs: list[int], length: int, epoch: int, step: int
) -> None:
    plan = by_epoch(first_epochs)
    at = plan.stage_at(Progress(epoch * length + step, epoch, step))
    assert at.steps_into == epoch * length + step - first_epochs[at.index] * length


@given(starts, st.integers(0, 14), st.integers(0, 5))
def test_stages_by_step_follow_the_global_step_alone(first_steps: list[int], step: int, epoch: int) -> None:
    plan = StagePlan([Stage(None, "fc", from_step=first) for first in first_steps])
    at = plan.stage_at(Progress(step, epoch, 0))
    assert at.index == sum(first <= step for first in first_steps) - 1
    assert at.steps_into == step - first_steps[at.index]
    assert at.stage is plan.stages[at.index]


def test_names_are_chosen_stage_by_stage() -> None:
    plan = StagePlan([Stage(0, "^fc"), Stage(1, ["^fc", "layer4.*weight"]), Stage(2, ".*")])
    assert plan.trainable_names(NAMES) == (NAMES[3:], (NAMES[1], *NAMES[3:]), NAMES)


def test_a_pattern_that_matches_nothing_names_its_stage_and_near_misses() -> None:
    plan = StagePlan([Stage(0, "fc"), Stage(4, ["fc", "layr4"])])
    with pytest.raises(PatternError) as failure:
        plan.trainable_names(NAMES)
    assert "Stage(4" in failure.value.where
    assert "'layr4'" in failure.value.received
    assert "layer4" in failure.value.remedy


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((-1, "fc"), {}, "at least 0"),
        ((1.5, "fc"), {}, "at least 0"),
        ((None, "fc"), {}, "exactly one"),
        ((0, "fc"), {"from_step": 0}, "exactly one"),
        ((None, "fc"), {"from_step": -1}, "at least 0"),
        ((0, ""), {"lr_factor": 0}, "leave it out of trainable"),
        ((0, "fc"), {"lr_factor": float("nan")}, "finite"),
        ((0, "fc"), {"rewarm_steps": -3}, "at least 0"),
        ((0, []), {}, "one regular expression or more"),
        ((0, "fc("), {}, "not a regular expression"),
        ((0, [3]), {}, "not a string"),
    ],
)
def test_a_wrong_stage_is_refused_when_it_is_built(
    arguments: tuple[Any, ...], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidArgumentError) as failure:
        Stage(*arguments, **options)
    assert says in str(failure.value)


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        ([], "one Stage or more"),
        (["fc"], "one Stage or more"),
        ([Stage(1, "fc")], "add a first stage at 0"),
        ([Stage(0, "fc"), Stage(0, ".*")], "each later"),
        ([Stage(0, "fc"), Stage(3, ".*"), Stage(2, ".*")], "epoch 0, epoch 3, epoch 2"),
        ([Stage(0, "fc"), Stage(None, ".*", from_step=10)], "choose one unit"),
    ],
)
def test_a_plan_out_of_order_is_refused(stages: list[Any], says: str) -> None:
    with pytest.raises(InvalidArgumentError) as failure:
        StagePlan(stages)
    assert says in str(failure.value)


def test_the_table_shows_what_each_stage_trains() -> None:
    plan = StagePlan([Stage(0, "fc"), Stage(3, ".*", lr_factor=0.1, rewarm_steps=50)])
    sizes = dict(zip(NAMES, (600, 200, 100, 90, 10)))
    assert plan.to_text(
        sizes, {name: 0.5 if "fc" in name else 0.05 for name in NAMES}, relative=False
    ).splitlines() == [
        "from epoch  trainable  tensors  parameters  share   learning rate",
        "----------  ---------  -------  ----------  ------  --------------------------------------",
        "0           fc         2 of 5   100         10.0%   0.5",
        "3           .*         5 of 5   1,000       100.0%  0.005 to 0.05, warmed up over 50 steps",
    ]
    assert "x 0.1, warmed up" in plan.to_text(sizes)
    assert "x 0.005 to 0.05, warmed up" in plan.to_text(
        sizes, {name: 0.5 if "fc" in name else 0.05 for name in NAMES}
    )
