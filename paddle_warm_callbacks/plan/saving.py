"""When to save: policies that say whether a checkpoint is due at a moment."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from paddle_warm_callbacks.arguments import require_choice, require_int, require_number
from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.progress import Progress

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class SaveMoment(NamedTuple):  # a tuple, for one is made at every step
    """A moment at which a checkpoint could be, or was, taken.

    Attributes:
        progress: The position: what training does next.
        epoch_completed: Whether the epoch before ``progress`` has just been completed, evaluation included.
        seconds: Monotonic seconds since this ``fit`` began; of a checkpoint from before that, 0.
        metrics: Of the evaluation that has just been made, by name; empty where there was none.
        extremes: Of every evaluation of the run before that one: metric to its lowest and highest value.
    """

    progress: Progress
    epoch_completed: bool
    seconds: float
    metrics: Mapping[str, float] = _NOTHING
    extremes: Mapping[str, tuple[float, float]] = _NOTHING


# A run with no checkpoint yet counts from its own beginning.
_BEGINNING = SaveMoment(Progress(), False, 0.0)


class SavePolicy(ABC):
    """Decide when a checkpoint is due. Join policies with ``|``: due when any of them is.

    >>> policy = EveryNEpochs(1) | EveryNSteps(500)
    >>> policy.due(SaveMoment(Progress(500, 0, 500), False, 12.0), None)
    True
    """

    @property
    def metrics(self) -> frozenset[str]:
        """The metrics the policy looks at; one that no evaluation has is a likely misspelling."""
        return frozenset()

    @property
    def on_exception(self) -> bool:
        """Whether an exception that ends ``fit`` is an occasion."""
        return False

    @property
    def by_position(self) -> bool:
        """Whether ``due`` looks at positions alone, so that all ranks of a run find the same; else rank 0 is asked."""
        return False

    @abstractmethod
    def due(self, now: SaveMoment, last: SaveMoment | None) -> bool:
        """Return whether to save now.

        Args:
            now: The present moment.
            last: The newest checkpoint of the run, whichever policy asked for it; after a resume the one resumed
                from, with ``seconds=0``; ``None`` only where the run has none. Passing it makes the saves of a
                resumed run fall where those of the uninterrupted one do.
        """

    def __bool__(self) -> bool:
        """Refuse: ``and`` and ``or`` would drop one of the policies that they were to join."""
        raise InvalidArgumentError(
            "a policy is neither true nor false",
            where="save=",
            received=f"{self!r} before `and`, `or` or `not`, or in a condition",
            expected="policies joined by |",
            remedy="EveryNEpochs(1) | EveryNSteps(500)",
        )

    def __or__(self, other: SavePolicy) -> AnySavePolicy:
        if not isinstance(other, SavePolicy):
            return NotImplemented
        return AnySavePolicy((*_parts(self), *_parts(other)))


def _parts(policy: SavePolicy) -> tuple[SavePolicy, ...]:
    return policy.policies if isinstance(policy, AnySavePolicy) else (policy,)


def split(policy: SavePolicy) -> tuple[tuple[SavePolicy, ...], tuple[SavePolicy, ...]]:
    """Return the parts of ``policy`` that every rank can decide by itself, and those that rank 0 decides for all.

    >>> split(EveryNSteps(500) | EveryNSeconds(600))
    ((EveryNSteps(n=500),), (EveryNSeconds(s=600),))
    """
    parts = _parts(policy)
    return tuple(p for p in parts if p.by_position), tuple(p for p in parts if not p.by_position)


@dataclass(frozen=True)
class AnySavePolicy(SavePolicy):
    """Be due when any of ``policies`` is; what ``|`` builds."""

    policies: tuple[SavePolicy, ...]

    def __post_init__(self) -> None:
        if not self.policies or not all(isinstance(policy, SavePolicy) for policy in self.policies):
            raise InvalidArgumentError(
                "not save policies",
                where="save=",
                received=repr(self.policies),
                expected="one SavePolicy or more",
                remedy="EveryNEpochs(1) | EveryNSteps(500)",
            )

    @property
    def metrics(self) -> frozenset[str]:
        """The metrics any of the policies looks at."""
        return frozenset().union(*(policy.metrics for policy in self.policies))

    @property
    def on_exception(self) -> bool:
        """Whether any of the policies saves then."""
        return any(policy.on_exception for policy in self.policies)

    @property
    def by_position(self) -> bool:
        """Whether all of the policies look at positions alone."""
        return all(policy.by_position for policy in self.policies)

    def due(self, now: SaveMoment, last: SaveMoment | None) -> bool:
        """Return whether any policy is due."""
        return any(policy.due(now, last) for policy in self.policies)


@dataclass(frozen=True)
class EveryNEpochs(SavePolicy):
    """Save after epochs n, 2n, 3n, ... of the run, evaluation included.

    Args:
        n: Epochs between saves, at least 1.
    """

    n: int

    def __post_init__(self) -> None:
        require_int(self.n, "EveryNEpochs(n)", at_least=1)

    @property
    def by_position(self) -> bool:
        """True."""
        return True

    def due(self, now: SaveMoment, last: SaveMoment | None) -> bool:
        """Return whether the epoch just completed is a multiple of ``n`` and not saved yet."""
        if not now.epoch_completed or now.progress.epoch % self.n:
            return False
        return last is None or not last.epoch_completed or last.progress.epoch < now.progress.epoch


@dataclass(frozen=True)
class EveryNSteps(SavePolicy):
    """Save at global steps n, 2n, 3n, ..., or at the first moment after them.

    Args:
        n: Global steps between saves, at least 1.
    """

    n: int

    def __post_init__(self) -> None:
        require_int(self.n, "EveryNSteps(n)", at_least=1)

    @property
    def by_position(self) -> bool:
        """True."""
        return True

    def due(self, now: SaveMoment, last: SaveMoment | None) -> bool:
        """Return whether a multiple of ``n`` was reached after the last checkpoint's step."""
        since = (last or _BEGINNING).progress.global_step
        return now.progress.global_step // self.n > since // self.n


@dataclass(frozen=True)
class EveryNSeconds(SavePolicy):
    """Save at the first moment ``s`` seconds or more after the last checkpoint or the start of ``fit``.

    Args:
        s: Seconds, above 0.
    """

    s: float

    def __post_init__(self) -> None:
        require_number(self.s, "EveryNSeconds(s)", above=0)

    def due(self, now: SaveMoment, last: SaveMoment | None) -> bool:
        """Return whether ``s`` seconds have passed and training has moved."""
        since = last or _BEGINNING
        moved = (now.progress, now.epoch_completed) != (since.progress, since.epoch_completed)
        return moved and now.seconds - since.seconds >= self.s


def widened(
    extremes: Mapping[str, tuple[float, float]], metrics: Mapping[str, float]
) -> dict[str, tuple[float, float]]:
    """Return ``extremes`` with one more evaluation taken in; NaN is no value.

    >>> widened({"acc": (0.3, 0.5)}, {"acc": 0.6, "loss": 0.2})
    {'acc': (0.3, 0.6), 'loss': (0.2, 0.2)}
    """
    wider = dict(extremes)
    for name, value in metrics.items():
        if not math.isnan(value):
            low, high = wider.get(name, (value, value))
            wider[name] = min(low, value), max(high, value)
    return wider


@dataclass(frozen=True)
class OnNewBest(SavePolicy):
    """Save after an evaluation that is better than all before it in the run, the interrupted part included.

    Args:
        metric: The metric's name as ``fit``'s evaluation logs it.
        mode: ``"max"`` or ``"min"``: which end is better.
    """

    metric: str
    mode: str = "max"

    def __post_init__(self) -> None:
        if not self.metric or not isinstance(self.metric, str):
            raise InvalidArgumentError(
                "not a metric's name",
                where="OnNewBest(metric)",
                received=repr(self.metric),
                expected='the name fit logs it by, such as "acc"',
            )
        require_choice(self.mode, "OnNewBest(mode)", choices=("max", "min"))

    @property
    def metrics(self) -> frozenset[str]:
        """The one metric."""
        return frozenset({self.metric})

    def due(self, now: SaveMoment, last: SaveMoment | None) -> bool:
        """Return whether the evaluation just made is the best; one without a value, or with NaN, never is."""
        value = now.metrics.get(self.metric, math.nan)
        if math.isnan(value):
            return False
        low, high = now.extremes.get(self.metric, (math.inf, -math.inf))
        return value > high if self.mode == "max" else value < low


@dataclass(frozen=True)
class OnException(SavePolicy):
    """Save the state of the last whole step when an exception or Ctrl-C ends ``fit`` between two steps.

    Between two steps are the loading of data, the callbacks of an epoch, and evaluation. Within a step the state is no
    step's: nothing is saved then, and the run goes on from its last checkpoint.
    """

    @property
    def on_exception(self) -> bool:
        """True."""
        return True

    @property
    def by_position(self) -> bool:
        """True."""
        return True

    def due(self, now: SaveMoment, last: SaveMoment | None) -> bool:
        """Return False: no ordinary moment is an occasion."""
        return False
