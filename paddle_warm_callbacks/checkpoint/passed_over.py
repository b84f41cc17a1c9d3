"""Checkpoints that are passed over on the way to one that verifies, told once."""

from __future__ import annotations

import logging
from types import TracebackType

from paddle_warm_callbacks.errors import NoUsableCheckpointError, WarmCallbacksError

logger = logging.getLogger("paddle_warm_callbacks")

_MOST_TOLD = 5


class PassedOver:
    """What was passed over: told as warnings, or by the error that there is nothing else.

    A context manager around the search: the warnings are logged when it ends, however it ends, except by that error,
    which names them itself.

    Args:
        superlative: Which is searched for: "newest" or "best".

    Example:
        >>> with PassedOver("newest") as passed:
        ...     passed.none_is_whole("runs/defects", remedy="name another run")  # there was none
    """

    def __init__(self, superlative: str) -> None:
        self._superlative = superlative
        self._warnings: list[str] = []
        self._problems: list[str] = []

    def add(self, name: str, why: Exception, *, place: str = "") -> None:
        """Pass over the checkpoint ``name``.

        Args:
            name: The checkpoint's.
            why: What is wrong with it.
            place: Where it was looked at, of several places: ``"here"``, ``"at s3://models/defects"``.
        """
        place = place and f" {place}"
        self._warnings.append(f"{name}, the {self._superlative} so far, is passed over{place}: {why}")
        told = f"{why.what} ({why.where})" if isinstance(why, WarmCallbacksError) else str(why)
        self._problems.append(f"{name}{place}: {told}")

    def none_is_whole(self, where: str, *, remedy: str) -> None:
        """Say that nothing is left; returns where nothing was passed over, for then there is no checkpoint at all.

        Raises:
            NoUsableCheckpointError: Something was.
        """
        if not self._problems:
            return
        more = len(self._problems) - _MOST_TOLD
        told = [*self._problems[:_MOST_TOLD], *([f"and {more} more"] if more > 0 else [])]
        self._warnings.clear()
        raise NoUsableCheckpointError(
            "there are checkpoints, and none of them is whole",
            where=where,
            received="; ".join(told),
            expected="one that verifies",
            remedy=remedy,
        )

    def __enter__(self) -> PassedOver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for warning in self._warnings:
            logger.warning("%s", warning)
