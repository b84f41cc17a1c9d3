"""What one checkpoint holds, before it is written and after it was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from paddle_warm_callbacks.progress import Progress

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Elsewhere:
    """Stand, among the arrays of a checkpoint, for one that another rank writes.

    Attributes:
        key: Under which that rank tells where it is.
    """

    key: str


@dataclass(frozen=True)
class CheckpointContents:
    """Hold the state of exactly one position of a run.

    The arrays are host memory, written as they stand: whoever builds this leaves them alone until the checkpoint is
    committed. bfloat16 is uint16, as Paddle stores it. Where several ranks write a checkpoint together, an
    :class:`Elsewhere` may stand for an array.

    Attributes:
        model: Structured name to array: parameters and persistable buffers. Written to ``model.pdparams``.
        model_names: Structured name to the name Paddle generated for the tensor, for ``model.pdparams``' name table.
        optimizer: Content of a native ``.pdopt``: arrays, ``(generated name, array)`` pairs, plain values, and nested
            dictionaries of those (``master_weights``, ``LR_Scheduler``). Empty: no ``model.pdopt`` is written.
        extra: Structured name to array of what ``state_dict()`` leaves out, such as non-persistable buffers. Empty: no
            ``extra.pdparams`` is written.
        state: Everything else, as values that :mod:`~paddle_warm_callbacks.checkpoint.jsonvalue` encodes.
        progress: The position.
        epoch_completed: Whether it was taken after an epoch and its evaluation.
        metrics: Metric name to value at that position.
        metadata: The user's own values, such as ``"labels"``; encoded like ``state``.
        parent: Digest of the manifest this run was resumed or warm-started from, or None.
        writer: Package name to version, of what wrote this.
    """

    model: Mapping[str, Array]
    model_names: Mapping[str, str] = field(default_factory=dict)
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Array] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)
    epoch_completed: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    parent: str | None = None
    writer: Mapping[str, str] = field(default_factory=dict)
