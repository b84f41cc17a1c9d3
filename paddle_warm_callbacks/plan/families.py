"""Which network a file of weights is probably of, told by its names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Blocks in the four stages, and whether they are bottlenecks.
_RESNETS = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
# PaddleClas counts blocks through all stages.
_PADDLECLAS = {16: "resnet50", 33: "resnet101", 50: "resnet152"}


@dataclass(frozen=True)
class Family:
    """What names tell.

    Attributes:
        arch: A network of ``paddle.vision.models``, or None if they are of none that is known here.
        classes: The outputs of its head, or None.
        convert: Whose names they are, as ``WarmStartCallback(convert=)`` takes it; None: Paddle's.
    """

    arch: str | None
    classes: int | None
    convert: str | None


def family_of(shapes: Mapping[str, Sequence[int]]) -> Family:
    """Return what a source's names and shapes tell of its network.

    Args:
        shapes: Name to shape.

    >>> family_of({"bn1.running_mean": [64]}).convert
    'torch'
    """
    paddleclas = _paddleclas(shapes)
    if paddleclas is not None:
        return Family(paddleclas, _last(shapes.get("fc.weight")), f"paddleclas-{paddleclas}")
    of_torch = any(name.endswith(("running_mean", "num_batches_tracked")) for name in shapes)
    arch = _resnet(shapes)
    head = shapes.get("fc.weight") if arch is not None else None
    # PyTorch's linear weights are [out, in].
    classes = (head[0] if of_torch else head[-1]) if head else None
    return Family(arch, classes, "torch" if of_torch else None)


def _resnet(shapes: Mapping[str, Sequence[int]]) -> str | None:
    found = [re.match(r"layer([1-4])\.(\d+)\.", name) for name in shapes]
    blocks = {(match[1], match[2]) for match in found if match}
    counts = tuple(sum(stage == str(number) for stage, _ in blocks) for number in (1, 2, 3, 4))
    # Wide and grouped ones have the same names.
    if list(shapes.get("layer1.0.conv2.weight", ())) != [64, 64, 3, 3]:
        return None
    return _RESNETS.get((counts, "layer1.0.conv3.weight" in shapes))


def _paddleclas(shapes: Mapping[str, Sequence[int]]) -> str | None:
    found = [re.match(r"blocks\.(\d+)\.conv2\.conv\.", name) for name in shapes]
    plain_stem = "stem.0.conv.weight" in shapes and "stem.1.conv.weight" not in shapes
    return _PADDLECLAS.get(len({match[1] for match in found if match})) if plain_stem else None


def _last(shape: Sequence[int] | None) -> int | None:
    return shape[-1] if shape else None
