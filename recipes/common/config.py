"""A recipe's configuration: typed defaults, then its YAML file, then ``key=value`` arguments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from paddle_warm_callbacks.config.loading import load

Schema = TypeVar("Schema")


def load_config(schema: type[Schema], file: Path, arguments: Sequence[str]) -> Schema:
    """Return ``schema`` filled from ``file`` and then from ``arguments``.

    Args:
        schema: A dataclass; its fields give keys, types and defaults.
        file: The recipe's YAML file.
        arguments: Each ``key=value``, with dots between nested keys.

    Raises:
        SourceError: There is no such file.
        InvalidArgumentError: An unknown key, with the nearest known one, or a value of another type.
    """
    return load(schema, file, arguments).values
