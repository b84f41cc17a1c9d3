"""Which parameters are trainable at a position: a plan of stages, and the stage a position is in."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from paddle_warm_callbacks.arguments import require_int, require_number
from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.patterns import compile_patterns, select
from paddle_warm_callbacks.progress import Progress


@dataclass(frozen=True)
class Stage:
    """Say what is trainable from an epoch, or from a global step, onwards.

    Args:
        from_epoch: The first epoch of the stage, from 0. ``None`` if ``from_step`` is given.
        trainable: One or more regular expressions, looked for (``re.search``) in structured parameter names.
        lr_factor: Multiplies the learning rate while the stage lasts; above 0.
        rewarm_steps: Steps over which that factor rises linearly from near 0 when the stage begins; 0 for none.
        freeze_norm: Whether norm layers none of whose parameters is trainable keep their running statistics.
        from_step: The first global step of the stage, from 0, instead of ``from_epoch``.

    Raises:
        InvalidArgumentError: Both or neither of ``from_epoch`` and ``from_step``, or a number out of its bounds.
        PatternError: ``trainable`` is not one or more regular expressions.

    >>> Stage(3, "layer4|fc", lr_factor=0.5).trainable
    ('layer4|fc',)
    """

    from_epoch: int | None
    trainable: tuple[str, ...]
    lr_factor: float
    rewarm_steps: int
    freeze_norm: bool
    from_step: int | None

    def __init__(
        self,
        from_epoch: int | None,
        trainable: str | Sequence[str],
        *,
        lr_factor: float = 1.0,
        rewarm_steps: int = 0,
        freeze_norm: bool = True,
        from_step: int | None = None,
    ) -> None:
        if (from_epoch is None) == (from_step is None):
            raise InvalidArgumentError(
                "a stage begins at an epoch or at a step",
                where="Stage(from_epoch, from_step=)",
                received=f"from_epoch={from_epoch!r}, from_step={from_step!r}",
                expected="exactly one of the two",
                remedy="Stage(3, ...) for an epoch, Stage(None, ..., from_step=500) for a step",
            )
        if from_epoch is not None:
            require_int(from_epoch, "Stage(from_epoch)", at_least=0)
        if from_step is not None:
            require_int(from_step, "Stage(from_step=)", at_least=0)
        remedy = "to stop training a layer, leave it out of trainable" if lr_factor == 0 else ""
        # A frozen dataclass with its own constructor: the fields hold the checked, uniform values.
        for name, value in (
            ("from_epoch", from_epoch),
            ("from_step", from_step),
            ("trainable", compile_patterns(trainable, "Stage(trainable)")),
            ("lr_factor", require_number(lr_factor, "Stage(lr_factor=)", above=0, remedy=remedy)),
            ("rewarm_steps", require_int(rewarm_steps, "Stage(rewarm_steps=)", at_least=0)),
            ("freeze_norm", bool(freeze_norm)),
        ):
            object.__setattr__(self, name, value)

    @property
    def start(self) -> int:
        """The epoch or the global step the stage begins at, in its own unit."""
        start = self.from_epoch if self.from_epoch is not None else self.from_step
        assert start is not None
        return start

    @property
    def unit(self) -> str:
        """``"epoch"`` or ``"step"``: what :attr:`start` counts."""
        return "epoch" if self.from_epoch is not None else "step"


@dataclass(frozen=True)
class StageAt:
    """The stage a position is in.

    Attributes:
        index: The stage's number in the plan, from 0.
        stage: The stage.
        steps_into: Training steps done since the stage began, from 0.
    """

    index: int
    stage: Stage
    steps_into: int


@dataclass(frozen=True)
class StagePlan:
    """Divide training into stages, each lasting until the next begins.

    Args:
        stages: One stage or more, all by epoch or all by step; the first at 0, each later than the one before.

    Raises:
        InvalidArgumentError: The stages are none, mixed in unit, or not in order from 0.

    >>> plan = StagePlan([Stage(0, "fc"), Stage(2, ".*", lr_factor=0.1)])
    >>> plan.stage_at(Progress(global_step=25, epoch=2, step_in_epoch=5)).index
    1
    """

    stages: tuple[Stage, ...]
    _starts: ClassVar[list[int]]  # of each instance, and no field

    def __init__(self, stages: Iterable[Stage]) -> None:
        given: Any = stages  # one Stage alone is a likely slip
        listed: tuple[Stage, ...] = tuple(given) if isinstance(given, Iterable) else ()
        object.__setattr__(self, "stages", listed)
        where = "stages"
        if not listed or not all(isinstance(stage, Stage) for stage in listed):
            raise InvalidArgumentError(
                "a plan is made of stages",
                where=where,
                received=repr(given),
                expected="a list of one Stage or more",
                remedy='for example [Stage(0, "fc"), Stage(3, ".*", lr_factor=0.1)]',
            )
        starts = [stage.start for stage in listed]
        object.__setattr__(self, "_starts", starts)  # looked up at every step
        received = ", ".join(f"{stage.unit} {stage.start}" for stage in listed)
        if len({stage.unit for stage in listed}) > 1:
            raise InvalidArgumentError(
                "the stages begin in different units",
                where=where,
                received=received,
                expected="all from_epoch, or all from_step",
                remedy="which of an epoch and a step comes first depends on the data; choose one unit",
            )
        if starts[0] != 0 or any(after <= before for before, after in zip(starts, starts[1:])):
            raise InvalidArgumentError(
                "the stages are not in order from 0",
                where=where,
                received=received,
                expected="the first at 0, each later than the one before",
                remedy="add a first stage at 0 that says what is trainable until then"
                if starts[0] != 0
                else "",
            )

    @property
    def unit(self) -> str:
        """``"epoch"`` or ``"step"``: what the stages' starts count."""
        return self.stages[0].unit

    def stage_at(self, progress: Progress) -> StageAt:
        """Return the stage of the step that ``progress`` names, whatever happened before it.

        A position after the last step of an epoch, its evaluation still to come, belongs to that epoch.
        ``steps_into`` of a stage by epoch is exact when the epochs so far had equal numbers of steps; otherwise
        it takes their mean.
        """
        position = progress.epoch if self.unit == "epoch" else progress.global_step
        index = bisect_right(self._starts, position) - 1
        stage = self.stages[index]
        if self.unit == "step":
            return StageAt(index, stage, progress.global_step - stage.start)
        steps_into = progress.step_in_epoch
        if progress.epoch > stage.start:
            before_epoch = progress.global_step - progress.step_in_epoch
            steps_into += before_epoch * (progress.epoch - stage.start) // progress.epoch
        return StageAt(index, stage, steps_into)

    def trainable_names(self, names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
        """Return for each stage the names it trains, in the order of ``names``.

        Args:
            names: Structured names of the parameters an optimizer may move (no running statistics).

        Raises:
            PatternError: A pattern of a stage is found in no name; the error lists near misses.
        """
        listed = tuple(names)
        return tuple(
            select(stage.trainable, listed, f"Stage({stage.start}, trainable) [{stage.unit}]")
            for stage in self.stages
        )

    def to_text(
        self,
        sizes: Mapping[str, int],
        rates: Mapping[str, float] | None = None,
        *,
        relative: bool = True,
        trained: Sequence[Sequence[str]] | None = None,
    ) -> str:
        """Return the plan as a table: a stage a line, what it trains, its share, and its learning rates.

        Args:
            sizes: Structured parameter name to number of elements, of all parameters an optimizer may move.
            rates: Structured parameter name to the number that the stages' factors multiply: 1 where it is None.
            relative: Those numbers are factors of a schedule, not learning rates.
            trained: For each stage the names it trains, where that is less than what its patterns name.

        Raises:
            PatternError: A pattern of a stage is found in no name.
        """
        total = sum(sizes.values())
        rows = [(f"from {self.unit}", "trainable", "tensors", "parameters", "share", "learning rate")]
        for stage, names in zip(self.stages, trained or self.trainable_names(sizes)):
            elements = sum(sizes[name] for name in names)
            found = [stage.lr_factor * (1.0 if rates is None else rates[name]) for name in names]
            low, high = min(found), max(found)
            rate = ("x " if relative else "") + (f"{high:g}" if low == high else f"{low:g} to {high:g}")
            if stage.rewarm_steps:
                rate += f", warmed up over {stage.rewarm_steps} steps"
            share = 100.0 * elements / total if total else 0.0
            rows.append(
                (
                    str(stage.start),
                    " | ".join(stage.trainable),
                    f"{len(names)} of {len(sizes)}",
                    f"{elements:,}",
                    f"{share:.1f}%",
                    rate,
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
        return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
