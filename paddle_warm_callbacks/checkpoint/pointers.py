"""The small files beside the checkpoints that name one of them: hints for people and tools, never the truth."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paddle_warm_callbacks.checkpoint import durable
from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.plan.retention import (
    AnyRetentionPolicy,
    CheckpointRecord,
    KeepBest,
    RetentionPolicy,
)

logger = logging.getLogger("paddle_warm_callbacks")

LATEST = "latest.json"
BEST = "best.json"


def point_at_latest(run_dir: Path, name: str) -> None:
    """Name the newest checkpoint in ``latest.json``."""
    _point(run_dir / LATEST, {"name": name})


def point_at_best(run_dir: Path, policy: RetentionPolicy, records: Sequence[CheckpointRecord]) -> None:
    """Name the best checkpoint in ``best.json``, by the first ``KeepBest`` in ``policy``; nothing if there is none."""
    ranking = ranking_in(policy)
    if ranking is None:
        return
    best = ranking.best(records)
    pointer = {"name": None if best is None else best.name, "metric": ranking.metric, "mode": ranking.mode}
    if _read(run_dir / BEST) != pointer:
        _point(run_dir / BEST, pointer)


def ranking_in(policy: RetentionPolicy | None) -> KeepBest | None:
    """Return the first ``KeepBest`` in a policy, or None if there is none."""
    parts = policy.policies if isinstance(policy, AnyRetentionPolicy) else (policy,)
    return next((part for part in parts if isinstance(part, KeepBest)), None)


def ranking_of(run_dir: Path) -> KeepBest | None:
    """Return the ranking that ``best.json`` was last written by, or None if there is none."""
    return ranking_said(_read(run_dir / BEST))


def ranking_said(pointer: Any) -> KeepBest | None:
    """Return the ranking that the content of a ``best.json`` names, or None if it names none."""
    try:
        return KeepBest(pointer["metric"], pointer["mode"])
    except (TypeError, KeyError, InvalidArgumentError):
        return None


def _point(path: Path, record: dict[str, Any]) -> None:
    """Replace a pointer; a checkpoint is committed without it, so a failure is only logged."""
    try:
        durable.replace_file(path, json.dumps(record).encode("ascii") + b"\n")
    except OSError as error:
        logger.warning("%s still points at an older checkpoint: %s", path, error)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
