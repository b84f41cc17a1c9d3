"""What a script has set: learning rate, optimizer, mixed precision and loss, in words that two runs are compared by."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import paddle
from paddle.optimizer.lr import LRScheduler

# Attribute to what a user calls it. No others: what an optimizer counts, or a version of Paddle adds, is no setting.
_OPTIMIZER = {
    **{
        f"_{name}": name
        for name in (
            "beta1", "beta2", "epsilon", "momentum", "use_nesterov", "rescale_grad", "rho", "centered", "lazy_mode",
            "multi_precision", "amsgrad", "momentum_decay", "weight_decay", "lamb_weight_decay", "grad_clip",
            "apply_decay_param_fun", "exclude_from_weight_decay_fn", "lr_ratio",
        )
    },
    "regularization": "weight_decay",
    "_regularization_coeff": "weight_decay",  # Momentum's
    "initial_accumulator_value": "initial_accumulator_value",
}  # fmt: skip
# What schedules count, or follow from what they count, and what trains nothing.
_COUNTED = (
    "last_epoch", "last_lr", "T_cur", "T_i", "best", "cooldown_counter", "num_bad_epochs", "verbose", "keys",
    "_var_name",
)  # fmt: skip

Settings = dict[str, str]

# Optimizer to the learning-rate settings its script built it with, and those it had when a fit of this process left it.
_LEFT: weakref.WeakKeyDictionary[Any, tuple[Settings, Settings]] = weakref.WeakKeyDictionary()


def settings(model: Any) -> Settings:
    """Return what is set on a prepared ``paddle.Model``: name, such as ``"optimizer.beta1"``, to value, in words."""
    adapter = model._adapter
    return {
        **rate_as_built(model._optimizer),
        **_of_optimizer(model._optimizer),
        "amp.level": str(adapter._amp_level),
        "amp.lists": _in_words(
            {k: sorted(map(str, v)) for k, v in sorted(adapter._amp_custom_lists.items())}
        ),
        **{f"loss_scaling.{name}": _in_words(value) for name, value in adapter._amp_configs.items()},
        "loss": _named(model._loss) if callable(model._loss) else type(model._loss).__name__,
    }


def rate_as_built(optimizer: Any) -> Settings:
    """Return the settings of the learning rate as the script built it, whatever fits of this process made of it."""
    now = _of_rate(optimizer._learning_rate, "learning_rate")
    built, left = _LEFT.get(optimizer, ({}, {}))
    return {name: built.get(name, value) if left.get(name) == value else value for name, value in now.items()}


def leave(optimizer: Any, built: Mapping[str, str]) -> None:
    """Take note of how a fit leaves the learning rate of ``optimizer``, whose settings were ``built`` before it."""
    now = _of_rate(optimizer._learning_rate, "learning_rate")
    _LEFT[optimizer] = (dict(built), now)


def _of_rate(rate: Any, name: str) -> Settings:
    if not isinstance(rate, LRScheduler):
        return {f"{name}.value": _in_words(rate)}
    found: Settings = {}
    for attribute, value in vars(rate).items():
        if isinstance(value, LRScheduler):
            found.update(_of_rate(value, f"{name}.{attribute}"))
        elif attribute not in _COUNTED and _is_plain(value):
            found[f"{name}.{attribute}"] = _in_words(value)
    return found


def _of_optimizer(optimizer: Any) -> Settings:
    found: Settings = {}
    for attribute, name in _OPTIMIZER.items():
        value = getattr(optimizer, attribute, None)
        if value is not None or f"optimizer.{name}" not in found:
            found[f"optimizer.{name}"] = _in_words(value)
    return found


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or callable(value) or isinstance(value, (bool, int, float, str, np.generic))


def _in_words(value: Any) -> str:
    """Return what tells ``value`` from another, without what differs between two processes that set the same."""
    if isinstance(value, (paddle.Tensor, np.generic)) and np.size(value) == 1:
        value = value.item()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return repr(float(value)).removesuffix(".0")
    if value is None or isinstance(value, (bool, str)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_in_words, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_in_words(item)}' for key, item in value.items())}}}"
    return _named(value)


def _named(value: Any) -> str:
    """Return a function's name, or an object's class with what it was built from: ``ClipGradByNorm(clip_norm=1)``."""
    name = getattr(value, "__qualname__", None)
    if name is not None:
        return str(name)
    return f"{type(value).__name__}({', '.join(_arguments(value))})"


def _arguments(value: Any) -> Iterator[str]:
    for attribute, item in sorted(getattr(value, "__dict__", {}).items()):
        # Of Paddle's own classes others count the gradients, or come with a version.
        if attribute in (
            "clip_norm",
            "max",
            "min",
            "_coeff",
            "coeff",
            "label_smoothing",
            "reduction",
            "gamma",
        ):
            yield f"{attribute.lstrip('_')}={_in_words(item)}"
