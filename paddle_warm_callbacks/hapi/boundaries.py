"""One decision at one boundary on every rank, though only one rank had cause for it, at no cost to the others' steps.

A boundary is the end of a training step, of an evaluation's batch, or of an epoch; every rank passes the same ones, but
not at the same time. When a rank wants something done (a save because of its clock, a stop because of its signal), it
asks rank 0, which has every rank name the first boundary that it has not passed and will not pass before it is told
more; the greatest of those is where all do it. Between such orders a boundary costs a lock and a comparison, and no
message: at a thousand ranks as at two.
"""

from __future__ import annotations

from paddle_warm_callbacks.hapi.parallel import ConnectedRanks, Ranks
from paddle_warm_callbacks.hapi.rank_channel import Message

_NEVER = -1


class Boundaries:
    """Count the boundaries of one fit on this rank, and hand out what was ordered for each.

    On one rank there are no orders: what that rank wants it does.
    """

    @staticmethod
    def of(ranks: Ranks) -> Boundaries:
        """Return the boundaries of a fit on ``ranks``; once for a fit."""
        return SharedBoundaries(ranks) if isinstance(ranks, ConnectedRanks) else Boundaries()

    def ask(self, order: str) -> None:
        """Have every rank do ``order`` at a boundary to come; from any thread. The same order while it waits: once."""

    def passed(self) -> frozenset[str]:
        """Take note that this rank is at its next boundary; return what is to be done there by all.

        Raises:
            RankError: Another rank has failed, or does not answer within the time limit.
        """
        return frozenset()

    def finished(self) -> None:
        """Take note that no boundary is to come: what is ordered for one will not be done, on any rank."""


class SharedBoundaries(Boundaries):
    """The boundaries of a fit on several ranks.

    Args:
        ranks: Connected.
    """

    def __init__(self, ranks: ConnectedRanks) -> None:
        self._ranks = ranks
        self._count = 0
        self._is_finished = False
        self._hold_at: int | None = None
        self._due: dict[int, set[str]] = {}
        # On rank 0 only: orders whose boundary is not known yet, the first of them being asked about.
        self._open: list[str] = []
        self._limits: dict[int, int] = {}
        for kind, handle in (
            ("ask", self._asked),
            ("hold", self._held),
            ("limit", self._limited),
            ("at", self._ordered),
        ):
            ranks.on(kind, handle)

    def ask(self, order: str) -> None:
        """Send the order to rank 0, or take it there."""
        message = ["ask", order]
        if self._ranks.rank:
            self._ranks.channel.send(0, message)
            return
        with self._ranks.changed:
            self._asked(0, message)
            self._ranks.changed.notify_all()

    def passed(self) -> frozenset[str]:
        """Count; wait only if this is the boundary that this rank has named and the answer is under way."""
        ranks = self._ranks
        with ranks.changed:
            self._count += 1
            if ranks.failure is not None:
                raise ranks.failure
            if self._hold_at is not None and self._count >= self._hold_at:
                ranks.wait_until(
                    lambda: self._hold_at is None, "the boundary to save or stop at", self._silent
                )
            return frozenset(self._due.pop(self._count, ()))

    def finished(self) -> None:
        """Answer from now on that there is no boundary left."""
        with self._ranks.changed:
            self._is_finished = True

    def _silent(self) -> list[int]:
        others = range(1, self._ranks.size)
        return [rank for rank in others if rank not in self._limits] if self._ranks.rank == 0 else [0]

    def _asked(self, rank: int, message: Message) -> None:
        order = str(message[1])
        if order in self._open:
            return
        self._open.append(order)
        if len(self._open) == 1:
            self._collect()

    def _collect(self) -> None:
        self._limits = {}
        self._ranks.channel.send_all(["hold"])
        self._held(0, ["hold"])

    def _held(self, rank: int, message: Message) -> None:
        self._hold_at = self._count + 1
        answer = ["limit", _NEVER if self._is_finished else self._hold_at]
        if self._ranks.rank:
            self._ranks.channel.send(0, answer)
        else:
            self._limited(0, answer)

    def _limited(self, rank: int, message: Message) -> None:
        self._limits[rank] = int(message[1])
        if len(self._limits) < self._ranks.size:
            return
        at = _NEVER if _NEVER in self._limits.values() else max(self._limits.values())
        decided = ["at", at, self._open.pop(0)]
        self._ranks.channel.send_all(decided)
        self._ordered(0, decided)
        if self._open:
            self._collect()

    def _ordered(self, rank: int, message: Message) -> None:
        _, at, order = message
        self._hold_at = None
        if at != _NEVER:
            self._due.setdefault(at, set()).add(order)
