"""Networks and optimizers built by their names in Paddle."""

from __future__ import annotations

import difflib
import inspect
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle

from paddle_warm_callbacks.errors import InvalidArgumentError


def seed_all(seed: int) -> None:
    """Seed Python's, NumPy's and Paddle's generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    paddle.seed(seed)


def vision_architectures() -> dict[str, Any]:
    """Return name to constructor of each network of ``paddle.vision.models``, such as ``resnet50``."""
    models = paddle.vision.models
    return {
        name: getattr(models, name) for name in models.__all__ if inspect.isfunction(getattr(models, name))
    }


def build_network(
    arch: str, num_classes: int | None = None, arguments: Mapping[str, Any] | None = None
) -> Any:
    """Return a network of ``paddle.vision.models``, with its own initial values.

    Args:
        arch: Its name there.
        num_classes: Its outputs; None: Paddle's default.
        arguments: Further arguments of its constructor.

    Raises:
        InvalidArgumentError: There is no such network, or it does not take the arguments.
    """
    classes = {} if num_classes is None else {"num_classes": num_classes}
    constructor = _named(arch, vision_architectures(), "network of paddle.vision.models", "model.arch")
    return _built(constructor, "model.arguments", {**classes, **(arguments or {})})


def build_schedule(name: str, learning_rate: float, arguments: Mapping[str, Any]) -> Any:
    """Return a learning-rate schedule of ``paddle.optimizer.lr``.

    Raises:
        InvalidArgumentError: There is no such schedule, or it does not take the arguments.
    """
    lr = paddle.optimizer.lr
    known = {name: getattr(lr, name) for name in lr.__all__ if name != "LRScheduler"}
    schedule = _named(name, known, "class of paddle.optimizer.lr", "optimizer.schedule.name")
    first = next(iter(inspect.signature(schedule).parameters))
    # Piecewise schedules take all their rates; of the others the first argument is the rate, or Noam's size of model.
    rate = {"learning_rate": learning_rate} if "learning_rate" in (first, *_parameters(schedule)) else {}
    return _built(schedule, "optimizer.schedule.arguments", {**rate, **arguments})


def build_optimizer(
    name: str,
    parameters: Any,
    learning_rate: Any,
    *,
    weight_decay: float | None = None,
    clip_norm: float | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Any:
    """Return an optimizer of ``paddle.optimizer`` over ``parameters``.

    Args:
        name: Its class there.
        parameters: The network's.
        learning_rate: A float or a schedule.
        weight_decay: Its coefficient; None: the optimizer's own.
        clip_norm: Global norm that gradients are scaled down to; None: they are not.
        arguments: Further arguments of its constructor.

    Raises:
        InvalidArgumentError: There is no such optimizer, or it does not take the arguments.
    """
    module = paddle.optimizer
    known = {name: getattr(module, name) for name in module.__all__ if inspect.isclass(getattr(module, name))}
    known.pop("Optimizer", None)
    given = {"learning_rate": learning_rate, "parameters": parameters, **(arguments or {})}
    if weight_decay is not None:
        given["weight_decay"] = weight_decay
    if clip_norm is not None:
        given["grad_clip"] = paddle.nn.ClipGradByGlobalNorm(clip_norm)
    return _built(
        _named(name, known, "class of paddle.optimizer", "optimizer.name"), "optimizer.arguments", given
    )


def _parameters(of: Any) -> list[str]:
    return list(inspect.signature(of).parameters)


def _named(name: str, known: Mapping[str, Any], what: str, where: str) -> Any:
    if name in known:
        return known[name]
    # Nearest in letters, whatever their case: adamw is AdamW.
    by_lower = {other.lower(): other for other in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    raise InvalidArgumentError(
        f"there is no such {what}",
        where=where,
        received=name,
        expected="one of: " + ", ".join(known),
        remedy=f"did you mean {by_lower[near[0]]}?" if near else "",
    )


def _built(constructor: Any, where: str, arguments: Mapping[str, Any]) -> Any:
    try:
        return constructor(**arguments)
    # What Paddle raises of arguments it does not take is of many kinds.
    except (TypeError, ValueError, AssertionError, NotImplementedError) as error:
        raise InvalidArgumentError(
            f"{constructor.__name__} does not take these arguments",
            where=where,
            received=f"{', '.join(sorted(arguments))}: {type(error).__name__}: {error}",
            expected=f"{constructor.__name__}{inspect.signature(constructor)}",
        ) from error
