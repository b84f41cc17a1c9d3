"""``paddle-warm prune``: what a retention policy lets go of a run's checkpoints; deleted only when told so twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from paddle_warm_callbacks.checkpoint.names import CHECKPOINTS, superseded
from paddle_warm_callbacks.checkpoint.pointers import ranking_of
from paddle_warm_callbacks.checkpoint.store import Checkpoint, CheckpointStore
from paddle_warm_callbacks.checkpoint.store.records import Records
from paddle_warm_callbacks.checkpoint.urls import is_url
from paddle_warm_callbacks.cli.output import bytes_text, metrics_text, print_table, say
from paddle_warm_callbacks.errors import CorruptCheckpointError, InvalidArgumentError, SourceError
from paddle_warm_callbacks.plan.retention import (
    CheckpointRecord,
    KeepBest,
    KeepEvery,
    KeepLatest,
    RetentionPolicy,
)


@click.command()
@click.argument("run")
@click.option("--keep-latest", required=True, type=int, metavar="N", help="Keep the newest N.")
@click.option("--keep-best", metavar="METRIC", help="Keep also the best by this metric.")
@click.option(
    "--mode", type=click.Choice(["max", "min"]), help="Of --keep-best: is greater better? Default: max."
)
@click.option("--n", type=int, help="Of --keep-best: how many. Default: 1.")
@click.option("--keep-every", type=int, metavar="N", help="Keep also those taken after epochs N, 2N, 3N, ...")
@click.option("--yes", is_flag=True, help="Delete. Without it nothing is changed.")
def prune(
    run: str,
    keep_latest: int,
    keep_best: str | None,
    mode: str | None,
    n: int | None,
    keep_every: int | None,
    yes: bool,
) -> None:
    """Delete the checkpoints of RUN that a policy does not keep.

    A dry run, unless --yes is given. The newest checkpoint always stays, and is verified before another is deleted. A
    run that a live process writes to is left alone.
    """
    if keep_best is None and (mode is not None or n is not None):
        raise click.UsageError("--mode and --n say which --keep-best keeps, and it is not given")
    policy: RetentionPolicy = KeepLatest(keep_latest)
    if keep_best is not None:
        policy = policy | KeepBest(keep_best, mode or "max", 1 if n is None else n)
    if keep_every is not None:
        policy = policy | KeepEvery(keep_every)
    store = _store(run)
    records = _records(store)
    _require_metrics(policy, records, run)
    outdated = superseded(record.name for record in records)
    judged = [record for record in records if record.name not in outdated]
    keep = {*policy.keep(judged), *(record.name for record in records[-1:])}
    gone = [record.name for record in records if record.name not in keep]
    rows = [
        (r.name, _size(store, r.name), metrics_text(r.metrics), "goes" if r.name in gone else "stays")
        for r in records
    ]
    print_table(("checkpoint", "size", "metrics", ""), rows, right=("size",))
    _warn_of_the_best(store, records, gone)
    if yes:
        # Decided again under the lock: a run may have gone on since.
        say(f"deleted {len(store.retain(_Once(policy)))} of {len(records)}")
    else:
        say(f"would delete {len(gone)} of {len(records)}; nothing was changed: --yes deletes")


@dataclass(frozen=True)
class _Once(RetentionPolicy):
    """Decide as ``policy`` does, but not as the run's own: what its ``best.json`` ranks by stays."""

    policy: RetentionPolicy

    def keep(self, records: Sequence[CheckpointRecord]) -> frozenset[str]:
        return self.policy.keep(records)

    @property
    def metrics(self) -> frozenset[str]:
        return self.policy.metrics


def _store(run: str) -> CheckpointStore:
    if is_url(run):
        raise InvalidArgumentError(
            "only a run on this machine is pruned: no lock keeps others from a mirror", where="prune RUN",
            received=run, expected="a run directory",
        )  # fmt: skip
    path = Path(run).expanduser()
    run_dir = path.parent if path.name == CHECKPOINTS else path
    # Asked first, for the lock would make the directory.
    if not (run_dir / CHECKPOINTS).is_dir():
        raise SourceError(
            "there is no run", where=run, received="a directory" if path.is_dir() else "nothing",
            expected=f"a run directory with {CHECKPOINTS}/",
        )  # fmt: skip
    return CheckpointStore(run_dir)


def _records(store: CheckpointStore) -> list[CheckpointRecord]:
    committed = [checkpoint.name for checkpoint in store.list()]
    return Records(store.run_dir / CHECKPOINTS).of(committed, metrics=True)


def _require_metrics(policy: RetentionPolicy, records: list[CheckpointRecord], run: str) -> None:
    """Refuse a metric that no checkpoint has: misspelt, it would delete the best one."""
    known = sorted({name for record in records for name in record.metrics})
    missing = sorted(policy.metrics.difference(known))
    if records and missing:
        raise InvalidArgumentError(
            "no checkpoint of the run has such a metric",
            where=f"prune {run} --keep-best",
            received=", ".join(missing),
            expected=f"one of {', '.join(known)}" if known else "a run whose checkpoints have metrics",
        )


def _size(store: CheckpointStore, name: str) -> str:
    try:
        return bytes_text(Checkpoint(store.run_dir / CHECKPOINTS / name).manifest.size)
    except CorruptCheckpointError:
        return "?"


def _warn_of_the_best(store: CheckpointStore, records: list[CheckpointRecord], gone: Sequence[str]) -> None:
    """Say so if the policy given here forgets the metric that the run itself was kept by."""
    ranking = ranking_of(store.run_dir)
    best = None if ranking is None else ranking.best(records)
    if ranking is not None and best is not None and best.name in gone:
        say(
            f"{best.name} is the best by {ranking.metric}, which the run was kept by: "
            f"--keep-best {ranking.metric} --mode {ranking.mode} keeps it"
        )
