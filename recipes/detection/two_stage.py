"""What two-stage detectors of ppdet need besides: boxes as a list of tables, and a Paddle that joins plain numbers."""

from __future__ import annotations

import importlib
from typing import Any

import paddle

from paddle_warm_callbacks.errors import InvalidArgumentError

# Modules of ppdet that join counts of boxes, each of which was a tensor of one element when they were written.
_JOINING = (
    "architectures.cascade_rcnn",
    "architectures.faster_rcnn",
    "heads.cascade_head",
    "post_process",
    "proposal_generator.rpn_head",
    "proposal_generator.target",
)


def is_two_stage(network: Any) -> bool:
    """Return whether a network of ppdet proposes regions first."""
    return hasattr(network, "rpn_head")


def require_boxes_only(network: Any) -> None:
    """Raise InvalidArgumentError if a network of ppdet predicts masks too: their outlines are not in a batch here."""
    if getattr(network, "mask_head", None) is not None:
        raise InvalidArgumentError(
            "a detector that predicts masks",
            where="model.detector",
            received=f"{type(network).__name__} with a {type(network.mask_head).__name__}",
            expected="one that predicts boxes, such as FasterRCNN or CascadeRCNN",
            remedy="leave mask_head out of its configuration",
        )


def as_lists(batch: dict[str, Any]) -> dict[str, Any]:
    """Return a padded batch with the fields of its boxes as lists, each image's own without the padding."""
    counts = [int(count) for count in batch["pad_gt_mask"].sum(axis=[1, 2])]
    return {
        name: [table[:count] for table, count in zip(value, counts)]
        if name in ("gt_bbox", "gt_class", "is_crowd")
        else value
        for name, value in batch.items()
    }


def let_numbers_be_joined() -> None:
    """Let ppdet's two-stage modules join tensors without dimensions, which Paddle has had since 2.5.

    Nothing outside of those modules sees it. Those of newer checkouts join nothing of the kind, and are as they were.
    """
    for name in _JOINING:
        module: Any = importlib.import_module(f"ppdet.modeling.{name}")
        module.paddle = _Paddle()


class _Paddle:
    """Paddle, but for a tensor without dimensions being one of one element where tensors are joined or summed."""

    def __getattr__(self, name: str) -> Any:
        return getattr(paddle, name)

    def concat(self, x: Any, axis: int = 0) -> Any:
        return paddle.concat([_at_least_1d(tensor) for tensor in x], axis)

    def add_n(self, inputs: Any) -> Any:
        return paddle.add_n([_at_least_1d(tensor) for tensor in inputs])


def _at_least_1d(tensor: Any) -> Any:
    return tensor if tensor.ndim else tensor.reshape([1])
