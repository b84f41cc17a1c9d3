"""What the callbacks of a fit have counted so far: captured by a name that a rerun of the script gives again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import paddle

from paddle_warm_callbacks.checkpoint import jsonvalue
from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.hapi import attributes

# Paddle's own callbacks have no state_dict. What they count, and nothing that the user configures.
_COUNTED: tuple[tuple[type, tuple[str, ...]], ...] = (
    (paddle.callbacks.EarlyStopping, ("best_value", "wait_epoch", "stopped_epoch")),
    (paddle.callbacks.ReduceLROnPlateau, ("best", "wait", "cooldown_counter", "epoch")),
    (paddle.callbacks.VisualDL, ("train_step", "epoch")),
)


def capture(callbacks: Sequence[Any]) -> dict[str, Any]:
    """Return the state of every callback that has one, by class name and number among its class.

    A callback has state if it defines ``state_dict`` and ``load_state_dict``, or is Paddle's EarlyStopping,
    ReduceLROnPlateau or VisualDL.

    Raises:
        InvalidArgumentError: A ``state_dict`` holds something other than plain values, arrays and containers of them.
    """
    states: dict[str, Any] = {}
    for key, callback in _named(callbacks):
        if _own(callback):
            try:
                states[key] = jsonvalue.encode(callback.state_dict())
            except jsonvalue.NotEncodable as error:
                raise InvalidArgumentError(
                    "a callback's state cannot be saved",
                    where=f"{key}.state_dict()",
                    received=str(error),
                    expected="None, numbers, strings, bytes, arrays, and lists, tuples, dicts or sets of them",
                    remedy="return such values from state_dict() and build the object again in load_state_dict()",
                ) from error
        elif _counted(callback):
            values = attributes.capture(callback)
            states[key] = {name: values[name] for name in _counted(callback) if name in values}
    return states


def restore(callbacks: Sequence[Any], states: Mapping[str, Any]) -> list[str]:
    """Give each callback its state back; return a note for every state whose callback is gone, and the reverse."""
    notes = []
    live = dict(_named(callbacks))
    for key, state in states.items():
        callback = live.get(key)
        if callback is None:
            notes.append(f"the checkpoint has state for {key}, which is not among the callbacks now")
        elif _own(callback):
            callback.load_state_dict(jsonvalue.decode(state))
        else:
            attributes.restore(callback, state)
    for key, callback in live.items():
        if key not in states and (_own(callback) or _counted(callback)):
            notes.append(f"{key} is new among the callbacks: it starts without state")
    return notes


def _named(callbacks: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    seen: dict[str, int] = {}
    for callback in callbacks:
        name = type(callback).__name__
        seen[name] = seen.get(name, 0) + 1
        yield (name if seen[name] == 1 else f"{name}#{seen[name]}"), callback


def _own(callback: Any) -> bool:
    return callable(getattr(callback, "state_dict", None)) and callable(
        getattr(callback, "load_state_dict", None)
    )


def _counted(callback: Any) -> tuple[str, ...]:
    return next((names for kind, names in _COUNTED if isinstance(callback, kind)), ())
