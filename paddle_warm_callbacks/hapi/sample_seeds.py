"""Every sample from a seed of its own, so that its augmentation depends on nothing that happened before it."""

from __future__ import annotations

import mmap
import struct
from typing import Any

from paddle.io import get_worker_info

from paddle_warm_callbacks.hapi import rng
from paddle_warm_callbacks.hapi.own_generators import OwnGenerators

_EPOCH = struct.Struct("<q")


class SeededSamples:
    """Stand in for a dataset; each sample is drawn with generators seeded from (seed, epoch, index).

    Python's and NumPy's global generators, and those the dataset has of its own, are as they were once the sample is
    there, so whoever else draws from them draws the same as without samples. Paddle's is seeded in worker processes
    alone: elsewhere training uses it.

    Args:
        dataset: Map-style.
        seed: Of the run; the same when it is resumed.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self._dataset = dataset
        self._seed = seed
        # Looked for with the first sample: a worker's worker_init_fn may have put them there.
        self._own: OwnGenerators | None = None
        # Anonymous and shared: workers that were forked in an epoch before see the same page.
        self._memory = mmap.mmap(-1, _EPOCH.size)

    def begin_epoch(self, epoch: int) -> None:
        """Draw the samples of ``epoch`` from now on, in persistent workers too."""
        _EPOCH.pack_into(self._memory, 0, epoch)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: Any) -> Any:
        (epoch,) = _EPOCH.unpack_from(self._memory)
        if self._own is None:
            self._own = OwnGenerators(self._dataset)
        before, own_before = rng.capture_host(), self._own.capture()
        rng.reseed_host(self._seed, epoch, int(index))
        self._own.reseed(self._seed, epoch, int(index))
        if get_worker_info() is not None:
            rng.reseed(self._seed, epoch, int(index))
        try:
            return self._dataset[index]
        finally:
            rng.restore_host(before)
            self._own.restore(own_before)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # of a copy that is not built yet
            raise AttributeError(name)
        return getattr(self._dataset, name)
