"""Learning rates on live optimizers: one global factor on what ``get_lr()`` says, and factors per parameter."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from paddle.optimizer.lr import LRScheduler, ReduceOnPlateau

from paddle_warm_callbacks.errors import UnsupportedFitError
from paddle_warm_callbacks.hapi.fit_loop import FitLoop

_FACTORS: weakref.WeakKeyDictionary[FitLoop, ParameterFactors] = weakref.WeakKeyDictionary()


def refuse_unsupported(optimizer: Any) -> None:
    """Raise UnsupportedFitError for what has no one rate to scale.

    That is an optimizer built over parameter groups, which ``Model.fit`` cannot run at all, and one around another
    (``paddle.incubate.LookAhead``), whose learning rate is not what the parameters are moved by.
    """
    if hasattr(optimizer, "inner_optimizer"):
        raise UnsupportedFitError(
            "an optimizer around another is not supported: its rate is another thing than the learning rate",
            where=type(optimizer).__name__,
            received=f"{type(optimizer).__name__} around {type(optimizer.inner_optimizer).__name__}",
            expected="one of paddle.optimizer",
            remedy="hand the inner one to Model.prepare",
        )
    if optimizer._param_groups and isinstance(optimizer._param_groups[0], dict):
        raise UnsupportedFitError(
            "an optimizer with parameter groups does not run under Model.fit",
            where=type(optimizer).__name__,
            received="parameters=[{'params': …}, …]",
            expected="parameters=network.parameters()",
            remedy='give factors instead: WarmLRScaler(groups={"backbone": 0.1, "fc": 1.0})',
        )


def scheduled_rates(optimizer: Any) -> Iterator[float]:
    """Yield the rate of each step, as a schedule that is stepped after every batch gives it; it is used up by that.

    What follows a metric stays as it is: nothing is known of the metric.
    """
    schedule = optimizer._learning_rate
    moves = isinstance(schedule, LRScheduler) and not isinstance(schedule, ReduceOnPlateau)
    while True:
        yield float(optimizer.get_lr())
        if moves:
            schedule.step()


class ParameterFactors:
    """Multiply the learning rate of single parameters, for several owners at once.

    Paddle multiplies the global rate by ``param.optimize_attr["learning_rate"]`` in every optimizer; the user's own
    value of it is one more factor, and is given back.

    Attributes:
        names: The parameters that have such a factor, by structured name.
        labels: The groups that are told apart when rates are shown: label to structured names.
    """

    @classmethod
    def of(cls, loop: FitLoop) -> ParameterFactors:
        """Return the factors of ``loop``, one for all callbacks.

        Raises:
            UnsupportedFitError: The optimizer was built over parameter groups, or around another.
        """
        if loop not in _FACTORS:
            _FACTORS[loop] = cls(loop.network, loop.optimizer)
        return _FACTORS[loop]

    def __init__(self, network: Any, optimizer: Any) -> None:
        refuse_unsupported(optimizer)
        self._parameters = {name: p for name, p in network.named_parameters() if hasattr(p, "optimize_attr")}
        self._users = {name: p.optimize_attr["learning_rate"] for name, p in self._parameters.items()}
        self._owners: dict[str, Mapping[str, float]] = {}
        self.names = tuple(self._parameters)
        self.labels: dict[str, tuple[str, ...]] = {"all": self.names}

    def set(self, owner: str, factors: Mapping[str, float]) -> None:
        """Let ``owner``'s factors be these, by structured name, from the next step on; names left out have factor 1."""
        self._owners[owner] = dict(factors)
        self._write()

    def clear(self, owner: str) -> None:
        """Take ``owner``'s factors back; without any owner the user's own values are there again."""
        if self._owners.pop(owner, None) is not None:
            self._write()

    def close(self) -> None:
        """Take every owner's factors back."""
        self._owners.clear()
        self._write()

    def label(self, labels: Mapping[str, str]) -> None:
        """Tell groups apart when rates are shown: structured name to label."""
        self.labels = {
            label: tuple(name for name, its in labels.items() if its == label)
            for label in dict.fromkeys(labels.values())
        }

    def without(self, owner: str) -> dict[str, float]:
        """Return each parameter's whole factor but for ``owner``'s, by structured name."""
        others = [factors for name, factors in self._owners.items() if name != owner]
        return {
            name: math.prod((self._users[name], *(factors.get(name, 1.0) for factors in others)))
            for name in self.names
        }

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
    """Multiply what ``optimizer.get_lr()`` says, float or scheduler, until closed.

    A scheduler keeps its identity and its numbers: it gets a subclass of its class, of the same name, whose
    ``__call__`` multiplies. So ``step()``, ``state_dict()`` and schedules that contain it know nothing of the factor.
    A float is set anew when the factor changes. Whoever sets the float meanwhile, or replaces the scheduler, is
    followed: such a float is the scaled rate, for it was most likely made from one; such a scheduler is unscaled.

    Args:
        optimizer: Its learning rate is a float or a scheduler.
        base: The unscaled float where the optimizer holds a scaled one already, after a resume; else None.
        factor: What that was scaled with.

    Attributes:
        base: The unscaled float; None for a scheduler.
        factor: The factor in force.
    """

    def __init__(self, optimizer: Any, base: float | None = None, factor: float = 1.0) -> None:
        self._optimizer = optimizer
        self._scheduler: Any = None
        self.base: float | None = None
        self.factor = 1.0
        rate = optimizer._learning_rate
        if isinstance(rate, LRScheduler):
            self._take(rate)
        elif base is None:
            self.base = self._held = float(rate)
        else:
            self.base, self.factor = base, factor
            self._held = base * factor

    def set(self, factor: float) -> None:
        """Use ``factor``, above 0, from the next step on."""
        rate = self._optimizer._learning_rate
        if isinstance(rate, LRScheduler):
            if rate is not self._scheduler:
                self._give_back()
                self._take(rate)
        elif self.base is None or factor != self.factor or rate != self._held:
            base = self._unscaled(float(rate))
            if factor != self.factor:
                self._optimizer.set_lr(base * factor)
            self.base, self._held = base, float(self._optimizer.get_lr())
        self.factor = factor

    def close(self) -> None:
        """Give the user's learning rate back."""
        rate = self._optimizer._learning_rate
        self._give_back()
        if not isinstance(rate, LRScheduler):
            base = self._unscaled(float(rate))
            if base != rate:
                self._optimizer.set_lr(base)
        self.factor = 1.0

    def _unscaled(self, rate: float) -> float:
        if self.base is None:  # a scheduler until now
            return rate / self.factor
        return self.base if rate == self._held else rate / self.factor

    def _take(self, scheduler: Any) -> None:
        self.base = None
        self._scheduler, self._users_class = scheduler, type(scheduler)
        scheduler.__class__ = _scaled(self._users_class, self)

    def _give_back(self) -> None:
        if self._scheduler is not None:
            self._scheduler.__class__ = self._users_class
            self._scheduler = None


def _scaled(kind: type, scale: GlobalFactor) -> type:
    """Return a subclass of ``kind``, a class of schedulers, that passes for it and multiplies by ``scale.factor``."""

    def scaled_call(self: Any) -> Any:
        return kind.__call__(self) * scale.factor

    # No slots, so that an object can change from the one class to the other and back.
    body = {
        "__call__": scaled_call,
        "__slots__": (),
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
    }
    return type(kind.__name__, (kind,), body)


def effective_lr(loop: FitLoop) -> dict[str, float]:
    """Return the learning rate each group is updated with now, by label; ``"all"`` where there are no groups.

    The rate of a group is that of its first trainable parameter, with every factor; 0 if the group is frozen.
    """
    rate = float(loop.optimizer.get_lr())
    factors = ParameterFactors.of(loop)
    return {label: rate * factors.of_first_trainable(names) for label, names in factors.labels.items()}


def rates_as_built(model: Any) -> tuple[dict[str, float], bool]:
    """Return each parameter's learning rate in a prepared ``paddle.Model``, by structured name, and False.

    Where a scheduler runs: each parameter's factor of its rate, and True.
    """
    scheduled = isinstance(model._optimizer._learning_rate, LRScheduler)
    rate = 1.0 if scheduled else float(model._optimizer.get_lr())
    own = ParameterFactors(model.network, model._optimizer).without("stage")
    return {name: rate * factor for name, factor in own.items()}, scheduled


def rates_before_stages(loop: FitLoop) -> tuple[dict[str, float], bool]:
    """Return what a stage's factor multiplies, by structured name, once warm-ups are over.

    Returns:
        Learning rates and False; or, where a scheduler runs, factors of its rate and True.
    """
    scheduled = isinstance(loop.optimizer._learning_rate, LRScheduler)
    hparams = loop.board.hparams
    scale = (1.0 if scheduled else float(hparams["learning_rate"])) * float(hparams.get("lr_factor", 1.0))
    factors = ParameterFactors.of(loop).without("stage")
    return {name: scale * factor for name, factor in factors.items()}, scheduled
