"""``paddle-warm average``: the mean of several weights of one network, a soup, in float64."""

from __future__ import annotations

from collections.abc import Sequence

import click
import numpy as np

from paddle_warm_callbacks.checkpoint.numbers import Array, dtype_of, exact, is_float, rounded
from paddle_warm_callbacks.checkpoint.source import open_source
from paddle_warm_callbacks.cli.output import bytes_text, say
from paddle_warm_callbacks.cli.writing import check_target, write_weights
from paddle_warm_callbacks.errors import InvalidArgumentError


@click.command()
@click.argument("sources", nargs=-1, required=True)
@click.option("-o", "--out", required=True, help="The .pdparams or .safetensors file to write.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
def average(sources: tuple[str, ...], out: str, force: bool) -> None:
    """Write the mean of the weights of several SOURCES.

    Each is a checkpoint, a run directory (its latest), a file of weights, or the URL of one. They must be of one
    network: the same names, shapes and types. Means are taken in float64; integer tensors must be equal.

    The running statistics of batch norms are averaged like the rest, and are only roughly those of the averaged
    network: pass some batches through it in training mode before you judge it.
    """
    if len(sources) < 2:
        raise InvalidArgumentError(
            "the mean of one is that one",
            where="average SOURCES",
            received=sources[0],
            expected="two or more",
        )
    path = check_target(out, force=force)
    mean = averaged(sources)
    size = write_weights(path, mean)
    say(f"mean of {len(sources)}: {len(mean)} tensors -> {out}, {bytes_text(size)}")


def averaged(sources: Sequence[str]) -> dict[str, Array]:
    """Return the mean of the sources' tensors, in the first one's types; one source at a time is in memory.

    Raises:
        InvalidArgumentError: Names, shapes or types do not agree, or a tensor without fractions differs; the error
            names the tensor.
        SourceError: One is not there.
        UnsafeFileError: One is not a file of weights, or asks to run code.
        CorruptCheckpointError: One is damaged.
    """
    first = open_source(sources[0]).tensors
    sums = {name: exact(array) for name, array in first.items() if is_float(array)}
    for source in sources[1:]:
        tensors = open_source(source).tensors
        _require_alike(first, tensors, f"{sources[0]} and {source}")
        for name, array in tensors.items():
            if name in sums:
                sums[name] += exact(array)
    return {
        name: rounded(sums[name] / len(sources), dtype_of(array)) if name in sums else array
        for name, array in first.items()
    }


def _require_alike(first: dict[str, Array], other: dict[str, Array], where: str) -> None:
    odd = sorted(first.keys() ^ other.keys())
    if odd:
        raise InvalidArgumentError(
            f"{len(odd)} tensors are in one source only",
            where=where,
            received=", ".join(odd[:5]) + (", ..." if len(odd) > 5 else ""),
            expected="weights of one network",
            remedy="`paddle-warm diff` shows all that differs",
        )
    for name, array in first.items():
        kinds = tuple(f"{dtype_of(tensor)} {list(tensor.shape)}" for tensor in (array, other[name]))
        if kinds[0] != kinds[1]:
            raise InvalidArgumentError(
                "a tensor has another shape or type",
                where=f"{name} of {where}",
                received=f"{kinds[0]} and {kinds[1]}",
                expected="weights of one network",
            )
        if not is_float(array) and not np.array_equal(array, other[name]):
            raise InvalidArgumentError(
                "a tensor of integers differs, and has no mean",
                where=f"{name} of {where}",
                received=f"{int((array != other[name]).sum())} of {array.size} values differ",
                expected="equal values",
                remedy="average what agrees: export the sources, and take this tensor from one of them",
            )
