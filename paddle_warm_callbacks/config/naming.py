"""Whether each pattern and name of a configuration names something of its network: said with the line it is in."""

from __future__ import annotations

from typing import Any

from paddle_warm_callbacks.config.origin import Origin, located
from paddle_warm_callbacks.config.schema import Config
from paddle_warm_callbacks.hapi.freezing import trainable_sizes
from paddle_warm_callbacks.patterns import compile_patterns, select
from paddle_warm_callbacks.plan.lr import LRGroups
from paddle_warm_callbacks.plan.transplant import HeadTransplant, head_tensors


def require_names(config: Config, network: Any, head: HeadTransplant | None, origin: Origin) -> None:
    """Refuse what names nothing of ``network``.

    Raises:
        PatternError: A pattern is found in no name, or the head is not there; the error lists near misses.
    """
    everything, movable = tuple(network.state_dict()), tuple(trainable_sizes(network))
    for key, patterns in (("include", config.warm_start.include), ("exclude", config.warm_start.exclude)):
        if patterns is not None:
            with located(origin, f"warm_start.{key}"):
                select(compile_patterns(patterns, f"warm_start.{key}"), everything, f"warm_start.{key}")
    if head is not None:
        with located(origin, "head.key"):
            head_tensors(head, everything)
    stages = [] if config.unfreeze is None else config.unfreeze.stages or []
    for number, stage in enumerate(stages):
        key = f"unfreeze.stages[{number}].trainable"
        with located(origin, key):
            select(compile_patterns(stage.trainable, key), movable, key)
    if config.lr is not None:
        with located(origin, "lr.groups"):
            LRGroups(config.lr.groups).factors(movable)
