"""An object's attributes as plain values: what a sampler, metric, scheduler or callback has counted so far."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

import numpy as np
import paddle
from paddle.io import Dataset, Sampler
from paddle.metric import Metric
from paddle.optimizer.lr import LRScheduler

from paddle_warm_callbacks.checkpoint import jsonvalue

# Attributes whose values are generated anew in each process; never to be carried over.
GENERATED = ("_var_name",)

_GENERATOR = "__generator__"
_TENSOR = "__tensor__"
_OBJECT = "__object__"
# Most values are of these, and need not be asked what else they might be.
_PLAIN = frozenset((bool, int, float, str, type(None), np.ndarray, np.float32, np.float64))
# Objects within others whose attributes are what a run has counted.
_COUNTING = (Sampler, Metric, LRScheduler)


def capture(target: Any, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the attributes of ``target`` that are plain values, arrays, tensors, random generators, or containers.

    Samplers, metrics and learning-rate schedules among them, in containers too, are captured as ``target`` itself is.

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
    return _captured(values, skip, ())


def restore(target: Any, captured: Mapping[str, Any]) -> None:
    """Set the attributes that :func:`capture` returned; what is an object there is changed in place."""
    if captured:
        restore_mapping(vars(target), captured)


def restore_mapping(values: dict[str, Any], captured: Mapping[str, Any]) -> None:
    """Do for a dictionary's items what :func:`restore` does for an object's attributes."""
    for name, encoded in captured.items():
        values[name] = _restored(values.get(name), jsonvalue.decode(encoded))


def kind_name(value: Any) -> str:
    """Return the name of an object's class; of nested learning-rate schedules all: ``LinearWarmup(CosineDecay)``."""
    nested = [kind_name(inner) for inner in vars(value).values() if isinstance(inner, LRScheduler)]
    return type(value).__name__ + (f"({', '.join(nested)})" if nested else "")


def _captured(values: Mapping[str, Any], skip: tuple[str, ...], within: tuple[int, ...]) -> dict[str, Any]:
    captured: dict[str, Any] = {}
    for name, value in values.items():
        # A dataset has no JSON form, and finding that out takes a while.
        if name in skip or isinstance(value, Dataset):
            continue
        try:
            captured[name] = jsonvalue.encode(_tagged(value, within))
        except jsonvalue.NotEncodable:
            continue
    return captured


def _tagged(value: Any, within: tuple[int, ...]) -> Any:
    """Return ``value`` with what has no JSON form, tensors, generators and objects that count, made into tags."""
    if type(value) in _PLAIN:
        return value
    if type(value) not in (list, tuple, dict):
        state = generator_state(value)
        if state is not None:
            return {_GENERATOR: state}
        if isinstance(value, paddle.Tensor):
            return {_TENSOR: value.numpy()}
        if not isinstance(value, _COUNTING):
            return value
    if id(value) in within:
        raise jsonvalue.NotEncodable("$", type(value), "a value holds itself")
    within = (*within, id(value))
    if isinstance(value, _COUNTING):
        return {_OBJECT: _captured(vars(value), GENERATED, within)}
    if type(value) is dict:
        return {key: _tagged(item, within) for key, item in value.items()}
    return type(value)(_tagged(item, within) for item in value)


def _restored(live: Any, value: Any) -> Any:
    """Return ``value``, its tags resolved: generators and objects are those of ``live``, put where they were."""
    if type(value) is dict and _GENERATOR in value:
        restore_generator(live, value[_GENERATOR])
        return live
    if type(value) is dict and _TENSOR in value:
        return paddle.to_tensor(value[_TENSOR])
    if type(value) is dict and _OBJECT in value:
        restore(live, value[_OBJECT])
        return live
    if type(value) is dict:
        held = live if isinstance(live, dict) else {}
        return {key: _restored(held.get(key), item) for key, item in value.items()}
    if type(value) in (list, tuple):
        items = live if isinstance(live, (list, tuple)) else ()
        return type(value)(_restored(one, item) for item, one in zip_longest(value, items[: len(value)]))
    return value


def generator_state(value: Any) -> Any:
    """Return the state of NumPy's or Python's random generator ``value``; None for anything else."""
    if isinstance(value, np.random.RandomState):
        return value.get_state()
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, random.Random):
        return value.getstate()
    return None


def restore_generator(live: Any, state: Any) -> None:
    """Put a random generator where :func:`generator_state` found it."""
    if isinstance(live, np.random.RandomState):
        live.set_state(state)
    elif isinstance(live, np.random.Generator):
        live.bit_generator.state = state
    else:
        live.setstate(state)
