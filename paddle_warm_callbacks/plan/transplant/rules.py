"""Index rules: given a number of labels and the size of a head's axis, which indices belong to each label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from paddle_warm_callbacks.errors import InvalidArgumentError


@dataclass(frozen=True)
class Rows:
    """The indices of one axis of a head tensor, divided; every index of the axis appears exactly once.

    Attributes:
        labels: For each label, its indices: one for each slot (anchor, box coordinate, ...), in one slot order.
        fixed: Indices that belong to no label (background, blank, start and end tokens, boxes), in an order that
            is the same for any number of labels.
    """

    labels: tuple[tuple[int, ...], ...]
    fixed: tuple[int, ...]


Rule = Callable[[int, int], Rows]
"""``rule(labels, size)``: divide an axis of ``size`` indices among ``labels`` labels, or raise."""


def padded(before: int = 0, after: int = 0) -> Rule:
    """Return the rule of ``before`` fixed rows, the labels, ``after`` fixed rows.

    >>> padded(before=1)(3, 4)
    Rows(labels=((1,), (2,), (3,)), fixed=(0,))
    """

    def rule(labels: int, size: int) -> Rows:
        return _run(labels, size, before, after)

    return rule


def behind_features(before: int = 0, after: int = 0) -> Rule:
    """Return the rule of any number of feature columns, then ``before``, the labels and ``after`` as in `padded`."""

    def rule(labels: int, size: int) -> Rows:
        features = size - labels - before - after
        if features < 0:
            raise _wrong_size(size, f"at least {labels + before + after}")
        return _run(labels, size, features + before, after)

    return rule


def before_features() -> Rule:
    """Return the rule of the labels first, then any number of other rows."""

    def rule(labels: int, size: int) -> Rows:
        if size < labels:
            raise _wrong_size(size, f"at least {labels}")
        return _run(labels, size, 0, size - labels)

    return rule


def per_label(width: int) -> Rule:
    """Return the rule of ``width`` adjacent rows a label, such as the four coordinates of a box."""

    def rule(labels: int, size: int) -> Rows:
        if size != labels * width:
            raise _wrong_size(size, f"{labels} x {width} = {labels * width}")
        return Rows(tuple(tuple(range(width * c, width * (c + 1))) for c in range(labels)), ())

    return rule


def per_anchor(before: int = 0, after: int = 0, leading: int = 0) -> Rule:
    """Return the rule of one run of ``before`` fixed rows, the labels and ``after`` fixed rows for each anchor.

    ``leading`` more rows an anchor come first, those of all anchors together.

    >>> per_anchor(before=1)(2, 6)
    Rows(labels=((1, 4), (2, 5)), fixed=(0, 3))
    """

    def rule(labels: int, size: int) -> Rows:
        width = before + labels + after
        anchors, rest = divmod(size, width + leading)
        if rest or not anchors:
            raise _wrong_size(size, f"a multiple of {width + leading} (one such run for each anchor)")
        runs = [anchors * leading + anchor * width for anchor in range(anchors)]
        fixed = [*range(anchors * leading)]
        for run in runs:
            fixed += [*range(run, run + before), *range(run + before + labels, run + width)]
        return Rows(tuple(tuple(run + before + c for run in runs) for c in range(labels)), tuple(fixed))

    return rule


def _run(labels: int, size: int, before: int, after: int) -> Rows:
    if size != before + labels + after:
        plus = f" + {before + after} fixed" if before + after else ""
        raise _wrong_size(size, f"{labels} labels{plus} = {before + labels + after}")
    return Rows(tuple((before + c,) for c in range(labels)), (*range(before), *range(before + labels, size)))


def _wrong_size(size: int, expected: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        "the labels do not fit the head", received=f"an axis of {size}", expected=expected
    )
