"""What loaders have come to while nothing iterates them: their samplers' attributes, the state of kept workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable

from paddle.io import DataLoader, IterableDataset

from paddle_warm_callbacks.hapi.own_generators import OwnGenerators
from paddle_warm_callbacks.hapi.persistent_workers import PersistentWorkers, has_them
from paddle_warm_callbacks.hapi.sampler_state import SamplerState

State = dict[str, Any]


class RestingLoaders:
    """Record what a loader carries from one iteration to the next, and restore it.

    For an evaluation's loader, and for a train loader that is read again from an epoch's start.

    Args:
        loader: A DataLoader; or a user's own, of which the DataLoaders among its attributes count; or None.
        but: Another such, whose DataLoaders are left out.
    """

    def __init__(self, loader: Any, but: Any = None) -> None:
        others = {id(other) for other in _data_loaders(but)}
        found = {id(one): one for one in _data_loaders(loader) if id(one) not in others}
        self._loaders = [_RestingLoader(one) for one in found.values()]

    def capture(self) -> list[State]:
        """Return it as plain values and arrays, while nothing iterates."""
        return [loader.capture() for loader in self._loaders]

    def restore(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Put back what :meth:`capture` returned; the next iteration continues from there."""
        for loader, state in zip(self._loaders, states):
            loader.restore(state)

    def open(self, wrappers: Sequence[Callable[[Any], Callable[[int], None]]] = ()) -> None:
        """Begin to record, once all is restored.

        Args:
            wrappers: Of the ``worker_init_fn`` of workers that persist.
        """
        for loader in self._loaders:
            loader.open(wrappers)

    def close(self) -> None:
        """Leave the loaders as the user had them."""
        for loader in self._loaders:
            loader.close()


class _RestingLoader:
    def __init__(self, loader: Any) -> None:
        by_index = not isinstance(loader.dataset, IterableDataset)
        self._sampler = SamplerState(loader.batch_sampler if by_index else None)
        self._own = OwnGenerators(loader.dataset, loader.collate_fn)
        self._workers = PersistentWorkers(loader) if has_them(loader) else None

    def capture(self) -> State:
        state: State = {"sampler": self._sampler.changed(), "own": self._own.capture()}
        if self._workers is not None:
            state["workers"] = self._workers.capture()
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        self._sampler.restore(state["sampler"])
        self._own.restore(state["own"])
        if self._workers is not None and "workers" in state:
            self._workers.restore(state["workers"])

    def open(self, wrappers: Sequence[Callable[[Any], Callable[[int], None]]]) -> None:
        if self._workers is not None:
            self._workers.open(wrappers)

    def close(self) -> None:
        self._sampler.leave()
        if self._workers is not None:
            self._workers.close()


def _data_loaders(loader: Any) -> Iterator[Any]:
    if isinstance(loader, DataLoader):
        yield loader
        return
    for value in getattr(loader, "__dict__", {}).values():
        parts = (
            value.values()
            if isinstance(value, dict)
            else value
            if isinstance(value, (list, tuple))
            else (value,)
        )
        yield from (part for part in parts if isinstance(part, DataLoader))
