"""Stages and learning-rate groups made from the order of a network's layers, deep ones first."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from paddle_warm_callbacks.arguments import require_int, require_number
from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.patterns import matches_nothing
from paddle_warm_callbacks.plan.stages.stage_plan import Stage

# A block of so many times a part's fair share is cut although there are blocks enough: layer3 of a ResNet50 stays whole
# in four parts, the one "features" of a MobileNet does not.
_TOO_LARGE = 1.5


@dataclass(frozen=True)
class FineTune:
    """What fastai's ``fine_tune`` does, as arguments of ours; change them before use as you like.

    Attributes:
        stages: For ``StagedUnfreeze``: the head alone, then everything at half the rate.
        groups: For ``WarmLRScaler(groups=)``: 1 for the head, less the shallower a layer is.
    """

    stages: list[Stage]
    groups: dict[str, float]


def stages_by_depth(
    sizes: Mapping[str, int],
    n: int,
    *,
    epochs_per_stage: int = 1,
    lr_decay: float = 1.0,
    head: str | None = None,
    frozen: Collection[str] = (),
) -> list[Stage]:
    r"""Return ``n`` stages: the head, then with each stage one more part of the backbone, deepest first.

    The backbone is cut between blocks into ``n - 1`` parts with as equal numbers of tensors as that allows. The last
    stage trains everything. Depth is the order of ``sizes``, in which layers were registered.

    Args:
        sizes: Structured parameter name to number of elements, in the network's order.
        n: Number of stages, at least 2.
        epochs_per_stage: At least 1.
        lr_decay: Stage k, from 0, multiplies the learning rate by this to the power of k; above 0.
        head: Structured name of the head's layer. None: the last top-level layer; if that is a row of layers (a
            Sequential), the last of them.
        frozen: Names, not among ``sizes``, that no stage is to name: the user froze them.

    Raises:
        InvalidArgumentError: A number out of its bounds, or more stages than there are blocks.
        PatternError: There is no such ``head``.

    >>> stages = stages_by_depth({"stem.weight": 9, "block1.weight": 9, "block2.weight": 9, "fc.weight": 4}, 3)
    >>> [(stage.from_epoch, stage.trainable) for stage in stages]
    [(0, ('^fc(\\.|$)',)), (1, ('^(block1|block2|fc)(\\.|$)',)), (2, ('.*',))]
    """
    require_int(n, "stages_from_depth(n)", at_least=2)
    require_int(epochs_per_stage, "stages_from_depth(epochs_per_stage=)", at_least=1)
    require_number(lr_decay, "stages_from_depth(lr_decay=)", above=0)
    parts = depth_parts(sizes, n, head=head)
    stages = []
    for number in range(n):
        shallowest = n - 1 - number
        trained = [prefix for part in parts[shallowest:] for prefix in part]
        pattern = ".*" if number == n - 1 else _pattern(trained, frozen)
        stages.append(Stage(number * epochs_per_stage, pattern, lr_factor=lr_decay**number))
    return stages


def fine_tune_by_depth(
    sizes: Mapping[str, int],
    *,
    freeze_epochs: int = 1,
    lr_mult: float = 100.0,
    n: int = 3,
    head: str | None = None,
    frozen: Collection[str] = (),
) -> FineTune:
    """Return fastai's recipe: the head for ``freeze_epochs``, then everything, shallow layers at a lower rate.

    As in fastai the rate is halved when everything is thawed, and the factors of the ``n`` parts rise evenly, by ratio,
    from ``1 / lr_mult`` to 1. Source: ``Learner.fine_tune`` in fastai's ``callback/schedule.py``.

    Args:
        sizes: Structured parameter name to number of elements, in the network's order.
        freeze_epochs: At least 1.
        lr_mult: The head's rate by that of the shallowest part; at least 1.
        n: Number of parts, the head among them; at least 2.
        head: As in :func:`stages_by_depth`.
        frozen: As there.

    Raises:
        InvalidArgumentError: A number out of its bounds, or more parts than there are blocks.
        PatternError: There is no such ``head``.
    """
    require_int(freeze_epochs, "fine_tune(freeze_epochs=)", at_least=1)
    require_number(lr_mult, "fine_tune(lr_mult=)", at_least=1)
    require_int(n, "fine_tune(n=)", at_least=2)
    parts = depth_parts(sizes, n, head=head)
    stages = [Stage(0, _pattern(parts[-1], frozen)), Stage(freeze_epochs, ".*", lr_factor=0.5)]
    factors = [lr_mult ** (number / (n - 1) - 1) for number in range(n)]
    # The head first, for the first pattern found counts, and a head inside a layer is found by that layer's too.
    groups = {_pattern(part): factor for part, factor in zip(reversed(parts), reversed(factors))}
    return FineTune(stages, groups)


def depth_parts(sizes: Mapping[str, int], n: int, *, head: str | None = None) -> tuple[tuple[str, ...], ...]:
    """Return the layers of ``n`` contiguous parts, shallow ones first, as dotted prefixes; the last part is the head.

    Args:
        sizes: Structured parameter name to number of elements, in the network's order.
        n: At least 2.
        head: Structured name of the head's layer; None: the last, as :func:`stages_by_depth` says.

    Raises:
        InvalidArgumentError: The backbone has fewer than ``n - 1`` blocks.
        PatternError: There is no such ``head``.
    """
    names = tuple(sizes)
    if head is None:
        head = _last_layer(sizes)
    elif not any(_below(name, head) for name in names):
        raise matches_nothing(head, names, "head")
    backbone = [name for name in names if not _below(name, head)]
    blocks = _blocks(backbone, n - 1)
    if len(blocks) < n - 1:
        raise InvalidArgumentError(
            "the network has too few layers for so many parts",
            where="stages_from_depth(n), fine_tune(n=)",
            received=f"{n} parts, of a network with the head {head!r} and {len(blocks)} layers before it",
            expected=f"at most {len(blocks) + 1}",
        )
    return (*_balanced(blocks, n - 1), (head,))


def _last_layer(sizes: Mapping[str, int]) -> str:
    """Return the last layer at the top, or of the one wrapper there is; of a row of layers, the last in it."""
    prefix = ""
    while len(layers := _layers(sizes, prefix)) == 1:
        prefix = layers[0]
    while layers:
        prefix = layers[-1]
        layers = _layers(sizes, prefix)
        if not all(layer.rpartition(".")[2].isdigit() for layer in layers):
            break
    return prefix


def _layers(names: Collection[str], prefix: str) -> list[str]:
    """Return the prefixes one part longer that are layers, not parameters."""
    return [child for child in _children(names, prefix) if child not in names]


def _blocks(names: Sequence[str], wanted: int) -> list[tuple[str, int]]:
    """Return (prefix, tensors) of the backbone's blocks in order: as few as make so many parts of about one size.

    Two rows of layers may take turns, as EfficientNet's do: a prefix that stands for layers apart is no block.
    """
    place = {name: at for at, name in enumerate(names)}

    def spread(prefix: str) -> tuple[int, int]:
        below = [place[name] for name in names if _below(name, prefix)]
        return below[0], below[-1] - below[0] + 1 - len(below)

    blocks = [(prefix, _count(names, prefix)) for prefix in _children(names, "")]
    while True:
        # The largest that can be cut, between layers and not within one.
        cuttable = [
            (spread(prefix)[1] > 0, count, -at)
            for at, (prefix, count) in enumerate(blocks)
            if _inner(names, prefix)
        ]
        if not cuttable:
            break
        apart, count, at = max(cuttable)
        if not apart and len(blocks) >= wanted and count <= _TOO_LARGE * len(names) / wanted:
            break
        at = -at
        prefix = blocks[at][0]
        blocks[at : at + 1] = [(child, _count(names, child)) for child in _children(names, prefix)]
    return sorted(blocks, key=lambda block: spread(block[0])[0])


def _inner(names: Iterable[str], prefix: str) -> bool:
    """Return whether there is a layer below ``prefix``, rather than its own parameters only."""
    return any(name[len(prefix) + 1 :].count(".") >= 1 for name in names if _below(name, prefix))


def _children(names: Iterable[str], prefix: str) -> list[str]:
    """Return the prefixes one part longer, in order of their first name."""
    depth = prefix.count(".") + 1 if prefix else 0
    return list(
        dict.fromkeys(".".join(name.split(".")[: depth + 1]) for name in names if _below(name, prefix))
    )


def _balanced(blocks: Sequence[tuple[str, int]], parts: int) -> list[tuple[str, ...]]:
    """Cut ``blocks`` into ``parts`` contiguous parts so that the largest is as small as it can be."""
    limit = max(count for _, count in blocks)
    while True:
        cut = _cut(blocks, parts, limit)
        if cut is not None:
            return cut
        limit += 1


def _cut(blocks: Sequence[tuple[str, int]], parts: int, limit: int) -> list[tuple[str, ...]] | None:
    """Fill parts up to ``limit`` tensors from the deep end, leaving a block for each part to come."""
    found: list[list[str]] = [[]]
    filled = 0
    for number, (prefix, count) in enumerate(reversed(blocks)):
        left = len(blocks) - number
        starved = left == parts - len(found) and found[-1]
        if found[-1] and (filled + count > limit or starved):
            if len(found) == parts:
                return None
            found.append([])
            filled = 0
        found[-1].append(prefix)
        filled += count
    return [tuple(reversed(part)) for part in reversed(found)]


def _count(names: Iterable[str], prefix: str) -> int:
    return sum(_below(name, prefix) for name in names)


def _below(name: str, prefix: str) -> bool:
    return not prefix or name == prefix or name.startswith(prefix + ".")


def _pattern(prefixes: Sequence[str], without: Collection[str] = ()) -> str:
    escaped = "|".join(map(re.escape, prefixes))
    passed_over = [re.escape(name) for name in without if any(_below(name, prefix) for prefix in prefixes)]
    but = f"(?!({'|'.join(passed_over)})$)" if passed_over else ""
    return f"^{but}({escaped})(\\.|$)" if len(prefixes) > 1 else f"^{but}{escaped}(\\.|$)"
