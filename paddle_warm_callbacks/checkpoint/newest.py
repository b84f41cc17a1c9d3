"""Which checkpoint a run goes on from, where it has a mirror: the newest that verifies, here or there."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Sequence, Set
from pathlib import Path

from paddle_warm_callbacks.checkpoint import mirror, names
from paddle_warm_callbacks.checkpoint.names import CHECKPOINTS
from paddle_warm_callbacks.checkpoint.passed_over import PassedOver
from paddle_warm_callbacks.checkpoint.store import Checkpoint, CheckpointStore
from paddle_warm_callbacks.errors import (
    CorruptCheckpointError,
    NoUsableCheckpointError,
    SourceError,
    WarmCallbacksError,
)
from paddle_warm_callbacks.secrets import cause

logger = logging.getLogger("paddle_warm_callbacks")

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_ATTEMPTS = 4
_SECONDS_BETWEEN = 1.0


class _NotThere(Exception):
    """A listing named what is not there, or not whole."""


def newest_verified(store: CheckpointStore, url: str | None) -> Checkpoint | None:
    """Return the newest checkpoint of a run that verifies, of its directory and of its mirror; None if it has none.

    One that only the mirror has, or that is damaged here, is copied into the directory, from which the run then goes
    on; it is one of the directory's checkpoints like any other when this returns. A mirror that is not newer moves no
    data.

    Args:
        store: The run directory's.
        url: The mirror's root; None: there is no mirror.

    Raises:
        NoUsableCheckpointError: There are checkpoints, and none verifies.
        SourceError: The mirror could not be reached, and the directory has nothing or is known to have an older one.
        CheckpointWriteError: A copy could not be written here.
        RunDirectoryBusyError: Another live process writes to the directory, and a copy would go there.
    """
    if url is None:
        return store.latest_verified()
    try:
        mirrored = mirror.list_mirrored(url)
    # Every storage library raises its own.
    except Exception as error:
        return _without_mirror(store.latest_verified(), url, error, "a newer")
    newest_first = list(reversed(names.in_order({*(one.name for one in store.list()), *mirrored})))
    return _first_whole(store, url, newest_first, set(mirrored), "newest")


def best(store: CheckpointStore, url: str | None) -> Checkpoint | None:
    """Return the best checkpoint of a run that verifies, of its directory and of its mirror; None if it has none.

    Args:
        store: The run directory's.
        url: The mirror's root; None: there is no mirror. Its best is copied as :func:`newest_verified` copies.

    Raises:
        NoUsableCheckpointError: As of :meth:`CheckpointStore.best`, the run's ``KeepBest`` being known here or there.
        SourceError: The mirror could not be reached, and the directory has nothing.
        CheckpointWriteError: A copy could not be written here.
        RunDirectoryBusyError: Another live process writes to the directory, and a copy would go there.
    """
    if url is None:
        return store.best()
    try:
        mirrored = mirror.list_mirrored(url)
        ranked = mirror.ranked(url, mirrored, store.records(), store.ranking()) if mirrored else []
    # Every storage library raises its own.
    except Exception as error:
        return _without_mirror(store.best(), url, error, "a better")
    if mirrored and not ranked and not store.list():
        raise NoUsableCheckpointError(
            "which of a mirrored run's checkpoints is the best is not known",
            where=url,
            received=f"{len(mirrored)} checkpoints there, none with a metric that a KeepBest ranks by",
            expected='a run whose PeriodicCheckpoint has keep=KeepBest("acc"), saved after an evaluation',
            remedy='resume_from="latest", or the URL of one of them',
        )
    return _first_whole(store, url, ranked, set(mirrored), "best") if ranked else store.best()


def _first_whole(
    store: CheckpointStore, url: str, wanted: Sequence[str], mirrored: Set[str], superlative: str
) -> Checkpoint | None:
    """Return the first of these that verifies here, or there, from where it is copied; None if there are none."""
    local = {checkpoint.name: checkpoint for checkpoint in store.list()}
    with PassedOver(superlative) as passed:
        for name in wanted:
            if name in local:
                try:
                    local[name].verify()
                except CorruptCheckpointError as error:
                    passed.add(name, error, place="here")
                else:
                    return local[name]
            if name in mirrored:
                try:
                    return _fetched(store, url, name)
                except _NotThere as error:
                    passed.add(name, error, place=f"at {url}")
        passed.none_is_whole(
            f"{store.run_dir} and {url}",
            remedy="move this run directory away, and name another mirror, to start over",
        )
    return None


def _fetched(store: CheckpointStore, url: str, name: str) -> Checkpoint:
    """Copy a checkpoint from the mirror into the store.

    Raises:
        _NotThere: It is not there, or not what its manifest says.
        SourceError: The mirror was not reached.
    """

    def fetch(directory: Path) -> None:
        try:
            mirror.download_into(f"{url.rstrip('/')}/{CHECKPOINTS}/{name}", directory)
        except (SourceError, CorruptCheckpointError, FileNotFoundError) as error:
            raise _NotThere(error.what if isinstance(error, WarmCallbacksError) else str(error)) from cause(
                error
            )
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _DISK_FULL:
                raise
            raise _unreachable(url, error) from cause(error)

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            checkpoint = store.adopt(name, fetch)
        except SourceError as error:
            logger.warning("copying %s from %s failed (%d of %d): %s", name, url, attempt, _ATTEMPTS, error)
            if attempt == _ATTEMPTS:
                raise
            time.sleep(_SECONDS_BETWEEN * 2 ** (attempt - 1))
        else:
            logger.info("%s was copied from the mirror", name)
            return checkpoint
    raise AssertionError("the last attempt returns or raises")


def _without_mirror(checkpoint: Checkpoint | None, url: str, error: Exception, missed: str) -> Checkpoint:
    if checkpoint is None:
        raise _unreachable(url, error) from cause(error)
    logger.warning(
        "the mirror %s could not be asked, and may have %s checkpoint than %s, which is here: %s",
        url,
        missed,
        checkpoint.name,
        error,
    )
    return checkpoint


def _unreachable(url: str, error: Exception) -> SourceError:
    return SourceError(
        "the run's mirror could not be reached",
        where=url,
        received=f"{type(error).__name__}: {error}",
        expected="a mirror that can be read: without it the run could go on from an old state, or start over",
        remedy="check the network and the credentials; to start over on purpose, name another mirror",
    )
