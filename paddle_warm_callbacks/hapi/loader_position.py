"""Where the train loader stands, and how a fresh one gets there without loading what was already trained on.

A position inside an epoch is found again by index work alone: the random state at the epoch's start is put back, the
batch sampler is iterated over the indices that are done, and then the random state of the moment takes over. Which
moment that is depends on who draws: a DataLoader without workers reads ahead in a thread of this process, so the state
is recorded just before each batch is fetched; with workers the state inside each worker is recorded as well
(:mod:`paddle_warm_callbacks.hapi.worker_rng`). Loaders without a batch sampler are positioned by their own
``state_dict`` if they have one, else by consuming what is skipped.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable, Optional

from paddle.io import DataLoader, IterableDataset
from paddle.io.dataloader.collate import default_collate_fn, default_convert_fn

from paddle_warm_callbacks.errors import UnsupportedFitError
from paddle_warm_callbacks.hapi import attributes, rng
from paddle_warm_callbacks.hapi.paddle_draws import PaddleDraws
from paddle_warm_callbacks.hapi.recording_sampler import RecordingSampler
from paddle_warm_callbacks.hapi.redealing import Dealing, RedealtBatches
from paddle_warm_callbacks.hapi.sample_seeds import SeededSamples

State = dict[str, Any]
WorkerInit = Optional[Callable[[int], Any]]
WorkerInitWrapper = Callable[[WorkerInit], Callable[[int], None]]

_NO_MORE = object()
# Batch sampler to the values, before any fit, of those attributes that fits of this process have changed.
_MOVED: weakref.WeakKeyDictionary[Any, State] = weakref.WeakKeyDictionary()


class LoaderPosition:
    """Record the position of one fit's train loader, and restore it once.

    Args:
        loader: What fit iterates.

    Attributes:
        sample_seed: What :meth:`seed_samples` was given, or None.
        how: In words, how a position in the middle of an epoch is found again; for reports.
        loaded_again: Batches that were loaded only to be skipped, and the seconds that took.
        paddle_draws: What is known of draws from Paddle's generator in the loader's own thread.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        by_index = isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)
        self._indexed = by_index and loader.batch_sampler is not None
        self._own_state = hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")
        self._restored: State | None = None
        self._epoch_start: State = {}
        self._underway = False
        self._recording: RecordingSampler | None = None
        self._worker_init_wrappers: list[WorkerInitWrapper] = []
        self._dealings: list[Any] = []
        self._dealt_first = 0
        self.loaded_again = (0, 0.0)
        self.paddle_draws = PaddleDraws(by_index=False)
        self.sample_seed: int | None = None
        self._seeded: SeededSamples | None = None
        self._initial = self._sampler_attributes()
        # A sampler that an earlier fit of this process has moved on is, for a checkpoint, what it was before that.
        self._moved: State = {}
        with contextlib.suppress(TypeError):  # a sampler that cannot be a key
            self._moved = _MOVED.get(loader.batch_sampler, {}) if self._indexed else {}
        for part, values in self._moved.items():
            self._initial[part].update(values)
        if self._own_state:
            self.how = "the loader's own state_dict"
        elif self._indexed:
            self.how = "index work only, nothing loaded twice"
        else:
            self.how = (
                "the skipped batches are loaded again and dropped: slow (no batch sampler, no state_dict)"
            )

    def capture(self, step_in_epoch: int, epoch_ended: bool) -> State:
        """Return the position as plain values and arrays.

        Args:
            step_in_epoch: Steps done in the current epoch; 0 at an epoch's start.
            epoch_ended: Whether those are all of its steps.

        Blocks until the reading thread, if there is one, has reached the next batch: training waits for it anyway.
        """
        state: State = {"now": rng.capture(), "exhausted": epoch_ended}
        if self._own_state:
            state["loader"] = self._loader.state_dict()
        if step_in_epoch == 0 and self._underway:
            # The epoch's first batch is being read, which has drawn already.
            state["now"], state["sampler"] = self._epoch_start["rng"], self._epoch_start["sampler"]
        elif step_in_epoch == 0 or epoch_ended:
            state["sampler"] = self._changed_attributes()
        else:
            state["epoch_start"] = self._epoch_start
            if self._dealings:
                state["dealings"], state["first"] = self._dealings, self._dealt_first
        if self._recording is not None:
            state.update(self._recording.capture(step_in_epoch, epoch_ended, self._underway))
        return state

    def restore(self, state: Mapping[str, Any], step_in_epoch: int) -> None:
        """Put generators and sampler where :meth:`capture` found them; the next epoch's batches continue from there."""
        rng.restore(state["now"])
        if "sampler" in state:
            self._restore_sampler(state["sampler"])
        self._dealings, self._dealt_first = list(state.get("dealings", ())), state.get("first", 0)
        self._restored = {**state, "step_in_epoch": step_in_epoch}
        if step_in_epoch and not state["exhausted"] and self._replays(state):
            self.how = "the workers load the skipped batches again: slow (their random state is not known)"

    def _replays(self, state: Mapping[str, Any]) -> bool:
        """Return whether workers must load what is skipped in a resumed epoch: how they stood is not in ``state``."""
        workers = getattr(self._loader, "num_workers", 0)
        by_index = self._indexed and not self._own_state and self._seeded is None and not self._dealings
        return by_index and workers > 0 and len(state.get("workers") or ()) != workers

    def seed_samples(self, seed: int) -> None:
        """Draw each sample with generators seeded from ``seed``, the epoch and its index.

        Raises:
            UnsupportedFitError: The loader has no indices.
        """
        if not self._indexed:
            raise UnsupportedFitError(
                "these samples have no index to be seeded by",
                where="WarmStartCallback(seed_samples=)",
                received=f"a {type(getattr(self._loader, 'dataset', self._loader)).__name__}",
                expected="a DataLoader over a map-style dataset, with a batch sampler",
                remedy="leave seed_samples out, or let the dataset seed itself",
            )
        self.sample_seed = seed
        self._seeded = SeededSamples(self._loader.dataset, seed)
        self._end_persistent_workers()  # of an earlier fit: they hold the dataset without seeds
        self.how = "index work only, every sample seeded by its epoch and index"

    def batches(self, loader: Any, epoch: int, first: int) -> Iterable[Any]:
        """Iterate ``epoch`` of ``loader`` from its batch ``first`` on: fit's stand-in for the loader itself."""
        if self._seeded is not None:
            self._seeded.begin_epoch(epoch)
        restored, self._restored = self._restored, None
        if restored is not None and restored["exhausted"] and self._own_state:
            loader.load_state_dict(restored["loader"])
            if (
                next(iter(loader), _NO_MORE) is not _NO_MORE
            ):  # to it, the end of an epoch is the beginning of the next
                loader.load_state_dict(restored["loader"])
            rng.restore(restored["now"])
            return ()
        if restored is not None and restored["exhausted"]:
            self._restored = {
                **restored,
                "exhausted": False,
            }  # what it says of the workers is for the next epoch
            return ()
        self._underway = True
        if restored is None:
            self._dealings = []  # they were of the epoch before
        if restored is None or first == 0:
            self._epoch_start = {"rng": rng.capture(), "sampler": self._changed_attributes()}
        else:
            self._epoch_start = restored["epoch_start"]
            rng.restore(self._epoch_start["rng"])
            self._restore_sampler(self._epoch_start["sampler"])
        if self._own_state:
            return self._from_own_state(loader, restored)
        if not self._indexed:
            return self._from_consumption(loader, first, restored)
        if restored is not None and first > 0 and self._replays(restored):
            return self._from_replay(loader, first, restored)
        return self._from_indices(loader, first, restored)

    def epoch_over(self) -> None:
        """Take note that the epoch's last batch was taken, or that the epoch was left."""
        self._underway = False

    def wrap_worker_init(self, wrapper: WorkerInitWrapper) -> None:
        """Have worker processes start with ``wrapper(worker_init_fn)`` instead of the user's ``worker_init_fn``."""
        self._worker_init_wrappers.append(wrapper)

    def close(self) -> None:
        """Leave the user's loader as it was, also the one that keeps its iterator and workers between epochs."""
        iterator = getattr(self._loader, "_iterator", None)
        if self._recording is not None and iterator is not None:
            iterator._batch_sampler = self._loader.batch_sampler
            if self._seeded is not None:
                self._end_persistent_workers()  # they would go on seeding, as in the last epoch
        self._recording = None
        if self._indexed:
            moved = {
                part: {name: self._initial[part][name] for name in values if name in self._initial[part]}
                for part, values in self._changed_attributes().items()
            }
            with contextlib.suppress(TypeError):
                _MOVED[self._loader.batch_sampler] = moved

    def _from_own_state(self, loader: Any, restored: State | None) -> Iterator[Any]:
        if restored is not None:
            loader.load_state_dict(restored["loader"])
        iterator: Iterator[Any] = iter(loader)
        if restored is not None:
            rng.restore(restored["now"])
        return iterator

    def _from_consumption(self, loader: Any, first: int, restored: State | None) -> Iterator[Any]:
        iterator = self._streamed(loader) if isinstance(loader, DataLoader) else iter(loader)
        self._drop(iterator, first)
        if restored is not None and first > 0:
            # Host generators may be the reading thread's, which draws ahead: consuming has just brought them here.
            rng.restore_paddle(restored["now"])
        return iterator

    def _streamed(self, loader: Any) -> Iterator[Any]:
        if loader.num_workers:
            return self._iterator(loader, {})
        self.paddle_draws.begin_epoch()
        self.paddle_draws.loading()
        return self._iterator(loader, {"collate_fn": self.paddle_draws.collate(_collate_of(loader))})

    def _drop(self, iterator: Iterator[Any], batches: int) -> None:
        began = time.perf_counter()
        for _ in range(batches):
            next(iterator, None)
        if batches:
            self.loaded_again = (batches, time.perf_counter() - began)

    def _from_replay(self, loader: Any, first: int, restored: State) -> Iterator[Any]:
        """Let the workers load the skipped batches again: exact, for workers whose random state was not recorded."""
        iterator = self._from_indices(loader, 0, None)
        self._drop(iterator, first)
        rng.restore(restored["now"])
        return iterator

    def _from_indices(self, loader: Any, first: int, restored: State | None) -> Iterator[Any]:
        recording = self._recording
        if recording is None:
            recording = self._recording = RecordingSampler(loader, (restored or {}).get("workers"))
        recording.inner = loader.batch_sampler
        if self._dealings:
            dealings = [Dealing(*dealing) for dealing in self._dealings]
            recording.inner = RedealtBatches(loader.batch_sampler, dealings, self._dealt_first)
        recording.begin_epoch(first, restored, seeded=self._seeded is not None)
        if getattr(loader, "_iterator", None) is not None:  # persistent workers, started in an epoch before
            loader._iterator._batch_sampler = recording
            return iter(loader)
        replaced: dict[str, Any] = {"batch_sampler": recording}
        if self._seeded is not None:
            replaced["dataset"] = self._seeded
        if recording.workers is not None:
            replaced["collate_fn"] = recording.workers.collate(_collate_of(loader))
            replaced["worker_init_fn"] = recording.workers.worker_init(loader.worker_init_fn)
        else:
            self.paddle_draws = recording.paddle_draws
            replaced["collate_fn"] = recording.paddle_draws.collate(_collate_of(loader))
        iterator = self._iterator(loader, replaced)
        if restored is not None and first > 0 and loader.num_workers > 0:
            rng.restore(
                restored["now"]
            )  # the indices read ahead are drawn; from here on it is the training's turn
        return iterator

    def _iterator(self, loader: Any, replaced: dict[str, Any]) -> Iterator[Any]:
        """Let ``loader`` build its iterator, and fork its workers, with some of its attributes replaced meanwhile."""
        if getattr(loader, "num_workers", 0) and self._worker_init_wrappers:
            worker_init = replaced.get("worker_init_fn", loader.worker_init_fn)
            for wrapper in self._worker_init_wrappers:
                worker_init = wrapper(worker_init)
            replaced["worker_init_fn"] = worker_init
        users = {name: getattr(loader, name) for name in replaced}
        vars(loader).update(replaced)
        try:
            return iter(loader)
        finally:
            vars(loader).update(users)

    def _end_persistent_workers(self) -> None:
        """Have the loader's next iteration start others."""
        iterator = getattr(self._loader, "_iterator", None)
        if iterator is not None:
            iterator._try_shutdown_all()
            self._loader._iterator = None

    def _sampler_attributes(self) -> State:
        if not self._indexed:
            return {}
        sampler = self._loader.batch_sampler
        inner = getattr(sampler, "sampler", None)
        return {
            "batch_sampler": attributes.capture(sampler, skip=("sampler",)),
            "sampler": attributes.capture(inner),
        }

    def _changed_attributes(self) -> State:
        """Return the samplers' attributes that differ from those a fresh process begins with."""
        changed: State = {}
        for part, values in self._sampler_attributes().items():
            initial = self._initial[part]
            changed[part] = {k: v for k, v in values.items() if k not in initial or initial[k] != v}
        return changed

    def _restore_sampler(self, state: Mapping[str, Any]) -> None:
        sampler = self._loader.batch_sampler if self._indexed else None
        for part, target in (("batch_sampler", sampler), ("sampler", getattr(sampler, "sampler", None))):
            if (
                target is not None
            ):  # what the script's loader has no more is among the changes that were reported
                attributes.restore(target, {**self._moved.get(part, {}), **state.get(part, {})})


def _collate_of(loader: Any) -> Callable[[Any], Any]:
    default = default_collate_fn if loader.auto_collate_batch else default_convert_fn
    collate: Callable[[Any], Any] = loader.collate_fn or default
    return collate
