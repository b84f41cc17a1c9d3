"""What network a stranger's file is of: a suite's head by its keys, and a network of paddle.vision by comparing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.plan.conversions import CONVERSIONS
from paddle_warm_callbacks.plan.matching import KNOWN_PREFIXES
from paddle_warm_callbacks.plan.transplant import LAYOUTS, HeadLayout
from paddle_warm_callbacks.plan.transplant.rows import fits, kind_of

Shapes = Mapping[str, Sequence[int]]

# Layers of any network may be called so: only the names beside them tell.
_COMMON_NAMES = frozenset({"linear", "conv", "ctc", "vitstr", "abinet"})
_CTC = re.compile(r"(.*\bhead\.(?:ctc_head\.)?fc2?)\.weight")
_MOST_ROWS = 50_000


@dataclass(frozen=True)
class Head:
    """A head that is known by its keys.

    Attributes:
        key: As ``HeadTransplant`` takes it.
        layout: The same.
        suite: Whose it is.
        labels: How many labels it can be for; several where anchors leave it open.
    """

    key: str
    layout: str
    suite: str
    labels: tuple[int, ...]

    def to_text(self) -> str:
        """Return a sentence with what to write."""
        numbers = " or ".join(map(str, self.labels[:4]))
        about = LAYOUTS[self.layout].about.partition(";")[0]
        of = f" for {numbers} labels" if numbers else ""
        return (
            f"its names are those of {self.suite}, with a head{of} ({about}): its rows move by label with "
            f"head=HeadTransplant({self.key!r}, […], […], layout={self.layout!r})"
        )


def heads_of(shapes: Shapes) -> list[Head]:
    """Return the heads of PaddleOCR's and PaddleDetection's networks that are in a file."""
    names = tuple(shapes)
    keys = dict.fromkeys(name[: dot.start()] for name in names for dot in re.finditer(r"\.", name))
    found = [
        _head(key, name, layout, shapes)
        for name, layout in LAYOUTS.items()
        if name not in _COMMON_NAMES
        for key in keys
        if fits(layout, f"{key}.", names)
    ]
    multi = any(head.layout == "ppocr_multihead" for head in found)
    # A recogniser's sequence encoder is in its neck; without one a layer head.fc is a classifier's.
    if not multi and any(re.search(r"\bneck\.encoder\.", name) for name in names):
        found += [_head(key[1], "ctc", LAYOUTS["ctc"], shapes) for key in map(_CTC.fullmatch, names) if key]
    # Of two layouts with the same keys, one that no number of labels explains is none.
    return [head for head in found if head.labels]


def architectures_of(shapes: Shapes, convert: str | None) -> list[tuple[str, int]]:
    """Return the networks of ``paddle.vision`` that have these tensors, and the outputs of the head; imports Paddle.

    Args:
        shapes: Name to shape, as in the file.
        convert: Whose names they are, as ``WarmStartCallback(convert=)`` takes it; None: Paddle's.
    """
    from paddle_warm_callbacks.hapi import architectures

    plain: Shapes = shapes
    while prefix := next((p for p in KNOWN_PREFIXES if plain and all(n.startswith(p) for n in plain)), None):
        plain = {name[len(prefix) :]: shape for name, shape in plain.items()}
    if convert is not None:
        conversion = CONVERSIONS[convert]
        turned = conversion.linear_transposed
        plain = {
            new: plain[old][::-1] if turned and len(plain[old]) == 2 else plain[old]
            for old, new in conversion.names(plain).items()
        }
    return [(found.name, found.classes) for found in architectures.architectures_of(plain)]


def _head(key: str, name: str, layout: HeadLayout, shapes: Shapes) -> Head:
    suite = "PaddleOCR" if layout.repeated_labels else "PaddleDetection"
    return Head(key, name, suite, tuple(_labels(key, layout, shapes)))


def _labels(key: str, layout: HeadLayout, shapes: Shapes) -> Iterator[int]:
    """Yield each number of labels, the greatest first, that all tensors of a head agree with."""
    tensors = []
    for name, shape in shapes.items():
        kind = kind_of(layout, f"{key}.", name)
        if kind is not None:
            if len(shape) <= kind.axis:
                return
            tensors.append((kind.rule, shape[kind.axis]))
    most = min(size for _, size in tensors)
    for labels in range(min(most, _MOST_ROWS), 0, -1):
        try:
            for rule, size in tensors:
                rule(labels, size)
        except InvalidArgumentError:
            continue
        yield labels
