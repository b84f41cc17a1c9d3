"""The right to write to a run directory, which one live process has at a time.

A POSIX record lock: the kernel gives it back when the process ends, however it ends, so a lock whose owner is dead is
taken over by asking. Of the kinds of locks it is the one that forked children do not inherit: a data loader's worker
that outlives its killed parent for a moment must not keep the rerun of the same command out. Two things follow from its
rules: it does not keep a process from itself, so the holders of this process are counted here; and closing any
descriptor of the file gives it back, so the file is opened by nobody else in this package.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import threading
from pathlib import Path
from types import TracebackType

from paddle_warm_callbacks.checkpoint import durable
from paddle_warm_callbacks.errors import RunDirectoryBusyError

logger = logging.getLogger("paddle_warm_callbacks")

LOCK = ".lock"
_OWNER = ".lock-owner.json"
_NOT_SUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)

_held: dict[tuple[int, Path], RunLock] = {}
_held_guard = threading.Lock()


class RunLock:
    """Hold a run directory for writing until :meth:`release`; a context manager.

    Args:
        run_dir: Made if it is not there.

    Raises:
        RunDirectoryBusyError: Another live process, or another holder in this one, has it.
        OSError: The directory cannot be written to.
    """

    def __init__(self, run_dir: Path) -> None:
        durable.make_directory(run_dir)
        self._run_dir = run_dir.resolve()
        self._key = (os.getpid(), self._run_dir)
        with _held_guard:
            if self._key in _held:
                raise RunDirectoryBusyError(
                    "this process writes to this run directory already",
                    where=str(self._run_dir),
                    received=f"process {os.getpid()} on {socket.gethostname()}, this very process",
                    expected="one writer; readers are always welcome",
                    remedy="among callbacks, one PeriodicCheckpoint with several policies, "
                    "save=EveryNEpochs(1) | EveryNSteps(500); else end what writes, or give another run_dir",
                )
            self._descriptor = self._acquire()
            _held[self._key] = self

    def _acquire(self) -> int:
        descriptor = os.open(self._run_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise _busy(self._run_dir, self._owner()) from error
            if error.errno not in _NOT_SUPPORTED:
                raise
            logger.warning(
                "%s: this file system has no locks; see to it that one process writes there", self._run_dir
            )
            return -1
        self._take_over()
        return descriptor

    def _take_over(self) -> None:
        """Say in a file who holds the directory: for people, the lock itself is the kernel's."""
        owner = self._run_dir / _OWNER
        if owner.exists():
            logger.info("%s was held by %s, which has ended: taken over", self._run_dir, self._owner())
        record = {"pid": os.getpid(), "host": socket.gethostname()}
        try:
            owner.write_text(json.dumps(record), encoding="ascii")
        except OSError as error:
            logger.warning("%s does not say who holds the directory: %s", owner, error)

    def _owner(self) -> str:
        try:
            record = json.loads((self._run_dir / _OWNER).read_bytes())
            return f"process {record['pid']} on {record['host']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "a process that has not said its name"

    def release(self) -> None:
        """Give the directory back; does nothing the second time, or in a forked child."""
        with _held_guard:
            if self._key[0] != os.getpid() or _held.get(self._key) is not self:
                return
            del _held[self._key]
            try:
                # The name goes first: once the lock is free it may be another's.
                (self._run_dir / _OWNER).unlink(missing_ok=True)
            except OSError as error:
                logger.warning("%s goes on naming this process: %s", self._run_dir / _OWNER, error)
            finally:
                if self._descriptor >= 0:
                    os.close(self._descriptor)

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.release()


def held_here(run_dir: Path) -> bool:
    """Return whether this process holds ``run_dir``."""
    return (os.getpid(), run_dir.resolve()) in _held


def _busy(run_dir: Path, owner: str) -> RunDirectoryBusyError:
    return RunDirectoryBusyError(
        "another live process writes to this run directory",
        where=str(run_dir),
        received=owner,
        expected="one writer; readers are always welcome",
        remedy="wait for it, end it, or give this run another run_dir",
    )
