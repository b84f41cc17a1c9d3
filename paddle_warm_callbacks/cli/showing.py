"""``paddle-warm show``: one checkpoint, from its manifest and its list of tensors; no tensor is read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from itertools import groupby
from typing import Any

import click
import numpy as np

from paddle_warm_callbacks.checkpoint import jsonvalue
from paddle_warm_callbacks.checkpoint.digests import digest_of
from paddle_warm_callbacks.checkpoint.manifest import MANIFEST, Manifest, TensorEntry
from paddle_warm_callbacks.checkpoint.staging import STATE
from paddle_warm_callbacks.cli.listing import age_of, position_text
from paddle_warm_callbacks.cli.output import (
    age_text,
    bytes_text,
    dtype_text,
    metrics_text,
    plain,
    print_json,
    print_table,
    say,
    shape_text,
)
from paddle_warm_callbacks.cli.place import Place
from paddle_warm_callbacks.cli.places import newest
from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.plan.report import RestoreReport


@click.command()
@click.argument("checkpoint")
@click.option("--tensors", "with_tensors", is_flag=True, help="List every tensor, in the network's order.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(checkpoint: str, with_tensors: bool, as_json: bool) -> None:
    """Show what is in a checkpoint, or in the newest of a run.

    CHECKPOINT is a checkpoint's or a run's directory, or the URL of either. Nothing is verified but what is shown.
    """
    place, choice = newest(checkpoint)
    manifest = place.manifest()
    tensors = place.tensors(manifest) if with_tensors else ()
    owners = _owners(place, manifest) if with_tensors else {}
    if as_json:
        record = _json(place, manifest)
        if with_tensors:
            record["tensors"] = [_tensor_json(tensor, owners) for tensor in tensors]
        print_json(record)
        return
    rows = [("checkpoint", place.where + (f" ({choice})" if choice else "")), *_facts(place, manifest)]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        say(f"{name:<{width}}  {value}")
    files = [(name, bytes_text(entry.size), entry.digest) for name, entry in manifest.files.items()]
    say()
    print_table(("file", "size", "digest"), files, right=("size",))
    for file, group in groupby(tensors, key=lambda tensor: tensor.file):
        say()
        print_table(
            ("tensor", "shape", "dtype", "size"),
            list(_by_layer(list(group), owners)),
            right=("size",),
            title=file,
        )


def _facts(place: Place, manifest: Manifest) -> list[tuple[str, str]]:
    progress = manifest.progress
    age = age_of(manifest, datetime.now(timezone.utc))
    created = manifest.created + ("" if math.isnan(age) else f" ({age_text(age)} ago)")
    facts = [
        ("progress", f"step {progress.global_step}, epochs {position_text(manifest)}"),
        ("created", created),
        ("written by", ", ".join(f"{name} {version}" for name, version in manifest.writer.items())),
        ("digest", digest_of(place.read(MANIFEST))),
        ("parent", manifest.parent or "none: not resumed or warm-started from a checkpoint"),
        ("metrics", metrics_text(manifest.metrics) or "none"),
    ]
    for key, value in manifest.metadata.items():
        report = _report(value) if key == "start" else None
        facts.append(("start", report) if report is not None else (f"metadata[{key!r}]", _short(value)))
    return [*facts, ("size", bytes_text(manifest.size))]


def _report(value: Any) -> str | None:
    """Return how the run started in one line, if ``value`` is the report that PeriodicCheckpoint stores of that."""
    try:
        return RestoreReport.from_json(value).to_text().splitlines()[0]
    except (AttributeError, TypeError, InvalidArgumentError):
        return None


def _short(value: Any) -> str:
    text = json.dumps(plain(value), ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:100]}… ({len(text)} characters; --json shows all)"


def _json(place: Place, manifest: Manifest) -> dict[str, Any]:
    return {
        "name": place.name,
        "path": place.where,
        "progress": manifest.progress.to_json(),
        "epoch_completed": manifest.epoch_completed,
        "created": manifest.created,
        "writer": manifest.writer,
        "digest": digest_of(place.read(MANIFEST)),
        "parent": manifest.parent,
        "metrics": manifest.metrics,
        "metadata": manifest.metadata,
        "size": manifest.size,
        "files": {name: {"size": e.size, "digest": e.digest} for name, e in manifest.files.items()},
    }


def _owners(place: Place, manifest: Manifest) -> dict[str, str]:
    """Return what the optimizer's keys, which Paddle generates, stand for: parameter and kind."""
    if STATE not in manifest.files:
        return {}
    state = jsonvalue.decode(json.loads(place.verified(STATE, manifest)))
    table = state.get("optimizer_keys", ()) if isinstance(state, dict) else ()
    return {str(key): f"{parameter} {kind}" for key, parameter, kind in table}


def _bytes_of(tensor: TensorEntry) -> int:
    return math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize


def _tensor_json(tensor: TensorEntry, owners: dict[str, str]) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "stands_for": owners.get(tensor.name.rpartition("/")[2]),
        "file": tensor.file,
        "shape": tensor.shape,
        "dtype": dtype_text(tensor.dtype),
        "size": _bytes_of(tensor),
        "digest": tensor.digest,
    }


def _by_layer(tensors: Sequence[TensorEntry], owners: dict[str, str]) -> Iterator[Sequence[str]]:
    """Yield the rows of one file: each top-level layer with its size, then its tensors; layers as they come first."""
    layers: dict[str, list[tuple[str, TensorEntry]]] = {}
    for tensor in tensors:
        shown = owners.get(tensor.name.rpartition("/")[2], tensor.name)
        layers.setdefault(shown.split(".")[0], []).append((shown, tensor))
    for layer, members in layers.items():
        size = sum(_bytes_of(tensor) for _, tensor in members)
        yield f"{layer}: {len(members)} tensor{'s' if len(members) > 1 else ''}", "", "", bytes_text(size)
        for shown, tensor in members:
            size = _bytes_of(tensor)
            yield f"  {shown}", shape_text(tensor.shape), dtype_text(tensor.dtype), bytes_text(size)
        yield ()
