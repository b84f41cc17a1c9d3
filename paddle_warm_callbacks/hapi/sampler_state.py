"""What a loader's batch sampler, and the sampler within it, have counted: captured, and put back in a fresh process."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Mapping
from typing import Any

from paddle_warm_callbacks.hapi import attributes

State = dict[str, Any]

# Batch sampler to the values, before any fit, of those attributes that fits of this process have changed.
_MOVED: weakref.WeakKeyDictionary[Any, State] = weakref.WeakKeyDictionary()


class SamplerState:
    """The attributes of one batch sampler and of its sampler, against those that a fresh process begins with.

    Args:
        batch_sampler: Of a DataLoader; None: there is nothing to capture.
    """

    def __init__(self, batch_sampler: Any) -> None:
        self._batch_sampler = batch_sampler
        self._initial = self._attributes()
        # A sampler that an earlier fit of this process has moved on is, for a checkpoint, what it was before that.
        self._moved: State = {}
        with contextlib.suppress(TypeError):  # a sampler that cannot be a key
            self._moved = {} if batch_sampler is None else _MOVED.get(batch_sampler, {})
        for part, values in self._moved.items():
            self._initial[part].update(values)

    def changed(self) -> State:
        """Return the attributes that differ from those a fresh process begins with."""
        changed: State = {}
        for part, values in self._attributes().items():
            initial = self._initial[part]
            changed[part] = {k: v for k, v in values.items() if k not in initial or initial[k] != v}
        return changed

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put back what :meth:`changed` returned."""
        for part, target in self._parts().items():
            if target is not None:  # what the script has no more is among the changes that were reported
                attributes.restore(target, {**self._moved.get(part, {}), **state.get(part, {})})

    def leave(self) -> None:
        """Take note, for later fits of this process, of what this one has changed."""
        moved = {
            part: {name: self._initial[part][name] for name in values if name in self._initial[part]}
            for part, values in self.changed().items()
        }
        if self._batch_sampler is not None:
            with contextlib.suppress(TypeError):
                _MOVED[self._batch_sampler] = moved

    def _parts(self) -> State:
        sampler = self._batch_sampler
        return (
            {}
            if sampler is None
            else {"batch_sampler": sampler, "sampler": getattr(sampler, "sampler", None)}
        )

    def _attributes(self) -> State:
        skip = {"batch_sampler": ("sampler",)}
        return {
            part: attributes.capture(target, skip.get(part, ())) for part, target in self._parts().items()
        }
