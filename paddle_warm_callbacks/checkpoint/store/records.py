"""What retention policies are asked about: a record for each checkpoint, its manifest read once and only if needed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from paddle_warm_callbacks.checkpoint import names
from paddle_warm_callbacks.checkpoint.manifest import Manifest
from paddle_warm_callbacks.checkpoint.store.checkpoint import Checkpoint
from paddle_warm_callbacks.errors import CorruptCheckpointError
from paddle_warm_callbacks.plan.retention import CheckpointRecord
from paddle_warm_callbacks.progress import Progress

logger = logging.getLogger("paddle_warm_callbacks")


class Records:
    """Remember the records of the checkpoints in one directory.

    Args:
        checkpoints: The directory they are in.
    """

    def __init__(self, checkpoints: Path) -> None:
        self._checkpoints = checkpoints
        self._known: dict[str, CheckpointRecord] = {}

    def of(self, committed: Sequence[str], *, metrics: bool) -> list[CheckpointRecord]:
        """Return a record for each name.

        Args:
            committed: Names of checkpoints.
            metrics: Whether metrics are needed, for which manifests must be read. Without, a checkpoint that this
                process has not written is known by its name: of one taken within an epoch, by its global step alone.
        """
        if metrics:
            for name in committed:
                if name not in self._known:
                    self._known[name] = self._read(name)
        return [self._known.get(name) or record_of_name(name) for name in committed]

    def add(self, checkpoint: Checkpoint) -> None:
        """Remember a checkpoint that was just written, in the place of one of the same name."""
        self._known[checkpoint.name] = record_of(checkpoint.name, checkpoint.manifest)

    def forget(self, name: str) -> None:
        """Drop the record of a checkpoint that is gone."""
        self._known.pop(name, None)

    def _read(self, name: str) -> CheckpointRecord:
        try:
            return record_of(name, Checkpoint(self._checkpoints / name).manifest)
        except CorruptCheckpointError as error:
            logger.warning("%s counts as one without metrics: %s", name, error)
            return record_of_name(name)


def record_of(name: str, manifest: Manifest) -> CheckpointRecord:
    """Return what a checkpoint's manifest says, as policies are told it."""
    return CheckpointRecord(name, manifest.progress, manifest.epoch_completed, dict(manifest.metrics))


def record_of_name(name: str) -> CheckpointRecord:
    """Return what a checkpoint's name alone says."""
    position = names.position_of(name)
    assert position is not None
    progress = Progress(position.global_step, position.epochs_completed or 0, 0)
    return CheckpointRecord(name, progress, position.epochs_completed is not None, {})
