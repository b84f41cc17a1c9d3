"""Head rows by label: where each label's numbers live in a head, and which row goes where when labels change."""

from __future__ import annotations

from paddle_warm_callbacks.plan.transplant.head import HeadTransplant
from paddle_warm_callbacks.plan.transplant.layouts import LAYOUTS, HeadLayout, HeadTensor
from paddle_warm_callbacks.plan.transplant.moves import LabelMoves, label_moves
from paddle_warm_callbacks.plan.transplant.rows import RowMap, head_tensors, resized, row_map

__all__ = [
    "LAYOUTS",
    "HeadLayout",
    "HeadTensor",
    "HeadTransplant",
    "LabelMoves",
    "RowMap",
    "head_tensors",
    "label_moves",
    "resized",
    "row_map",
]
