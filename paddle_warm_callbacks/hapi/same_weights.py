"""Whether all ranks have the same parameters, to the bit, and if not, which parameter is the first to differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from paddle_warm_callbacks.checkpoint.digests import digest_of, new_digest
from paddle_warm_callbacks.errors import RankError
from paddle_warm_callbacks.hapi import freezing
from paddle_warm_callbacks.hapi.parallel import Ranks
from paddle_warm_callbacks.hapi.rank_channel import named
from paddle_warm_callbacks.hapi.staging import borrowed


def require(ranks: Ranks, network: Any, when: str) -> None:
    """Raise on every rank if the parameters of one are not those of rank 0.

    Running statistics and other buffers are left out: each rank has its own. Costs a pass over the parameters (on a
    GPU: their transfer to the host), and one message for each rank.

    Args:
        ranks: Of the run; nothing is done on one rank.
        network: The Layer.
        when: In words, the same on every rank.

    Raises:
        RankError: They differ; the first parameter that does is named.
    """
    if not ranks.many:
        return
    movable = freezing.trainable_sizes(network)
    parameters = {name: parameter for name, parameter in network.named_parameters() if name in movable}
    whole = new_digest()
    for parameter in parameters.values():
        whole.update(bytes_of(borrowed(parameter)))
    what = f"whether the parameters are the same, {when}"
    if ranks.agree(what, whole.hexdigest(), _all_the_same):
        return
    single = {name: digest_of(bytes_of(borrowed(parameter))) for name, parameter in parameters.items()}
    name, others = ranks.agree(what + ", one by one", single, _first_difference)
    raise RankError(
        "the parameters are not the same on all ranks",
        where=f"{name}, {when}",
        received=f"other values on {named(others)} than on rank 0; {len(single)} parameters were compared in order",
        expected="the same bits on every rank",
        remedy="let nothing but averaged gradients move a parameter: no ReduceLROnPlateau or EarlyStopping on a "
        "rank's own loss, no layer thawed or built anew after paddle.Model(...) except by StagedUnfreeze",
    )


def bytes_of(array: np.ndarray[Any, Any]) -> memoryview:
    """Return an array's bytes in C order, without a copy where they lie so."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _all_the_same(digests: Sequence[str]) -> bool:
    return len(set(digests)) == 1


def _first_difference(parts: Sequence[dict[str, str]]) -> tuple[str, list[int]]:
    for name, expected in parts[0].items():
        others = [rank for rank, digests in enumerate(parts) if digests.get(name) != expected]
        if others:
            return name, others
    raise AssertionError("digests of the whole differ, and those of no parameter")
