"""Which process of a distributed run this is, and what this release refuses to do there."""

from __future__ import annotations

import paddle

from paddle_warm_callbacks.errors import UnsupportedFitError


def refuse_many_ranks(what: str) -> None:
    """Refuse ``what`` in a run of several ranks rather than do it wrongly.

    Raises:
        UnsupportedFitError: ``paddle.distributed.get_world_size()`` is above 1.
    """
    ranks = paddle.distributed.get_world_size()
    if ranks > 1:
        raise UnsupportedFitError(
            f"{what} does not work on several ranks yet",
            where=what,
            received=f"{ranks} ranks",
            expected="1 rank",
            remedy="train on one device, or leave this callback out of the distributed run",
        )
