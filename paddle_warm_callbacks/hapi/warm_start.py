"""Weights of another run put into a network: matched by name, heads transplanted by label, everything accounted for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import paddle

from paddle_warm_callbacks.checkpoint.rows import transplanted
from paddle_warm_callbacks.errors import CoverageError, SourceError
from paddle_warm_callbacks.hapi import optimizer_state
from paddle_warm_callbacks.plan import generated_names
from paddle_warm_callbacks.plan.conversions import CONVERSIONS, Conversion
from paddle_warm_callbacks.plan.matching import Load, MatchPlan, TensorSpec, match
from paddle_warm_callbacks.plan.other_shapes import of_other_shape
from paddle_warm_callbacks.plan.report import RestoreReport
from paddle_warm_callbacks.plan.transplant import HeadTransplant, head_tensors, label_moves, row_map


def warm_start(
    network: Any,
    tensors: Mapping[str, np.ndarray[Any, Any]],
    *,
    description: str,
    head: HeadTransplant | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    convert: str | None = None,
    min_loaded: float = 0.5,
) -> RestoreReport:
    """Copy what fits of ``tensors`` into ``network``.

    Args:
        network: The Layer to fill.
        tensors: The source's arrays by name.
        description: Where they come from, for the report.
        head: How the head's rows move by label, or None; its ``old_labels`` must be known.
        include: As of :func:`paddle_warm_callbacks.plan.matching.match`.
        exclude: As of the same.
        rename: As of the same; sees the names that ``convert`` has made.
        convert: One of ``plan.conversions.CONVERSIONS``; None: names and matrices are Paddle's.
        min_loaded: Share of the network's elements, 0 to 1, that must come from the source.

    Raises:
        CoverageError: Less than that would be loaded; the network is untouched then.
    """
    live: dict[str, Any] = network.state_dict()
    if convert is not None:
        tensors = converted(network, tensors, CONVERSIONS[convert])
    targets = [TensorSpec(name, tuple(tensor.shape), _dtype(tensor)) for name, tensor in live.items()]
    sources = [TensorSpec(name, tuple(array.shape), str(array.dtype)) for name, array in tensors.items()]
    heads = head_tensors(head, live) if head is not None else ()
    plan = match(sources, targets, include=include, exclude=exclude, rename=rename, transplanted=heads)
    sizes = {target.name: int(np.prod(target.shape)) for target in targets}
    values: dict[str, np.ndarray[Any, Any]] = {}
    copied = 0
    for load in plan.loads:
        values[load.target] = _cast(tensors[load.source], load)
        copied += sizes[load.target]
    for load in plan.transplants:
        assert head is not None
        array = _cast(tensors[load.source], load)
        rows = row_map(head, load.target, tuple(live[load.target].shape), array.shape)
        values[load.target] = transplanted(live[load.target].numpy(), array, rows, head.new_rows)
        copied += sizes[load.target] * len(rows.pairs) // (len(rows.pairs) + len(rows.new))
    moves = None if head is None else label_moves(head)
    share = copied / max(sum(sizes.values()), 1)
    report = RestoreReport(
        kind="warm",
        source=description,
        loaded=tuple(load.target for load in plan.loads),
        transplanted=tuple(load.target for load in plan.transplants),
        labels_kept=() if moves is None else moves.kept,
        labels_new=() if moves is None else moves.new,
        labels_dropped=() if moves is None else moves.dropped,
        skipped=tuple(
            (skip.target, f"{skip.reason}: {skip.detail}" if skip.detail else skip.reason)
            for skip in plan.skips
        ),
        unused=plan.unused,
        share_loaded=share,
        warnings=(
            *of_other_shape({skip.target: skip.shapes for skip in plan.skips if skip.shapes is not None}),
            *(() if moves is None else moves.warnings),
            *_not_finite(values),
        ),
        notes=_cast_notes(plan),
    )
    if share < min_loaded:
        raise CoverageError(
            f"only {share:.1%} of the network's parameters would come from the source",
            where=description,
            received=report.to_text(),
            expected=f"at least {min_loaded:.0%} (min_loaded)",
            remedy="check that source and network belong together, map names with rename=…, or lower min_loaded",
        )
    for name, value in values.items():
        live[name].set_value(value)
    return report


def converted(
    network: Any, tensors: Mapping[str, np.ndarray[Any, Any]], conversion: Conversion
) -> dict[str, np.ndarray[Any, Any]]:
    """Return another library's tensors under Paddle's names, linear weights turned round where ``network`` has them."""
    linear = {
        f"{name}.weight".lstrip(".")
        for name, layer in network.named_sublayers(include_self=True)
        if isinstance(layer, paddle.nn.Linear)
    }

    def is_linear(name: str) -> bool:
        # As in matching, either side may carry a prefix that the other lacks.
        return any(name == own or name.endswith("." + own) or own.endswith("." + name) for own in linear)

    turned = conversion.linear_transposed
    return {
        new: np.ascontiguousarray(tensors[old].T)
        if turned and tensors[old].ndim == 2 and is_linear(new)
        else tensors[old]
        for old, new in conversion.names(tensors).items()
    }


def under_structured_names(
    network: Any, tensors: Mapping[str, np.ndarray[Any, Any]], description: str
) -> dict[str, np.ndarray[Any, Any]]:
    """Return tensors of generated names under the structured ones of ``network``, which the same code must have built.

    Raises:
        SourceError: The two do not have the same layers in the same numbers and shapes.
    """
    live = network.state_dict()
    structured = {tensor.name: name for name, tensor in live.items()}
    pairs = generated_names.pair(
        {name: tuple(array.shape) for name, array in tensors.items()},
        {tensor.name: tuple(tensor.shape) for tensor in live.values()},
    )
    if pairs is None:
        raise SourceError(
            "the source has generated names only, and is not of a network built as this one",
            where=description,
            received=f"{len(tensors)} tensors: {', '.join(list(tensors)[:3])}, …",
            expected=f"as here, {len(structured)} in kinds and shapes: {', '.join(list(structured)[:3])}, …",
            remedy="start from the .pdparams file the model was exported from",
        )
    return {structured[new]: tensors[old] for old, new in pairs.items()}


def transplant_moments(
    network: Any, optimizer: Any, saved: Mapping[tuple[str, str], np.ndarray[Any, Any]], head: HeadTransplant
) -> list[str]:
    """Let the optimizer go on where the source's was for a head's rows; those of new labels begin at zero.

    Args:
        network: The Layer, its head transplanted.
        optimizer: Not yet stepped.
        saved: The source's accumulators by (structured name, kind).
        head: Its ``old_labels`` must be known.

    Returns:
        Names of the parameters whose optimizer state was taken over.
    """
    live = dict(network.named_parameters())
    shapes = {name: tuple(live[name].shape) for name in head_tensors(head, live)}
    moved = {}
    for (name, kind), array in saved.items():
        if name not in shapes:
            continue
        if array.ndim == len(shapes[name]) and array.size > 1:
            rows = row_map(head, name, shapes[name], array.shape)
            array = transplanted(np.zeros(shapes[name], array.dtype), array, rows, "zero")
        if kind == optimizer_state.MASTER:
            array = live[name].astype("float32").numpy()
        moved[name, kind] = array  # a power of beta belongs to all rows
    restored, _ = optimizer_state.restore(network, optimizer, moved)
    return restored


def _cast_notes(plan: MatchPlan) -> tuple[str, ...]:
    casts = [load.cast for load in (*plan.loads, *plan.transplants) if load.cast]
    return (f"{len(casts)} tensors converted to {casts[0]}",) if casts else ()


def _not_finite(values: Mapping[str, np.ndarray[Any, Any]]) -> tuple[str, ...]:
    """Return a warning of tensors with a NaN or an infinity, which a training that broke down leaves in its files."""
    found = [
        name
        for name, value in values.items()
        if value.dtype.kind in "fc" or value.dtype == np.uint16
        if not np.isfinite(_as_float(value)).all()
    ]
    more = f", and {len(found) - 3} more" if len(found) > 3 else ""
    return (f"not finite, NaN or infinity: {', '.join(found[:3])}{more}",) if found else ()


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).rpartition(".")[2]


def _cast(array: np.ndarray[Any, Any], load: Load) -> np.ndarray[Any, Any]:
    if load.cast is None:
        return array
    return _converted(_as_float(array), load.cast)


def _as_float(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return bfloat16, held as uint16, as the float32 whose upper half its bits are; any other array as it is."""
    return (array.astype(np.uint32) << 16).view(np.float32) if array.dtype == np.uint16 else array


def _converted(array: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    converted: np.ndarray[Any, Any] = paddle.to_tensor(array).astype(dtype).numpy()
    return converted
