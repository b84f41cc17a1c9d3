"""Whether all ranks have the same parameters, to the bit, and if not, which parameter is the first to differ."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from paddle_warm_callbacks.checkpoint.digests import digest_of
from paddle_warm_callbacks.errors import RankError
from paddle_warm_callbacks.hapi.parallel import Ranks
from paddle_warm_callbacks.hapi.rank_channel import named
from paddle_warm_callbacks.hapi.staging import borrowed
from paddle_warm_callbacks.hapi.trained import Trained

logger = logging.getLogger("paddle_warm_callbacks")

_INTO_THE_NETWORK = "Make them parameters of the network, and use them in its forward, not in the loss"


def warn_of_the_loss(ranks: Ranks, trained: Trained) -> None:
    """Say, on rank 0 of several, that what the loss trains will not be the same on all ranks."""
    alone = sorted(trained.trained_in_loss())
    if alone and ranks.many and ranks.rank == 0:
        logger.warning(
            "the loss has parameters of its own, %s: DataParallel is around the network and does not average their "
            "gradients, so that each rank will train another loss. %s",
            ", ".join(alone[:5]),
            _INTO_THE_NETWORK,
        )


def require(ranks: Ranks, trained: Trained, when: str) -> None:
    """Raise on every rank if the parameters of one are not those of rank 0; see :class:`Comparison`.

    Args:
        ranks: Of the run; nothing is done on one rank.
        trained: The network, and its loss.
        when: In words, the same on every rank.

    Raises:
        RankError: They differ; the first parameter that does is named.
    """
    if ranks.many:
        comparison = Comparison(ranks, trained, when)
        comparison.look()
        comparison.require()


class Comparison:
    """Whether the parameters of all ranks are those of rank 0, looked at now and compared when there is time.

    Running statistics and other buffers are left out: each rank has its own. Costs a pass over the parameters, and one
    message for each rank; on a GPU, where this has not been run, also their transfer to the host, one by one.

    Args:
        ranks: Of the run.
        trained: The network, and its loss.
        when: In words, the same on every rank.

    Attributes:
        parameters: Those compared, by name.
        differ: Whether that has been found; on every rank, before :meth:`require` raises.
    """

    def __init__(self, ranks: Ranks, trained: Trained, when: str) -> None:
        self._ranks = ranks
        self._trained = trained
        self._when = when
        self._digests: dict[str, str] = {}
        self.parameters = trained.same_on_all_ranks()
        self.differ = False

    def look(self) -> None:
        """Digest the parameters, on any thread; nothing may change them meanwhile."""
        self._digests = {name: digest_of(bytes_of(borrowed(p))) for name, p in self.parameters.items()}

    def require(self, *, whole: bool = True, among: str = "training") -> None:
        """Compare what was seen; every rank must call it.

        Args:
            whole: Whether nothing has changed the parameters while :meth:`look` was at it; if something has on any
                rank, nothing is compared.
            among: See :meth:`Ranks.agree`.

        Raises:
            RankError: They differ; the first parameter that does is named.
        """
        what = f"whether the parameters are the same, {self._when}"
        seen = digest_of("".join(self._digests.values()).encode()) if whole else None
        if self._ranks.agree(what, seen, _all_the_same, among=among):
            return
        name, others = self._ranks.agree(what + ", one by one", self._digests, _first_difference, among=among)
        self.differ = True
        raise RankError(
            "the parameters are not the same on all ranks",
            where=f"{name}, {self._when}",
            received=f"other values on {named(others)} than on rank 0; {len(self._digests)} parameters were compared "
            "in order",
            expected="the same bits on every rank",
            remedy=_INTO_THE_NETWORK
            if name in self._trained.trained_in_loss()
            else "let nothing but averaged gradients move a parameter: no ReduceLROnPlateau or EarlyStopping on a "
            "rank's own loss, no layer thawed or built anew after paddle.Model(...) except by StagedUnfreeze",
        )


def bytes_of(array: np.ndarray[Any, Any]) -> memoryview:
    """Return an array's bytes in C order, without a copy where they lie so."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _all_the_same(digests: Sequence[str | None]) -> bool:
    return None in digests or len(set(digests)) == 1


def _first_difference(parts: Sequence[dict[str, str]]) -> tuple[str, list[int]]:
    for name, expected in parts[0].items():
        others = [rank for rank, digests in enumerate(parts) if digests.get(name) != expected]
        if others:
            return name, others
    raise AssertionError("digests of the whole differ, and those of no parameter")
