"""Regular expressions over structured names, where a pattern that matches nothing is an error."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from paddle_warm_callbacks.errors import PatternError


def compile_patterns(patterns: str | Sequence[str], where: str) -> tuple[str, ...]:
    """Return one or more regular expressions as a tuple, each known to compile.

    Raises:
        PatternError: There is none, one is not a string, or one is not a regular expression.
    """
    listed = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    if not listed:
        raise PatternError("no pattern was given", where=where, expected="one regular expression or more")
    for pattern in listed:
        if not isinstance(pattern, str):
            raise PatternError(
                "a pattern is not a string",
                where=where,
                received=repr(pattern),
                expected="a regular expression",
            )
        try:
            re.compile(pattern)
        except re.error as failure:
            raise PatternError(
                f"a pattern is not a regular expression: {failure}",
                where=where,
                received=repr(pattern),
                expected="what re.compile accepts",
                remedy="escape special characters, e.g. r'head\\.fc'",
            ) from failure
    return listed


def select(patterns: Sequence[str], names: Iterable[str], where: str) -> tuple[str, ...]:
    """Return the names in which at least one pattern is found (``re.search``), in the order of ``names``.

    Raises:
        PatternError: A pattern is found in no name; the error lists the names it comes nearest to.
    """
    listed = tuple(names)
    chosen: set[str] = set()
    for pattern in patterns:
        found = [name for name in listed if re.search(pattern, name)]
        if not found:
            raise matches_nothing(pattern, listed, where)
        chosen.update(found)
    return tuple(name for name in listed if name in chosen)


HOW_TO_PRINT = "for name in network.state_dict(): print(name)"


def matches_nothing(
    pattern: str, names: Sequence[str], where: str, *, how_to_see: str = f"see the names: {HOW_TO_PRINT}"
) -> PatternError:
    """Build the error for a pattern that is found in none of ``names``.

    Args:
        pattern: A regular expression.
        names: What it could have been found in.
        where: The argument.
        how_to_see: How a user can see all of ``names``; told where none of them is near.
    """
    near = near_misses(pattern, names)
    remedy = "did you mean " + " or ".join(map(repr, near)) + "?" if near else how_to_see
    tops = list(dict.fromkeys(name.split(".")[0] for name in names))
    shown = ", ".join(tops[:12]) + (", ..." if len(tops) > 12 else "")
    return PatternError(
        "a pattern matches nothing",
        where=where,
        received=repr(pattern),
        expected=f"a pattern found in one of {len(names)} names, which begin with: {shown or '(there are none)'}",
        remedy=remedy,
    )


def near_misses(pattern: str, names: Sequence[str], n: int = 3) -> tuple[str, ...]:
    """Return up to ``n`` names, or dotted beginnings or parts of names, most like ``pattern`` first."""
    wanted = re.sub(r"\\[a-zA-Z]|[\\^$*+?()\[\]{}]", "", pattern).strip(".")
    candidates: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            candidates[".".join(parts[:end])] = None
            candidates[parts[end - 1]] = None
    by_lower: dict[str, str] = {}
    for candidate in candidates:
        by_lower.setdefault(candidate.lower(), candidate)
    found: dict[str, None] = {}
    for alternative in wanted.lower().split("|"):
        for match in difflib.get_close_matches(alternative.strip("."), list(by_lower), n=n, cutoff=0.6):
            found[by_lower[match]] = None
    return tuple(found)[:n]
