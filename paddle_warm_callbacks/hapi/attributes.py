"""An object's attributes as plain values: what a sampler, metric, scheduler or callback has counted so far."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle

from paddle_warm_callbacks.checkpoint import jsonvalue

_GENERATOR = "__generator__"
_TENSOR = "__tensor__"


def capture(target: Any, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the attributes of ``target`` that are plain values, arrays, tensors, containers, or random generators.

    Args:
        target: Any object; None, or one without a ``__dict__``, gives an empty dictionary.
        skip: Names to leave out.

    Returns:
        Encoded by :mod:`paddle_warm_callbacks.checkpoint.jsonvalue`, so nothing in it aliases the live object.
        Attributes of any other kind (datasets, layers, functions) are left out.
    """
    return capture_mapping(getattr(target, "__dict__", {}), skip)


def capture_mapping(values: Mapping[str, Any], skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """Do for a dictionary's items what :func:`capture` does for an object's attributes."""
    captured: dict[str, Any] = {}
    for name, value in values.items():
        if name in skip:
            continue
        try:
            captured[name] = jsonvalue.encode(_tagged(value))
        except jsonvalue.NotEncodable:
            continue
    return captured


def restore(target: Any, captured: Mapping[str, Any]) -> None:
    """Set the attributes that :func:`capture` returned; generators are put back in place, keeping their identity."""
    if captured:
        restore_mapping(vars(target), captured)


def restore_mapping(values: dict[str, Any], captured: Mapping[str, Any]) -> None:
    """Do for a dictionary's items what :func:`restore` does for an object's attributes."""
    for name, encoded in captured.items():
        value = jsonvalue.decode(encoded)
        if isinstance(value, dict) and _GENERATOR in value:
            _restore_generator(values[name], value[_GENERATOR])
        elif isinstance(value, dict) and _TENSOR in value:
            values[name] = paddle.to_tensor(value[_TENSOR])
        else:
            values[name] = value


def kind_name(value: Any) -> str:
    """Return the name of an object's class; of nested learning-rate schedules all: ``LinearWarmup(CosineDecay)``."""
    nested = [
        kind_name(inner)
        for inner in vars(value).values()
        if isinstance(inner, paddle.optimizer.lr.LRScheduler)
    ]
    return type(value).__name__ + (f"({', '.join(nested)})" if nested else "")


def _tagged(value: Any) -> Any:
    state = _generator_state(value)
    if state is not None:
        return {_GENERATOR: state}
    return {_TENSOR: value.numpy()} if isinstance(value, paddle.Tensor) else value


def _generator_state(value: Any) -> Any:
    if isinstance(value, np.random.RandomState):
        return value.get_state()
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, random.Random):
        return value.getstate()
    return None


def _restore_generator(live: Any, state: Any) -> None:
    if isinstance(live, np.random.RandomState):
        live.set_state(state)
    elif isinstance(live, np.random.Generator):
        live.bit_generator.state = state
    else:
        live.setstate(state)
