"""Whether to save, and whether to stop, at the boundary training is at: the same answer on every rank."""

from __future__ import annotations

from paddle_warm_callbacks.hapi.boundaries import Boundaries
from paddle_warm_callbacks.hapi.parallel import Ranks
from paddle_warm_callbacks.hapi.preemption import SignalFlag
from paddle_warm_callbacks.plan.saving import SaveMoment, SavePolicy, split

_SAVE = "save"


class SaveDecisions:
    """Decide for one fit.

    On one rank its policy and its signals decide at once. On several, what follows from the position each rank finds by
    itself; a clock, metrics and a user's own policy are rank 0's, and a signal may come to any rank: those are ordered
    for a boundary that no rank has passed, one or two steps later, or, where an epoch has been completed, agreed on.

    Args:
        ranks: Of the run.
        policy: When to save.
        signal: The flag of this process, or None.

    Attributes:
        stop_for: Name of the signal for which training stops at this boundary; None: it goes on.
    """

    def __init__(self, ranks: Ranks, policy: SavePolicy, signal: SignalFlag | None) -> None:
        self._ranks = ranks
        self._policy = policy
        self._everywhere, self._on_rank_0 = split(policy)
        self._signal = signal
        self._boundaries = Boundaries.of(ranks)
        self._save_ordered = False
        self._save_asked = False
        self.stop_for: str | None = None

    def signal_came(self) -> None:
        """Have every rank save and stop; called in the thread that reads signals."""
        if self._signal is not None and self._signal.received is not None:
            self._boundaries.ask(self._signal.received)

    def boundary_passed(self) -> None:
        """Learn what is to be done at this boundary; every rank calls it at each, in the same order."""
        orders = self._boundaries.passed()
        if not self._ranks.many:
            self.stop_for = None if self._signal is None else self._signal.received
            return
        self._save_ordered |= _SAVE in orders
        signals = sorted(orders - {_SAVE})
        if signals and self.stop_for is None:
            self.stop_for = signals[0]

    def due(self, now: SaveMoment, last: SaveMoment | None) -> bool:
        """Return whether a checkpoint is due by the policy."""
        if not self._ranks.many:
            return self._policy.due(now, last)
        if self._save_ordered or any(policy.due(now, last) for policy in self._everywhere):
            return True
        if not self._on_rank_0:
            return False
        if now.epoch_completed:
            wanted: bool = self._ranks.agree(
                f"whether to save after epoch {now.progress.epoch}",
                None,
                lambda _: self._due_on_rank_0(now, last),
            )
            return wanted
        if self._ranks.rank == 0 and not self._save_asked and self._due_on_rank_0(now, last):
            self._save_asked = True
            self._boundaries.ask(_SAVE)
        return False

    def saved(self) -> None:
        """Take note that a checkpoint is being taken."""
        self._save_ordered = self._save_asked = False

    def save_again(self) -> None:
        """Have every rank save at a boundary to come: this rank's copy for the last save was worthless."""
        self._boundaries.ask(_SAVE)

    def training_ended(self) -> None:
        """Take note that no boundary is to come."""
        self._boundaries.finished()

    def _due_on_rank_0(self, now: SaveMoment, last: SaveMoment | None) -> bool:
        return any(policy.due(now, last) for policy in self._on_rank_0)
