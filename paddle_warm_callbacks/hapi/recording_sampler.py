"""A stand-in for a DataLoader's batch sampler that records the random state batch by batch, and starts where told."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable

from paddle_warm_callbacks.hapi import rng
from paddle_warm_callbacks.hapi.own_generators import OwnGenerators
from paddle_warm_callbacks.hapi.paddle_draws import PaddleDraws
from paddle_warm_callbacks.hapi.worker_rng import WorkerStates

State = dict[str, Any]

_KEPT = 256
_NO_CHANCE = 3


class RecordingSampler:
    """Yield the indices of the user's batch sampler; know the random state before each batch that is still to come.

    Without workers it is iterated by the loader's reading thread, a few batches ahead of training. With workers it is
    iterated by the training thread, as many batches ahead as the workers are kept busy with.

    Args:
        loader: The DataLoader whose ``batch_sampler`` this stands in for.
        presets: Random states its workers start from, or None.

    Attributes:
        inner: The user's batch sampler.
        workers: Their recorded random states; None for a loader without workers.
        paddle_draws: Whether a loader without workers draws from Paddle's generator.
        began: Called, once, when workers that are kept have been started.
    """

    def __init__(self, loader: Any, presets: Sequence[rng.State] | None) -> None:
        self.inner = loader.batch_sampler
        self._worker_count = int(loader.num_workers)
        self._persistent = bool(getattr(loader, "_persistent_workers", False))
        if presets is not None and len(presets) != self._worker_count:
            presets = None
        self._ahead = int(getattr(loader, "prefetch_factor", 2))
        # What was read further ahead than this is behind training.
        self._kept = max(_KEPT, self._worker_count * self._ahead + 1)
        self.workers = WorkerStates(self._worker_count, presets, self._ahead) if self._worker_count else None
        self.paddle_draws = PaddleDraws(by_index=True)
        # In workers others are recorded, those of their copies.
        self._own = (
            OwnGenerators() if self._worker_count else OwnGenerators(loader.dataset, loader.collate_fn)
        )
        self.began: Callable[[], None] | None = None
        self._recorded = threading.Condition()
        self._announced = False
        self._first_is_loading = False
        self._first_loaded: State | None = None
        self._undo_base_seed = False
        self._handed_out = 0  # batches given to the present workers, over the epochs they have lived
        self._epochs = 0

    def __len__(self) -> int:
        return len(self.inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def begin_epoch(self, first: int, restored: State | None, *, seeded: bool = False) -> None:
        """Prepare the next iteration to begin at batch ``first``, continuing ``restored`` if that is given.

        Args:
            first: Number of the epoch's first batch to yield.
            restored: What :meth:`capture` returned, among others.
            seeded: Samples have seeds of their own: the workers' base seed is not to shift the order of the samples.
        """
        self._first = first
        self._continues: Mapping[str, Any] = restored if restored is not None and first > 0 else {}
        self._before: dict[int, State] = {}
        self._draws = bool(self._continues.get("draws", False))
        self._sampler_draws: bool | None = True if self._draws else None
        self._changed_with_indices = 0
        self._ended = False
        self.paddle_draws.begin_epoch()
        if self._worker_count and self._epochs and not self._persistent:
            self.workers = WorkerStates(self._worker_count, ahead=self._ahead)
            self._handed_out = 0
        # Starting workers draws a base seed; where they were started in an epoch before, it must not be drawn again.
        self._started_before = self._epochs > 0 if restored is None else bool(restored.get("started_before"))
        starting_again = self._persistent and restored is not None and self._started_before
        self._undo_base_seed = self._undo_base_seed or starting_again or seeded
        self._handed_out_before = self._handed_out
        self._epochs += 1
        self._announced = True

    def start_again(self) -> None:
        """Prepare for workers to be started that an uninterrupted run has started before."""
        self._undo_base_seed = True
        self._epochs = max(self._epochs, 1)

    def __iter__(self) -> Iterator[Any]:
        # Between this call and the first item a loader with workers draws the base seed and starts them.
        before = rng.capture_host() if self._undo_base_seed else None
        announced, self._announced, self._undo_base_seed = self._announced, False, False
        return self._recorded_items(before) if announced else self._items(before)

    def _items(self, before: State | None) -> Iterator[Any]:
        """Yield an iteration that is no training: an evaluation on the loader that keeps its workers for training."""
        self._begin(before)
        self._epochs = max(self._epochs, 1)
        for indices in self.inner:
            self._handed_out += 1
            yield indices

    def _begin(self, before: State | None) -> None:
        if before is not None:
            rng.restore_host(before)
        began, self.began = self.began, None
        if began is not None:
            began()

    def _recorded_items(self, before_start: State | None) -> Iterator[Any]:
        self._begin(before_start)
        iterator = iter(self.inner)
        after: State | None = None
        for number in itertools.count():
            self._take_over(number)
            # Two batches tell whether the reading thread draws; the states of one that does not are never asked for.
            undecided = self._sampler_draws is None
            wanted = self._worker_count or self._draws or undecided or number <= self._first + 1
            before, own = rng.capture_host() if wanted else {}, self._own.capture()
            # Training waits until the first batch is loaded: what is drawn until then, the reading thread draws.
            loaded, self._first_loaded = self._first_loaded, None
            if loaded is not None and after is not None and not rng.same_host(after, loaded):
                self._draws = True
            try:
                indices = next(iterator)
            except StopIteration:
                break
            if number < self._first:
                continue
            if undecided or number == self._first:
                after = rng.capture_host()
                if number > 0:
                    self._learn_whether_the_sampler_draws(rng.same_host(before, after), number)
            if not self._worker_count:
                self.paddle_draws.loading()
                if self.paddle_draws.drawn:
                    before = {**before, "paddle": rng.capture_paddle()}
                if self._own:
                    before = {**before, "own": own}
            self._record(number, before)
            self._handed_out += 1
            self._first_is_loading = number == self._first
            yield indices
        with self._recorded:
            self._ended = True
            self._recorded.notify_all()

    def _learn_whether_the_sampler_draws(self, same: bool, number: int) -> None:
        """Take note of whether anything was drawn while the sampler gave the indices of a batch.

        An epoch's first draw is its order; one that draws again draws for every batch. But for the batch that training
        waits for as its first, training may have drawn meanwhile: several times in a row is no chance.
        """
        if self._sampler_draws is not None:
            return
        self._changed_with_indices = 0 if same else self._changed_with_indices + 1
        if same:
            self._sampler_draws = False
        elif number == self._first or self._changed_with_indices == _NO_CHANCE:
            self._sampler_draws = self._draws = True

    def collate(self, users: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Wrap the collate function, the last thing that is done for a batch, to see what it was drawn for."""
        if self.workers is not None:
            return self.workers.collate(users)

        def collate_and_look(samples: Any) -> Any:
            batch = users(samples)
            if self._first_is_loading:
                self._first_is_loading = False
                self._first_loaded = rng.capture_host()
            return batch

        return self.paddle_draws.collate(collate_and_look)

    def capture(self, step_in_epoch: int, epoch_ended: bool, underway: bool) -> State:
        """Return what resuming at batch ``step_in_epoch`` needs from this loader.

        Args:
            step_in_epoch: Steps done of the current epoch.
            epoch_ended: Whether those are all.
            underway: Whether batches of the current epoch are being read; with no step done, else, it is about to.
        """
        at_boundary = epoch_ended or step_in_epoch == 0
        if self.workers is None:
            if at_boundary:
                return {}
            fetch = self._state_before(step_in_epoch)  # which waits until it is known who draws
            return {"draws": self._draws or self._changed_with_indices > 0, "fetch": fetch}
        if at_boundary and not self._persistent:
            return {}
        if at_boundary and not epoch_ended and underway:
            return {
                "workers": self._worker_states(self._handed_out_before),
                "started_before": self._started_before,
            }
        if at_boundary:
            return {"workers": self._worker_states(self._handed_out), "started_before": True}
        with self._recorded:
            ahead = {number: host for number, host in self._before.items() if number >= step_in_epoch}
        trained_on = self._handed_out_before + step_in_epoch - self._first
        return {
            "workers": self._worker_states(trained_on),
            "started_before": self._started_before,
            "ahead": ahead,
        }

    def _take_over(self, number: int) -> None:
        """Put the random state of the interrupted run in place before batch ``number`` is drawn."""
        if number < self._first or not self._continues:
            return
        if self._worker_count:
            ahead = self._continues.get("ahead", {})  # not of a loader that had no workers then
            if number in ahead:
                rng.restore_host(ahead[number])
        elif number == self._first:
            fetch = self._continues.get("fetch", {})  # not of a loader that had workers then
            rng.restore_paddle(fetch if "paddle" in fetch else self._continues["now"])
            rng.restore_host(fetch if self._draws else self._continues["now"])
            self._own.restore(fetch.get("own", ()))

    def _record(self, number: int, before: State) -> None:
        with self._recorded:
            self._before[number] = before
            self._before.pop(number - self._kept, None)
            self._recorded.notify_all()

    def _state_before(self, number: int) -> State:
        with self._recorded:
            self._recorded.wait_for(lambda: number in self._before or self._ended)
            if number not in self._before:
                return {**rng.capture_host(), "own": self._own.capture()}
            before = self._before[number]
            return before if "numpy" in before else {**rng.capture_host(), **before}

    def _worker_states(self, handed_out: int) -> Sequence[rng.State] | None:
        """Return the state each worker has before its next batch, in the order they come to turn; None if unknown."""
        assert self.workers is not None
        states = []
        for turn in range(handed_out, handed_out + self._worker_count):
            # Paddle hands batches to its workers in turn.
            state = self.workers.state_after(turn % self._worker_count, turn // self._worker_count)
            if state is None:
                return None
            states.append(state)
        return states
