"""Labels read from the files that people keep them in."""

from __future__ import annotations

import json
from pathlib import Path

from paddle_warm_callbacks.arguments import require_choice
from paddle_warm_callbacks.checkpoint import nearby
from paddle_warm_callbacks.errors import InvalidArgumentError, SourceError
from paddle_warm_callbacks.plan.labels import labels_from_coco, labels_from_dictionary, labels_from_lines

KINDS = ("lines", "dictionary", "coco")


def read_labels(
    file: str | Path, kind: str = "lines", *, use_space_char: bool = False, where: str = "labels"
) -> tuple[str, ...]:
    """Return the labels of a file, in its order.

    Args:
        file: In UTF-8.
        kind: "lines", one label a line; "dictionary", a dictionary of PaddleOCR; "coco", annotations in JSON.
        use_space_char: Of a dictionary: a space is appended as its last character.
        where: What asks for them, for errors.

    Raises:
        SourceError: It cannot be read.
        InvalidArgumentError: It has no labels, or is no JSON.
    """
    require_choice(kind, f"{where}: kind of file", choices=KINDS)
    path = Path(file).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(
            "the labels cannot be read",
            where=where,
            received=f"{file}: {getattr(error, 'strerror', None) or error}",
            expected="a text file in UTF-8",
            remedy=nearby.meant(path),
        ) from error
    try:
        if kind == "dictionary":
            return labels_from_dictionary(text, use_space_char=use_space_char)
        if kind == "coco":
            return labels_from_coco(json.loads(text))
        return labels_from_lines(text)
    except json.JSONDecodeError as error:
        raise InvalidArgumentError(
            "not COCO annotations", where=where, received=f"{file}: {error}", expected="a JSON object"
        ) from error
