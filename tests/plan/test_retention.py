"""Retention: what a policy names is never dropped, the best is really the best, NaN never is."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.plan.retention import (
    AnyRetentionPolicy,
    CheckpointRecord,
    KeepBest,
    KeepEvery,
    KeepLatest,
    RetentionPolicy,
)
from paddle_warm_callbacks.progress import Progress

policies = st.one_of(
    st.builds(KeepLatest, st.integers(1, 5)),
    st.builds(KeepBest, st.sampled_from(["acc", "loss"]), st.sampled_from(["max", "min"]), st.integers(1, 4)),
    st.builds(KeepEvery, st.integers(1, 4)),
)
values = st.sampled_from([0.0, -0.0, 0.25, 0.5, -1.0, math.inf, -math.inf, math.nan])
metrics = st.dictionaries(st.sampled_from(["acc", "loss"]), values)


@st.composite
def histories(draw: st.DrawFn) -> list[CheckpointRecord]:
    progress = Progress()
    records: list[CheckpointRecord] = []
    for _ in range(draw(st.integers(0, 12))):
        completed = draw(st.booleans())
        progress = progress.after_step()
        progress = progress.after_epoch() if completed else progress
        records.append(CheckpointRecord(f"step-{len(records)}", progress, completed, draw(metrics)))
    return records


def history(*scores: float) -> list[CheckpointRecord]:
    return [
        CheckpointRecord(str(i), Progress(i + 1, i + 1, 0), True, {"acc": score})
        for i, score in enumerate(scores)
    ]


@given(st.lists(policies, min_size=1, max_size=3), histories())
def test_a_joined_policy_keeps_exactly_what_any_of_its_parts_names(
    parts: list[RetentionPolicy], records: list[CheckpointRecord]
) -> None:
    kept = AnyRetentionPolicy(tuple(parts)).keep(records)
    assert kept <= {record.name for record in records}
    assert kept == {name for part in parts for name in part.keep(records)}


@given(policies, policies, histories())
def test_deleting_as_checkpoints_come_keeps_what_one_look_at_the_end_would(
    left: RetentionPolicy, right: RetentionPolicy, records: list[CheckpointRecord]
) -> None:
    """What was dropped earlier would be dropped at the end too: deleting early loses nothing."""
    policy = left | right
    survivors: list[CheckpointRecord] = []
    for record in records:
        survivors.append(record)
        kept = policy.keep(survivors) | {record.name}
        survivors = [survivor for survivor in survivors if survivor.name in kept]
    assert policy.keep(records) <= {survivor.name for survivor in survivors}
    assert policy.keep(survivors) == policy.keep(records)


@given(st.integers(1, 5), histories())
def test_keep_latest_keeps_the_newest(n: int, records: list[CheckpointRecord]) -> None:
    kept = KeepLatest(n).keep(records)
    assert kept == {record.name for record in records[max(len(records) - n, 0) :]}


@given(st.sampled_from(["max", "min"]), histories())
def test_nothing_beats_the_best(mode: str, records: list[CheckpointRecord]) -> None:
    policy = KeepBest("acc", mode)
    scored = [record for record in records if not math.isnan(record.metrics.get("acc", math.nan))]
    best = policy.best(records)
    if best is None:
        assert scored == []
        assert policy.keep(records) == frozenset()
        return
    top = (max if mode == "max" else min)(record.metrics["acc"] for record in scored)
    assert best is [record for record in scored if record.metrics["acc"] == top][-1]  # of equals, the newest
    assert policy.keep(records) == {best.name}


def test_nan_is_never_best_and_ties_go_to_the_newer() -> None:
    records = history(math.nan, 0.5, 0.7, 0.7, math.nan)
    best = KeepBest("acc").best(records)
    assert best is records[3]
    assert KeepBest("acc", n=2).keep(records) == {"3", "2"}
    assert KeepBest("acc", "min").keep(records) == {"1"}
    assert KeepBest("acc").best(history(math.nan)) is None
    assert KeepBest("accuracy").keep(records) == frozenset()


def test_keep_every_counts_epochs_of_the_run_not_checkpoints() -> None:
    records = [
        CheckpointRecord("a", Progress(10, 3, 0), True, {}),
        CheckpointRecord("b", Progress(14, 4, 0), True, {}),
        CheckpointRecord("c", Progress(15, 4, 1), False, {}),
        CheckpointRecord("d", Progress(18, 6, 0), True, {}),
    ]
    assert KeepEvery(2).keep(records) == {"b", "d"}


def test_a_policy_tells_the_metrics_it_looks_at() -> None:
    assert (KeepLatest(3) | KeepBest("acc") | KeepBest("loss", "min")).metrics == {"acc", "loss"}
    assert KeepLatest(3).metrics == frozenset()


def test_joining_keeps_one_flat_readable_list() -> None:
    joined = KeepLatest(3) | KeepBest("acc") | KeepEvery(10)
    assert joined == AnyRetentionPolicy((KeepLatest(3), KeepBest("acc"), KeepEvery(10)))
    with pytest.raises(TypeError):
        KeepLatest(1) | "acc"  # type: ignore[operator]


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: KeepLatest(0), "KeepLatest(n)"),
        (lambda: KeepLatest(True), "KeepLatest(n)"),
        (lambda: KeepEvery(-1), "KeepEvery(n_epochs)"),
        (lambda: KeepBest(""), "KeepBest(metric)"),
        (lambda: KeepBest(3), "KeepBest(metric)"),  # type: ignore[arg-type]
        (lambda: KeepBest("acc", "maximum"), "'max' | 'min'"),
        (lambda: KeepBest("acc", n=0), "KeepBest(n=)"),
        (lambda: AnyRetentionPolicy(()), "KeepLatest"),
        (lambda: KeepLatest(1) and KeepBest("acc"), 'KeepLatest(3) | KeepBest("acc")'),
        (lambda: KeepLatest(1) or KeepBest("acc"), "neither true nor false"),
    ],
)
def test_wrong_arguments_are_refused_at_once(build: Any, says: str) -> None:
    with pytest.raises(InvalidArgumentError) as failure:
        build()
    assert says in str(failure.value)
