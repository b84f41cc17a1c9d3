"""Names of checkpoints, from which alone their order can be read, so that listing opens no file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from paddle_warm_callbacks.progress import Progress

# The directory of a run that they are in.
CHECKPOINTS = "checkpoints"
# What begins so there is no checkpoint: one being written, or one being deleted; swept when its writer is dead.
STAGING = ".staging-"

_FORM = re.compile(r"step-(\d{8,})(?:-epoch-(\d{4,}))?(?:\.g([1-9]\d*))?", re.ASCII)
_GENERATION = re.compile(r"\.g(\d+)$", re.ASCII | re.MULTILINE)
# Names that are not ordered as texts: a number with more digits than are padded, or anything that is no name of ours.
_UNPADDED = re.compile(r"step-\d{9}|epoch-\d{5}|\.g(?!\d+$)", re.ASCII | re.MULTILINE)


@dataclass(frozen=True)
class Position:
    """What a name says.

    Attributes:
        global_step: Training steps done.
        epochs_completed: Epochs done if the checkpoint was taken after one and its evaluation, else None.
        generation: How often the run had been taken back to a checkpoint that was not its newest, from 0. What was
            written after such a return is newer than all that was written before it, whatever its step.
    """

    global_step: int
    epochs_completed: int | None = None
    generation: int = 0

    @property
    def name(self) -> str:
        """The checkpoint's name.

        >>> Position(1200, epochs_completed=3, generation=1).name
        'step-00001200-epoch-0003.g1'
        """
        epoch = "" if self.epochs_completed is None else f"-epoch-{self.epochs_completed:04d}"
        generation = f".g{self.generation}" if self.generation else ""
        return f"step-{self.global_step:08d}{epoch}{generation}"

    @property
    def order(self) -> tuple[int, int, int]:
        """What positions are sorted by: oldest first."""
        return (
            self.generation,
            self.global_step,
            -1 if self.epochs_completed is None else self.epochs_completed,
        )


def position_of(name: str) -> Position | None:
    """Return what ``name`` says, or None if it is not a checkpoint's."""
    match = _FORM.fullmatch(name)
    if match is None:
        return None
    step, epochs, generation = match.groups()
    return Position(int(step), None if epochs is None else int(epochs), int(generation or 0))


def name_for(progress: Progress, epoch_completed: bool, generation: int) -> str:
    """Return the name of the checkpoint at ``progress``."""
    return Position(progress.global_step, progress.epoch if epoch_completed else None, generation).name


def in_order(names: Iterable[str]) -> list[str]:
    """Return those of ``names`` that are checkpoints', oldest first.

    >>> in_order(["step-00000004", ".staging-1", "step-00000002.g1", "step-00000004-epoch-0001"])
    ['step-00000004', 'step-00000004-epoch-0001', 'step-00000002.g1']
    """
    found = [(position.order, name) for name in names if (position := position_of(name)) is not None]
    return [name for _, name in sorted(found)]


def superseded(names: Iterable[str]) -> frozenset[str]:
    """Return those of ``names`` taken after the last step of an epoch whose end, with its evaluation, is there too.

    Both are at one global step; the later holds all that the earlier does, and what the evaluation came to besides.

    >>> superseded(["step-00000004", "step-00000008", "step-00000008-epoch-0002"])
    frozenset({'step-00000008'})
    """
    positions = [position for name in names if (position := position_of(name)) is not None]
    ends = {(p.generation, p.global_step) for p in positions if p.epochs_completed is not None}
    return frozenset(
        p.name for p in positions if p.epochs_completed is None and (p.generation, p.global_step) in ends
    )


def newest(names: Iterable[str]) -> str | None:
    """Return the last of :func:`in_order`, or None, in two milliseconds for 10,000 names.

    Steps and epochs are padded with zeros, so within a generation the newest name is as a rule the greatest text.
    """
    candidates = [name for name in names if name.startswith("step-")]
    text = "\n".join(candidates)  # what is asked of all of them at once, without a loop of Python's
    if not _UNPADDED.search(text):
        generations = set(_GENERATION.findall(text))
        suffix = f".g{max(generations, key=int)}" if generations else ""
        greatest = max(
            (name[: len(name) - len(suffix)] for name in candidates if name.endswith(suffix))
            if suffix
            else candidates,
            default="",
        )
        if position_of(greatest + suffix) is not None:
            return greatest + suffix
    return next(reversed(in_order(candidates)), None)
