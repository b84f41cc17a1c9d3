"""The JSON Schema of a version's record, for programs that read a registry without this package."""

from __future__ import annotations

from typing import Any

from paddle_warm_callbacks.checkpoint.registry.record import SCHEMA_VERSION

_TEXT = {"type": ["string", "null"]}
_DIGEST = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
_COUNT = {"type": "integer", "minimum": 0}
# What JSON has no form for is an object with one key that begins with $: a NaN is {"$float": "7ff8000000000000"}.
_ANY_NUMBER = {
    "anyOf": [
        {"type": "number"},
        {
            "type": "object",
            "required": ["$float"],
            "additionalProperties": False,
            "properties": {"$float": {"type": "string"}},
        },
    ]
}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of :meth:`ModelVersion.to_json`."""
    properties: dict[str, Any] = {
        "name": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"},
        "version": {"type": "integer", "minimum": 1},
        "digest": {**_DIGEST, "description": "XXH3-128 of the checkpoint's manifest; its directory's name"},
        "size": {**_COUNT, "description": "bytes of the checkpoint's files"},
        "push_id": {"type": "string", "minLength": 1},
        "created": {"type": "string", "format": "date-time"},
        "progress": {
            "type": "object",
            "required": ["global_step", "epoch", "step_in_epoch"],
            "properties": {"global_step": _COUNT, "epoch": _COUNT, "step_in_epoch": _COUNT},
        },
        "author": _TEXT,
        "data_source": _TEXT,
        "notes": _TEXT,
        "metrics": {"type": "object", "additionalProperties": _ANY_NUMBER},
        "rank_by": {
            "type": ["object", "null"],
            "required": ["metric", "mode"],
            "properties": {"metric": {"type": "string"}, "mode": {"enum": ["max", "min"]}},
        },
        "parent": {**_TEXT, "description": "digest of what the weights come from"},
        "ancestry": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["source", "digest"],
                "properties": {"source": {"type": "string"}, "digest": _TEXT},
            },
        },
        "code_revision": _TEXT,
        "config": {},
        "config_digest": {"type": ["string", "null"], "pattern": "^[0-9a-f]{64}$", "description": "SHA-256"},
        "writer": {"type": "object", "additionalProperties": {"type": "string"}},
        "device": _TEXT,
        "labels": {"type": ["array", "null"]},
        "input_spec": {},
        "extra": {"type": "object"},
        "schema_version": {"const": SCHEMA_VERSION},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A version of a model in a registry of paddle_warm_callbacks",
        "type": "object",
        "required": list(properties),
        "additionalProperties": False,
        "properties": properties,
    }
