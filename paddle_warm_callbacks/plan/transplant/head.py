"""What the user says of a head whose labels change."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from paddle_warm_callbacks.arguments import require_choice
from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.plan.transplant.layouts import LAYOUTS, HeadLayout

NEW_ROWS = ("init", "zero", "mean")
Constructor = TypeVar("Constructor", bound=Callable[..., None])

# What to do about labels that are left out; that old_labels may be None is easily taken for its being the default.
_LEFT_OUT = {
    "old_labels": (
        "the labels the source was trained on, in its order, or None",
        "old_labels=None takes them from the metadata of a checkpoint of ours; for another source, list them",
    ),
    "new_labels": (
        "the labels of the network being started, in its order",
        'name both lists: HeadTransplant("fc", old_labels=[…], new_labels=[…])',
    ),
}


def _both_lists(constructor: Constructor) -> Constructor:
    """Refuse a list that is left out in words of ours; Python's are raw, and do not say what None means."""

    @functools.wraps(constructor)
    def checked(self: Any, *args: Any, **named: Any) -> None:
        for position, name in enumerate(_LEFT_OUT, start=1):
            if len(args) <= position and name not in named:
                expected, remedy = _LEFT_OUT[name]
                raise InvalidArgumentError(
                    "labels are left out",
                    where=f"HeadTransplant({name})",
                    received="nothing",
                    expected=expected,
                    remedy=remedy,
                )
        constructor(self, *args, **named)

    return cast(Constructor, checked)


@dataclass(frozen=True)
class HeadTransplant:
    """Copy the rows of a head by label, so that old labels keep what was learnt of them.

    Rows of labels in both lists are copied, whatever their order; rows of labels that are gone are dropped; what
    belongs to no label (background, blank, box coordinates) is copied. Biases go with their rows.

    Args:
        key: Structured name, in the network being started, of the head's layer ("fc") or module ("bbox_head"), as
            the layout says; "" if the network itself is the head.
        old_labels: The labels the source was trained on, in its order; ``None`` to take them from the source's
            metadata.
        new_labels: The labels of the network being started, in its order.
        layout: The kind of head, one of `LAYOUTS`.
        rename: Old label to the new name of the same thing, ``{"scratch": "surface_scratch"}``.
        new_rows: What the rows of labels without an old row hold: "init" (what the network's own initialiser gave
            them), "zero", or "mean" (the mean of all old labels' rows in the same place). "init" lets new labels
            differ from each other from the first step; "mean" starts them about as likely as an old one.
        moments: Take the head's optimizer state over too, where the source is a checkpoint of ours: the old rows' as it
            was, the new ones' zero. False: the optimizer begins afresh, as with every other layer.

    Raises:
        InvalidArgumentError: An unknown layout or ``new_rows``; labels that are left out, none, not strings or twice
            the same (unless the layout allows that); a rename of no old label or to no new label.

    >>> HeadTransplant("fc", ["cat", "dog"], ["dog", "cat", "fox"]).new_labels
    ('dog', 'cat', 'fox')
    """

    key: str
    old_labels: tuple[str, ...] | None
    new_labels: tuple[str, ...]
    layout: str
    rename: tuple[tuple[str, str], ...]
    new_rows: str
    moments: bool

    @_both_lists
    def __init__(
        self,
        key: str,
        old_labels: Sequence[str] | None,
        new_labels: Sequence[str],
        *,
        layout: str = "linear",
        rename: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        new_rows: str = "init",
        moments: bool = False,
    ) -> None:
        if not isinstance(key, str):
            raise InvalidArgumentError(
                "not a layer's name",
                where="HeadTransplant(key)",
                received=repr(key),
                expected='a structured name such as "fc"',
            )
        require_choice(layout, "HeadTransplant(layout=)", choices=tuple(LAYOUTS))
        require_choice(new_rows, "HeadTransplant(new_rows=)", choices=NEW_ROWS)
        repeated = LAYOUTS[layout].repeated_labels
        old = None if old_labels is None else _labels(old_labels, "old_labels", repeated)
        new = _labels(new_labels, "new_labels", repeated)
        pairs = tuple(dict(rename or {}).items())
        # A frozen dataclass with its own constructor: the fields hold the checked, uniform values.
        for name, value in (
            ("key", key.rstrip(".")),
            ("old_labels", old),
            ("new_labels", new),
            ("layout", layout),
            ("rename", pairs),
            ("new_rows", new_rows),
            ("moments", bool(moments)),
        ):
            object.__setattr__(self, name, value)
        _check_rename(pairs, old, new)

    @property
    def head_layout(self) -> HeadLayout:
        """The layout's record in `LAYOUTS`."""
        return LAYOUTS[self.layout]

    def with_old_labels(self, labels: Sequence[str]) -> HeadTransplant:
        """Return the same transplant with ``old_labels`` as the source's metadata tells them."""
        return replace(self, old_labels=tuple(labels))

    def origins(self) -> tuple[int | None, ...]:
        """Return for each new label the number of the old label it continues, or ``None`` for a new one.

        No old label is continued twice. Equal labels are paired from the last backwards.

        Raises:
            InvalidArgumentError: ``old_labels`` is still ``None``.
        """
        if self.old_labels is None:
            raise InvalidArgumentError(
                "the old labels are not known",
                where="HeadTransplant(old_labels)",
                received="None",
                expected="the source's labels, in its order",
                remedy="pass old_labels, or warm-start from a checkpoint whose metadata has them",
            )
        renamed = dict(self.rename)
        places: dict[str, list[int]] = {}
        for index, label in enumerate(self.old_labels):
            places.setdefault(renamed.get(label, label), []).append(index)
        backwards: list[int | None] = []
        for label in reversed(self.new_labels):
            left = places.get(label)
            backwards.append(left.pop() if left else None)
        return tuple(reversed(backwards))


def _labels(labels: Sequence[str], name: str, repeated: bool) -> tuple[str, ...]:
    where = f"HeadTransplant({name})"
    if isinstance(labels, str):
        raise InvalidArgumentError(
            "one string is not a list of labels",
            where=where,
            received=repr(labels),
            expected="a list of strings",
            remedy="write list(text) if each character is a label",
        )
    listed = tuple(labels)
    if not listed or not all(isinstance(label, str) for label in listed):
        raise InvalidArgumentError(
            "not labels",
            where=where,
            received=repr(listed[:5]),
            expected="one string or more, in the head's order",
        )
    twice = [label for label, count in Counter(listed).items() if count > 1]
    if twice and not repeated:
        raise InvalidArgumentError(
            "a label stands twice",
            where=where,
            received=", ".join(map(repr, twice[:5])),
            expected="each label once",
            remedy="rows are copied by label, so every row needs a label of its own",
        )
    return listed


def _check_rename(
    pairs: tuple[tuple[str, str], ...], old: tuple[str, ...] | None, new: tuple[str, ...]
) -> None:
    where = "HeadTransplant(rename=)"
    for before, after in pairs:
        if after not in new:
            raise InvalidArgumentError(
                "a label is renamed to something that is not a new label",
                where=where,
                received=f"{before!r}: {after!r}",
                expected="old label to new label",
                remedy=f"the new labels begin with {', '.join(map(repr, new[:5]))}",
            )
        if old is not None and before not in old:
            raise InvalidArgumentError(
                "a rename names no old label",
                where=where,
                received=f"{before!r}: {after!r}",
                expected="old label to new label",
                remedy=f"the old labels begin with {', '.join(map(repr, old[:5]))}",
            )
    targets = Counter(after for _, after in pairs)
    kept = set(old or ()) - {before for before, _ in pairs}
    for before, after in pairs:
        if targets[after] > 1 or after in kept:
            raise InvalidArgumentError(
                "two old labels would become the same new one",
                where=where,
                received=f"{before!r}: {after!r}",
                expected="a new name for each",
                remedy=f"rename the other {after!r} too, or leave this one out",
            )
