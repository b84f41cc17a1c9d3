"""Learning rates on live optimizers: one global factor on what ``get_lr()`` says, and factors per parameter."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

from paddle.optimizer.lr import LRScheduler

from paddle_warm_callbacks.errors import UnsupportedFitError
from paddle_warm_callbacks.hapi.fit_loop import FitLoop

_FACTORS: weakref.WeakKeyDictionary[FitLoop, ParameterFactors] = weakref.WeakKeyDictionary()


def refuse_parameter_groups(optimizer: Any) -> None:
    """Raise UnsupportedFitError for an optimizer built over parameter groups, which ``Model.fit`` cannot run at all."""
    if optimizer._param_groups and isinstance(optimizer._param_groups[0], dict):
        raise UnsupportedFitError(
            "an optimizer with parameter groups does not run under Model.fit",
            where=type(optimizer).__name__,
            received="parameters=[{'params': …}, …]",
            expected="parameters=network.parameters()",
            remedy='give factors instead: WarmLRScaler(groups={"backbone": 0.1, "fc": 1.0})',
        )


class ParameterFactors:
    """Multiply the learning rate of single parameters, for several owners at once.

    Paddle multiplies the global rate by ``param.optimize_attr["learning_rate"]`` in every optimizer; the user's own value
    of it is one more factor, and is given back.

    Attributes:
        labels: The groups that are told apart when rates are shown: label to structured names.
    """

    @classmethod
    def of(cls, loop: FitLoop) -> ParameterFactors:
        """Return the factors of ``loop``, one for all callbacks."""
        if loop not in _FACTORS:
            _FACTORS[loop] = cls(loop.network, loop.optimizer)
        return _FACTORS[loop]

    def __init__(self, network: Any, optimizer: Any) -> None:
        refuse_parameter_groups(optimizer)
        self._parameters = {name: p for name, p in network.named_parameters() if hasattr(p, "optimize_attr")}
        self._users = {name: p.optimize_attr["learning_rate"] for name, p in self._parameters.items()}
        self._owners: dict[str, Mapping[str, float]] = {}
        self.labels: dict[str, tuple[str, ...]] = {"all": tuple(self._parameters)}

    def set(self, owner: str, factors: Mapping[str, float]) -> None:
        """Let ``owner``'s factors be these, by structured name; names left out have factor 1."""
        self._owners[owner] = dict(factors)
        self._write()

    def clear(self, owner: str) -> None:
        """Take ``owner``'s factors back."""
        if self._owners.pop(owner, None) is not None:
            self._write()

    def of_first_trainable(self, names: Iterable[str]) -> float:
        """Return the whole factor of the first of ``names`` that is trainable; 0 if none is."""
        trainable = (self._parameters[name] for name in names if not self._parameters[name].stop_gradient)
        first = next(trainable, None)
        return 0.0 if first is None else float(first.optimize_attr["learning_rate"])

    def _write(self) -> None:
        for name, parameter in self._parameters.items():
            value = self._users[name]
            for factors in self._owners.values():
                value = value * factors.get(name, 1.0)
            parameter.optimize_attr["learning_rate"] = value


class GlobalFactor:
    """Multiply what ``optimizer.get_lr()`` says, float or scheduler, until closed."""

    def __init__(self, optimizer: Any, base: float | None = None) -> None:
        self._optimizer = optimizer
        rate = optimizer._learning_rate
        self._scheduler = rate if isinstance(rate, LRScheduler) else None
        if self._scheduler is not None:
            self._users_class = type(self._scheduler)
            self._scheduler.__class__ = _scaled(self._users_class)
            _SCALE[self._scheduler] = 1.0
            self.base = 1.0
        else:
            self.base = float(rate) if base is None else base
            optimizer.set_lr(self.base)
        self.factor = 1.0

    def set(self, factor: float) -> None:
        """Use ``factor`` from the next step on."""
        if self._scheduler is not None:
            _SCALE[self._scheduler] = factor
        else:
            self._follow_the_user()
            if factor != self.factor:
                self._optimizer.set_lr(self.base * factor)
        self.factor = factor

    def close(self) -> None:
        """Give the user's learning rate back."""
        if self._scheduler is not None:
            self._scheduler.__class__ = self._users_class
            _SCALE.pop(self._scheduler, None)
        else:
            self._follow_the_user()
            self._optimizer.set_lr(self.base)

    def _follow_the_user(self) -> None:
        """Take a float that somebody else has set meanwhile for what it is: the scaled rate."""
        now = float(self._optimizer.get_lr())
        if now != self.base * self.factor:
            self.base = now / self.factor


_SCALE: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()


def _scaled(kind: type) -> type:
    def scaled_call(self: Any) -> Any:
        return kind.__call__(self) * _SCALE[self]

    return type(kind.__name__, (kind,), {"__call__": scaled_call, "__qualname__": kind.__qualname__, "__module__": kind.__module__})


def effective_lr(loop: FitLoop) -> dict[str, float]:
    """Return the learning rate each group is updated with now, by label; ``"all"`` where there are no groups.

    The rate of a group is that of its first trainable parameter, with every factor; 0 if the group is frozen.
    """
    rate = float(loop.optimizer.get_lr())
    factors = ParameterFactors.of(loop)
    return {label: rate * factors.of_first_trainable(names) for label, names in factors.labels.items()}
