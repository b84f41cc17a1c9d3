"""Freeze the backbone, then thaw it in stages."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import paddle

from paddle_warm_callbacks.arguments import require_choice
from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.hapi import freezing, optimizer_state, same_weights
from paddle_warm_callbacks.hapi.callback import FitCallback, require_alone
from paddle_warm_callbacks.hapi.data_parallel import GradientAveraging
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.hapi.lr import ParameterFactors, rates_as_built, rates_before_stages
from paddle_warm_callbacks.hapi.stage_guard import BestOfStage, evaluate_beside
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
    pattern that names them, with a warning.

    Example:
        >>> unfreeze = StagedUnfreeze([Stage(0, "fc"), Stage(3, "layer4|fc"), Stage(6, ".*", lr_factor=0.1)])

    With ``watch``, or ``restore_best_between_stages``, stages are by epoch.

    Args:
        stages: The first at 0, each later than the one before; all by epoch, or all by global step.
        watch: Data of the task the network comes from, dataset or loader: evaluated at the end of each stage, so that
            forgetting shows. Training is the same to the bit as without it.
        restore_best_between_stages: Begin each later stage from the weights of the epoch before it that ``monitor``
            liked best, with fresh optimizer state. A copy of the weights is kept in memory and in each checkpoint.
        monitor: Metric of ``fit``'s evaluation, such as ``"acc"`` or ``"loss"``.
        mode: ``"max"`` or ``"min"``.

    Attributes:
        stage_index: Number of the stage training is in, from 0; -1 before ``fit``.
        trainable_share: Share of the network's parameters, by elements, that this stage trains; 0 to 1.
        watched: For each stage that ended in this ``fit``: ``{"stage": index, "epoch": epochs done, metric: value}``.

    Raises:
        InvalidArgumentError: The stages are none, mixed in unit, or not in order from 0, or something needs them by
            epoch; at once. In ``fit``: nothing is evaluated, or not with ``monitor``, to find a best by; a stage trains
            nothing, or what the optimizer was not given; there is another StagedUnfreeze.
        PatternError: In ``fit``, before the first step: a pattern names no parameter.
        UnsupportedFitError: In ``fit``: an optimizer with parameter groups.
        RankError: In ``fit``, on several ranks: as a stage begins, their parameters are not the same.
    """

    order = 20

    def __init__(
        self,
        stages: Iterable[Stage],
        *,
        watch: Any = None,
        restore_best_between_stages: bool = False,
        monitor: str = "acc",
        mode: str = "max",
    ) -> None:
        super().__init__()
        self._plan = StagePlan(stages)
        require_choice(mode, "StagedUnfreeze(mode=)", choices=("max", "min"))
        if self._plan.unit == "step" and (watch is not None or restore_best_between_stages):
            raise InvalidArgumentError(
                "a stage that ends within an epoch cannot be evaluated at its end",
                where="StagedUnfreeze(watch=, restore_best_between_stages=)",
                received="stages by step",
                expected="stages by epoch",
            )
        self._watch = watch
        self._best = BestOfStage(monitor, mode) if restore_best_between_stages else None
        self.stage_index = -1
        self.trainable_share = 1.0
        self.watched: list[dict[str, float]] = []

    def plan(self, network: Any) -> str:
        """Return the stages as a table: what each trains of ``network``, its share, and its learning rates.

        Args:
            network: The Layer: rates are given as factors. Or the prepared ``paddle.Model`` of it: as learning rates,
                before a WarmLRScaler; as factors still where a scheduler runs. ``fit`` logs the table once more, with
                everything in it, before its first step.

        Raises:
            PatternError: A pattern names no parameter.
            InvalidArgumentError: A stage trains nothing.
        """
        rates, relative = None, True
        if isinstance(network, paddle.Model):
            if network._optimizer is not None:
                rates, relative = rates_as_built(network)
            network = network.network
        return self._table(network, rates, relative)

    def _table(self, network: Any, rates: Mapping[str, float] | None, relative: bool) -> str:
        trained = freezing.trained_names(network, self._plan)
        return self._plan.to_text(
            freezing.trainable_sizes(network), rates, relative=relative, trained=trained
        )

    def state_dict(self) -> dict[str, Any]:
        """Return which weights are kept as a stage's best; they themselves are among the checkpoint's tensors."""
        return {"best": None if self._best is None else self._best.found}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Know the kept weights of an interrupted run."""
        if self._best is not None:
            self._best.found = state["best"]

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin without the best of an earlier fit; a resume gives its own."""
        if self._best is not None:
            self._best.found = None

    def fit_started(self, loop: FitLoop) -> None:
        """Take the network and enter the stage that training starts in."""
        if self._best is not None and not loop.evaluates:
            raise InvalidArgumentError(
                "the best epoch of a stage is found by evaluating, and fit evaluates nothing",
                where="StagedUnfreeze(restore_best_between_stages=True)",
                received="fit without eval_data",
                expected="fit(train_data, eval_data, …)",
            )
        self.watched = []
        require_alone(
            loop,
            StagedUnfreeze,
            "one StagedUnfreeze would freeze what another has thawed",
            remedy="say everything in one list of stages",
        )
        self._factors = ParameterFactors.of(loop)
        self._trainable = freezing.trained_names(loop.network, self._plan)
        _refuse_what_no_optimizer_moves(loop, self._trainable)
        self._warn_of_stages_never_reached(loop)
        _warn_of_what_came_frozen(loop, self._trainable)
        self._averaging = GradientAveraging(loop.model)
        rates, relative = rates_before_stages(loop)
        stages = self._table(loop.network, rates, relative)
        self._freezer = freezing.Freezer(loop.network)
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

    def epoch_completed(self, loop: FitLoop, logs: dict[str, Any], eval_logs: dict[str, Any] | None) -> None:
        """Remember the weights if they are the stage's best, and look at the old task if the stage is over."""
        if self._best is not None:
            self._best.epoch_completed(loop, self.stage_index, eval_logs)
        over = loop.progress.epoch >= loop.epochs or loop.model.stop_training
        if self._watch is not None and (over or self._plan.stage_at(loop.progress).index != self.stage_index):
            found = evaluate_beside(loop, self._watch)
            self.watched.append({"stage": self.stage_index, "epoch": loop.progress.epoch, **found})
            loop.board.points += [
                (f"watch/{name}", loop.progress.global_step, value) for name, value in found.items()
            ]
            shown = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
            logger.info("old task after stage %d: %s", self.stage_index, shown)

    def fit_closed(self, loop: FitLoop) -> None:
        """Give the network back as the user had it."""
        if hasattr(self, "_freezer"):
            self._freezer.close()
            self._averaging.follow()
            self._factors.clear("stage")
            optimizer_state.regroup(loop.optimizer)
            del self._freezer

    def _warn_of_stages_never_reached(self, loop: FitLoop) -> None:
        steps = None if loop.steps_per_epoch is None else loop.epochs * loop.steps_per_epoch
        ends: int | None = loop.epochs if self._plan.unit == "epoch" else steps
        never = [stage for stage in self._plan.stages if ends is not None and stage.start >= ends]
        if never:
            logger.warning(
                "%d of %d stages are never reached: fit ends at %s %d, the first of them begins at %d",
                len(never),
                len(self._plan.stages),
                self._plan.unit,
                ends,
                never[0].start,
            )

    def _enter(self, loop: FitLoop, index: int) -> None:
        trainable = self._trainable[index]
        # Forgotten when frozen rather than when thawed: so it follows from the stage alone, wherever a run was resumed.
        optimizer_state.forget(
            loop.network, loop.optimizer, sorted(set(self._freezer.names) - set(trainable))
        )
        if self._best is not None:
            self._best.stage_entered(loop, index)
        self._freezer.apply(trainable, freeze_norm=self._plan.stages[index].freeze_norm)
        self._averaging.follow()
        same_weights.require(loop.ranks, loop.trained, f"as stage {index} begins")
        self.stage_index = index
        sizes = self._freezer.sizes
        self.trainable_share = sum(sizes[name] for name in trainable) / sum(sizes.values())
        loop.board.measures.update({"stage/index": index, "stage/trainable_share": self.trainable_share})
        logger.info(
            "stage %d: %d tensors, %.1f%% trainable", index, len(trainable), 100 * self.trainable_share
        )


def _warn_of_what_came_frozen(loop: FitLoop, trainable: Sequence[Sequence[str]]) -> None:
    came_frozen = set(freezing.frozen_names(loop.network))
    thawed = [name for name in dict.fromkeys(itertools.chain(*trainable)) if name in came_frozen]
    if thawed:
        logger.warning(
            "stages name, and so thaw, %d parameters that came frozen: %s; narrow the patterns if they are to stay so",
            len(thawed),
            ", ".join(thawed[:5]) + (", …" if len(thawed) > 5 else ""),
        )


def _refuse_what_no_optimizer_moves(loop: FitLoop, trainable: Sequence[Sequence[str]]) -> None:
    held = {parameter.name for parameter in loop.optimizer._parameter_list}
    parameters = dict(loop.network.named_parameters())
    wanted = dict.fromkeys(name for names in trainable for name in names)
    strangers = [name for name in wanted if parameters[name].name not in held]
    if strangers:
        shown = ", ".join(strangers[:3]) + (", …" if len(strangers) > 3 else "")
        raise InvalidArgumentError(
            "stages train parameters that the optimizer was not given: they would never move",
            where="StagedUnfreeze(stages)",
            received=f"{len(strangers)} such parameters: {shown}",
            expected="parameters of the optimizer",
            remedy="build it with parameters=network.parameters() once the network is complete, or narrow the patterns",
        )
