"""A run directory's checkpoints: the order in which one is committed, and the order in which one is deleted.

A commit goes in one order, and every step is on disk before the next: files, manifest, their directory, the rename to
the checkpoint's name, the directory of that name. Only then is ``latest.json`` moved on and anything older deleted.
Deleting begins with the reverse rename. So whatever moment a process dies at, a listed checkpoint is a whole one, and
the one before is there until the one after is.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from paddle_warm_callbacks.arguments import require_choice
from paddle_warm_callbacks.checkpoint import names, pointers, shards, staging, urls
from paddle_warm_callbacks.checkpoint.contents import CheckpointContents
from paddle_warm_callbacks.checkpoint.lock import RunLock, held_here
from paddle_warm_callbacks.checkpoint.manifest import LAYOUTS
from paddle_warm_callbacks.checkpoint.names import CHECKPOINTS
from paddle_warm_callbacks.checkpoint.passed_over import PassedOver
from paddle_warm_callbacks.checkpoint.store import appearing
from paddle_warm_callbacks.checkpoint.store.appearing import write_error
from paddle_warm_callbacks.checkpoint.store.checkpoint import Checkpoint
from paddle_warm_callbacks.checkpoint.store.records import Records
from paddle_warm_callbacks.checkpoint.store.undecided import Undecided
from paddle_warm_callbacks.errors import (
    CheckpointError,
    CorruptCheckpointError,
    NoUsableCheckpointError,
)
from paddle_warm_callbacks.plan.retention import CheckpointRecord, KeepBest, RetentionPolicy

logger = logging.getLogger("paddle_warm_callbacks")


class CheckpointStore:
    """Commit, list, verify and retain the checkpoints of one run directory.

    Reading needs no lock and never waits. Committing and deleting take the directory's lock for as long as they last,
    unless this process holds it already (:meth:`lock`). Methods may be called from any thread.

    Example:
        >>> store = CheckpointStore("runs/defects")
        >>> store.latest_verified() is None
        True

    Args:
        run_dir: A local directory; made by the first commit.
        layout: Of the checkpoints that are committed: ``"native"`` or ``"shards"``; both are read.

    Attributes:
        bytes_written: How many bytes the last commit wrote, what it shares with the one before not counted.

    Raises:
        InvalidArgumentError: ``run_dir`` is not a local path, or there is no such layout.
    """

    def __init__(self, run_dir: str | os.PathLike[str], *, layout: str = "native") -> None:
        self._layout = require_choice(layout, "CheckpointStore(layout=)", choices=LAYOUTS)
        self.run_dir = urls.local_directory(
            run_dir, "run_dir", "write to a local directory and copy to a URL with mirror="
        )
        self._checkpoints = self.run_dir / CHECKPOINTS
        self._guard = threading.RLock()
        self._generation: int | None = None
        self._records = Records(self._checkpoints)
        self._verified: set[str] = set()
        self._undecided = Undecided(self._checkpoints, self._records)
        self._linker = shards.Linker()
        self._base: shards.Base | None = None
        self.bytes_written = 0

    def __repr__(self) -> str:
        return f"CheckpointStore({str(self.run_dir)!r})"

    # -- reading -----------------------------------------------------------------------------------------------------

    def list(self) -> list[Checkpoint]:
        """Return the committed checkpoints, oldest first; opens none of them, so a damaged one is among them."""
        return [self._at(name) for name in self._names()]

    def open(self, name: str) -> Checkpoint:
        """Return the checkpoint of that name; CheckpointError if there is none."""
        if names.position_of(name) is None or not (self._checkpoints / name).is_dir():
            committed = self._names()
            raise CheckpointError(
                "there is no such checkpoint",
                where=str(self._checkpoints),
                received=name,
                expected=f"one of {len(committed)}, the newest being {committed[-1]}" if committed else "",
                remedy="see CheckpointStore.list()",
            )
        return self._at(name)

    def holds(self, checkpoint: Checkpoint) -> bool:
        """Return whether ``checkpoint`` is one of this run directory's."""
        return Path(checkpoint.path).resolve().parent == self._checkpoints.resolve()

    def latest_verified(self) -> Checkpoint | None:
        """Return the newest checkpoint all of whose bytes are what was written; None if there is no checkpoint.

        Those that fail are logged as warnings, each with what is wrong with it.

        Raises:
            NoUsableCheckpointError: There are checkpoints, and none verifies.
        """
        newest = names.newest(self._listing())
        if newest is None:
            return None
        checkpoint = self._at(newest)
        if self._problem(checkpoint) is None:
            return checkpoint
        return self._first_verified(list(reversed(self._names())), "newest")

    def best(self) -> Checkpoint | None:
        """Return the best checkpoint that verifies, by the metric of the ``KeepBest`` the run was kept with.

        Ranked by the manifests, not by ``best.json``, which only names metric and mode.

        Returns:
            None if there is no checkpoint.

        Raises:
            NoUsableCheckpointError: There are checkpoints, but no ``KeepBest`` was in use, none has its metric, or
                none of those that have it verifies.
        """
        committed = self._names()
        if not committed:
            return None
        ranking = pointers.ranking_of(self.run_dir)
        ranked = ranking.ranked(self._records.of(committed, metrics=True)) if ranking is not None else ()
        if not ranked:
            raise NoUsableCheckpointError(
                "which checkpoint is the best is not known",
                where=str(self.run_dir),
                received="no KeepBest in use"
                if ranking is None
                else f"no checkpoint with a metric {ranking.metric!r}",
                expected='checkpoints kept with KeepBest("acc"), at least one taken after an evaluation',
                remedy='resume_from="latest"',
            )
        return self._first_verified([record.name for record in ranked], "best")

    def records(self) -> Sequence[CheckpointRecord]:
        """Return what the manifests of the committed checkpoints say, as policies are told it."""
        return self._records.of(self._names(), metrics=True)

    def ranking(self) -> KeepBest | None:
        """Return by what the run's best checkpoint is found; None if no ``KeepBest`` was in use."""
        return pointers.ranking_of(self.run_dir)

    # -- writing -----------------------------------------------------------------------------------------------------

    def lock(self) -> RunLock:
        """Take the right to write to the run directory until ``release()``; also a context manager.

        Raises:
            RunDirectoryBusyError: Another live process has it; the error names its pid and host.
            CheckpointWriteError: The directory cannot be written to.
        """
        try:
            return RunLock(self.run_dir)
        except OSError as error:
            raise write_error("the run directory cannot be written to", self.run_dir, error) from error

    def begin(self, resumed_from: str | None, *, elsewhere: Iterable[str] = ()) -> None:
        """Decide how the checkpoints to come are ordered against those that are there, and sweep.

        Args:
            resumed_from: Name of this directory's checkpoint that training goes on from; None if it starts anew. If
                that is not the newest, what comes is a new generation: newer than everything there.
            elsewhere: Names of the run's checkpoints in other places, such as its mirror, which count too.

        Raises:
            RunDirectoryBusyError: Another live process writes here.
            CheckpointWriteError: The directory cannot be written to.
        """
        with self._writing():
            self._undecided.forget()
            appearing.sweep(self._checkpoints)
            newest = names.newest([*self._listing(), *elsewhere])
            position = None if newest is None else names.position_of(newest)
            if position is None:
                self._generation = 0
            else:
                self._generation = position.generation + (resumed_from != newest)

    def commit(self, contents: CheckpointContents, others: shards.Others | None = None) -> Checkpoint:
        """Write a checkpoint; it is durable, and listed, when this returns.

        A name stands for one position of one generation: if that is committed already and verifies, it is returned
        and nothing is written; if it is damaged, it is replaced.

        Args:
            contents: Its arrays must not change until this returns.
            others: Who writes what an ``Elsewhere`` in ``contents`` stands for; in the layout ``"shards"`` only.

        Raises:
            CheckpointWriteError: It could not be written; whatever was committed before is intact.
            RunDirectoryBusyError: Another live process writes here.
        """
        with self._writing():
            name = names.name_for(contents.progress, contents.epoch_completed, self._current_generation())
            there = self._intact(name, tell=True)
            if there is not None:
                return there
            written: list[staging.Written] = []
            checkpoint = self._place(
                name, lambda staged: written.append(self._write(staged, contents, others))
            )
            self.bytes_written = written[0].bytes_written
            if self._layout == "shards":
                self._base = shards.Base(
                    self._checkpoints / name, written[0].manifest.files, written[0].tensors
                )
            return checkpoint

    def adopt(self, name: str, fetch: Callable[[Path], object]) -> Checkpoint:
        """Take in a checkpoint of this run from elsewhere; it is durable, and listed, when this returns.

        One that is here and verifies is returned, and nothing is fetched.

        Args:
            name: The checkpoint's name.
            fetch: Writes the checkpoint's files, verified and on disk, into the empty directory it is called with.

        Raises:
            CheckpointWriteError: It could not be written.
            RunDirectoryBusyError: Another live process writes here.
        """
        with self._writing():
            # Who fetches it has found it missing or damaged, and says so.
            return self._intact(name, tell=False) or self._place(name, fetch)

    def retain(self, policy: RetentionPolicy, *, spare: Iterable[str] = ()) -> tuple[str, ...]:
        """Delete what ``policy`` does not keep; the newest always stays, and is verified before anything goes.

        A checkpoint taken after an epoch's last step goes once the one after that epoch's end is there, and ``policy``
        is not asked about it: what it counts are positions.

        What ``policy`` has settled, it is not asked about again while the lock is held: the first call takes time that
        is linear in the number of checkpoints, later ones in that of those it may still let go. Manifests are read only
        for a policy that looks at metrics, and each only once. For others, checkpoints that
        this process has not written are known by their names: one taken within an epoch, by its global step alone.

        Args:
            policy: What to keep.
            spare: Names to keep besides.

        Returns:
            The names deleted.

        Raises:
            CorruptCheckpointError: The newest does not verify; nothing was deleted.
            CheckpointWriteError: Something could not be deleted; it is no longer listed, or still whole.
            RunDirectoryBusyError: Another live process writes here.
        """
        with self._writing():
            committed = self._undecided.known(policy) or self._names()
            if not committed:
                return ()
            records = self._records.of(committed, metrics=bool(policy.metrics))
            superseded = names.superseded(committed)
            judged = [record for record in records if record.name not in superseded]
            pointers.point_at_best(self.run_dir, policy, judged)
            keep = {*policy.keep(judged), *spare, committed[-1]}
            gone = tuple(name for name in committed if name not in keep)
            if gone and committed[-1] not in self._verified:
                self._at(committed[-1]).verify()
                self._verified.add(committed[-1])
            self._undecided.forget()
            for name in gone:
                self._delete(name)
            self._undecided.decided(policy, records, frozenset(gone))
            return gone

    def sweep(self) -> int:
        """Delete what dead processes left half written or half deleted; return how many.

        Raises:
            RunDirectoryBusyError: A live process writes here, and may need them.
            CheckpointWriteError: One could not be deleted.
        """
        with self._writing():
            return appearing.sweep(self._checkpoints)

    # -- names and records -------------------------------------------------------------------------------------------

    def _listing(self) -> Sequence[str]:
        try:
            return os.listdir(self._checkpoints)  # noqa: PTH208  # 10,000 Path objects are slow to make
        except FileNotFoundError:
            return ()

    def _names(self) -> Sequence[str]:
        return names.in_order(self._listing())

    def _at(self, name: str) -> Checkpoint:
        return Checkpoint(self._checkpoints / name)

    def _first_verified(self, candidates: Sequence[str], which: str) -> Checkpoint | None:
        with PassedOver(which) as passed:
            for name in candidates:
                checkpoint = self._at(name)
                error = self._problem(checkpoint)
                if error is None:
                    return checkpoint
                if (self._checkpoints / name).is_dir():  # else its writer has deleted it since it was listed
                    passed.add(name, error)
            passed.none_is_whole(
                str(self._checkpoints),
                remedy="copy one back from a mirror, or move this run directory away to start over",
            )
        return None

    def _problem(self, checkpoint: Checkpoint) -> CorruptCheckpointError | None:
        try:
            checkpoint.verify()
        except CorruptCheckpointError as error:
            return error
        return None

    def _write(
        self, staged: Path, contents: CheckpointContents, others: shards.Others | None
    ) -> staging.Written:
        if self._layout == "native":
            return staging.write_files(staged, contents)
        base = self._base or self._base_found()
        return staging.write_shards(staged, contents, base, self._linker, others)

    def _base_found(self) -> shards.Base | None:
        newest = names.newest(self._listing())
        return None if newest is None else self._at(newest).to_share()

    def _place(self, name: str, write: Callable[[Path], object]) -> Checkpoint:
        """Have a checkpoint appear, and take note of it."""
        self._verified.discard(name)
        appearing.place(self._checkpoints / name, write)
        checkpoint = self._at(name)
        self._records.add(checkpoint)
        self._undecided.committed(name)
        pointers.point_at_latest(self.run_dir, name)
        return checkpoint

    # -- directories -------------------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._guard:
            if held_here(self.run_dir):
                yield
                return
            with self.lock():
                self._undecided.forget()
                yield

    def _current_generation(self) -> int:
        """Return the generation that :meth:`begin` decided; a store that never began adds to the newest one."""
        if self._generation is None:
            newest = names.newest(self._listing())
            position = None if newest is None else names.position_of(newest)
            self._generation = 0 if position is None else position.generation
        return self._generation

    def _intact(self, name: str, *, tell: bool) -> Checkpoint | None:
        """Return the checkpoint of that name if it is there and verifies; else, if told to, say what is wrong."""
        if not (self._checkpoints / name).exists():
            return None
        checkpoint = self._at(name)
        problem = self._problem(checkpoint)
        if problem is None:
            return checkpoint
        if tell:
            logger.warning("%s is written again: %s", name, problem)
        return None

    def _delete(self, name: str) -> None:
        appearing.remove(self._checkpoints / name)
        self._records.forget(name)
        self._verified.discard(name)
