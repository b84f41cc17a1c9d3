"""Which committed checkpoints to keep: policies from records to the names that stay."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paddle_warm_callbacks.arguments import require_choice, require_int
from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.progress import Progress


@dataclass(frozen=True)
class CheckpointRecord:
    """What a retention policy knows of one committed checkpoint.

    Attributes:
        name: Its name, unique in the run directory.
        progress: The position it was taken at.
        epoch_completed: Whether it was taken after an epoch and its evaluation.
        metrics: Metric name to value at that time.
    """

    name: str
    progress: Progress
    epoch_completed: bool
    metrics: Mapping[str, float]


class RetentionPolicy(ABC):
    """Name the checkpoints that stay. Join policies with ``|``: what any of them keeps, stays.

    The newest checkpoint is kept by the store whatever a policy says.

    >>> (KeepLatest(3) | KeepBest("acc")).metrics
    frozenset({'acc'})
    """

    @abstractmethod
    def keep(self, records: Sequence[CheckpointRecord]) -> frozenset[str]:
        """Return the names to keep, a subset of the names of ``records``, which are oldest first."""

    def settled(self, records: Sequence[CheckpointRecord]) -> frozenset[str]:
        """Return those of :meth:`keep` that stay whatever is added later: the policy need not see them again."""
        return frozenset()

    @property
    def metrics(self) -> frozenset[str]:
        """The metrics the policy looks at; one that no record has is a likely misspelling."""
        return frozenset()

    def __bool__(self) -> bool:
        """Refuse: ``and`` and ``or`` would drop one of the policies that they were to join."""
        raise InvalidArgumentError(
            "a policy is neither true nor false",
            where="keep=",
            received=f"{self!r} before `and`, `or` or `not`, or in a condition",
            expected="policies joined by |",
            remedy='KeepLatest(3) | KeepBest("acc")',
        )

    def __or__(self, other: RetentionPolicy) -> AnyRetentionPolicy:
        if not isinstance(other, RetentionPolicy):
            return NotImplemented
        return AnyRetentionPolicy((*_parts(self), *_parts(other)))


def _parts(policy: RetentionPolicy) -> tuple[RetentionPolicy, ...]:
    return policy.policies if isinstance(policy, AnyRetentionPolicy) else (policy,)


@dataclass(frozen=True)
class AnyRetentionPolicy(RetentionPolicy):
    """Keep what any of ``policies`` keeps; what ``|`` builds."""

    policies: tuple[RetentionPolicy, ...]

    def __post_init__(self) -> None:
        if not self.policies or not all(isinstance(policy, RetentionPolicy) for policy in self.policies):
            raise InvalidArgumentError(
                "not retention policies",
                where="keep=",
                received=repr(self.policies),
                expected="one RetentionPolicy or more",
                remedy='KeepLatest(3) | KeepBest("acc")',
            )

    def keep(self, records: Sequence[CheckpointRecord]) -> frozenset[str]:
        """Return the union of what the policies keep."""
        return frozenset().union(*(policy.keep(records) for policy in self.policies))

    def settled(self, records: Sequence[CheckpointRecord]) -> frozenset[str]:
        """Return what one policy has settled and no other one keeps for the time being."""
        for_good = frozenset[str]().union(*(policy.settled(records) for policy in self.policies))
        return for_good.difference(
            *(policy.keep(records) - policy.settled(records) for policy in self.policies)
        )

    @property
    def metrics(self) -> frozenset[str]:
        """The metrics any of the policies looks at."""
        return frozenset().union(*(policy.metrics for policy in self.policies))


@dataclass(frozen=True)
class KeepLatest(RetentionPolicy):
    """Keep the newest ``n`` checkpoints.

    Args:
        n: How many, at least 1.
    """

    n: int

    def __post_init__(self) -> None:
        require_int(self.n, "KeepLatest(n)", at_least=1)

    def keep(self, records: Sequence[CheckpointRecord]) -> frozenset[str]:
        """Return the names of the last ``n`` records."""
        return frozenset(record.name for record in records[-self.n :])


@dataclass(frozen=True)
class KeepBest(RetentionPolicy):
    """Keep the ``n`` checkpoints with the best value of one metric.

    A checkpoint without the metric, or with NaN, is never among them. Of equal values the newer is better.

    Args:
        metric: The metric's name as ``fit`` logs it.
        mode: "max" if greater is better, "min" if less is.
        n: How many, at least 1.
    """

    metric: str
    mode: str = "max"
    n: int = 1

    def __post_init__(self) -> None:
        if not self.metric or not isinstance(self.metric, str):
            raise InvalidArgumentError(
                "not a metric's name",
                where="KeepBest(metric)",
                received=repr(self.metric),
                expected='the name fit logs it under, such as "acc"',
            )
        require_choice(self.mode, "KeepBest(mode=)", choices=("max", "min"))
        require_int(self.n, "KeepBest(n=)", at_least=1)

    def ranked(self, records: Sequence[CheckpointRecord]) -> tuple[CheckpointRecord, ...]:
        """Return the records that have the metric, best first."""
        sign = 1.0 if self.mode == "max" else -1.0
        newest_first = [
            record
            for record in reversed(records)
            if not math.isnan(record.metrics.get(self.metric, math.nan))
        ]
        # sorted() is stable, so that newer records come first among equal ones.
        return tuple(sorted(newest_first, key=lambda record: -sign * record.metrics[self.metric]))

    def best(self, records: Sequence[CheckpointRecord]) -> CheckpointRecord | None:
        """Return the best record, or ``None`` where no record has the metric."""
        return next(iter(self.ranked(records)), None)

    def keep(self, records: Sequence[CheckpointRecord]) -> frozenset[str]:
        """Return the names of the best ``n`` records."""
        return frozenset(record.name for record in self.ranked(records)[: self.n])

    @property
    def metrics(self) -> frozenset[str]:
        """The one metric."""
        return frozenset({self.metric})


@dataclass(frozen=True)
class KeepEvery(RetentionPolicy):
    """Keep for good the checkpoints taken after epochs n, 2n, 3n, ... of the run.

    Args:
        n_epochs: Epochs between those, at least 1.
    """

    n_epochs: int

    def __post_init__(self) -> None:
        require_int(self.n_epochs, "KeepEvery(n_epochs)", at_least=1)

    def keep(self, records: Sequence[CheckpointRecord]) -> frozenset[str]:
        """Return the names of the checkpoints whose number of completed epochs is a multiple of ``n_epochs``."""
        return frozenset(
            record.name
            for record in records
            if record.epoch_completed and record.progress.epoch % self.n_epochs == 0
        )

    def settled(self, records: Sequence[CheckpointRecord]) -> frozenset[str]:
        """Return all it keeps."""
        return self.keep(records)
