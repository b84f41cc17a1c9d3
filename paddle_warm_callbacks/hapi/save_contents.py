"""What a checkpoint of a running fit holds, put together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paddle_warm_callbacks.checkpoint.contents import CheckpointContents
from paddle_warm_callbacks.hapi import training_state
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.hapi.training_state import TensorState


def contents_of(
    loop: FitLoop,
    tensors: TensorState,
    state: Mapping[str, Any],
    *,
    epoch_completed: bool,
    metrics: Mapping[str, float],
    metadata: Mapping[str, Any],
) -> CheckpointContents:
    """Return the contents of a checkpoint at ``loop.progress``.

    Args:
        loop: Between two steps.
        tensors: As captured; a copy behind training may still be to be made.
        state: Counters, on several ranks all of theirs.
        epoch_completed: Whether this is after an epoch and its evaluation.
        metrics: Their values here.
        metadata: The user's, and where the run comes from; what it started from is added.
    """
    metadata = dict(metadata)
    if loop.report is not None:
        metadata["start"] = loop.report.to_json()
    if loop.ancestry:
        metadata["ancestry"] = loop.ancestry
    return CheckpointContents(
        model=tensors.model,
        model_names=tensors.model_names,
        optimizer=tensors.optimizer,
        extra=tensors.extra,
        state=state,
        progress=loop.progress,
        epoch_completed=epoch_completed,
        metrics=metrics,
        metadata=metadata,
        parent=loop.parent,
        writer=training_state.versions(),
    )
