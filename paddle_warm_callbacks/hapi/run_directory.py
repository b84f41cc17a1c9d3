"""A run directory, taken up by the training that is to write to it."""

from __future__ import annotations

import logging

from paddle_warm_callbacks.checkpoint import mirror
from paddle_warm_callbacks.checkpoint.mirror_writer import Mirror
from paddle_warm_callbacks.checkpoint.store import Checkpoint, CheckpointStore

logger = logging.getLogger("paddle_warm_callbacks")


def begin(store: CheckpointStore, resumed: Checkpoint | None, to: Mirror | None) -> Checkpoint | None:
    """Order what comes behind what is there, in the directory and at its mirror.

    Args:
        store: Of the run directory, locked.
        resumed: What training goes on from, here or elsewhere; None: it starts anew.
        to: The run's mirror, or None.

    Returns:
        What was resumed, if it is this directory's and the mirror lacks it: the run was interrupted before it had been
        copied.
    """
    ours = resumed is not None and store.holds(resumed)
    there = 0 if ours else len(store.list())
    if there:
        logger.warning(
            "PeriodicCheckpoint: %s holds %d checkpoints already, and this training does not go on from them: its "
            'own join them and count as newer. To go on, WarmStartCallback(run_dir=, resume_from="latest"); to '
            "begin anew, give another run_dir",
            store.run_dir,
            there,
        )
    mirrored = () if to is None else mirror.names_there(to.url)
    store.begin(resumed.name if resumed is not None and ours else None, elsewhere=mirrored)
    return resumed if resumed is not None and ours and resumed.name not in mirrored else None
