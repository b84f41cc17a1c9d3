"""The learning rate of one parameter at one step: one formula, its factors, and what a resume does to them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from paddle_warm_callbacks.arguments import require_choice, require_int, require_number
from paddle_warm_callbacks.errors import InvalidArgumentError, PatternError
from paddle_warm_callbacks.patterns import compile_patterns, matches_nothing
from paddle_warm_callbacks.progress import Progress

ON_RESUME = ("keep", "reconfigure", "rewarm", "extend")


def warmup_factor(steps_done: int, warmup_steps: int) -> float:
    """Return the factor of the step after ``steps_done`` steps: ``min(1, (steps_done + 1) / warmup_steps)``.

    The gradual warm-up of Goyal et al. 2017, section 2.2, from near 0. The first step is not lost to a rate of 0,
    and step ``warmup_steps - 1`` is the first with the full rate. ``warmup_steps=0`` gives 1. Steps from 0.

    >>> [warmup_factor(step, 4) for step in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    if warmup_steps <= 0 or steps_done + 1 >= warmup_steps:
        return 1.0
    return max(steps_done + 1, 0) / warmup_steps


def global_factor(factor: float, progress: Progress, warmup_steps: int, warmup_from: int = 0) -> float:
    """Return what multiplies the scheduled rate of every parameter: ``factor * warmup_factor``.

    Args:
        factor: The constant factor.
        progress: The position of the step.
        warmup_steps: Steps the warm-up lasts.
        warmup_from: The global step it begins at; before it the factor is the one of its first step.
    """
    return factor * warmup_factor(max(progress.global_step - warmup_from, 0), warmup_steps)


def stage_factor(lr_factor: float, steps_into: int, rewarm_steps: int) -> float:
    """Return a stage's factor ``steps_into`` steps after it began: ``lr_factor * warmup_factor``."""
    return lr_factor * warmup_factor(steps_into, rewarm_steps)


def effective_lr(
    scheduled: float, *, everywhere: float = 1.0, group: float = 1.0, stage: float = 1.0, own: float = 1.0
) -> float:
    """Return the absolute learning rate one parameter is updated with at one step.

    The one formula of this package::

        lr(p, step) = scheduled(step) * everywhere(step) * group(p) * stage(step) * own(p)

    Args:
        scheduled: What the user's float or scheduler gives at the step, absolute.
        everywhere: `global_factor`: WarmLRScaler's factor with its warm-up.
        group: `LRGroups.factor_of`: the factor of the parameter's group.
        stage: `stage_factor`: the factor of the present stage with its re-warm.
        own: The user's own multiplier of that parameter (``ParamAttr(learning_rate=)``).

    >>> effective_lr(0.1, everywhere=0.2, group=0.5)
    0.010000000000000002
    """
    return scheduled * everywhere * group * stage * own


@dataclass(frozen=True)
class LRGroups:
    """Give each parameter the factor of the first pattern found in its structured name, and 1 if none is.

    Args:
        groups: Regular expression (``re.search``) to factor, at least 0, in order of precedence.

    Raises:
        PatternError: A key is not a regular expression.
        InvalidArgumentError: A factor is not a finite number of at least 0.

    >>> LRGroups({"backbone": 0.1, "fc": 1.0}).factor_of("backbone.conv1.weight")
    0.1
    """

    groups: tuple[tuple[str, float], ...]

    def __init__(self, groups: Mapping[str, float] | None = None) -> None:
        pairs = tuple((groups or {}).items())
        if pairs:
            compile_patterns([pattern for pattern, _ in pairs], "groups")
        checked = tuple(
            (pattern, require_number(value, f"groups[{pattern!r}]", at_least=0)) for pattern, value in pairs
        )
        object.__setattr__(self, "groups", checked)

    def group_of(self, name: str) -> str | None:
        """Return the pattern whose factor the parameter gets, or ``None``."""
        return next((pattern for pattern, _ in self.groups if re.search(pattern, name)), None)

    def factor_of(self, name: str) -> float:
        """Return the factor of the parameter's group, 1 outside all groups."""
        return next((factor for pattern, factor in self.groups if re.search(pattern, name)), 1.0)

    def factors(self, names: Iterable[str]) -> dict[str, float]:
        """Return every name's factor.

        Raises:
            PatternError: A pattern is found in no name, or all its names belong to earlier patterns.
        """
        listed = tuple(names)
        owner = {name: self.group_of(name) for name in listed}
        for pattern, _ in self.groups:
            if pattern in owner.values():
                continue
            if not any(re.search(pattern, name) for name in listed):
                raise matches_nothing(pattern, listed, "groups")
            raise PatternError(
                "a group has no parameter left",
                where="groups",
                received=repr(pattern),
                expected="the first pattern found in at least one name",
                remedy="put the narrower pattern first",
            )
        return {name: self.factor_of(name) for name in listed}


def layerwise_groups(layers: Sequence[str], decay: float) -> dict[str, float]:
    """Return groups whose factor shrinks by ``decay`` from the last layer to the first.

    Layer ``i`` of ``n`` gets ``decay ** (n - 1 - i)`` (ULMFiT, Howard and Ruder 2018, section 3.2, with
    ``decay = 1 / 2.6`` there). Edit the result before use.

    Args:
        layers: Regular expressions from input to output.
        decay: Factor from one layer to the layer before it, above 0.

    >>> layerwise_groups(["^conv1", "^layer1", "^fc"], 0.5)
    {'^conv1': 0.25, '^layer1': 0.5, '^fc': 1.0}
    """
    ordered = compile_patterns(layers, "layerwise_groups(layers)")
    require_number(decay, "layerwise_groups(decay)", above=0)
    if len(set(ordered)) < len(ordered):
        raise InvalidArgumentError(
            "a layer is listed twice",
            where="layerwise_groups(layers)",
            received=", ".join(ordered),
            expected="each pattern once",
        )
    return {pattern: decay ** (len(ordered) - 1 - i) for i, pattern in enumerate(ordered)}


@dataclass(frozen=True)
class ScalerSettings:
    """What a WarmLRScaler does, as it is written into a checkpoint.

    Attributes:
        factor: The constant factor, above 0.
        warmup_steps: Steps the warm-up lasts, at least 0.
        warmup_from: The global step the warm-up begins at.
        groups: (pattern, factor) pairs in order of precedence.
    """

    factor: float = 1.0
    warmup_steps: int = 0
    warmup_from: int = 0
    groups: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        require_number(self.factor, "WarmLRScaler(factor)", above=0)
        require_int(self.warmup_steps, "WarmLRScaler(warmup_steps=)", at_least=0)
        require_int(self.warmup_from, "ScalerSettings.warmup_from", at_least=0)
        object.__setattr__(self, "groups", LRGroups(dict(self.groups)).groups)

    def factor_at(self, progress: Progress) -> float:
        """Return `global_factor` of these settings at a position."""
        return global_factor(self.factor, progress, self.warmup_steps, self.warmup_from)


@dataclass(frozen=True)
class ResumedLR:
    """What holds after a resume.

    Attributes:
        settings: The scaler's settings to go on with.
        scheduler: "checkpoint": restore the scheduler's numbers as saved. "script": keep the numbers the script
            built the scheduler with, and set it to the checkpoint's position.
    """

    settings: ScalerSettings
    scheduler: str


def after_resume(
    on_resume: str, saved: ScalerSettings | None, written: ScalerSettings, progress: Progress
) -> ResumedLR:
    """Return what a resumed run's learning rate follows: the checkpoint, the script, or some of each.

    ===========  =================================================  ==================
    on_resume    factor, groups, warm-up                            scheduler's numbers
    ===========  =================================================  ==================
    keep         the checkpoint's                                   the checkpoint's
    reconfigure  the script's                                       the script's
    rewarm       the checkpoint's; the script's warm-up starts now  the checkpoint's
    extend       the checkpoint's                                   the script's (a longer schedule)
    ===========  =================================================  ==================

    The scheduler's position is the checkpoint's in every case.

    Args:
        on_resume: One of the table's.
        saved: The checkpoint's settings; ``None`` (it was saved without a scaler) counts as factor 1 throughout.
        written: The settings the script asks for.
        progress: The position resumed at.

    Raises:
        InvalidArgumentError: ``on_resume`` is unknown, or "rewarm" without warm-up steps in the script.
    """
    require_choice(on_resume, "WarmLRScaler(on_resume=)", choices=ON_RESUME)
    before = saved or ScalerSettings()
    if on_resume == "keep":
        return ResumedLR(before, "checkpoint")
    if on_resume == "reconfigure":
        return ResumedLR(written, "script")
    if on_resume == "extend":
        return ResumedLR(before, "script")
    if not written.warmup_steps:
        raise InvalidArgumentError(
            "a re-warm needs steps",
            where='WarmLRScaler(on_resume="rewarm")',
            received="warmup_steps=0",
            expected="warmup_steps of at least 1",
            remedy="pass warmup_steps=200, or on_resume='keep'",
        )
    return ResumedLR(
        replace(before, warmup_steps=written.warmup_steps, warmup_from=progress.global_step), "checkpoint"
    )
