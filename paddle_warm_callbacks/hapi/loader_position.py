"""Where the train loader stands, and how a fresh one gets there without loading what was already trained on.

A position inside an epoch is found again by index work alone: the random state at the epoch's start is put back, the
batch sampler is iterated over the indices that are done, and then the random state of the moment takes over. Which
moment that is depends on who draws: a DataLoader without workers reads ahead in a thread of this process, so the state
is recorded just before each batch is fetched; with workers the state inside each worker is recorded as well
(:mod:`paddle_warm_callbacks.hapi.worker_rng`). Loaders without a batch sampler are positioned by their own
``state_dict`` if they have one, else by consuming what is skipped.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable, Optional

from paddle.io import DataLoader, IterableDataset
from paddle.io.dataloader.dataloader_iter import _DataLoaderIterMultiProcess

from paddle_warm_callbacks.errors import UnsupportedFitError
from paddle_warm_callbacks.hapi import persistent_workers, rng
from paddle_warm_callbacks.hapi.own_generators import OwnGenerators
from paddle_warm_callbacks.hapi.paddle_draws import PaddleDraws
from paddle_warm_callbacks.hapi.persistent_workers import collate_of
from paddle_warm_callbacks.hapi.recording_sampler import RecordingSampler
from paddle_warm_callbacks.hapi.redealing import Dealing, RedealtBatches
from paddle_warm_callbacks.hapi.resting_loaders import RestingLoaders
from paddle_warm_callbacks.hapi.sample_seeds import SeededSamples
from paddle_warm_callbacks.hapi.sampler_state import SamplerState

State = dict[str, Any]
WorkerInit = Optional[Callable[[int], Any]]
WorkerInitWrapper = Callable[[WorkerInit], Callable[[int], None]]

_NO_MORE = object()
# A loader that keeps its workers to what a fit restored of them and did not come to use: nothing was left to train.
_UNUSED: weakref.WeakKeyDictionary[Any, State] = weakref.WeakKeyDictionary()


class LoaderPosition:
    """Record the position of one fit's train loader, and restore it once.

    Args:
        loader: What fit iterates.

    Attributes:
        batch_sampler: The user's, or None.
        sample_seed: What :meth:`seed_samples` was given, or None.
        how: In words, how a position in the middle of an epoch is found again; for reports.
        loaded_again: Batches that were loaded only to be skipped, and the seconds that took.
        paddle_draws: What is known of draws from Paddle's generator in the loader's own thread.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        by_index = isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)
        # What a subclass's own __iter__ does before it asks Paddle's, and with each batch, is not known.
        own_iteration = by_index and type(loader).__iter__ is not DataLoader.__iter__
        self._indexed = by_index and loader.batch_sampler is not None and not own_iteration
        self.batch_sampler = getattr(loader, "batch_sampler", None)
        self._users: State = {}  # attributes of the loader that are replaced until it is iterated
        self._begins_anew = False
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
        self._persistent = self._indexed and persistent_workers.has_them(loader)
        self._own = OwnGenerators(loader.dataset, loader.collate_fn) if self._indexed else OwnGenerators()
        # What is read again from the epoch's start is put where it was then.
        self._read_again = RestingLoaders(None if self._indexed or self._own_state else loader)
        self._read_again_from: list[State] = []
        self._take_over_workers()
        self._sampler = SamplerState(self.batch_sampler if self._indexed else None)
        if self._own_state:
            self.how = "the loader's own state_dict"
        elif self._indexed:
            self.how = "index work only, nothing loaded twice"
        else:
            self.how = "the skipped batches are loaded again and dropped: slow (no state_dict, and " + (
                "an __iter__ of the loader's own)" if own_iteration else "no batch sampler)"
            )

    def capture(self, step_in_epoch: int, epoch_ended: bool) -> State:
        """Return what :meth:`take` takes, made into plain values and arrays."""
        return self.take(step_in_epoch, epoch_ended)()

    def take(self, step_in_epoch: int, epoch_ended: bool) -> Callable[[], State]:
        """Take the position, for plain values and arrays to be made of it later, on any thread.

        Args:
            step_in_epoch: Steps done in the current epoch; 0 at an epoch's start.
            epoch_ended: Whether those are all of its steps.

        Blocks until the reading thread, if there is one, has reached the next batch: training waits for it anyway.
        """
        now = rng.take()
        state: State = {"exhausted": epoch_ended}
        if self._own_state:
            state["loader"] = self._loader.state_dict()
        if step_in_epoch == 0 and self._underway:
            # The epoch's first batch is being read, which has drawn already.
            state["now"], state["sampler"] = self._epoch_start["rng"], self._epoch_start["sampler"]
            state["own"] = self._epoch_start["own"]
        elif step_in_epoch == 0 or epoch_ended:
            state["sampler"], state["own"] = self._sampler.changed(), self._own.capture()
        else:
            state["epoch_start"] = self._epoch_start
            if self._dealings:
                state["dealings"], state["first"] = self._dealings, self._dealt_first
        between_epochs = step_in_epoch == 0 and not self._underway
        if self._persistent and between_epochs and self._loader._iterator is None:
            state.update(self._workers_to_start())
        elif self._recording is not None:
            if self._persistent and between_epochs:
                persistent_workers.wait_for_all(self._loader._iterator)
            state.update(self._recording.capture(step_in_epoch, epoch_ended, self._underway))
        within = self._underway and not epoch_ended
        state["read_again"] = self._read_again_from if within else self._read_again.capture()
        return lambda: {"now": now(), **state}

    def _workers_to_start(self) -> State:
        """Return what the workers of a loader that keeps them are to start from, where they have not been started."""
        restored = self._restored or {}
        return {name: restored[name] for name in ("workers", "started_before") if name in restored}

    def restore(self, state: Mapping[str, Any], step_in_epoch: int) -> None:
        """Put generators and sampler where :meth:`capture` found them; the next epoch's batches continue from there."""
        rng.restore(state["now"])
        if "sampler" in state:
            self._sampler.restore(state["sampler"])
        self._own.restore(state.get("own", ()))
        self._dealings, self._dealt_first = list(state.get("dealings", ())), state.get("first", 0)
        self._restored = {**state, "step_in_epoch": step_in_epoch}
        if self._persistent:
            self._end_persistent_workers()  # of an earlier fit: they are to start where those of this run were
        self._read_again.restore(state.get("read_again", ()))  # not in checkpoints of before
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
            rng.restore(restored["now"])  # someone's on_epoch_begin may have drawn
            return ()
        self._underway = True
        if restored is None:
            self._dealings = []  # they were of the epoch before
        if restored is None or first == 0:
            self._epoch_start = {
                "rng": rng.capture(),
                "sampler": self._sampler.changed(),
                "own": self._own.capture(),
            }
            self._read_again_from = self._read_again.capture()
        else:
            self._read_again_from = restored.get("read_again", [])
            self._epoch_start = restored["epoch_start"]
            rng.restore(self._epoch_start["rng"])
            self._sampler.restore(self._epoch_start["sampler"])
            self._own.restore(self._epoch_start.get("own", ()))
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
        if self._recording is not None:
            self._recording.inner = self.batch_sampler

    def wrap_worker_init(self, wrapper: WorkerInitWrapper) -> None:
        """Have worker processes start with ``wrapper(worker_init_fn)`` instead of the user's ``worker_init_fn``."""
        self._worker_init_wrappers.append(wrapper)

    def open(self) -> None:
        """Have workers that are kept between epochs record their state, whoever iterates the loader first."""
        self._read_again.open(self._worker_init_wrappers)
        if not self._persistent or self._own_state or self._loader._iterator is not None:
            return
        restored = self._workers_to_start()
        recording = self._recording = RecordingSampler(self._loader, restored.get("workers"))
        if restored.get("started_before") or self._begins_anew:
            recording.start_again()
        recording.began = self._give_back
        replaced = self._with_worker_init(self._recorded_by(recording))
        self._users = {name: getattr(self._loader, name) for name in replaced}
        vars(self._loader).update(replaced)

    def close(self) -> None:
        """Leave the user's loader as it was.

        The iterator of one that keeps its workers goes on counting what it hands out, for a fit that comes after.
        """
        self._give_back()
        if self._seeded is not None:
            self._end_persistent_workers()  # they would go on seeding, as in the last epoch
        elif self._persistent and self._loader._iterator is None and self._workers_to_start():
            _UNUSED[self._loader] = {**self._workers_to_start(), "exhausted": False}
        self._read_again.close()
        if self._recording is not None:
            self._recording.began = None
        self._recording = None
        self._sampler.leave()

    def _from_own_state(self, loader: Any, restored: State | None) -> Iterator[Any]:
        if restored is not None:
            loader.load_state_dict(restored["loader"])
        iterator: Iterator[Any] = iter(loader)
        if restored is not None:
            rng.restore(restored["now"])
        return iterator

    def _from_consumption(self, loader: Any, first: int, restored: State | None) -> Iterator[Any]:
        before = set(threading.enumerate())
        iterator = self._streamed(loader) if isinstance(loader, DataLoader) else iter(loader)
        # Paddle's reading thread may have ended by now, with the last batch in hand; so may any, a batch later.
        draws_ahead = isinstance(loader, DataLoader) and not loader.num_workers

        def look() -> None:
            nonlocal draws_ahead
            draws_ahead = draws_ahead or any(map(_may_draw, set(threading.enumerate()) - before))

        look()
        self._drop(iterator, first, look)
        if restored is not None and first > 0:
            if draws_ahead:
                # Host generators may be that thread's, which draws ahead: consuming has just brought them here.
                rng.restore_paddle(restored["now"])
            else:
                rng.restore(restored["now"])
        return iterator

    def _streamed(self, loader: Any) -> Iterator[Any]:
        if loader.num_workers:
            return self._iterator(loader, {})
        self.paddle_draws.begin_epoch()
        self.paddle_draws.loading()
        return self._iterator(loader, {"collate_fn": self.paddle_draws.collate(collate_of(loader))})

    def _drop(self, iterator: Iterator[Any], batches: int, look: Callable[[], None] = lambda: None) -> None:
        began = time.perf_counter()
        for _ in range(batches):
            next(iterator, None)
            look()
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
        recording.inner = self.batch_sampler
        if self._dealings:
            dealings = [Dealing(*dealing) for dealing in self._dealings]
            recording.inner = RedealtBatches(self.batch_sampler, dealings, self._dealt_first)
        recording.begin_epoch(first, restored, seeded=self._seeded is not None)
        if (
            getattr(loader, "_iterator", None) is not None
        ):  # persistent workers, started in an iteration before
            return iter(loader)
        if not recording.workers:
            self.paddle_draws = recording.paddle_draws
        iterator = self._iterator(loader, {} if self._users else self._recorded_by(recording))
        if restored is not None and first > 0 and loader.num_workers > 0:
            rng.restore(
                restored["now"]
            )  # the indices read ahead are drawn; from here on it is the training's turn
        return iterator

    def _recorded_by(self, recording: RecordingSampler) -> dict[str, Any]:
        """Return the attributes that a loader has to have while it starts an iteration that is recorded."""
        loader = self._loader
        replaced = {"batch_sampler": recording, "collate_fn": recording.collate(collate_of(loader))}
        if self._seeded is not None:
            replaced["dataset"] = self._seeded
        if recording.workers is not None:
            replaced["worker_init_fn"] = recording.workers.worker_init(loader.worker_init_fn)
        return replaced

    def _with_worker_init(self, replaced: dict[str, Any]) -> dict[str, Any]:
        if not getattr(self._loader, "num_workers", 0) or not self._worker_init_wrappers:
            return replaced
        worker_init = replaced.get("worker_init_fn", self._loader.worker_init_fn)
        for wrapper in self._worker_init_wrappers:
            worker_init = wrapper(worker_init)
        return {**replaced, "worker_init_fn": worker_init}

    def _iterator(self, loader: Any, replaced: dict[str, Any]) -> Iterator[Any]:
        """Let ``loader`` build its iterator, and fork its workers, with some of its attributes replaced meanwhile."""
        if not (self._users or persistent_workers.has_them(loader)):  # which has it already
            replaced = self._with_worker_init(replaced)
        users = {name: getattr(loader, name) for name in replaced}
        vars(loader).update(replaced)
        try:
            return iter(loader)
        finally:
            vars(loader).update(users)

    def _give_back(self) -> None:
        users, self._users = self._users, {}
        if users:
            vars(self._loader).update(users)

    def _take_over_workers(self) -> None:
        """Find workers that live on from an iteration before this fit, or what an earlier fit has restored for them."""
        if not self._persistent or self._own_state:
            return
        iterator = self._loader._iterator
        recording = getattr(iterator, "_batch_sampler", None)
        if isinstance(recording, RecordingSampler):
            self._recording = recording
        elif iterator is not None:
            persistent_workers.end_unrecorded(self._loader)
            self._begins_anew = True
        self._restored = _UNUSED.pop(self._loader, None)

    def _end_persistent_workers(self) -> None:
        """Have the loader's next iteration start others."""
        if self._persistent:
            persistent_workers.end_them(self._loader)
            self._recording = None


def _may_draw(thread: threading.Thread) -> bool:
    """Return whether a thread that a loader has started may draw; those that speak to worker processes do not."""
    target = getattr(thread, "_target", _NO_MORE)
    if target is _NO_MORE:
        return False  # it has just ended: what it was for cannot be told any more, and was when it was seen before
    collects = isinstance(getattr(target, "__self__", None), _DataLoaderIterMultiProcess)
    return not (collects or getattr(target, "__module__", "") == "multiprocessing.queues")
