"""Stages: what is trainable where in a run, and stages made from a network's depth."""

from __future__ import annotations

from paddle_warm_callbacks.plan.stages.depth import FineTune, fine_tune_by_depth, stages_by_depth
from paddle_warm_callbacks.plan.stages.stage_plan import Stage, StageAt, StagePlan

__all__ = ["FineTune", "Stage", "StageAt", "StagePlan", "fine_tune_by_depth", "stages_by_depth"]
