"""Where training stands: the one record that saves, stages, learning rates and resumes agree on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from paddle_warm_callbacks.errors import InvalidArgumentError


@dataclass(frozen=True, order=True)
class Progress:
    """Name the next thing training will do: step ``step_in_epoch`` of epoch ``epoch``.

    Attributes:
        global_step: Training steps done since the run began, from 0.
        epoch: The epoch the next step belongs to, from 0; equals the number of epochs completed,
            evaluation included.
        step_in_epoch: Steps of that epoch already done, from 0. It equals the epoch's length when all
            its steps are done while its ``on_epoch_end`` and evaluation are still to come.

    Ordered by time.

    >>> Progress(global_step=10, epoch=1, step_in_epoch=2) < Progress(global_step=12, epoch=1, step_in_epoch=4)
    True
    """

    global_step: int = 0
    epoch: int = 0
    step_in_epoch: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():  # asdict is slow, and this is done at every step
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InvalidArgumentError(
                    f"{name} is not a position",
                    where=f"Progress.{name}",
                    received=repr(value),
                    expected="an int of at least 0",
                )

    def after_step(self) -> Progress:
        """Return the position one training step later, in the same epoch."""
        later = object.__new__(Progress)  # this is done at every step, and what is one more needs no check
        vars(later).update(
            global_step=self.global_step + 1, epoch=self.epoch, step_in_epoch=self.step_in_epoch + 1
        )
        return later

    def after_epoch(self) -> Progress:
        """Return the position at the start of the next epoch."""
        return Progress(self.global_step, self.epoch + 1, 0)

    def to_json(self) -> dict[str, int]:
        """Return a plain dictionary; :meth:`from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Progress:
        """Build from :meth:`to_json`'s dictionary; raises ``InvalidArgumentError`` for anything else."""
        try:
            return cls(record["global_step"], record["epoch"], record["step_in_epoch"])
        except KeyError as missing:
            raise InvalidArgumentError(
                f"progress record lacks {missing}",
                where="Progress.from_json",
                received=str(dict(record)),
                expected="global_step, epoch, step_in_epoch",
            ) from missing
