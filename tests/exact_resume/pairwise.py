"""A small selection of rows in which every two values of two factors meet at least once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

Pair = tuple[str, Any, str, Any]


def all_pairs(
    factors: Mapping[str, Sequence[Any]], forbidden: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Return rows, each with one value per factor, that together hold every allowed pair of values.

    Greedy: each row starts from the first pair not yet covered, and takes for each further factor the value that
    covers the most pairs with what the row has. The same arguments give the same rows.

    Args:
        factors: The values of each factor.
        forbidden: Pairs of values that never meet, each as a mapping of two factors to a value.

    Raises:
        ValueError: No row can be completed from some pair.
    """
    uncovered = dict.fromkeys(pairs(factors, forbidden))
    rows = []
    while uncovered:
        one, value, other, other_value = next(iter(uncovered))
        row = {one: value, other: other_value}
        for factor in sorted(factors.keys() - row.keys(), key=list(factors).index):
            possible = [v for v in factors[factor] if _allowed({**row, factor: v}, forbidden)]
            if not possible:
                raise ValueError(f"no value of {factor} is allowed beside {row}")
            row[factor] = max(possible, key=lambda v: _gain(row, factor, v, uncovered))
        rows.append({factor: row[factor] for factor in factors})
        for pair in _pairs_of(rows[-1]):
            uncovered.pop(pair, None)
    return rows


def pairs(factors: Mapping[str, Sequence[Any]], forbidden: Sequence[Mapping[str, Any]] = ()) -> list[Pair]:
    """Return every allowed pair of values of two factors."""
    return [
        (one, value, other, other_value)
        for one, other in combinations(factors, 2)
        for value in factors[one]
        for other_value in factors[other]
        if _allowed({one: value, other: other_value}, forbidden)
    ]


def _pairs_of(row: Mapping[str, Any]) -> list[Pair]:
    return [(one, row[one], other, row[other]) for one, other in combinations(row, 2)]


def _gain(row: Mapping[str, Any], factor: str, value: Any, uncovered: Mapping[Pair, None]) -> int:
    both_ways = (
        ((one, row[one], factor, value) for one in row),
        ((factor, value, one, row[one]) for one in row),
    )
    return sum(pair in uncovered for way in both_ways for pair in way)


def _allowed(row: Mapping[str, Any], forbidden: Sequence[Mapping[str, Any]]) -> bool:
    return not any(rule.items() <= row.items() for rule in forbidden)
