"""When to save: policies that say whether a checkpoint is due at a moment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from paddle_warm_callbacks.arguments import require_int, require_number
from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.progress import Progress


@dataclass(frozen=True)
class SaveMoment:
    """A moment at which a checkpoint could be, or was, taken.

    Attributes:
        progress: The position: what training does next.
        epoch_completed: Whether the epoch before ``progress`` has just been completed, evaluation included.
        seconds: Monotonic seconds since this ``fit`` began; of a checkpoint from before that, 0.
    """

    progress: Progress
    epoch_completed: bool
    seconds: float


# A run with no checkpoint yet counts from its own beginning.
_BEGINNING = SaveMoment(Progress(), False, 0.0)


class SavePolicy(ABC):
    """Decide when a checkpoint is due. Join policies with ``|``: due when any of them is.

    >>> policy = EveryNEpochs(1) | EveryNSteps(500)
    >>> policy.due(SaveMoment(Progress(500, 0, 500), False, 12.0), None)
    True
    """

    @abstractmethod
    def due(self, now: SaveMoment, last: SaveMoment | None) -> bool:
        """Return whether to save now.

        Args:
            now: The present moment.
            last: The newest checkpoint of the run, whichever policy asked for it; after a resume the one resumed
                from, with ``seconds=0``; ``None`` only where the run has none. Passing it makes the saves of a
                resumed run fall where those of the uninterrupted one do.
        """

    def __or__(self, other: SavePolicy) -> AnySavePolicy:
        if not isinstance(other, SavePolicy):
            return NotImplemented
        return AnySavePolicy((*_parts(self), *_parts(other)))


def _parts(policy: SavePolicy) -> tuple[SavePolicy, ...]:
    return policy.policies if isinstance(policy, AnySavePolicy) else (policy,)


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

    def due(self, now: SaveMoment, last: SaveMoment | None) -> bool:
        """Return whether the epoch just completed is a multiple of ``n`` and not saved yet."""
        saved = last is not None and last.epoch_completed and last.progress.epoch >= now.progress.epoch
        return now.epoch_completed and now.progress.epoch % self.n == 0 and not saved


@dataclass(frozen=True)
class EveryNSteps(SavePolicy):
    """Save at global steps n, 2n, 3n, ..., or at the first moment after them.

    Args:
        n: Global steps between saves, at least 1.
    """

    n: int

    def __post_init__(self) -> None:
        require_int(self.n, "EveryNSteps(n)", at_least=1)

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
