"""The settings of what a run leaves behind: its checkpoints, their copies, and its logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from omegaconf import MISSING

from paddle_warm_callbacks.checkpoint.manifest import LAYOUTS
from paddle_warm_callbacks.config.fields import BETTER, section, setting


@dataclass
class SaveConfig:
    """When checkpoints are saved: at each of these occasions."""

    every_epochs: Optional[int] = setting(1, "After so many epochs.", at_least=1)
    every_steps: Optional[int] = setting(None, "After so many global steps.", at_least=1)
    every_seconds: Optional[float] = setting(None, "After so many seconds.", above=0)
    new_best: Optional[str] = setting(None, "When this metric of the evaluation is the best so far.")
    mode: str = setting("max", "Which end of new_best is better.", choices=BETTER)
    on_exception: bool = setting(False, "When an exception ends fit between two steps.")


@dataclass
class KeepConfig:
    """Which checkpoints stay; the newest always does."""

    latest: int = setting(3, "The newest so many.", at_least=1)
    best: Optional[str] = setting(None, "The best by this metric.")
    best_n: int = setting(1, "How many of the best.", at_least=1)
    mode: str = setting("max", "Which end of best is better.", choices=BETTER)
    every_epochs: Optional[int] = setting(None, "Those after every so many epochs, for good.", at_least=1)


@dataclass
class CheckpointsConfig:
    """Checkpoints of this run."""

    save: SaveConfig = section(
        SaveConfig, "When they are saved.", example="{every_epochs: 1, every_steps: 500}"
    )
    keep: KeepConfig = section(KeepConfig, "Which of them stay.", example="{latest: 3, best: acc}")
    metadata: dict[str, Any] = setting(
        {}, "Plain values stored with each.", example="{labels: [scratch, dent]}"
    )
    layout: str = setting(
        "native",
        "Files that Paddle reads by itself, or tensors that are shared while they do not change.",
        choices=LAYOUTS,
    )
    save_on_signal: bool = setting(True, "Save and stop at a signal.")
    signals: Optional[list[str]] = setting(
        None, "Names of those signals; null: SIGTERM and SIGUSR1.", example="[SIGTERM, SIGUSR2]"
    )
    on_error: str = setting("raise", "What a failed save does to training.", choices=("raise", "warn"))


@dataclass
class MirrorConfig:
    """Copies of the checkpoints, made behind training."""

    url: str = setting(MISSING, "Where to: any fsspec URL, or a path.")
    keep: Optional[KeepConfig] = section(None, "Which stay there; null: all.", example="{latest: 3}")
    max_bytes_per_second: Optional[float] = setting(None, "Limit for all uploads together.", above=0)


@dataclass
class VisualDLConfig:
    """Logs for VisualDL."""

    log_dir: Optional[str] = setting(None, "Directory of the logs; null: vdl in training.run_dir.")
    log_freq: int = setting(10, "Global steps between two points.", at_least=1)
    histograms: bool = setting(False, "Log the distribution of each trainable parameter after every epoch.")
    gradient_norm: bool = setting(False, "Log the norm over all gradients.")
    rank_throughput: bool = setting(False, "On several ranks, log the throughput of each.")
    hparams: dict[str, Any] = setting(
        {}, "Settings by which this run is compared with others.", example="{augmentation: flips}"
    )
