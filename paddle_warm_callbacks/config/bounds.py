"""Whether each value of a filled configuration is one that its setting may have."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from typing import Any, get_args, get_origin

from paddle_warm_callbacks.config.fields import LABELS, PATTERNS
from paddle_warm_callbacks.config.origin import Origin
from paddle_warm_callbacks.config.structure import ITEMS, MAPPING, SECTION, Node
from paddle_warm_callbacks.errors import InvalidArgumentError

_TYPES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
_FORMS = {
    PATTERNS: "a regular expression, or a list of them",
    LABELS: "a list of texts, or the path of a file with them",
}


def require_within(values: Any, root: Node, origin: Origin, path: str = "") -> None:
    """Walk over a filled dataclass, and refuse numbers out of bounds, texts that are no choice, and wrong forms.

    Raises:
        InvalidArgumentError: The first such value, with where it was written.
    """
    for name, node in root.children.items():
        value, below = getattr(values, name), f"{path}.{name}" if path else name
        if value is None:
            continue
        if node.kind == SECTION:
            require_within(value, node, origin, below)
        elif node.kind == ITEMS:
            for number, item in enumerate(value):
                require_within(item, node, origin, f"{below}[{number}]")
        elif node.kind == MAPPING:
            for key, item in value.items():
                _require(item, node, origin, f"{below}.{key}")
        else:
            _require(value, node, origin, below)


def form_text(node: Node) -> str:
    """Return in words what a setting may be.

    >>> from paddle_warm_callbacks.config.structure import VALUE
    >>> form_text(Node(VALUE, float, False, 1.0, {"above": 0, "at_most": 1}, {}))
    'a number, above 0, at most 1'
    """
    metadata = node.metadata
    if node.kind == SECTION:
        return "a section"
    if node.kind == ITEMS:
        return "a list of sections"
    if metadata.get("choices"):
        form = ", ".join(metadata["choices"])
    elif metadata.get("form"):
        form = _FORMS[metadata["form"]]
    else:
        words = (("at least", "at_least"), ("above", "above"), ("at most", "at_most"))
        limits = [f"{word} {metadata[key]:g}" for word, key in words if metadata.get(key) is not None]
        is_list = get_origin(node.type) is list
        kind = _TYPES.get(get_args(node.type)[0] if is_list else node.type, "anything")
        form = ", ".join([f"a list, each {kind}" if is_list else kind, *limits])
    return f"name: {form}" if node.kind == MAPPING else form


def _require(value: Any, node: Node, origin: Origin, path: str) -> None:
    remedy = ""
    choices: Sequence[str] = node.metadata.get("choices", ())
    form = node.metadata.get("form", "")
    if choices:
        fits = value in choices
        near = difflib.get_close_matches(str(value), choices, n=1)
        remedy = f"did you mean {near[0]}?" if near else ""
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        fits = _in_bounds(value, node)
    elif form == PATTERNS:
        fits = _are_patterns(value)
    elif form == LABELS:
        fits = _are_texts(value)
        remedy = "" if fits else 'quote labels that YAML takes for numbers or truth: ["0", "no"]'
    else:
        return
    if not fits:
        raise InvalidArgumentError(
            "a setting has a value that it cannot have",
            where=origin.where(path),
            received=origin.shown(path, repr(value)[:200]),
            expected=form_text(node),
            remedy=remedy,
        )


def _in_bounds(value: float, node: Node) -> bool:
    at_least, above, at_most = (node.metadata.get(name) for name in ("at_least", "above", "at_most"))
    return (
        math.isfinite(value)
        and (at_least is None or value >= at_least)
        and (above is None or value > above)
        and (at_most is None or value <= at_most)
    )


def _are_texts(value: Any) -> bool:
    listed = [value] if isinstance(value, str) else value
    return (
        isinstance(listed, list) and bool(listed) and all(isinstance(item, str) and item for item in listed)
    )


def _are_patterns(value: Any) -> bool:
    if not _are_texts(value):
        return False
    try:
        for pattern in [value] if isinstance(value, str) else value:
            re.compile(pattern)
    except re.error:
        return False
    return True
