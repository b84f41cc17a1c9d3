"""Checks of arguments: what is usable comes back, what is not names its place and its bound."""

from __future__ import annotations

from typing import Any

import pytest

from paddle_warm_callbacks.arguments import require_choice, require_int, require_number
from paddle_warm_callbacks.errors import InvalidArgumentError


@pytest.mark.parametrize("wrong", [0, -3, True, 1.0, "1", None])
def test_a_count_is_an_int_within_its_bound(wrong: Any) -> None:
    assert require_int(1, "f(n)", at_least=1) == 1
    with pytest.raises(InvalidArgumentError) as failure:
        require_int(wrong, "f(n)", at_least=1, remedy="pass 1")
    assert (failure.value.where, failure.value.received) == ("f(n)", repr(wrong))
    assert failure.value.expected == "an int of at least 1"
    assert failure.value.remedy == "pass 1"


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), "1", None, True, [1]])
def test_a_number_is_finite(wrong: Any) -> None:
    assert require_number(2, "f(x)") == 2.0
    with pytest.raises(InvalidArgumentError, match="finite number"):
        require_number(wrong, "f(x)")


def test_a_bound_is_open_or_closed_as_said() -> None:
    assert require_number(0.0, "f(x)", at_least=0) == 0.0
    with pytest.raises(InvalidArgumentError, match="above 0"):
        require_number(0.0, "f(x)", above=0)
    with pytest.raises(InvalidArgumentError, match="at least 0"):
        require_number(-0.1, "f(x)", at_least=0)


def test_a_choice_lists_the_others() -> None:
    assert require_choice("max", "f(mode)", choices=("max", "min")) == "max"
    with pytest.raises(InvalidArgumentError, match=r"'max' \| 'min'"):
        require_choice("best", "f(mode)", choices=("max", "min"))


@pytest.mark.parametrize(
    ("given", "near"),
    [("maximum", "max"), ("mni", "min"), ("Max", "max"), ("best", None), ("m", None), (3, None)],
)
def test_a_choice_says_which_was_probably_meant(given: Any, near: str | None) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        require_choice(given, "f(mode)", choices=("max", "min"))
    assert caught.value.remedy == (f"did you mean {near!r}?" if near else "")
