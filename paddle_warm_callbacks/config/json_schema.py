"""The JSON Schema of the YAML, by which editors complete and check it: ``python -m …config.json_schema`` prints it."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from paddle_warm_callbacks.config.fields import LABELS, PATTERNS
from paddle_warm_callbacks.config.schema import Config
from paddle_warm_callbacks.config.structure import ITEMS, MAPPING, SECTION, Node, structure_of

FILE = Path(__file__).with_name("config.schema.json")

_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}
_INTERPOLATION = {"type": "string", "pattern": r"\$\{"}


def json_schema(schema: type = Config) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a configuration's dataclass.

    ``${…}`` is allowed wherever a value is: what it becomes is checked when the configuration is loaded.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "paddle_warm_callbacks",
        "description": "Configuration of from_config.",
        **_section(structure_of(schema)),
    }


def _section(node: Node) -> dict[str, Any]:
    required = [name for name, child in node.children.items() if child.default == "???"]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _property(child) for name, child in node.children.items()},
        **({"required": required} if required else {}),
    }


def _property(node: Node) -> dict[str, Any]:
    if node.kind == SECTION:
        form = _section(node)
    elif node.kind == ITEMS:
        form = {"type": "array", "items": {"anyOf": [_section(node), _INTERPOLATION]}}
    elif node.kind == MAPPING:
        form = {"type": "object", "additionalProperties": _or_interpolation(_value(node))}
    else:
        form = _value(node)
    described: dict[str, Any] = {"description": node.metadata.get("about", "")}
    if node.default is not dataclasses.MISSING and node.default != "???":
        described["default"] = node.default
    allowed = _or_interpolation(form, optional=node.optional)
    return {**described, **allowed}


def _or_interpolation(form: dict[str, Any], *, optional: bool = False) -> dict[str, Any]:
    if not form:
        return {}  # anything
    return {"anyOf": [form, *([{"type": "null"}] if optional else []), _INTERPOLATION]}


def _value(node: Node) -> dict[str, Any]:
    metadata = node.metadata
    if metadata.get("form") in (PATTERNS, LABELS):
        text = {"type": "string", "minLength": 1}
        return {"anyOf": [text, {"type": "array", "items": text, "minItems": 1}]}
    if metadata.get("choices"):
        return {"enum": list(metadata["choices"])}
    if node.type not in _TYPES:
        return {}
    limits = (("minimum", "at_least"), ("exclusiveMinimum", "above"), ("maximum", "at_most"))
    bounds = {name: metadata[key] for name, key in limits if metadata.get(key) is not None}
    return {"type": _TYPES[node.type], **bounds}


def text() -> str:
    """Return the JSON Schema as it lies beside this module."""
    return json.dumps(json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
