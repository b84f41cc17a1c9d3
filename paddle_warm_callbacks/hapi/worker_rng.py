"""The random state inside DataLoader worker processes: recorded batch by batch, given back after a restart.

A worker draws its augmentation from its own generators, out of the trainer's sight. Each worker therefore writes its
state into memory shared with the trainer after every batch; a checkpoint takes, per worker, the state before its next
batch, and the workers of the resumed run start from there. Nothing is replayed and no sample is loaded twice.
"""

from __future__ import annotations

import mmap
import pickle
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Callable

from paddle.io import get_worker_info

from paddle_warm_callbacks.hapi import rng
from paddle_warm_callbacks.hapi.own_generators import OwnGenerators

# A worker is at most the loader's prefetch_factor (2 by default) batches ahead of training; the ring holds more.
_RING, _MORE_THAN_AHEAD = 32, 4
_SLOT = 32 * 1024
_HEADER = struct.Struct("<qI")


class WorkerStates:
    """Shared memory that ``workers`` forked processes write their random state to.

    Args:
        workers: Number of worker processes.
        presets: Per worker the state to start from, as :meth:`state_after` gave it; None starts as Paddle seeds them.
        ahead: How many batches a worker may be ahead of training.
    """

    def __init__(self, workers: int, presets: Sequence[rng.State] | None = None, ahead: int = 2) -> None:
        self._workers = workers
        self._ring = max(_RING, ahead + _MORE_THAN_AHEAD)
        self._memory = mmap.mmap(
            -1, workers * self._ring * _SLOT
        )  # anonymous and shared: forked workers see the same pages
        self._presets = presets
        self._users_collate: Any = None

    def state_after(self, worker: int, batches: int) -> rng.State | None:
        """Return worker ``worker``'s state after its ``batches``-th batch (0: as it started), or None if not known."""
        offset = self._offset(worker, batches)
        count, size = _HEADER.unpack_from(self._memory, offset)
        if size == 0 or count != batches:
            return None
        start = offset + _HEADER.size
        # Written by our own forked worker in this very run, never read from a file.
        state: rng.State = pickle.loads(self._memory[start : start + size])  # noqa: S301
        return state

    def newest(self) -> tuple[int, ...]:
        """Return, per worker, how often it has recorded its state after the first time; -1: never."""
        return tuple(max(self._counts(worker), default=-1) for worker in range(self._workers))

    def states(self, recorded: Sequence[int]) -> list[rng.State] | None:
        """Return each worker's state after it has recorded it so often, or None if not all are known."""
        found = [self.state_after(worker, number) for worker, number in enumerate(recorded)]
        known = [state for state in found if state is not None]
        return known if len(known) == len(found) else None

    def worker_init(self, users: Callable[[int], Any] | None) -> Callable[[int], None]:
        """Wrap the user's ``worker_init_fn``: it runs as before, then the state to start from is put in place."""

        def start(worker: int) -> None:
            if users is not None:
                users(worker)
            self._worker, self._batches = worker, 0
            self._own = OwnGenerators(get_worker_info().dataset, self._users_collate)
            if self._presets is not None:
                rng.restore(self._presets[worker])
                self._own.restore(self._presets[worker].get("own", ()))
            self._record()

        return start

    def collate(self, users: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Wrap the collate function, the last thing a worker does for a batch, to record the state after it."""
        self._users_collate = users

        def collate_and_record(samples: Any) -> Any:
            batch = users(samples)
            self._batches += 1
            self._record()
            return batch

        return collate_and_record

    def _record(self) -> None:
        state = pickle.dumps({**rng.capture(), "own": self._own.capture()}, protocol=4)
        if len(state) > _SLOT - _HEADER.size:
            return  # it is not known then
        offset = self._offset(self._worker, self._batches)
        start = offset + _HEADER.size
        self._memory[start : start + len(state)] = state
        _HEADER.pack_into(self._memory, offset, self._batches, len(state))

    def _offset(self, worker: int, batches: int) -> int:
        return (worker * self._ring + batches % self._ring) * _SLOT

    def _counts(self, worker: int) -> Iterator[int]:
        for slot in range(self._ring):
            count, size = _HEADER.unpack_from(self._memory, self._offset(worker, slot))
            if size:
                yield count
