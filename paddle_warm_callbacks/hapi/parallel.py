"""The ranks of one run: who this is, and how all of them come to one decision.

Everything that one rank must not decide by itself is an *agreement*: every rank hands in its part, rank 0 decides, and
all get the outcome, or all get an error that names the rank at fault. A run of one rank has nobody to ask: its
agreements are plain calls.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from typing import Any, Callable

import paddle
from paddle.base import core

from paddle_warm_callbacks.checkpoint import jsonvalue
from paddle_warm_callbacks.errors import RankError, UnsupportedFitError
from paddle_warm_callbacks.hapi.rank_channel import BYE, LOST, Message, RankChannel, missing_error, named

logger = logging.getLogger("paddle_warm_callbacks")

Decision = Callable[[Sequence[Any]], Any]
Reaction = Callable[[int, Message], None]

# How long a rank is waited for: ranks reach a save at different times, and rank 0 may have a checkpoint to read.
_SECONDS = 600.0
SECONDS_VARIABLE = "PADDLE_WARM_CALLBACKS_RANK_SECONDS"

_fits = 0


def connect() -> Ranks:
    """Return the ranks of this process's run, connected for one fit; every rank must call it.

    Raises:
        RankError: A rank did not come within the time limit, ``PADDLE_WARM_CALLBACKS_RANK_SECONDS`` or 600 seconds.
    """
    size = paddle.distributed.get_world_size()
    if size == 1:
        return Ranks()
    global _fits
    _fits += 1
    seconds = float(os.environ.get(SECONDS_VARIABLE, _SECONDS))
    host = os.environ["PADDLE_CURRENT_ENDPOINT"].rpartition(":")[0]
    return ConnectedRanks(
        paddle.distributed.get_rank(), size, _StoreBulletin(f"paddle_warm_callbacks/{_fits}"), host, seconds
    )


class Ranks:
    """A run of one rank, which agrees with itself at no cost; the base of runs of many.

    Attributes:
        rank: Of this process, from 0.
        size: How many there are.
    """

    rank = 0
    size = 1

    @property
    def many(self) -> bool:
        """Whether there are others."""
        return self.size > 1

    def agree(
        self,
        what: str,
        mine: Any = None,
        decide: Decision | None = None,
        *,
        each: bool = False,
        among: str = "training",
    ) -> Any:
        """Return one outcome on every rank.

        Args:
            what: What is agreed on, the same words on every rank; for errors.
            mine: This rank's part: values that jsonvalue encodes.
            decide: Called on rank 0 with all parts, by rank; returns the outcome. What it raises is raised there, and
                as RankError everywhere else. None: the outcome is None, and everybody has come.
            each: The outcome is a list of one outcome for each rank.
            among: Which thread of each rank it is that agrees; a rank's agreements of one kind come one after the
                other.

        Raises:
            RankError: A rank has failed, is gone, or did not come within the time limit; it is named.
        """
        outcome: Any = None if decide is None else decide([mine])
        return outcome[0] if each else outcome

    def on(self, kind: str, react: Reaction) -> None:
        """Have ``react`` called with (rank, message) of this kind, on a thread of the channel, one at a time."""

    def close(self, failure: str | None = None) -> None:
        """Leave the others: with a goodbye, or, if fit ends by an exception, with word of it."""


class ConnectedRanks(Ranks):
    """The ranks of a distributed run, connected in a star around rank 0.

    Args:
        rank: Of this process.
        size: How many there are.
        bulletin: Where rank 0 says its address.
        host: By which the others reach rank 0.
        seconds: Time limit of every wait for another rank.

    Attributes:
        changed: Guards and announces every change that a message makes.
        failure: What ended the run of another rank, once that is known.
        seconds: The time limit.
    """

    def __init__(self, rank: int, size: int, bulletin: Any, host: str, seconds: float) -> None:
        self.rank = rank
        self.size = size
        self.seconds = seconds
        self.changed = threading.Condition()
        self.failure: RankError | None = None
        # By kind of thread how many agreements there were; by "<kind> <number>" what came for one.
        self._rounds: dict[str, int] = {}
        self._parts: dict[str, dict[int, tuple[str, Any]]] = {}
        self._outcomes: dict[str, Any] = {}
        self._left: set[int] = set()
        self._reactions: dict[str, Reaction] = {
            "part": self._part_came,
            "outcome": self._outcome_came,
            "failed": self._failure_came,
            BYE: self._goodbye_came,
            LOST: self._loss_came,
        }
        self.channel = RankChannel(rank, size, bulletin, host, seconds, self._received)
        self.channel.listen()

    def agree(
        self,
        what: str,
        mine: Any = None,
        decide: Decision | None = None,
        *,
        each: bool = False,
        among: str = "training",
    ) -> Any:
        """Exchange one message with rank 0 for each rank; see the base."""
        self._rounds[among] = self._rounds.get(among, 0) + 1
        this = f"{among} {self._rounds[among]}"
        part = jsonvalue.encode(mine)
        if self.rank == 0:
            return self._decide(this, what, part, decide, each)
        self.channel.send(0, ["part", this, what, part])
        self.wait_until(lambda: this in self._outcomes, what, lambda: [0])
        return jsonvalue.decode(self._outcomes.pop(this))

    def on(self, kind: str, react: Reaction) -> None:
        """See the base; ``react`` is called with ``changed`` held.

        Raises:
            UnsupportedFitError: Something else reacts to messages of this kind.
        """
        if kind in self._reactions:
            raise UnsupportedFitError(
                "two callbacks want to order saves on several ranks",
                where="fit(callbacks=)",
                received="a second PeriodicCheckpoint",
                expected="one, on several ranks",
                remedy='join its policies to the first: save=EveryNEpochs(1) | OnNewBest("acc")',
            )
        self._reactions[kind] = react

    def close(self, failure: str | None = None) -> None:
        """Leave; what another rank has failed of need not be told again."""
        if failure is not None and self.failure is None:
            self._tell_failure(failure)
        self.channel.close(patient=failure is None and self.failure is None)

    def wait_until(self, ready: Callable[[], bool], what: str, missing: Callable[[], list[int]]) -> None:
        """Wait for what a message will bring about.

        Args:
            ready: Whether it has.
            what: What is waited for, for the error.
            missing: The ranks that have not come.

        Raises:
            RankError: Another rank has failed or left, or the time limit has passed.
        """
        # Rank 0, when its time is up, can say who is missing: the others give it the time for that.
        seconds = self.seconds if self.rank == 0 else 1.25 * self.seconds + 1.0
        with self.changed:
            self.changed.wait_for(
                lambda: ready() or self.failure is not None or bool(self._left.intersection(missing())),
                seconds,
            )
            if ready():
                return
            if self.failure is not None:
                raise self.failure
            gone = sorted(self._left.intersection(missing()))
            if gone:
                raise RankError(
                    f"{named(gone)} has left fit, and is needed for {what}",
                    where=f"rank {self.rank}",
                    received=f"the end of fit on {named(gone)}",
                    expected="the same steps and callbacks on every rank",
                    remedy="give every rank the same number of batches: a DistributedBatchSampler does",
                )
            raise missing_error(what, missing(), seconds)

    def _decide(self, this: str, what: str, part: Any, decide: Decision | None, each: bool) -> Any:
        with self.changed:
            parts = self._parts.setdefault(this, {})
            parts[0] = (what, part)
        self.wait_until(
            lambda: len(parts) == self.size, what, lambda: [r for r in range(self.size) if r not in parts]
        )
        del self._parts[this]
        elsewhere = {rank: there for rank, (there, _) in parts.items() if there != what}
        if elsewhere:
            raise RankError(
                f"{named(elsewhere)} came to something else than {what}",
                where="rank 0, " + what,
                received="; ".join(f"rank {rank}: {there}" for rank, there in sorted(elsewhere.items())),
                expected="the same callbacks, with the same arguments, and the same steps on every rank",
            )
        outcome: Any = None
        if decide is not None:
            outcome = decide([jsonvalue.decode(parts[rank][1]) for rank in range(self.size)])
        if each:
            for rank in range(1, self.size):
                self.channel.send(rank, ["outcome", this, jsonvalue.encode(outcome[rank])])
            return outcome[0]
        self.channel.send_all(["outcome", this, jsonvalue.encode(outcome)])
        return outcome

    # -- what comes in, on the channel's threads ---------------------------------------------------------------------

    def _received(self, rank: int, message: Message) -> None:
        with self.changed:
            self._reactions[message[0]](rank, message)
            self.changed.notify_all()

    def _part_came(self, rank: int, message: Message) -> None:
        _, this, what, part = message
        self._parts.setdefault(this, {})[rank] = (what, part)

    def _outcome_came(self, rank: int, message: Message) -> None:
        _, this, outcome = message
        self._outcomes[this] = outcome

    def _goodbye_came(self, rank: int, message: Message) -> None:
        self._left.add(rank)

    def _failure_came(self, rank: int, message: Message) -> None:
        _, failed, text = message
        self._fail_with(
            RankError(
                f"rank {failed} has failed: {text}",
                where=f"rank {failed}",
                remedy="see that rank's log for the whole of it; the last committed checkpoint is intact",
            ),
            failed,
            text,
        )

    def _loss_came(self, rank: int, message: Message) -> None:
        text = "its process is gone, without a word"
        self._fail_with(
            RankError(
                f"rank {rank} is gone",
                where=f"rank {rank}",
                received="the end of its connection",
                expected="a living process",
                remedy="look at its log, and at the kernel's for a lack of memory; rerun the command to resume",
            ),
            rank,
            text,
        )

    def _fail_with(self, failure: RankError, failed: int, text: str) -> None:
        if self.failure is not None:
            return
        self.failure = failure
        logger.error("%s", failure.what)
        if self.rank == 0:
            self.channel.send_all(["failed", failed, text])

    def _tell_failure(self, text: str) -> None:
        if self.rank == 0:
            self.channel.send_all(["failed", 0, text])
        else:
            self.channel.send(0, ["failed", self.rank, text])


class _StoreBulletin:
    """A place in the store that Paddle's ranks have found each other by."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._store = core.create_or_get_global_tcp_store()

    def put(self, text: str) -> None:
        self._store.set(self._key, text)
        self._store.add(self._key + "?", 1)

    def take(self) -> str | None:
        # Its get would block, without a way to give up, while there is nothing.
        if not self._store.add(self._key + "?", 0):
            return None
        return bytes(self._store.get(self._key)).decode("ascii")
