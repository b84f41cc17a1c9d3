"""Patterns: one that finds nothing is an error that names what was likely meant."""

from __future__ import annotations

from typing import Any

import pytest

from paddle_warm_callbacks.errors import PatternError
from paddle_warm_callbacks.patterns import compile_patterns, near_misses, select

NAMES = ("backbone.conv1.weight", "backbone.layer4.0.conv.weight", "head.fc.weight", "head.fc.bias")


def test_any_pattern_chooses_and_the_order_is_that_of_the_names() -> None:
    assert select(("fc", r"conv1\."), NAMES, "here") == (NAMES[0], *NAMES[2:])
    assert select((".*",), NAMES, "here") == NAMES


def test_each_pattern_must_find_something() -> None:
    with pytest.raises(PatternError) as failure:
        select(("fc", "neck"), NAMES, "StagedUnfreeze")
    assert failure.value.received == "'neck'"
    assert failure.value.where == "StagedUnfreeze"
    assert "backbone, head" in failure.value.expected
    assert failure.value.remedy == "see the names: for name in network.state_dict(): print(name)"


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        (r"^bakcbone\.", "backbone"),
        ("layer_4", "layer4"),
        ("FC", "fc"),
        (r"head\.cf\.(weight|bias)", "head.fc"),
    ],
)
def test_near_misses_are_names_or_beginnings_or_parts_of_names(pattern: str, near: str) -> None:
    assert any(miss.startswith(near) or near in miss.split(".") for miss in near_misses(pattern, NAMES))


def test_nothing_near_is_nothing_said() -> None:
    assert near_misses("qqqqqqqq", NAMES) == ()
    assert near_misses("fc", ()) == ()


@pytest.mark.parametrize(
    ("patterns", "says"), [([], "no pattern"), ([1], "not a string"), ("(", "regular expression")]
)
def test_what_is_not_a_pattern_is_refused(patterns: Any, says: str) -> None:
    assert compile_patterns("fc", "here") == compile_patterns(["fc"], "here") == ("fc",)
    with pytest.raises(PatternError, match=says):
        compile_patterns(patterns, "here")
