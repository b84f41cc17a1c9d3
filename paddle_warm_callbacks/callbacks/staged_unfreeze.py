"""Freeze the backbone, then thaw it in stages."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from paddle_warm_callbacks.hapi import freezing, optimizer_state, parallel
from paddle_warm_callbacks.hapi.callback import FitCallback
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.hapi.lr import ParameterFactors
from paddle_warm_callbacks.plan.lr import stage_factor
from paddle_warm_callbacks.plan.stages import Stage, StagePlan

logger = logging.getLogger("paddle_warm_callbacks")


class StagedUnfreeze(FitCallback):
    """Train what the current stage names, and nothing else.

    What is trainable is a function of the position, so it is right after any resume. Frozen parameters do not move, by
    weight decay neither; frozen norm layers keep their running statistics and use them. A parameter that is thawed
    starts with fresh accumulators. Dropout in frozen blocks stays active. At the end of ``fit``, also after an
    exception, the network is as the user had it.

    Parameters that were frozen before ``fit`` stay so in stages that name everything (``".*"``), and are thawed by a
    pattern that names them.

    Example:
        >>> unfreeze = StagedUnfreeze([Stage(0, "fc"), Stage(3, "layer4|fc"), Stage(6, ".*", lr_factor=0.1)])

    Args:
        stages: The first at 0, each later than the one before; all by epoch, or all by global step.

    Attributes:
        stage_index: Number of the stage training is in, from 0; -1 before ``fit``.
        trainable_share: Share of the network's parameters, by elements, that this stage trains; 0 to 1.

    Raises:
        InvalidArgumentError: The stages are none, mixed in unit, or not in order from 0; at once.
        PatternError: In ``fit``, before the first step: a pattern names no parameter.
        UnsupportedFitError: In ``fit``: several ranks, or an optimizer with parameter groups.
    """

    order = 20

    def __init__(self, stages: Iterable[Stage]) -> None:
        super().__init__()
        self._plan = StagePlan(stages)
        self.stage_index = -1
        self.trainable_share = 1.0

    def plan(self, network: Any) -> str:
        """Return the stages as a table: what each trains of ``network``, its share, and its learning-rate factor.

        Raises:
            PatternError: A pattern names no parameter.
        """
        return self._plan.to_text(freezing.trainable_sizes(network))

    def fit_started(self, loop: FitLoop) -> None:
        """Take the network and enter the stage that training starts in."""
        parallel.refuse_many_ranks("StagedUnfreeze")
        self._factors = ParameterFactors.of(loop)
        self._freezer = freezing.Freezer(loop.network)
        self._trainable = self._freezer.respecting_the_user(self._plan)
        stages = self._plan.to_text(self._freezer.sizes)
        logger.info("stages:\n%s", stages)
        loop.board.texts["start/stages"] = stages
        loop.board.hparams["stages"] = len(self._plan.stages)
        self.stage_index = -1
        self.step_starting(loop)

    def step_starting(self, loop: FitLoop) -> None:
        """Enter the stage of this step if it is another than the last step's, and follow its re-warm."""
        at = self._plan.stage_at(loop.progress)
        entered = at.index != self.stage_index
        if entered:
            self._enter(loop, at.index)
        if entered or at.steps_into <= at.stage.rewarm_steps:
            factor = stage_factor(at.stage.lr_factor, at.steps_into, at.stage.rewarm_steps)
            self._factors.set("stage", dict.fromkeys(self._freezer.names, factor))

    def fit_closed(self, loop: FitLoop) -> None:
        """Give the network back as the user had it."""
        if hasattr(self, "_freezer"):
            self._freezer.close()
            self._factors.clear("stage")
            del self._freezer

    def _enter(self, loop: FitLoop, index: int) -> None:
        trainable = self._trainable[index]
        # Forgotten when frozen rather than when thawed: so it follows from the stage alone, wherever a run was resumed.
        optimizer_state.forget(
            loop.network, loop.optimizer, sorted(set(self._freezer.names) - set(trainable))
        )
        self._freezer.apply(trainable, freeze_norm=self._plan.stages[index].freeze_norm)
        self.stage_index = index
        sizes = self._freezer.sizes
        self.trainable_share = sum(sizes[name] for name in trainable) / sum(sizes.values())
        loop.board.measures.update({"stage/index": index, "stage/trainable_share": self.trainable_share})
        logger.info(
            "stage %d: %d tensors, %.1f%% trainable", index, len(trainable), 100 * self.trainable_share
        )
