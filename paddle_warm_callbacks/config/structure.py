"""A schema as a tree of its settings, read off dataclasses, for whatever walks over keys."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Union

SECTION, ITEMS, MAPPING, VALUE = "section", "list of sections", "mapping", "value"


@dataclass(frozen=True)
class Node:
    """One setting, or a section of them.

    Attributes:
        kind: SECTION; ITEMS, a list of sections; MAPPING, with keys of any name; or VALUE.
        type: Of a VALUE its type, of a MAPPING that of its values; Any where all are allowed. Of a section its class.
        optional: Whether it may be null.
        default: Its default; ``dataclasses.MISSING`` for a section, and for what has none.
        metadata: What :func:`paddle_warm_callbacks.config.fields.setting` was told; empty in a plain dataclass.
        children: Of a section or of each item: name to setting.
    """

    kind: str
    type: Any
    optional: bool
    default: Any
    metadata: Mapping[str, Any]
    children: Mapping[str, Node]


def structure_of(schema: type) -> Node:
    """Return the tree of a dataclass."""
    return Node(SECTION, schema, False, dataclasses.MISSING, {}, _children(schema, ""))


def _children(schema: type, on_resume: str) -> dict[str, Node]:
    hints = typing.get_type_hints(schema)
    fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(schema)
    return {field.name: _node(hints[field.name], field, on_resume) for field in fields}


def _node(hint: Any, field: dataclasses.Field[Any], on_resume: str) -> Node:
    inner = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    optional = typing.get_origin(hint) is Union
    if optional:
        (hint,) = inner
    metadata = dict(field.metadata)
    metadata["on_resume"] = metadata.get("on_resume") or on_resume
    default = field.default
    if dataclasses.is_dataclass(hint):
        children = _children(typing.cast(type, hint), metadata["on_resume"])
        return Node(SECTION, hint, optional, default, metadata, children)
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is list and dataclasses.is_dataclass(arguments[0]):
        children = _children(typing.cast(type, arguments[0]), metadata["on_resume"])
        return Node(ITEMS, arguments[0], optional, default, metadata, children)
    if typing.get_origin(hint) is dict:
        return Node(MAPPING, arguments[1], optional, {}, metadata, {})
    return Node(VALUE, hint, optional or hint is Any, default, metadata, {})


def parts_of(key: str) -> list[str]:
    """Return the parts of a path: ``stages[1].trainable`` and ``stages.1.trainable`` are one.

    >>> parts_of("unfreeze.stages[1].trainable")
    ['unfreeze', 'stages', '1', 'trainable']
    """
    return re.sub(r"\[(\w*)\]", r".\1", key).split(".")


def find(root: Node, key: str) -> Node | None:
    """Return the setting at a path, a mapping's of any name where it leads into one; None if there is none."""
    node = root
    in_items = False
    for part in parts_of(key):
        if in_items:
            in_items = False
            if not part.isdigit():
                return None
        elif node.kind in (MAPPING, VALUE):
            # Below a value of any type everything may stand.
            anything = node.kind == MAPPING or node.type is Any
            return dataclasses.replace(node, kind=VALUE) if anything else None
        elif part not in node.children:
            return None
        else:
            node = node.children[part]
            in_items = node.kind == ITEMS
    return node


def paths(root: Node, prefix: str = "", *, sections: bool = False) -> Iterator[tuple[str, Node]]:
    """Yield path and setting of everything below ``root``, in order; list items are ``[]``.

    Args:
        root: A section, or a list of them.
        prefix: What the paths begin with.
        sections: Whether sections are among them too.
    """
    for name, node in root.children.items():
        path = f"{prefix}{name}"
        if node.kind != SECTION or sections:
            yield path, node
        if node.kind in (SECTION, ITEMS):
            below = f"{path}[]." if node.kind == ITEMS else f"{path}."
            yield from paths(node, below, sections=sections)
