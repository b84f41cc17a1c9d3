"""Warm start, exact resume, staged unfreezing and safe checkpoints for ``paddle.Model.fit``, as callbacks.

Importing this package imports neither Paddle nor anything else that is slow: a public name is imported when it is first
touched. Checkpoints can be listed, verified and read on a machine without Paddle; the callbacks need it.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING

from paddle_warm_callbacks.secrets import from_log
from paddle_warm_callbacks.version import __version__ as __version__

if TYPE_CHECKING:
    from paddle_warm_callbacks.callbacks.periodic_checkpoint import PeriodicCheckpoint
    from paddle_warm_callbacks.callbacks.sample_predictions import SamplePredictions, class_caption
    from paddle_warm_callbacks.callbacks.staged_unfreeze import StagedUnfreeze
    from paddle_warm_callbacks.callbacks.warm_lr_scaler import WarmLRScaler
    from paddle_warm_callbacks.callbacks.warm_start import WarmStartCallback
    from paddle_warm_callbacks.callbacks.warm_visualdl import WarmVisualDL
    from paddle_warm_callbacks.checkpoint.mirror_writer import Mirror
    from paddle_warm_callbacks.checkpoint.registry.registry import Registry
    from paddle_warm_callbacks.checkpoint.store import Checkpoint, CheckpointStore
    from paddle_warm_callbacks.cli.prove import ProofResult, prove
    from paddle_warm_callbacks.config.building import from_config
    from paddle_warm_callbacks.errors import (
        CheckpointError,
        CheckpointWriteError,
        CorruptCheckpointError,
        CoverageError,
        InvalidArgumentError,
        NoUsableCheckpointError,
        PatternError,
        RankError,
        RegistryError,
        ResumeChangedError,
        RunDirectoryBusyError,
        SourceError,
        UnsafeFileError,
        UnsupportedFitError,
        WarmCallbacksError,
    )
    from paddle_warm_callbacks.hapi.depth import fine_tune, stages_from_depth
    from paddle_warm_callbacks.plan.report import RestoreReport
    from paddle_warm_callbacks.plan.retention import KeepBest, KeepEvery, KeepLatest
    from paddle_warm_callbacks.plan.saving import (
        EveryNEpochs,
        EveryNSeconds,
        EveryNSteps,
        OnException,
        OnNewBest,
    )
    from paddle_warm_callbacks.plan.stages import FineTune, Stage
    from paddle_warm_callbacks.plan.transplant import HeadTransplant
    from paddle_warm_callbacks.progress import Progress

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "CheckpointStore",
    "CheckpointWriteError",
    "CorruptCheckpointError",
    "CoverageError",
    "EveryNEpochs",
    "EveryNSeconds",
    "EveryNSteps",
    "FineTune",
    "HeadTransplant",
    "InvalidArgumentError",
    "KeepBest",
    "KeepEvery",
    "KeepLatest",
    "Mirror",
    "NoUsableCheckpointError",
    "OnException",
    "OnNewBest",
    "PatternError",
    "PeriodicCheckpoint",
    "Progress",
    "ProofResult",
    "RankError",
    "Registry",
    "RegistryError",
    "RestoreReport",
    "ResumeChangedError",
    "RunDirectoryBusyError",
    "SamplePredictions",
    "SourceError",
    "Stage",
    "StagedUnfreeze",
    "UnsafeFileError",
    "UnsupportedFitError",
    "WarmCallbacksError",
    "WarmLRScaler",
    "WarmStartCallback",
    "WarmVisualDL",
    "class_caption",
    "fine_tune",
    "from_config",
    "prove",
    "stages_from_depth",
]

# Every module of the package logs to this one logger.
logging.getLogger(__name__).addFilter(from_log)

# Where each public name lives; the imports above say the same to type checkers, and a test holds the two together.
_HOMES = {
    "callbacks.periodic_checkpoint": ("PeriodicCheckpoint",),
    "callbacks.sample_predictions": ("SamplePredictions", "class_caption"),
    "callbacks.staged_unfreeze": ("StagedUnfreeze",),
    "callbacks.warm_lr_scaler": ("WarmLRScaler",),
    "callbacks.warm_start": ("WarmStartCallback",),
    "callbacks.warm_visualdl": ("WarmVisualDL",),
    "checkpoint.mirror_writer": ("Mirror",),
    "checkpoint.registry.registry": ("Registry",),
    "checkpoint.store": ("Checkpoint", "CheckpointStore"),
    "config.building": ("from_config",),
    "cli.prove": ("ProofResult", "prove"),
    "errors": tuple(name for name in __all__ if name.endswith("Error")),
    "hapi.depth": ("fine_tune", "stages_from_depth"),
    "plan.report": ("RestoreReport",),
    "plan.retention": ("KeepBest", "KeepEvery", "KeepLatest"),
    "plan.saving": ("EveryNEpochs", "EveryNSeconds", "EveryNSteps", "OnException", "OnNewBest"),
    "plan.stages": ("FineTune", "Stage"),
    "plan.transplant": ("HeadTransplant",),
    "progress": ("Progress",),
}


def __getattr__(name: str) -> object:
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value: object = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    except ModuleNotFoundError as missing:
        if missing.name != "paddle":
            raise
        raise ImportError(
            f"{name} needs PaddlePaddle, and it is not installed\n"
            '  remedy:   pip install "paddle-warm-callbacks[cpu]", or [gpu] on a machine with a CUDA device',
            name="paddle",
        ) from missing
    globals()[name] = value  # the next access finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
