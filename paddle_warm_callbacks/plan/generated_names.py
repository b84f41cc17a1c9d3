"""Paddle's generated names, ``linear_3.w_0``: the same in two processes but for what was built before the network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

Shapes = Mapping[str, tuple[int, ...]]

# A layer's kind and number, then its parameter: or a tensor's kind and number alone.
_NUMBERED = re.compile(r"(?P<kind>.*?)_(?P<number>\d+)(?P<rest>\.\w+)?")


def counted_from_zero(names: Iterable[str]) -> dict[str, str]:
    """Return each name with its number replaced by its rank among the numbers of its kind.

    >>> counted_from_zero(["conv2d_4.w_0", "conv2d_7.w_0", "conv2d_7.b_0", "scale"])
    {'conv2d_4.w_0': 'conv2d_0.w_0', 'conv2d_7.w_0': 'conv2d_1.w_0', 'conv2d_7.b_0': 'conv2d_1.b_0', 'scale': 'scale'}
    """
    found = {name: _NUMBERED.fullmatch(name) for name in names}
    numbers: dict[str, set[int]] = {}
    for parts in found.values():
        if parts is not None:
            numbers.setdefault(parts["kind"], set()).add(int(parts["number"]))
    ranks = {kind: {number: rank for rank, number in enumerate(sorted(of))} for kind, of in numbers.items()}
    return {
        name: name
        if parts is None
        else f"{parts['kind']}_{ranks[parts['kind']][int(parts['number'])]}{parts['rest'] or ''}"
        for name, parts in found.items()
    }


def pair(source: Shapes, network: Shapes) -> dict[str, str] | None:
    """Return source name to network name, both generated; None unless all of them belong together.

    They do if, counted from zero, the same names are on both sides, with the same shapes: as where one and the same
    code built both networks. Anything less would be a guess, for a layer left out gives its number to the next.

    >>> pair({"linear_2.w_0": (2, 3)}, {"linear_0.w_0": (2, 3)})
    {'linear_2.w_0': 'linear_0.w_0'}
    """
    there = {ranked: name for name, ranked in counted_from_zero(source).items()}
    here = {ranked: name for name, ranked in counted_from_zero(network).items()}
    if there.keys() != here.keys() or len(there) != len(source) or len(here) != len(network):
        return None
    pairs = {there[ranked]: here[ranked] for ranked in here}
    return pairs if all(source[old] == network[new] for old, new in pairs.items()) else None
