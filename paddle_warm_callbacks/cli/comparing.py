"""``paddle-warm diff``: two sets of weights, tensor by tensor, and what their manifests say differently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import click
import numpy as np

from paddle_warm_callbacks.checkpoint import jsonvalue
from paddle_warm_callbacks.checkpoint.numbers import Array, dtype_of, exact
from paddle_warm_callbacks.checkpoint.source import Source, open_source
from paddle_warm_callbacks.cli.output import print_json, print_table, say, shape_text
from paddle_warm_callbacks.plan.config_changes import flattened

# In the order they are shown in.
SAME, CHANGED, DTYPE, SHAPE, ONLY_A, ONLY_B = (
    "same",
    "changed",
    "other dtype",
    "other shape",
    "only in A",
    "only in B",
)
# So that two of them stand beside their key on a line that can be read; JSON has them whole.
_LONGEST_VALUE = 60


@dataclass(frozen=True)
class Difference:
    """What became of one tensor from A to B.

    Attributes:
        name: Its name.
        kind: "same" (to the bit), "changed", "other dtype", "other shape", "only in A" or "only in B".
        detail: The two dtypes or shapes; of a tensor in one only, its own; else empty.
        largest: The greatest absolute difference of two values; None where values cannot be compared.
        relative: ‖B - A‖ / ‖A‖, Euclidean; infinite where A is all zeros. None where values cannot be compared.
    """

    name: str
    kind: str
    detail: str = ""
    largest: float | None = None
    relative: float | None = None


@click.command()
@click.argument("a")
@click.argument("b")
@click.option(
    "--which", type=click.Choice(["latest", "best"]), default="latest", help="Of a run: which checkpoint."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def diff(context: click.Context, a: str, b: str, which: str, as_json: bool) -> None:
    """Compare the weights of A and B, tensor by tensor.

    Each is a checkpoint, a run directory, a .pdparams or .safetensors file, or the URL of one. Of two checkpoints
    metrics and metadata are compared too.

    Exit code 1: they differ.
    """
    one, other = open_source(a, which=which), open_source(b, which=which)
    tensors = differences(one.tensors, other.tensors)
    told = _told_differently(one, other)
    identical = all(tensor.kind == SAME for tensor in tensors) and not told
    if as_json:
        record = {
            "a": one.description,
            "b": other.description,
            "identical": identical,
            "counts": _counts(tensors),
        }
        listed = [asdict(tensor) for tensor in tensors if tensor.kind != SAME]
        print_json({**record, "tensors": listed, "manifest": told})
    else:
        _print(one, other, tensors, told)
    context.exit(0 if identical else 1)


def differences(one: Mapping[str, Array], other: Mapping[str, Array]) -> list[Difference]:
    """Return what became of every tensor, in the order of ``one``, then those that only ``other`` has."""
    found = []
    for name, array in one.items():
        if name in other:
            found.append(_difference(name, array, other[name]))
        else:
            found.append(Difference(name, ONLY_A, _kind(array)))
    return found + [
        Difference(name, ONLY_B, _kind(array)) for name, array in other.items() if name not in one
    ]


def _difference(name: str, one: Array, other: Array) -> Difference:
    if one.shape != other.shape:
        return Difference(name, SHAPE, f"{shape_text(one.shape)} -> {shape_text(other.shape)}")
    if one.dtype == other.dtype and one.tobytes() == other.tobytes():
        return Difference(name, SAME)
    before, after = exact(one), exact(other)
    with np.errstate(invalid="ignore", over="ignore"):
        # Equal infinities, and NaN in the same place, are no difference; NaN or infinity in one only makes it NaN or
        # infinite.
        alike = (before == after) | (np.isnan(before) & np.isnan(after))
        gap = np.where(alike, 0.0, np.abs(after - before))
        length, of = np.linalg.norm(gap), np.linalg.norm(np.where(np.isnan(before), 0.0, before))
    largest = float(gap.max(initial=0.0))
    relative = float(length / of) if of else (0.0 if length == 0 else float("inf"))
    if one.dtype != other.dtype:
        return Difference(name, DTYPE, f"{dtype_of(one)} -> {dtype_of(other)}", largest, relative)
    return Difference(name, CHANGED, "", largest, relative)


def _kind(array: Array) -> str:
    return f"{dtype_of(array)} {shape_text(array.shape)}"


def _counts(tensors: list[Difference]) -> dict[str, int]:
    kinds = [tensor.kind for tensor in tensors]
    return {kind: kinds.count(kind) for kind in (SAME, CHANGED, DTYPE, SHAPE, ONLY_A, ONLY_B)}


def _told_differently(one: Source, other: Source) -> list[dict[str, Any]]:
    """Return what two manifests say differently, by the path of its key; nothing unless both are checkpoints."""
    if one.checkpoint is None or other.checkpoint is None:
        return []
    manifests = one.checkpoint.manifest, other.checkpoint.manifest
    found = []
    for kind in ("metrics", "metadata"):
        before, after = (getattr(manifest, kind) for manifest in manifests)
        for key in _unlike(before, after):
            a, b = (flattened({key: values[key]}) if key in values else {} for values in (before, after))
            # A tuple where there was a list is told of the whole: no value in it differs.
            found += [
                {"kind": kind, "key": path, "a": a.get(path), "b": b.get(path)} for path in _unlike(a, b)
            ] or [{"kind": kind, "key": key, "a": before.get(key), "b": after.get(key)}]
    return found


def _unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the keys that only one has, or whose values differ; NaN is NaN."""
    return [
        key
        for key in dict.fromkeys((*one, *other))
        if (key in one) != (key in other) or jsonvalue.encode(one[key]) != jsonvalue.encode(other[key])
    ]


def _print(one: Source, other: Source, tensors: list[Difference], told: list[dict[str, Any]]) -> None:
    say(f"A: {one.description}")
    say(f"B: {other.description}")
    say(", ".join(f"{count} {kind}" for kind, count in _counts(tensors).items() if count) or "no tensors")
    rows = [
        (tensor.name, tensor.kind, _number(tensor.largest), _number(tensor.relative), tensor.detail)
        for tensor in tensors
        if tensor.kind != SAME
    ]
    if rows:
        say()
        columns = ("tensor", "what", "max |B-A|", "|B-A|/|A|", "")
        print_table(columns, rows, right=columns[2:4])
    if told:
        say()
        print_table(
            ("manifest", "A", "B"),
            [
                (f"{entry['kind']}.{entry['key']}", _shortened(entry["a"]), _shortened(entry["b"]))
                for entry in told
            ],
        )


def _shortened(value: Any) -> str:
    text = repr(value)
    if len(text) > _LONGEST_VALUE and isinstance(value, (list, tuple)):
        text = f"{len(value)}: {text}"  # two that are cut may look alike
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
