"""The labels of the model that a recipe starts from."""

from __future__ import annotations

from pathlib import Path

from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.plan.labels import labels_from_lines


def old_labels(checkpoint: str, file: str | None) -> list[str] | None:
    """Return the labels of ``checkpoint``, in its head's order; None if nothing says them.

    Args:
        checkpoint: A run directory or checkpoint of ours has them in its metadata; any other file has none.
        file: Text file with one label a line, which wins.

    Raises:
        InvalidArgumentError: ``file`` cannot be read.
    """
    if file is not None:
        try:
            return list(labels_from_lines(Path(file).read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as unreadable:
            raise InvalidArgumentError(
                "the old labels cannot be read",
                where="old_labels",
                received=f"{file}: {unreadable}",
                expected="a text file with one label a line, in UTF-8",
            ) from unreadable
    if not Path(checkpoint).is_dir():
        return None
    newest = CheckpointStore(checkpoint).latest_verified()
    return None if newest is None else newest.manifest.metadata.get("labels")
