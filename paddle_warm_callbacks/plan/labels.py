"""Labels in a head's order, from the texts and records that people keep them in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paddle_warm_callbacks.errors import InvalidArgumentError


def labels_from_lines(text: str) -> tuple[str, ...]:
    r"""Return the classes of a ``label_list.txt``: one a line, empty lines left out, a first "background" dropped.

    Raises:
        InvalidArgumentError: No line holds a label.

    >>> labels_from_lines("background\nscratch\ndent\n")
    ('scratch', 'dent')
    """
    labels = [line.strip() for line in text.splitlines() if line.strip()]
    if labels and labels[0] == "background":
        labels = labels[1:]
    return _some(tuple(labels), "labels_from_lines(text)", "one label a line")


def labels_from_dictionary(text: str, *, use_space_char: bool = False) -> tuple[str, ...]:
    r"""Return the characters of a PaddleOCR dictionary: one a line, kept as they are, spaces and repeats included.

    Args:
        text: The dictionary file's text.
        use_space_char: As in the model's configuration: a space is appended as the last character.

    Raises:
        InvalidArgumentError: The dictionary is empty.

    >>> labels_from_dictionary("a\nb\n", use_space_char=True)
    ('a', 'b', ' ')
    """
    # Only line feeds end a line: other characters that str.splitlines() cuts at may stand in a dictionary.
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    characters = tuple(line.rstrip("\r") for line in lines)
    _some(characters, "labels_from_dictionary(text)", "one character a line")
    return (*characters, " ") if use_space_char else characters


def labels_from_coco(annotations: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the class names of COCO annotations, in the order of their ``categories``, which is the head's.

    Args:
        annotations: The annotation file's JSON object.

    Raises:
        InvalidArgumentError: It has no categories with names.

    >>> labels_from_coco({"categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]})
    ('cat', 'dog')
    """
    expected = 'an object with "categories": [{"id": ..., "name": ...}, ...]'
    try:
        names = tuple(category["name"] for category in annotations["categories"])
    except (KeyError, TypeError) as missing:
        raise InvalidArgumentError(
            "not COCO annotations",
            where="labels_from_coco(annotations)",
            received=repr(annotations)[:200],
            expected=expected,
        ) from missing
    return _some(names, "labels_from_coco(annotations)", expected)


def _some(labels: tuple[str, ...], where: str, expected: str) -> tuple[str, ...]:
    if labels:
        return labels
    raise InvalidArgumentError("no labels in it", where=where, expected=expected)
