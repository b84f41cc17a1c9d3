"""What the checkpoints of a fit cost: told in events, and on the board."""

from __future__ import annotations

from dataclasses import replace

from paddle_warm_callbacks.checkpoint.in_flight import SaveEvent
from paddle_warm_callbacks.checkpoint.mirroring import MirrorEvent
from paddle_warm_callbacks.checkpoint.names import position_of
from paddle_warm_callbacks.hapi.board import Board
from paddle_warm_callbacks.hapi.staging import Copying


class SaveCosts:
    """Note what each checkpoint of one fit cost.

    Args:
        board: Gets it too, one value of each tag a step.

    Attributes:
        events: One for each committed checkpoint, with all that training waited for it.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._shown: dict[str, int] = {}
        self._seconds = 0.0
        self._copying: Copying | None = None
        self.events: list[SaveEvent] = []

    def handed_over(self, seconds: float, copying: Copying | None) -> None:
        """Note a checkpoint that is on its way.

        Args:
            seconds: How long training has waited for it so far.
            copying: What its next writes wait for, or None.
        """
        self._seconds, self._copying = seconds, copying

    def training_goes_on(self, seconds: float) -> None:
        """Note how long training has waited now that it goes on; a checkpoint committed by then has missed it."""
        self._seconds = seconds

    def committed(self, event: SaveEvent, mirror_lag: float | None) -> None:
        """Note that the checkpoint on its way is committed; on the writer's thread."""
        held = 0.0 if self._copying is None else self._copying.seconds_held
        event = replace(event, seconds_blocked=event.seconds_blocked + self._seconds + held)
        self.events.append(event)
        self._show(
            event.name,
            seconds_blocked=event.seconds_blocked,
            seconds_to_durable=event.seconds_to_durable,
            bytes=event.bytes_written,
        )
        if mirror_lag is not None:
            self._show(event.name, mirror_lag=mirror_lag)

    def mirrored(self, event: MirrorEvent) -> None:
        """Note a checkpoint that has arrived at the mirror; on the mirror's thread."""
        self._show(
            event.name,
            seconds_to_mirror=event.seconds,
            bytes_to_mirror=event.bytes_sent,
            passed_over_by_mirror=event.passed_over,
        )

    def _show(self, name: str, **values: float) -> None:
        """Put values on the board, one for each step: not again where a checkpoint takes another's place."""
        position = position_of(name)
        assert position is not None
        step = position.global_step
        new = {tag: value for tag, value in values.items() if self._shown.get(tag) != step}
        self._shown.update(dict.fromkeys(new, step))
        self._board.points += [(f"checkpoint/{tag}", step, value) for tag, value in new.items()]
