"""What to say of layers that have another shape than in the source: as a rule a head, which could keep its rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

Shape = tuple[int, ...]
Shapes = tuple[Shape, Shape]
"""The source's and the network's."""

_MOST_LAYERS = 3
# Number of a weight's axes to the layout of a head with such a weight, and its axis of outputs.
_LAYOUTS = {2: ("linear", 1), 4: ("conv", 0)}


def of_other_shape(tensors: Mapping[str, Shapes]) -> tuple[str, ...]:
    """Return a sentence, with what to do, for each layer of which a tensor stays behind for its shape.

    Args:
        tensors: Structured name to the two shapes, of those that differ.

    >>> print(*of_other_shape({"fc.weight": ((8, 3), (8, 5))}))
    fc has 5 outputs here and 3 in the source, and begins anew. If they are labels, keep what was learnt of them: \
head=HeadTransplant("fc", old_labels=[…], new_labels=[…]); if it is to begin anew, say so: exclude="^fc[.]"
    """
    layers: dict[str, list[Shapes]] = {}
    for name, shapes in tensors.items():
        layers.setdefault(name.rpartition(".")[0], []).append(shapes)
    said = [_sentence(layer, shapes) for layer, shapes in list(layers.items())[:_MOST_LAYERS]]
    if len(layers) > _MOST_LAYERS:
        more = ", ".join(list(layers)[_MOST_LAYERS:][:_MOST_LAYERS])
        said.append(
            f"{len(layers) - _MOST_LAYERS} more layers have another shape here, and begin anew: {more}, …"
        )
    return tuple(said)


def _sentence(layer: str, tensors: Sequence[Shapes]) -> str:
    name = layer or "the network"
    pattern = f"^{re.escape(layer)}[.]".replace("\\.", "[.]") if layer else ".*"
    anew = f'if it is to begin anew, say so: exclude="{pattern}"'
    outputs = _outputs(tensors)
    if outputs is None:
        old, new = tensors[0]
        return (
            f"{name} has another shape here than in the source, and begins anew: {old} there, {new} here. "
            f"Is the source of another network? Else, {anew}"
        )
    before, now, layout = outputs
    argument = "" if layout == "linear" else f', layout="{layout}"'
    return (
        f"{name} has {now} outputs here and {before} in the source, and begins anew. "
        "If they are labels, keep what was learnt of them: "
        f'head=HeadTransplant("{layer}", old_labels=[…], new_labels=[…]{argument}); {anew}'
    )


def _outputs(tensors: Sequence[Shapes]) -> tuple[int, int, str] | None:
    """Return the source's and the network's number of outputs, and the layout, if nothing else differs."""
    found: set[tuple[int, int]] = set()
    kinds = []
    for old, new in tensors:
        layout, axis = ("", 0) if len(new) == 1 else _LAYOUTS.get(len(new), ("", -1))
        if len(old) != len(new) or axis < 0 or old[:axis] + old[axis + 1 :] != new[:axis] + new[axis + 1 :]:
            return None
        found.add((old[axis], new[axis]))
        kinds += [layout] if layout else []
    return (*found.pop(), kinds[0]) if len(found) == 1 and len(kinds) == 1 else None
