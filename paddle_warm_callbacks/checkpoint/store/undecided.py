"""The checkpoints a retention policy has to be asked about after a save: all of them once, then few.

A run that keeps an epoch in ten for ever comes to hold thousands of checkpoints; what is kept for good once need not be
listed, read or judged again at every save.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from paddle_warm_callbacks.checkpoint.store.records import Records
from paddle_warm_callbacks.plan.retention import CheckpointRecord, RetentionPolicy


class Undecided:
    """Remember what a policy has not settled, for as long as nobody else may write to the directory.

    Args:
        checkpoints: The directory of the checkpoints.
        records: Of that directory.
    """

    def __init__(self, checkpoints: Path, records: Records) -> None:
        self._checkpoints = checkpoints
        self._records = records
        self._policy: RetentionPolicy | None = None
        self._names: list[str] = []

    def forget(self) -> None:
        """Begin anew: the directory may have changed."""
        self._policy = None

    def known(self, policy: RetentionPolicy) -> Sequence[str] | None:
        """Return the names that ``policy`` must be asked about, oldest first; None if the directory must be listed."""
        if self._policy != policy:
            return None
        # Someone may have deleted one by hand; there are few of them.
        there = [name for name in self._names if (self._checkpoints / name).is_dir()]
        return there if there and there[-1] == self._names[-1] else None

    def committed(self, name: str) -> None:
        """Add the newest checkpoint."""
        if name not in self._names:
            self._names.append(name)

    def decided(
        self, policy: RetentionPolicy, records: Sequence[CheckpointRecord], gone: Collection[str]
    ) -> None:
        """Leave out from now on what is gone or settled; the newest always stays."""
        settled = policy.settled(records[:-1])
        self._policy = policy
        self._names = [
            record.name for record in records if record.name not in gone and record.name not in settled
        ]
