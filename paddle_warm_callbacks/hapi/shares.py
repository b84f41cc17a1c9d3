"""Which of a run's tensors this rank copies and writes, where all ranks write."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from paddle_warm_callbacks.checkpoint import shares
from paddle_warm_callbacks.hapi.parallel import Ranks
from paddle_warm_callbacks.hapi.rank_channel import named
from paddle_warm_callbacks.hapi.staging import bytes_in
from paddle_warm_callbacks.plan.sharing import dealt

logger = logging.getLogger("paddle_warm_callbacks")

# The writing threads of all ranks, as one that agrees.
WRITING = "writing"


class Shares:
    """Deal the tensors that are the same on all ranks to those that write; what is rank 0's own, it writes itself.

    Args:
        rank: Of this process.
        writers: The ranks that write; 0 is one of them.
    """

    def __init__(self, rank: int, writers: Sequence[int]) -> None:
        self._rank = rank
        self._writers = writers
        self._dealt: tuple[object, dict[str, Any]] | None = None

    @classmethod
    def of(cls, ranks: Ranks, run_dir: Path) -> Shares:
        """Find out which ranks can write where rank 0 does. Every rank must call it.

        Raises:
            CheckpointWriteError: On rank 0: the run directory cannot be written to.
            RankError: A rank has failed or is missing.
        """
        found = shares.writers(run_dir, ranks.rank, ranks.agree)
        missing = sorted(set(range(ranks.size)) - set(found))
        if missing and ranks.rank == 0:
            logger.warning(
                "%s cannot write to rank 0's run directory, %s: %s",
                named(missing),
                run_dir,
                f"{len(found)} of {ranks.size} ranks write each checkpoint"
                if len(found) > 1
                else "rank 0 writes alone",
            )
        return cls(ranks.rank, found)

    def mine(self, tensors: Mapping[str, Any], same: Sequence[Collection[str]]) -> dict[str, Any]:
        """Return those of ``tensors`` that this rank writes: for the same mapping, the same dictionary.

        Args:
            tensors: By a name that is the same on all ranks. While it is the same object, the answer is.
            same: Names of those that all ranks hold the same bytes of, in groups. Each is dealt evenly by itself, so
                that what a later one gains or loses moves nothing of an earlier one to another rank.
        """
        if self._dealt is None or self._dealt[0] is not tensors:
            by_rank = self._deal(tensors, same)
            mine = {name: tensor for name, tensor in tensors.items() if by_rank.get(name, 0) == self._rank}
            self._dealt = tensors, mine
        return self._dealt[1]

    def _deal(self, tensors: Mapping[str, Any], same: Sequence[Collection[str]]) -> dict[str, int]:
        sizes = {name: bytes_in(tensor) for name, tensor in tensors.items()}
        loads = dict.fromkeys(self._writers, 0)
        loads[0] = sum(sizes.values()) - sum(sizes[name] for group in same for name in group)
        found: dict[str, int] = {}
        for group in same:
            by_rank = dealt({name: sizes[name] for name in group}, loads)
            for name, rank in by_rank.items():
                loads[rank] += sizes[name]
            found.update(by_rank)
        return found


def agreeing(ranks: Ranks) -> shares.Agree:
    """Return how the writing threads of ``ranks`` agree, beside the training threads' agreements."""
    return partial(ranks.agree, among=WRITING)
