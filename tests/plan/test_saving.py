"""Save policies: due by position, so that a resumed run saves where the uninterrupted one does."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.plan.saving import (
    AnySavePolicy,
    EveryNEpochs,
    EveryNSeconds,
    EveryNSteps,
    OnException,
    OnNewBest,
    SaveMoment,
    SavePolicy,
    widened,
)
from paddle_warm_callbacks.progress import Progress

by_position = st.lists(
    st.one_of(st.builds(EveryNEpochs, st.integers(1, 4)), st.builds(EveryNSteps, st.integers(1, 9))),
    min_size=1,
    max_size=3,
).map(lambda policies: policies[0] if len(policies) == 1 else AnySavePolicy(tuple(policies)))


def moments(epoch_lengths: list[int]) -> list[SaveMoment]:
    """Return every moment a run could save at: after each step and after each epoch, one second apart."""
    progress = Progress()
    found: list[SaveMoment] = []
    for length in epoch_lengths:
        for _ in range(length):
            progress = progress.after_step()
            found.append(SaveMoment(progress, False, float(len(found))))
        progress = progress.after_epoch()
        found.append(SaveMoment(progress, True, float(len(found))))
    return found


def run(policy: SavePolicy, through: list[SaveMoment], last: SaveMoment | None = None) -> list[SaveMoment]:
    saved = []
    for now in through:
        if policy.due(now, last):
            last = now
            saved.append(now)
    return saved


@given(by_position, st.lists(st.integers(1, 8), min_size=1, max_size=6), st.data())
def test_saves_do_not_depend_on_where_a_resume_happened(
    policy: SavePolicy, epoch_lengths: list[int], data: st.DataObject
) -> None:
    through = moments(epoch_lengths)
    uninterrupted = run(policy, through)
    killed_at = data.draw(st.integers(0, len(through)))
    before = run(policy, through[:killed_at])
    resumed_from = before[-1] if before else None
    rest = through[through.index(resumed_from) + 1 :] if resumed_from else through
    seeded = SaveMoment(resumed_from.progress, resumed_from.epoch_completed, 0.0) if resumed_from else None
    assert before + run(policy, rest, seeded) == uninterrupted


def test_every_n_epochs_is_due_after_whole_epochs_only() -> None:
    saved = run(EveryNEpochs(2), moments([3] * 5))
    assert [(moment.progress.epoch, moment.epoch_completed) for moment in saved] == [(2, True), (4, True)]


def test_every_n_steps_is_due_at_multiples_and_not_again_when_the_epoch_ends_there() -> None:
    saved = run(EveryNSteps(3), moments([6, 2]))
    assert [(moment.progress.global_step, moment.epoch_completed) for moment in saved] == [
        (3, False),
        (6, False),
    ]


def test_every_n_steps_is_not_lost_where_it_is_asked_less_often() -> None:
    asked = [moment for moment in moments([20]) if moment.progress.global_step % 4 == 0]
    assert [moment.progress.global_step for moment in run(EveryNSteps(6), asked)] == [8, 12, 20]


@given(st.integers(1, 10), st.integers(2, 40))
def test_every_n_seconds_counts_from_the_last_save(seconds: int, steps: int) -> None:
    through = [SaveMoment(Progress(step, 0, step), False, float(step)) for step in range(1, steps)]
    assert [moment.seconds for moment in run(EveryNSeconds(seconds), through)] == list(
        range(seconds, steps, seconds)
    )


def test_every_n_seconds_does_not_save_the_same_position_twice() -> None:
    at = SaveMoment(Progress(5, 0, 5), False, 10.0)
    later = SaveMoment(at.progress, False, 99.0)
    assert not EveryNSeconds(1).due(later, at)
    assert EveryNSeconds(1).due(SaveMoment(Progress(6, 0, 6), False, 99.0), at)


@given(by_position, by_position, st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_joined_policies_are_due_when_any_is(left: SavePolicy, right: SavePolicy, lengths: list[int]) -> None:
    last = None
    for now in moments(lengths):
        assert (left | right).due(now, last) == (left.due(now, last) or right.due(now, last))
        last = now if (left | right).due(now, last) else last


def test_joining_keeps_one_flat_readable_list() -> None:
    joined = EveryNEpochs(1) | EveryNSteps(500) | EveryNSeconds(60.0)
    assert joined == AnySavePolicy((EveryNEpochs(1), EveryNSteps(500), EveryNSeconds(60.0)))
    with pytest.raises(TypeError):
        EveryNEpochs(1) | 500  # type: ignore[operator]


def test_a_policy_of_one_s_own_joins_too() -> None:
    class AtStep(SavePolicy):
        def due(self, now: SaveMoment, last: SaveMoment | None) -> bool:
            return now.progress.global_step == 5

    assert [moment.progress.global_step for moment in run(AtStep() | EveryNSteps(7), moments([8]))] == [5, 7]


@pytest.mark.parametrize(
    "joined",
    [
        lambda: EveryNEpochs(1) and EveryNSteps(5),
        lambda: EveryNEpochs(1) or EveryNSteps(5),
        lambda: not EveryNEpochs(1),
        lambda: bool(EveryNEpochs(1) | EveryNSteps(5)),
    ],
)
def test_and_and_or_do_not_drop_a_policy_in_silence(joined: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="neither true nor false") as caught:
        joined()
    assert caught.value.remedy == "EveryNEpochs(1) | EveryNSteps(500)"


@pytest.mark.parametrize("build", [EveryNEpochs, EveryNSteps, EveryNSeconds])
@pytest.mark.parametrize("wrong", [0, -1, "2", None, True, float("nan")])
def test_wrong_numbers_are_refused_at_once(build: Any, wrong: Any) -> None:
    build(1)
    with pytest.raises(InvalidArgumentError, match=build.__name__):
        build(wrong)


def test_not_policies_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="EveryNEpochs"):
        AnySavePolicy((3,))  # type: ignore[arg-type]


def evaluated(values: list[float], policy: OnNewBest) -> list[int]:
    """Return the epochs, from 1, after which ``policy`` saves where evaluations give ``values``."""
    extremes: dict[str, tuple[float, float]] = {}
    saved = []
    for epoch, value in enumerate(values, start=1):
        now = SaveMoment(Progress(epoch, epoch, 0), True, 0.0, {"acc": value}, extremes)
        if policy.due(now, None):
            saved.append(epoch)
        extremes = widened(extremes, now.metrics)
    return saved


def test_a_new_best_is_better_than_all_before() -> None:
    assert evaluated([0.3, 0.2, 0.3, 0.5, 0.4, 0.6], OnNewBest("acc")) == [1, 4, 6]
    assert evaluated([0.3, 0.2, 0.3, 0.1], OnNewBest("acc", mode="min")) == [1, 2, 4]
    assert evaluated([0.3, 0.2], OnNewBest("loss")) == []
    assert evaluated([math.nan, 0.2, math.nan, 0.3], OnNewBest("acc")) == [2, 4]


def test_joined_policies_know_what_any_of_them_wants() -> None:
    joined = EveryNSteps(5) | OnNewBest("acc") | OnNewBest("loss", mode="min") | OnException()
    assert joined.metrics == {"acc", "loss"}
    assert joined.on_exception
    assert not (EveryNSteps(5) | OnNewBest("acc")).on_exception
    assert not OnException().due(SaveMoment(Progress(5, 1, 0), True, 9.0), None)


@pytest.mark.parametrize("arguments", [("",), (3,), ("acc", "best")])
def test_a_wrong_new_best_is_refused(arguments: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        OnNewBest(*arguments)
