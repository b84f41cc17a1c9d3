"""Checkpoints committed behind training, cleared away by a policy, and copied to a mirror."""

from __future__ import annotations

from collections.abc import Callable

from paddle_warm_callbacks.checkpoint import pointers, shares
from paddle_warm_callbacks.checkpoint.contents import CheckpointContents
from paddle_warm_callbacks.checkpoint.in_flight import InFlight, Request, SaveEvent
from paddle_warm_callbacks.checkpoint.mirror_writer import Mirror
from paddle_warm_callbacks.checkpoint.mirroring import MirrorEvent, MirrorThread
from paddle_warm_callbacks.checkpoint.store import Checkpoint, CheckpointStore
from paddle_warm_callbacks.plan.retention import RetentionPolicy


class BackgroundWriter(InFlight[CheckpointContents]):
    """Commit checkpoints on a thread of its own, then delete what the policy lets go, then copy to the mirror.

    :meth:`submit` and :meth:`wait` wait for the local disk only, never for the mirror, which has its own thread. How
    failures are raised: see the base.

    Args:
        store: Where to; its lock should be held by this process.
        keep: What stays after each commit; None: everything.
        mirror: Where each committed checkpoint is copied to; None: no copies. See :class:`MirrorThread`.
        on_commit: Called with a :class:`SaveEvent` after each commit, on the writer's thread; must be quick.
        on_mirrored: Called with a :class:`MirrorEvent` for each checkpoint that has arrived at the mirror, on the
            mirror's thread; must be quick.
        agree: How the writing threads of a run's ranks agree, where the others write shares; None: nobody else writes.
    """

    def __init__(
        self,
        store: CheckpointStore,
        *,
        keep: RetentionPolicy | None = None,
        mirror: Mirror | str | None = None,
        on_commit: Callable[[SaveEvent], None] | None = None,
        on_mirrored: Callable[[MirrorEvent], None] | None = None,
        agree: shares.Agree | None = None,
    ) -> None:
        super().__init__()
        self._store = store
        self._keep = keep
        to = Mirror.of(mirror)
        self._mirror = None if to is None else MirrorThread(to, on_mirrored, pointers.ranking_in(keep))
        self._on_commit = on_commit
        self._agree = agree

    def copy(self, checkpoint: Checkpoint) -> None:
        """Have a checkpoint that was committed earlier copied to the mirror, if there is one; returns at once."""
        if self._mirror is not None:
            self._mirror.submit(checkpoint)

    def mirror_lag(self) -> float | None:
        """Return for how many seconds the mirror has lacked something; None without a mirror."""
        return None if self._mirror is None else self._mirror.lag()

    def close(self) -> None:
        """Wait for everything, the mirror included, and end the threads; does nothing the second time.

        Raises:
            CheckpointWriteError: The last checkpoint, or its copy to the mirror, failed. The threads have ended.
            RankError: Another rank has failed or is missing. The threads have ended.
        """
        try:
            super().close()
        finally:
            if self._mirror is not None:
                self._mirror.close()
        if self._mirror is not None:
            self._mirror.raise_failure()

    def write(self, request: Request[CheckpointContents]) -> None:
        """Commit, and all that follows from it."""
        checkpoint = self._committed(request.contents, request.ready())
        if checkpoint is None:
            return
        event = request.event(checkpoint.name, self._store.bytes_written)
        if self._mirror is not None:
            self._mirror.submit(checkpoint)
        if self._on_commit is not None:
            self._on_commit(event)
        if self._keep is not None:
            self._store.retain(self._keep, spare=() if self._mirror is None else self._mirror.unfinished())

    def _committed(self, contents: CheckpointContents, whole: bool) -> Checkpoint | None:
        if self._agree is not None:
            return shares.commit(self._store, contents, whole, self._agree)
        return self._store.commit(contents) if whole else None
