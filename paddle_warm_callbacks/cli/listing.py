"""``paddle-warm ls``: the checkpoints of a run, read from their manifests alone unless they are to be verified."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from paddle_warm_callbacks.checkpoint.manifest import Manifest
from paddle_warm_callbacks.checkpoint.names import CHECKPOINTS
from paddle_warm_callbacks.checkpoint.nearby import runs_in
from paddle_warm_callbacks.checkpoint.pointers import ranking_of
from paddle_warm_callbacks.checkpoint.urls import is_url
from paddle_warm_callbacks.cli.output import age_text, bytes_text, metrics_text, print_json, print_table, say
from paddle_warm_callbacks.cli.place import LocalFiles, Place
from paddle_warm_callbacks.cli.places import OF_DAMAGED, find
from paddle_warm_callbacks.errors import CorruptCheckpointError, SourceError
from paddle_warm_callbacks.plan.retention import CheckpointRecord

# A manifest at a URL costs a round trip; this many are under way at once.
_AT_ONCE = 16


@dataclass(frozen=True)
class Listed:
    """One checkpoint of a listing.

    Attributes:
        place: Where it is.
        manifest: Its manifest, or None if that is damaged.
        problems: What is wrong with it, a sentence each; with ``verified`` None, what its manifest alone shows.
        verified: Whether every byte is what was written; None: not asked.
        best_by: The metric by which it is the run's best, as its ``KeepBest`` ranks them; empty for all others.
    """

    place: Place
    manifest: Manifest | None
    problems: tuple[str, ...]
    verified: bool | None = None
    best_by: str = ""

    def to_json(self, now: datetime) -> dict[str, Any]:
        """Return plain values; what the manifest says is null where it is damaged."""
        manifest = self.manifest
        age = math.nan if manifest is None else age_of(manifest, now)
        return {
            "name": self.place.name,
            "path": self.place.where,
            "epoch": manifest and manifest.progress.epoch,
            "step_in_epoch": manifest and manifest.progress.step_in_epoch,
            "global_step": manifest and manifest.progress.global_step,
            "epoch_completed": manifest and manifest.epoch_completed,
            "metrics": manifest and manifest.metrics,
            "size": manifest and manifest.size,
            "created": manifest and manifest.created,
            "age_seconds": None if math.isnan(age) else age,
            "verified": self.verified,
            "problems": self.problems,
            "best_by": self.best_by or None,
        }


@click.command()
@click.argument("run")
@click.option("--verify", is_flag=True, help="Read every byte, and say which checkpoints are whole.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def ls(context: click.Context, run: str, verify: bool, as_json: bool) -> None:
    """List the checkpoints of RUN, oldest first.

    RUN is a run directory, or the URL of a mirrored one; of a directory of runs, those are listed, each with its newest
    checkpoint. Without --verify only manifests are read.

    Exit code 1: one of them is damaged.
    """
    try:
        places, _ = find(run)
    except SourceError:
        runs = [] if is_url(run) else runs_in(Path(run).expanduser())
        if not runs:
            raise
        context.exit(_list_runs(runs, verify, as_json))
    rows = _with_best(run, _look_at_all(places, verify))
    now = datetime.now(timezone.utc)
    if as_json:
        print_json([row.to_json(now) for row in rows])
    elif not rows:
        say("no checkpoint yet")
    else:
        _print(rows, now, verify)
        if any(row.problems for row in rows):
            say(OF_DAMAGED)
    context.exit(1 if any(row.problems for row in rows) else 0)


def _list_runs(runs: Sequence[Path], verify: bool, as_json: bool) -> int:
    """List the newest checkpoint of each run; return the exit code."""
    if verify:
        raise click.UsageError(f"which run is to be verified? Name one: {runs[0]}")
    now = datetime.now(timezone.utc)
    records, table, damaged = [], [], False
    for run in runs:
        places, _ = find(str(run))
        newest = _look_at(places[-1], False) if places else None
        record = {"run": str(run), "checkpoints": len(places), "newest": newest and newest.to_json(now)}
        records.append(record)
        cells = (
            ("none yet", *("",) * 5) if newest is None else (newest.place.name, *_cells(newest.manifest, now))
        )
        table.append((str(run), str(len(places)), *cells))
        damaged |= newest is not None and bool(newest.problems)
    if as_json:
        print_json(records)
    else:
        columns = ("run", "checkpoints", "newest", "epochs", "step", "metrics", "size", "age")
        print_table(columns, table, right=("checkpoints", "epochs", "step", "size", "age"))
    return int(damaged)


def _with_best(run: str, rows: list[Listed]) -> list[Listed]:
    """Mark the best checkpoint of a run on this machine; where the run ranks none, nothing."""
    inside = Path(run).expanduser()
    ranking = None if is_url(run) else ranking_of(inside.parent if inside.name == CHECKPOINTS else inside)
    if ranking is None:
        return rows
    records = [
        CheckpointRecord(
            row.place.name, row.manifest.progress, row.manifest.epoch_completed, row.manifest.metrics
        )
        for row in rows
        if row.manifest is not None
    ]
    best = ranking.best(records)
    return [
        replace(row, best_by=ranking.metric) if best is not None and row.place.name == best.name else row
        for row in rows
    ]


def age_of(manifest: Manifest, now: datetime) -> float:
    """Return the seconds since a checkpoint was written, by its own word; NaN if it does not say."""
    try:
        return (now - datetime.fromisoformat(manifest.created)).total_seconds()
    except (ValueError, TypeError):
        return math.nan


def position_text(manifest: Manifest) -> str:
    """Return the epoch a checkpoint was taken after or in, both from 0 as ``Progress`` counts."""
    progress = manifest.progress
    if manifest.epoch_completed:
        return f"{progress.epoch} done"
    return f"{progress.epoch} + {progress.step_in_epoch} steps"


def _look_at_all(places: Sequence[Place], verify: bool) -> list[Listed]:
    if not verify and all(isinstance(place.files, LocalFiles) for place in places):
        return [_look_at(place, verify) for place in places]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda place: _look_at(place, verify), places))


def _look_at(place: Place, verify: bool) -> Listed:
    try:
        manifest = place.manifest()
    except CorruptCheckpointError as error:
        return Listed(place, None, (f"{error.what} ({error.received})",), False if verify else None)
    if not verify:
        return Listed(place, manifest, ())
    from paddle_warm_callbacks.cli.checking import verify_place  # imports NumPy

    verdict = verify_place(place)
    return Listed(place, manifest, tuple(map(str, verdict.problems)), not verdict.problems)


def _print(rows: list[Listed], now: datetime, verify: bool) -> None:
    columns = ["name", "epochs", "step", "metrics", "size", "age"]
    with_state = verify or any(row.problems for row in rows)
    with_best = any(row.best_by for row in rows)
    table = []
    for row in rows:
        cells = [row.place.name, *_cells(row.manifest, now)]
        if with_best:
            cells.append(f"by {row.best_by}" if row.best_by else "")
        if with_state:
            whole = "whole" if row.verified else ""
            cells.append(f"damaged: {'; '.join(row.problems)}" if row.problems else whole)
        table.append(cells)
    columns += ["best"] if with_best else []
    columns += ["state"] if with_state else []
    print_table(columns, table, right=("epochs", "step", "size", "age"))


def _cells(manifest: Manifest | None, now: datetime) -> tuple[str, ...]:
    if manifest is None:
        return ("?",) * 5
    age = age_of(manifest, now)
    return (
        position_text(manifest),
        str(manifest.progress.global_step),
        metrics_text(manifest.metrics),
        bytes_text(manifest.size),
        "" if math.isnan(age) else age_text(age),
    )
