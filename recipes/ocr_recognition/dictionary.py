"""The characters of a recogniser, from PaddleOCR's dictionary files and from the metadata of a checkpoint."""

from __future__ import annotations

from pathlib import Path

from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.plan.labels import labels_from_dictionary
from recipes.common.old_labels import old_labels


def read_dictionary(file: Path, use_space_char: bool = False, where: str = "data.dictionary") -> list[str]:
    """Return the characters of a dictionary file, a space last if ``use_space_char``.

    Raises:
        InvalidArgumentError: It cannot be read.
    """
    try:
        # newline="": a carriage return may be a character's line end, and nothing else may be changed.
        with file.open(encoding="utf-8", newline="") as lines:
            return list(labels_from_dictionary(lines.read(), use_space_char=use_space_char))
    except (OSError, UnicodeDecodeError) as unreadable:
        raise InvalidArgumentError(
            "the dictionary cannot be read",
            where=where,
            received=f"{file}: {unreadable}",
            expected="a text file with one character a line, in UTF-8",
        ) from unreadable


def old_characters(checkpoint: str, file: str | None, use_space_char: bool = False) -> list[str] | None:
    """Return the characters of ``checkpoint``: of the dictionary ``file``, else of its metadata; None if neither.

    Raises:
        InvalidArgumentError: The file cannot be read.
    """
    if file is None:
        return old_labels(checkpoint, None)
    return read_dictionary(Path(file), use_space_char, "old_labels")
