"""Worker processes that a loader keeps from one iteration to the next: their random state, while nothing iterates it.

For loaders that are read to their end between two checkpoints, or as good as that: an evaluation's, and one whose
epochs are read again from their beginning. Each worker writes its state into shared memory
(:mod:`paddle_warm_callbacks.hapi.worker_rng`); a checkpoint takes what each has come to, and the workers of the resumed
run start from there. Starting them draws a base seed from NumPy's generator: where an uninterrupted run had drawn it
long ago, that draw is undone.
"""

from __future__ import annotations

import logging
import sys
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable

from paddle.io import DataLoader
from paddle.io.dataloader.collate import default_collate_fn, default_convert_fn

from paddle_warm_callbacks.hapi import rng
from paddle_warm_callbacks.hapi.worker_rng import WorkerStates

logger = logging.getLogger("paddle_warm_callbacks")

State = dict[str, Any]

# A loader's iterator, which is what owns its workers, to what records them; it outlives a fit as they do.
_RECORDED: weakref.WeakKeyDictionary[Any, WorkerStates] = weakref.WeakKeyDictionary()
# A loader to what a fit restored of its workers and did not come to use: nothing was left to train.
_UNUSED: weakref.WeakKeyDictionary[Any, State] = weakref.WeakKeyDictionary()

_SECONDS_BETWEEN_LOOKS = 0.001


def has_them(loader: Any) -> bool:
    """Return whether ``loader`` is a DataLoader that keeps its worker processes."""
    return (
        isinstance(loader, DataLoader)
        and loader.num_workers > 0
        and bool(getattr(loader, "_persistent_workers", False))
    )


def end_them(loader: Any) -> None:
    """Have the next iteration of ``loader`` start others."""
    iterator = getattr(loader, "_iterator", None)
    if iterator is not None:
        iterator._try_shutdown_all()
        loader._iterator = None


def collate_of(loader: Any) -> Callable[[Any], Any]:
    """Return what makes a batch of samples in ``loader``: the user's function, or Paddle's."""
    default = default_collate_fn if loader.auto_collate_batch else default_convert_fn
    collate: Callable[[Any], Any] = loader.collate_fn or default
    return collate


class PersistentWorkers:
    """Those of one loader, for the time of one fit.

    Args:
        loader: One that :func:`has_them`.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._presets: list[rng.State] | None = None
        self._turn = 0
        self._started_before = False
        self._captured: tuple[tuple[int, ...], list[rng.State] | None] = ((), None)
        self._states: WorkerStates | None = None
        self._users: State = {}
        unused = _UNUSED.pop(loader, None)
        if loader._iterator is not None:
            self._states = _RECORDED.get(loader._iterator)
            if self._states is None:
                end_unrecorded(loader)
                self._started_before = True
        elif unused is not None:
            self.restore(unused)

    def capture(self) -> State:
        """Return the state of each worker; waits for those that still work on an iteration that was broken off."""
        iterator = self._loader._iterator
        if iterator is None or self._states is None:
            return {"started": self._started_before, "states": self._presets, "turn": self._turn}
        _RECORDED[iterator] = self._states
        wait_for_all(iterator)
        newest = self._states.newest()
        if newest != self._captured[0]:
            self._captured = (newest, self._states.states(newest))
        turn = getattr(iterator._workers_idx_cycle, "turn", 0)
        return {"started": True, "states": self._captured[1], "turn": turn}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Have the next iteration start workers in the state that :meth:`capture` returned."""
        end_them(self._loader)
        self._states = None
        self._started_before = bool(state["started"])
        states = state["states"]
        self._presets, self._turn = None if states is None else list(states), int(state["turn"])
        if states is not None and len(states) != self._loader.num_workers:
            self._presets, self._turn = None, 0
            logger.warning(
                "a loader with persistent workers has num_workers=%d and had %d: what they draw cannot go on exactly",
                self._loader.num_workers,
                len(states),
            )

    def open(self, wrappers: Sequence[Callable[[Any], Callable[[int], None]]] = ()) -> None:
        """Have workers that are started from now on record their state.

        Args:
            wrappers: Of ``worker_init_fn``.
        """
        loader = self._loader
        if loader._iterator is not None:
            return
        self._states = WorkerStates(loader.num_workers, self._presets, loader.prefetch_factor)
        worker_init = self._states.worker_init(loader.worker_init_fn)
        for wrapper in wrappers:
            worker_init = wrapper(worker_init)
        replaced: State = {
            "collate_fn": self._states.collate(collate_of(loader)),
            "worker_init_fn": worker_init,
        }
        if loader.batch_sampler is not None:
            replaced["batch_sampler"] = _Beginning(
                loader.batch_sampler, self._began, undo=self._started_before
            )
        self._users = {name: getattr(loader, name) for name in replaced}
        vars(loader).update(replaced)

    def close(self) -> None:
        """Leave the loader, and its iterator, as the user had them."""
        if self._loader._iterator is None:
            if self._presets is not None:
                _UNUSED[self._loader] = self.capture()
        elif self._states is not None:
            _RECORDED[self._loader._iterator] = self._states
            if isinstance(self._loader._iterator._batch_sampler, _Beginning):
                self._loader._iterator._batch_sampler = self._loader._iterator._batch_sampler.inner
        self.give_back()

    def _began(self, iterator: Any) -> None:
        iterator._workers_idx_cycle = _Turns(iterator._num_workers, self._turn)
        self.give_back()

    def give_back(self) -> None:
        """Leave the loader as the user had it; its next iteration is then not recorded, if it has no workers yet."""
        users, self._users = self._users, {}
        vars(self._loader).update(users)


class _Beginning:
    """A batch sampler that tells of its first iteration, by which the loader has started its workers.

    Args:
        inner: The user's.
        began: Called then with the loader's iterator, which is about to give the workers their first batches.
        undo: Whether to undo the draw of the base seed.
    """

    def __init__(self, inner: Any, began: Callable[[Any], None], *, undo: bool) -> None:
        self.inner = inner
        self._began = began
        self._first, self._undo = True, undo

    def __len__(self) -> int:
        return len(self.inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __iter__(self) -> Iterator[Any]:
        if not self._first:
            return iter(self.inner)
        self._first = False
        # Between this call and the first item the loader draws the base seed and starts its workers.
        return self._items(rng.capture_host() if self._undo else None)

    def _items(self, before: rng.State | None) -> Iterator[Any]:
        if before is not None:
            rng.restore_host(before)
        self._began(sys._getframe(1).f_locals["self"])  # the iterator asks, in a method of its own
        yield from self.inner


class _Turns:
    """The workers' numbers in turn, for ever, as from ``itertools.cycle``; it can tell whose it is.

    Args:
        workers: How many.
        turn: Whose turn it is first.
    """

    def __init__(self, workers: int, turn: int) -> None:
        self._workers = workers
        self.turn = turn

    def __iter__(self) -> _Turns:
        return self

    def __next__(self) -> int:
        worker, self.turn = self.turn, (self.turn + 1) % self._workers
        return worker


def end_unrecorded(loader: Any) -> None:
    """End workers that were started before any fit of ours, and of which therefore nothing is known."""
    end_them(loader)
    logger.info(
        "a loader with persistent workers was iterated before fit: its workers are started anew, for what they have "
        "drawn cannot be saved; what they draw from here on is saved"
    )


def wait_for_all(iterator: Any) -> None:
    """Return once no worker that lives has a batch to make: what was handed out is made, be it asked for or not."""
    while any(
        len(task) == 1 and iterator._worker_status[task[0]] and iterator._workers[task[0]].is_alive()
        for task in list(iterator._task_infos.values())
    ):
        time.sleep(_SECONDS_BETWEEN_LOOKS)
