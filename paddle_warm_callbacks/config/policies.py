"""Save and retention policies from their settings."""

from __future__ import annotations

from functools import reduce
from operator import or_

from paddle_warm_callbacks.config.outputs import KeepConfig, SaveConfig
from paddle_warm_callbacks.plan.retention import KeepBest, KeepEvery, KeepLatest, RetentionPolicy
from paddle_warm_callbacks.plan.saving import (
    EveryNEpochs,
    EveryNSeconds,
    EveryNSteps,
    OnException,
    OnNewBest,
    SavePolicy,
)


def save_policy(save: SaveConfig) -> SavePolicy:
    """Return the policy that is due at each of the occasions set, of which there is at least one.

    >>> save_policy(SaveConfig(every_steps=500)).policies
    (EveryNEpochs(n=1), EveryNSteps(n=500))
    """
    policies: list[SavePolicy] = []
    if save.every_epochs is not None:
        policies.append(EveryNEpochs(save.every_epochs))
    if save.every_steps is not None:
        policies.append(EveryNSteps(save.every_steps))
    if save.every_seconds is not None:
        policies.append(EveryNSeconds(save.every_seconds))
    if save.new_best is not None:
        policies.append(OnNewBest(save.new_best, save.mode))
    if save.on_exception:
        policies.append(OnException())
    return reduce(or_, policies)


def retention_policy(keep: KeepConfig) -> RetentionPolicy:
    """Return the policy that keeps all that is set.

    >>> retention_policy(KeepConfig(latest=2, best="acc")).policies
    (KeepLatest(n=2), KeepBest(metric='acc', mode='max', n=1))
    """
    policies: list[RetentionPolicy] = [KeepLatest(keep.latest)]
    if keep.best is not None:
        policies.append(KeepBest(keep.best, keep.mode, keep.best_n))
    if keep.every_epochs is not None:
        policies.append(KeepEvery(keep.every_epochs))
    return reduce(or_, policies)
