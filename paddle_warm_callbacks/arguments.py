"""The checks every number and choice of the public classes goes through when the object is built."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from typing import Any

from paddle_warm_callbacks.errors import InvalidArgumentError


def require_int(value: Any, where: str, *, at_least: int, remedy: str = "") -> int:
    """Return ``value`` if it is an int (not a bool) of at least ``at_least``.

    Raises:
        InvalidArgumentError: It is anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise InvalidArgumentError(
            "not a usable count",
            where=where,
            received=repr(value),
            expected=f"an int of at least {at_least}",
            remedy=remedy,
        )
    return value


def require_number(
    value: Any, where: str, *, above: float | None = None, at_least: float | None = None, remedy: str = ""
) -> float:
    """Return ``value`` as a finite float within the bound that is given.

    Raises:
        InvalidArgumentError: It is not a number, not finite, not above ``above`` or below ``at_least``.
    """
    number = not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)
    if not number or (above is not None and value <= above) or (at_least is not None and value < at_least):
        bound = (
            f" above {above:g}"
            if above is not None
            else f" of at least {at_least:g}"
            if at_least is not None
            else ""
        )
        raise InvalidArgumentError(
            "not a usable number",
            where=where,
            received=repr(value),
            expected=f"a finite number{bound}",
            remedy=remedy,
        )
    return float(value)


def require_choice(value: Any, where: str, *, choices: Sequence[str], remedy: str = "") -> str:
    """Return ``value`` if it is one of ``choices``.

    Raises:
        InvalidArgumentError: It is not; the error lists the choices.
    """
    if value not in choices:
        near = nearest(value, choices) if isinstance(value, str) else None
        raise InvalidArgumentError(
            "not one of the choices",
            where=where,
            received=repr(value),
            expected=" | ".join(map(repr, choices)),
            remedy=remedy or (f"did you mean {near!r}?" if near else ""),
        )
    return str(value)


def nearest(given: str, choices: Sequence[str]) -> str | None:
    """Return the choice that was probably meant by ``given``, or None: a beginning of it, or one spelt almost so.

    >>> nearest("accuracy", ["loss", "acc"]), nearest("linaer", ["linear", "conv"]), nearest("f1", ["loss", "acc"])
    ('acc', 'linear', None)
    """
    lower = given.lower()
    by_lower = {choice.lower(): choice for choice in choices}
    beginnings = [
        other
        for other in by_lower
        if min(len(other), len(lower)) > 1 and (lower.startswith(other) or other.startswith(lower))
    ]
    (found,) = beginnings[:1] or difflib.get_close_matches(lower, by_lower, n=1) or (None,)
    return None if found is None else by_lower[found]
