"""HeadTransplant: labels paired by name, mistakes refused when it is built."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.plan.transplant import LAYOUTS, HeadTransplant

texts = st.lists(st.sampled_from("abcd"), min_size=1, max_size=9)


def test_labels_are_paired_by_name() -> None:
    head = HeadTransplant("fc", ["cat", "dog", "cow"], ["fox", "dog", "cat"])
    assert head.origins() == (None, 1, 0)


def test_a_renamed_label_keeps_its_row() -> None:
    head = HeadTransplant(
        "fc", ["scratch", "dent"], ["dent", "surface_scratch"], rename={"scratch": "surface_scratch"}
    )
    assert head.origins() == (1, 0)
    assert HeadTransplant("fc", ["scratch", "dent"], ["dent", "surface_scratch"]).origins() == (1, None)


def test_two_labels_can_swap_names() -> None:
    assert HeadTransplant("fc", ["a", "b"], ["a", "b"], rename={"a": "b", "b": "a"}).origins() == (1, 0)


@given(texts, texts)
def test_equal_characters_are_paired_from_the_last_backwards(old: list[str], new: list[str]) -> None:
    origins = HeadTransplant("fc", old, new, layout="ctc").origins()
    taken = [origin for origin in origins if origin is not None]
    assert len(set(taken)) == len(taken)
    for place, origin in enumerate(origins):
        label = new[place]
        if origin is None:
            assert new[place:].count(label) > old.count(label)
        else:
            assert old[origin] == label
            assert new[place:].count(label) == old[origin:].count(label)


@given(texts)
def test_the_same_dictionary_stays_where_it_is(labels: list[str]) -> None:
    assert HeadTransplant("fc", labels, labels, layout="ctc").origins() == tuple(range(len(labels)))


def test_old_labels_may_come_later() -> None:
    head = HeadTransplant("fc.", None, ["b", "a"], rename={"x": "a"}, new_rows="zero")
    with pytest.raises(InvalidArgumentError, match="not known"):
        head.origins()
    later = head.with_old_labels(["x", "b"])
    assert later == HeadTransplant("fc", ["x", "b"], ["b", "a"], rename={"x": "a"}, new_rows="zero")
    assert later.origins() == (1, 0)
    with pytest.raises(InvalidArgumentError, match="names no old label"):
        head.with_old_labels(["b"])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"layout": "linaer"}, "'linear'"),
        ({"new_rows": "random"}, "'init' | 'zero' | 'mean'"),
        ({"key": 3}, "structured name"),
        ({"old_labels": "ab"}, "list(text)"),
        ({"new_labels": []}, "one string or more"),
        ({"new_labels": ["a", 1]}, "one string or more"),
        ({"old_labels": ["a", "a"]}, "each label once"),
        ({"new_labels": ["a", "a"]}, "each label once"),
        ({"rename": {"z": "b"}}, "no old label"),
        ({"rename": {"a": "z"}}, "not a new label"),
        ({"rename": {"a": "b"}}, "same new one"),
        ({"rename": {"a": "c", "b": "c"}, "new_labels": ["c"]}, "same new one"),
    ],
)
def test_mistakes_are_refused_at_once(wrong: dict[str, Any], says: str) -> None:
    right: dict[str, Any] = {
        "key": "fc",
        "old_labels": ["a", "b"],
        "new_labels": ["b", "c"],
        "rename": {"a": "c"},
    }
    HeadTransplant(**right)
    with pytest.raises(InvalidArgumentError) as failure:
        HeadTransplant(**{**right, "rename": None, **wrong})
    assert says in str(failure.value)
    assert failure.value.received


@pytest.mark.parametrize(
    ("given", "missing", "remedy"),
    [
        ({"new_labels": ["a"]}, "old_labels", "old_labels=None takes them from the metadata"),
        ({"old_labels": ["a"]}, "new_labels", "name both lists"),
    ],
)
def test_labels_that_are_not_given_are_told_what_to_give(
    given: dict[str, Any], missing: str, remedy: str
) -> None:
    with pytest.raises(InvalidArgumentError) as failure:
        HeadTransplant("fc", **given)
    assert failure.value.where == f"HeadTransplant({missing})"
    assert failure.value.received == "nothing"
    assert failure.value.expected
    assert remedy in failure.value.remedy
    HeadTransplant("fc", old_labels=None, new_labels=["a"])  # the control: None is an answer


def test_an_unknown_layout_is_told_all_known_ones() -> None:
    with pytest.raises(InvalidArgumentError) as failure:
        HeadTransplant("fc", ["a"], ["a"], layout="")
    assert all(repr(layout) in failure.value.expected for layout in LAYOUTS)
