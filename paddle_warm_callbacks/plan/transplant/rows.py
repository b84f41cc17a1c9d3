"""Which row of a head tensor comes from which row of the source's, when labels change."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from paddle_warm_callbacks.errors import InvalidArgumentError, PatternError
from paddle_warm_callbacks.patterns import HOW_TO_PRINT
from paddle_warm_callbacks.plan.transplant.head import HeadTransplant
from paddle_warm_callbacks.plan.transplant.layouts import LAYOUTS, HeadLayout, HeadTensor
from paddle_warm_callbacks.plan.transplant.rules import Rows

_MOST_KEYS = 3
_MOST_NAMES = 6


@dataclass(frozen=True)
class RowMap:
    """How to fill one head tensor; along ``axis`` every index of the target is in ``pairs`` or in ``new``, once.

    Attributes:
        target: The tensor's structured name in the network being started.
        axis: The axis that holds the labels, from 0.
        pairs: (index in the target, index in the source it is copied from); no source index twice.
        new: Indices in the target that have no origin in the source.
        peers: For each of ``new``, the source indices of all old labels in the same place (same anchor, same box
            coordinate): what a mean is taken over.
    """

    target: str
    axis: int
    pairs: tuple[tuple[int, int], ...]
    new: tuple[int, ...]
    peers: tuple[tuple[int, ...], ...]


def head_tensors(transplant: HeadTransplant, names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the target's tensors that hold the head's rows, in the order of ``names``.

    Raises:
        PatternError: A tensor every head of the layout has is not there.
    """
    listed = tuple(names)
    prefix = f"{transplant.key}." if transplant.key else ""
    if not fits(transplant.head_layout, prefix, listed):
        raise _no_head(transplant, listed)
    return tuple(
        name for name in listed if any(_is(kind, prefix, name) for kind in transplant.head_layout.tensors)
    )


def row_map(
    transplant: HeadTransplant, target: str, target_shape: Sequence[int], source_shape: Sequence[int]
) -> RowMap:
    """Return where each row of one head tensor comes from.

    Args:
        transplant: With ``old_labels`` known.
        target: One of `head_tensors`.
        target_shape: The tensor's shape in the network being started.
        source_shape: Its shape in the source.

    Raises:
        InvalidArgumentError: The labels do not fit a shape, or the two shapes differ in more than their labels.
    """
    kind = _kind(transplant, target)
    origins = transplant.origins()
    old_labels = transplant.old_labels or ()
    _check_other_axes(target, kind.axis, target_shape, source_shape)
    new = _divide(kind, len(transplant.new_labels), target, "new_labels", target_shape)
    old = _divide(kind, len(old_labels), target, "old_labels", source_shape)
    slots = len(new.labels[0])
    if len(new.fixed) != len(old.fixed) or slots != len(old.labels[0]):
        raise InvalidArgumentError(
            "the heads differ in more than their labels",
            where=target,
            received=f"source {tuple(source_shape)} with {len(old_labels)} labels, "
            f"target {tuple(target_shape)} with {len(transplant.new_labels)}",
            expected="the same anchors, box rows and features in both",
            remedy="check both lists of labels and the layout",
        )
    same_place = [tuple(rows[slot] for rows in old.labels) for slot in range(slots)]
    pairs = list(zip(new.fixed, old.fixed))
    fresh: list[tuple[int, tuple[int, ...]]] = []
    for rows, origin in zip(new.labels, origins):
        if origin is None:
            fresh += zip(rows, same_place)
        else:
            pairs += zip(rows, old.labels[origin])
    fresh.sort()
    return RowMap(
        target,
        kind.axis,
        tuple(sorted(pairs)),
        tuple(row for row, _ in fresh),
        tuple(peers for _, peers in fresh),
    )


def resized(transplant: HeadTransplant, name: str, source_shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape that one head tensor of the source has with the new labels: what the target's would be.

    Args:
        transplant: With ``old_labels`` known.
        name: One of `head_tensors`.
        source_shape: Its shape in the source.

    Raises:
        InvalidArgumentError: The old labels do not fit the shape.
    """
    kind = _kind(transplant, name)
    old_labels = transplant.old_labels or ()
    slots = len(_divide(kind, len(old_labels), name, "old_labels", source_shape).labels[0])
    shape = list(source_shape)
    shape[kind.axis] += slots * (len(transplant.new_labels) - len(old_labels))
    return tuple(shape)


def fits(layout: HeadLayout, prefix: str, names: Sequence[str]) -> bool:
    """Return whether there is, behind ``prefix``, at least one of each tensor that every head of the layout has."""
    return all(any(_is(kind, prefix, name) for name in names) for kind in layout.tensors if kind.required)


def kind_of(layout: HeadLayout, prefix: str, name: str) -> HeadTensor | None:
    """Return which of a head's tensors ``name`` is, or None if it is none."""
    return next((kind for kind in layout.tensors if _is(kind, prefix, name)), None)


def _no_head(transplant: HeadTransplant, names: Sequence[str]) -> PatternError:
    key, layout = transplant.key, transplant.layout
    # Of layers that are alike by their names, the last ones are more likely to be a head; and a norm never is.
    keys = dict.fromkeys(name[: dot.start()] for name in reversed(names) for dot in re.finditer(r"\.", name))
    fitting = [
        other
        for other in keys
        if f"{other}._mean" not in names and fits(transplant.head_layout, f"{other}.", names)
    ]
    near = difflib.get_close_matches(key, fitting, n=_MOST_KEYS) or fitting[:_MOST_KEYS]
    layouts = [name for name, other in LAYOUTS.items() if fits(other, f"{key}." if key else "", names)]
    if near:
        remedy = f"did you mean {' or '.join(f'HeadTransplant({other!r}, …)' for other in near)}?"
    elif layouts:
        remedy = f"what is there looks like layout={' or layout='.join(map(repr, layouts[:_MOST_KEYS]))}"
    else:
        remedy = f"see the names: {HOW_TO_PRINT}"
    needed = [kind.pattern for kind in transplant.head_layout.tensors if kind.required]
    return PatternError(
        "the network has no such head",
        where=f"HeadTransplant({key!r}, layout={layout!r})",
        received=_beneath(key, names),
        expected=f"under {key!r}: {' and '.join(needed)} (regular expressions)",
        remedy=remedy,
    )


def _beneath(key: str, names: Sequence[str]) -> str:
    found = [name for name in names if name == key or name.startswith(f"{key}.")]
    if not found:
        return f"no tensor whose name begins with {key!r}"
    return ", ".join(found[:_MOST_NAMES]) + (", …" if len(found) > _MOST_NAMES else "")


def _kind(transplant: HeadTransplant, name: str) -> HeadTensor:
    prefix = f"{transplant.key}." if transplant.key else ""
    kind = kind_of(transplant.head_layout, prefix, name)
    if kind is None:
        raise InvalidArgumentError(
            "not a tensor of the head",
            where=name,
            expected=f"one of layout {transplant.layout!r} under {prefix!r}",
        )
    return kind


def _is(kind: HeadTensor, prefix: str, name: str) -> bool:
    return name.startswith(prefix) and re.fullmatch(kind.pattern, name[len(prefix) :]) is not None


def _check_other_axes(
    target: str, axis: int, target_shape: Sequence[int], source_shape: Sequence[int]
) -> None:
    new, old = list(target_shape), list(source_shape)
    if len(new) == len(old) > axis and new[:axis] + new[axis + 1 :] == old[:axis] + old[axis + 1 :]:
        return
    raise InvalidArgumentError(
        "the heads differ in more than their labels",
        where=target,
        received=f"source shape {tuple(old)}",
        expected=f"shape {tuple(new)} but for axis {axis}",
        remedy="the layers before the head must be the same in both; check the layout too",
    )


def _divide(kind: HeadTensor, labels: int, target: str, name: str, shape: Sequence[int]) -> Rows:
    try:
        return kind.rule(labels, shape[kind.axis])
    except InvalidArgumentError as failure:
        side = "the source's" if name == "old_labels" else "the network's"
        raise InvalidArgumentError(
            f"{labels} {name} do not fit {side} head",
            where=f"{target} axis {kind.axis}, shape {tuple(shape)}",
            received=failure.received,
            expected=failure.expected,
            remedy=f"check {name}, and the layout: background, blank and special tokens are not labels",
        ) from failure
