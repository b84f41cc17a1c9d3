"""The checkpoints of a run directory: committed whole or not at all, listed by name, verified, kept or deleted."""

from paddle_warm_callbacks.checkpoint.store.checkpoint import Checkpoint
from paddle_warm_callbacks.checkpoint.store.directory import CheckpointStore

__all__ = ["Checkpoint", "CheckpointStore"]
