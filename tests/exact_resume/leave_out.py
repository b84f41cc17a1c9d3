"""A resume that leaves one item of the state as a fresh process has it, so that the item is seen to matter."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Callable

State = dict[str, Any]


def _fresh(*path: str) -> Callable[[State, State], None]:
    """Return the rule that puts the fresh process's value at ``path`` of the counters."""

    def rule(saved: State, fresh: State) -> None:
        *parents, last = path
        for parent in parents:
            if parent not in saved:
                return
            saved, fresh = saved[parent], fresh[parent]
        saved[last] = fresh[last]

    return rule


def _forget_host_generators(saved: State, fresh: State) -> None:
    for generator in ("python", "numpy"):
        now = fresh["loader"]["now"][generator]
        saved["loader"]["now"][generator] = now
        if "epoch_start" in saved["loader"]:
            saved["loader"]["epoch_start"]["rng"][generator] = now


def _forget_sampler(saved: State, fresh: State) -> None:
    for holder in (saved["loader"], saved["loader"].get("epoch_start", {})):
        if "sampler" in holder:
            holder["sampler"] = {}


def _forget_workers(saved: State, fresh: State) -> None:
    saved["loader"]["workers"] = [fresh["loader"]["now"] for _ in saved["loader"]["workers"]]


def _forget_own_generators(saved: State, fresh: State) -> None:
    for holder in (saved["loader"], saved["loader"].get("epoch_start", {}), saved["loader"].get("fetch", {})):
        holder.pop("own", None)


_RULES: Mapping[str, Callable[[State, State], None]] = {
    "Paddle's generator": _fresh("loader", "now", "paddle"),
    "host generators": _forget_host_generators,
    "sampler": _forget_sampler,
    "worker generators": _forget_workers,
    "learning rate": _fresh("learning_rate"),
    "metrics": _fresh("metrics"),
    "logs": _fresh("logs"),
    "callbacks": _fresh("callbacks"),
    "which parameters have a gradient": _fresh("with_gradient"),
}
_ACCUMULATORS, _BUFFERS = "accumulators", "buffers that are not persistable"
ITEMS = (*_RULES, _ACCUMULATORS, _BUFFERS)
# What matters to scripts of users alone.
_OF_USERS: Mapping[str, Callable[[State, State], None]] = {
    "the evaluation's loader": _fresh("evaluation"),
    "generators of a data set's own": _forget_own_generators,
}
ITEMS_OF_USERS = (*_OF_USERS,)


def leave_out(item: str) -> None:
    """Have this process restore all but ``item`` from a checkpoint."""
    from paddle_warm_callbacks.hapi import (
        training_state,  # here, for runs without the package import none of it
    )

    restore = training_state.restore

    def restore_the_rest(loop: Any, tensors: Any, counters: Mapping[str, Any]) -> Any:
        saved, fresh = copy.deepcopy(dict(counters)), copy.deepcopy(training_state.capture_counters(loop))
        rules = {**_RULES, **_OF_USERS}
        if item in rules:
            rules[item](saved, fresh)
        elif item == _ACCUMULATORS:
            saved["optimizer_keys"] = []
        elif item == _BUFFERS:
            tensors = replace(tensors, extra={})
        return restore(loop, tensors, saved)

    training_state.restore = restore_the_rest
