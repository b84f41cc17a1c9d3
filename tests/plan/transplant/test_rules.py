"""Index rules divide an axis: every index once, whatever the number of labels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.plan.transplant.rules import (
    Rule,
    before_features,
    behind_features,
    padded,
    per_anchor,
    per_label,
)

counts = st.integers(0, 5)
rules_and_sizes = st.one_of(
    st.builds(lambda b, a: (padded(b, a), lambda c: b + c + a), counts, counts),
    st.builds(lambda b, a, n: (behind_features(b, a), lambda c: n + b + c + a), counts, counts, counts),
    st.builds(lambda n: (before_features(), lambda c: c + n), counts),
    st.builds(lambda w: (per_label(w), lambda c: c * w), st.integers(1, 5)),
    st.builds(
        lambda b, a, first, n: (per_anchor(b, a, first), lambda c: n * (first + b + c + a)),
        counts,
        counts,
        counts,
        st.integers(1, 4),
    ),
)


@given(rules_and_sizes, st.integers(1, 9), st.integers(1, 9))
def test_a_rule_divides_the_whole_axis_and_its_slots_do_not_hang_on_the_labels(
    rule_and_size: tuple[Rule, object], labels: int, others: int
) -> None:
    rule, size = rule_and_size
    assert callable(size)
    rows = rule(labels, size(labels))
    assert len(rows.labels) == labels
    assert sorted([*rows.fixed, *(row for slots in rows.labels for row in slots)]) == list(
        range(size(labels))
    )
    other = rule(others, size(others))
    assert len(other.fixed) == len(rows.fixed)
    assert {len(slots) for slots in other.labels} == {len(slots) for slots in rows.labels}


@pytest.mark.parametrize(
    ("rule", "size"),
    [(padded(1), 3), (padded(1), 5), (behind_features(1, 1), 4), (before_features(), 2), (per_label(4), 4),
     (per_anchor(5), 15), (per_anchor(5), 0)],
)  # fmt: skip
def test_a_size_that_cannot_be_is_an_error(rule: Rule, size: int) -> None:
    with pytest.raises(InvalidArgumentError) as failure:
        rule(3, size)
    assert str(size) in failure.value.received
    assert failure.value.expected
