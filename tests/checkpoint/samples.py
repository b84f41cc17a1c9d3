"""Small checkpoints to commit, and comparisons to the bit."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from paddle_warm_callbacks.checkpoint.contents import CheckpointContents
from paddle_warm_callbacks.checkpoint.store import Checkpoint, CheckpointStore
from paddle_warm_callbacks.progress import Progress


def contents(
    step: int = 0, *, epoch: int | None = None, metrics: dict[str, float] | None = None, size: int = 6
) -> CheckpointContents:
    """Return contents whose every array says the step; ``epoch`` counts epochs completed."""
    return CheckpointContents(
        model={"fc.weight": np.full((size, 2), step, np.float32), "fc.bias": np.full(2, step, np.float32)},
        model_names={"fc.weight": "linear_0.w_0", "fc.bias": "linear_0.b_0"},
        optimizer={
            "linear_0.w_0_moment1_0": np.full((size, 2), step, np.float32),
            "LR_Scheduler": {"last_epoch": step, "last_lr": 0.1},
        },
        extra={"running": np.array([step])},
        state={"step": step, "pair": (1, float("nan"))},
        progress=Progress(step, epoch or 0, 0 if epoch is not None else step),
        epoch_completed=epoch is not None,
        metrics=metrics or {},
        metadata={"labels": ["a", "b"]},
        writer={"numpy": np.__version__},
    )


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal in types, order and bits."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (np.ndarray, np.generic)):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if isinstance(one, deque):
        return bool(one.maxlen == other.maxlen) and same(list(one), list(other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return np.float64(one).tobytes() == np.float64(other).tobytes()
    return bool(one == other)


def entries(path: str | Path) -> list[str]:
    """Return the names in a directory, in order."""
    return sorted(entry.name for entry in Path(path).iterdir())


def step_in(checkpoint: Any) -> int:
    """Return the one step that everything in a checkpoint of :func:`contents` says."""
    steps = {
        checkpoint.progress.global_step,
        checkpoint.read_state()["step"],
        checkpoint.read_optimizer()["LR_Scheduler"]["last_epoch"],
        *(int(value) for array in checkpoint.read_model().values() for value in array.flat),
        *(int(value) for value in checkpoint.read_extra()["running"]),
    }
    assert len(steps) == 1, steps
    return int(steps.pop())


def names_in(store: CheckpointStore) -> list[str]:
    """Return the names of a run's checkpoints, oldest first."""
    return [checkpoint.name for checkpoint in store.list()]


def damage(checkpoint: Checkpoint, file: str = "model.pdparams") -> None:
    """Change a bit in the middle of one of its files."""
    path = Path(checkpoint.path) / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
