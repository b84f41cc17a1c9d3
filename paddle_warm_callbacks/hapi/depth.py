"""Stages and learning-rate groups read off a network."""

from __future__ import annotations

from typing import Any

from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.hapi import freezing
from paddle_warm_callbacks.plan.stages import FineTune, Stage, fine_tune_by_depth, stages_by_depth


def stages_from_depth(
    network: Any,
    n: int,
    *,
    epochs_per_stage: int = 1,
    lr_decay: float = 1.0,
    head: str | None = None,
) -> list[Stage]:
    """Return ``n`` stages for ``StagedUnfreeze``: the head, then part after part of the backbone, deepest first.

    What is frozen in ``network`` now is the user's, and no stage names it.

    Look at them with ``StagedUnfreeze(stages).plan(network)`` and change what you like: they are a list.

    Example:
        >>> import paddle
        >>> from paddle_warm_callbacks import StagedUnfreeze, stages_from_depth
        >>> network = paddle.vision.models.resnet18(num_classes=10)
        >>> stages = stages_from_depth(network, 3, epochs_per_stage=2, lr_decay=0.5)
        >>> [stage.from_epoch for stage in stages]
        [0, 2, 4]
        >>> unfreeze = StagedUnfreeze(stages)

    Args:
        network: The Layer. Its layers' depth is the order in which they were registered.
        n: Number of stages, at least 2.
        epochs_per_stage: At least 1.
        lr_decay: Stage k, from 0, multiplies the learning rate by this to the power of k; above 0.
        head: Structured name of the head's layer. None: the last top-level layer; if that is a row of layers (a
            Sequential), the last of them.

    Raises:
        InvalidArgumentError: A number out of its bounds, or more stages than there are blocks.
        PatternError: There is no such ``head``.
    """
    sizes, frozen = _sizes(network)
    return stages_by_depth(
        sizes,
        n,
        epochs_per_stage=epochs_per_stage,
        lr_decay=lr_decay,
        head=head,
        frozen=frozen,
    )


def fine_tune(
    network: Any, *, freeze_epochs: int = 1, lr_mult: float = 100.0, n: int = 3, head: str | None = None
) -> FineTune:
    """Return what fastai's ``fine_tune`` does: the head alone, then everything, shallow layers at a lower rate.

    Example:
        >>> import paddle
        >>> from paddle_warm_callbacks import StagedUnfreeze, WarmLRScaler, fine_tune
        >>> recipe = fine_tune(paddle.vision.models.resnet18(num_classes=10), freeze_epochs=1)
        >>> callbacks = [WarmLRScaler(1.0, groups=recipe.groups), StagedUnfreeze(recipe.stages)]

    Args:
        network: The Layer. Its layers' depth is the order in which they were registered.
        freeze_epochs: Epochs of the head alone, at least 1.
        lr_mult: The head's rate by that of the shallowest part; at least 1.
        n: Number of parts with a rate of their own, the head among them; at least 2.
        head: Structured name of the head's layer; None: found as in :func:`stages_from_depth`.

    Raises:
        InvalidArgumentError: A number out of its bounds, or more parts than there are blocks.
        PatternError: There is no such ``head``.
    """
    sizes, frozen = _sizes(network)
    return fine_tune_by_depth(
        sizes, freeze_epochs=freeze_epochs, lr_mult=lr_mult, n=n, head=head, frozen=frozen
    )


def _sizes(network: Any) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return the parameters to make parts of, with their numbers of elements, and those that the user froze."""
    frozen = freezing.frozen_names(network)
    sizes = {name: size for name, size in freezing.trainable_sizes(network).items() if name not in frozen}
    if not sizes:
        raise InvalidArgumentError(
            "the network is frozen: there is nothing to make stages of",
            where="stages_from_depth(network), fine_tune(network)",
            received=f"stop_gradient=True in all {len(frozen)} parameters",
            expected="a network with stop_gradient=False in what may be trained",
        )
    return sizes, frozen
