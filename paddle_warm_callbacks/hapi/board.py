"""What callbacks have to show, for whichever callback shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Board:
    """Carry values from those who know them to those who log them, so that neither knows the other.

    Attributes:
        measures: Tag to its value now; logged with the steps of training.
        points: (tag, global step, value), each at a step of its own, in the order they came to be known; only added to.
        pictures: (tag, global step, picture: uint8 [height, width, 3], RGB), in the order they came; only added to.
        texts: Tag to text: how this ``fit`` started.
        hparams: Name to setting of this run, by which runs are compared.
        before_commit: Called before a checkpoint is handed to the writer, on whichever thread does: what was shown up
            to its step must be on its way to disk by then, for a resume will not show it again.
    """

    measures: dict[str, float] = field(default_factory=dict)
    points: list[tuple[str, int, float]] = field(default_factory=list)
    pictures: list[tuple[str, int, Any]] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    hparams: dict[str, str | float] = field(default_factory=dict)
    before_commit: list[Callable[[], None]] = field(default_factory=list)

    @classmethod
    def of_script(cls, optimizer: Any, train_loader: Any, **settings: str | float) -> Board:
        """Return a board with the hyper-parameters that can be read off what the script handed to ``fit``."""
        board = cls(hparams={"optimizer": type(optimizer).__name__, **settings})
        board.hparams["learning_rate"] = float(optimizer.get_lr())
        sampler = getattr(train_loader, "batch_sampler", None)
        size = getattr(train_loader, "batch_size", None) or getattr(sampler, "batch_size", None)
        if isinstance(size, int):
            board.hparams["batch_size"] = size
        return board
