"""Which networks of ``paddle.vision`` a file of weights fits, told by comparing it with each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import paddle

from paddle_warm_callbacks.hapi.building import vision_architectures

# What the constructors make where they are not told how many outputs.
_DEFAULT_CLASSES = 1000


@dataclass(frozen=True)
class Architecture:
    """A network that has the tensors of a file.

    Attributes:
        name: As ``paddle.vision.models`` calls it.
        classes: The outputs of the file's head.
    """

    name: str
    classes: int


def architectures_of(shapes: Mapping[str, Sequence[int]]) -> list[Architecture]:
    """Return the networks with exactly these names, and these shapes but for the number of outputs.

    Each is built without values: no memory is taken for them, and no device is used. Some have the same tensors, and
    differ in what they compute; then all of them are returned.

    Args:
        shapes: Name to shape, with Paddle's names and order of axes.
    """
    found = []
    for name, constructor in vision_architectures().items():
        classes = _classes(shapes, _shapes_of(constructor))
        if classes is not None:
            found.append(Architecture(name, classes))
    return found


@cache
def _shapes_of(constructor: Any) -> dict[str, tuple[int, ...]]:
    with paddle.LazyGuard():
        network = constructor()
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _classes(given: Mapping[str, Sequence[int]], network: Mapping[str, tuple[int, ...]]) -> int | None:
    """Return the outputs of the head in ``given`` if all else is as in ``network``; else None."""
    if given.keys() != network.keys():
        return None
    numbers: set[tuple[int, int]] = set()
    for name, shape in network.items():
        if len(given[name]) != len(shape):
            return None
        numbers.update((there, here) for there, here in zip(given[name], shape) if there != here)
    if not numbers:
        return _DEFAULT_CLASSES
    # Whatever differs is the default number of outputs there, and one and the same number here.
    ((there, here),) = numbers if len(numbers) == 1 else ((0, 0),)
    return there if here == _DEFAULT_CLASSES else None
