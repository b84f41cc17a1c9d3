"""Which rank writes which tensor, where all ranks hold all of them: the same answer on each, without a message."""

from __future__ import annotations

from collections.abc import Mapping


def dealt(sizes: Mapping[str, int], loads: Mapping[int, int]) -> dict[str, int]:
    """Return for each name the rank that writes it: the largest first, each to the rank with the least so far.

    No rank has more than another by more than one tensor's bytes, as long as ``loads`` are as even. Whole tensors are
    dealt: where one has more bytes than all others together, its rank has more than the rest.

    Args:
        sizes: Name to bytes; their order does not matter.
        loads: Bytes that each rank has to write already, by rank, of all ranks that write.

    >>> dealt({"head": 1, "backbone": 9, "neck": 7}, {0: 0, 1: 0})
    {'backbone': 0, 'neck': 1, 'head': 1}
    """
    so_far, found = dict(loads), {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        found[name] = min(so_far, key=lambda rank: (so_far[rank], rank))
        so_far[found[name]] += sizes[name]
    return found
