"""Where a setting was written: file and line, or an override."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import yaml

from paddle_warm_callbacks.config.structure import parts_of
from paddle_warm_callbacks.errors import InvalidArgumentError, PatternError
from paddle_warm_callbacks.plan.config_changes import flattened


@dataclass
class Origin:
    """Where a configuration comes from.

    Attributes:
        name: The file, or what else it was given as.
        lines: Path of a setting, as a tuple of its parts, to its line in the file, from 1.
        overrides: The same to the override that set it.
        environment: The same to how it is written, of those whose value comes from the environment.
    """

    name: str
    lines: dict[tuple[str, ...], int] = field(default_factory=dict)
    overrides: dict[tuple[str, ...], str] = field(default_factory=dict)
    environment: dict[tuple[str, ...], str] = field(default_factory=dict)

    def where(self, key: str) -> str:
        """Return where a setting was written, and its path."""
        parts = tuple(parts_of(key)) if key else ()
        for end in range(len(parts), 0, -1):
            if parts[:end] in self.overrides:
                return f"{key}, by the override {self.overrides[parts[:end]]!r}"
            if parts[:end] in self.lines:
                return f"{key} in {self.name}, line {self.lines[parts[:end]]}"
        return f"{key} in {self.name}" if key else self.name

    def know_environment(self, plain: Mapping[str, Any]) -> None:
        """Note which settings come from the environment: those that are not resolved in what is stored."""
        for key, value in flattened(plain).items():
            if "oc.env" in str(value):
                self.environment[tuple(parts_of(key))] = str(value)

    def shown(self, key: str, text: str) -> str:
        """Return what an error may say of a setting's value: ``text``, unless that came from the environment."""
        parts = tuple(parts_of(key))
        beginnings = [parts[:end] for end in range(1, len(parts) + 1)]
        written = next((self.environment[part] for part in beginnings if part in self.environment), None)
        return text if written is None else f"what {written} gives"


@contextmanager
def located(origin: Origin, key: str) -> Iterator[None]:
    """Say of an argument that is refused where in the configuration it was written."""
    try:
        yield
    except InvalidArgumentError as error:
        is_key = bool(error.where) and error.where.startswith(key)
        kind = PatternError if isinstance(error, PatternError) else InvalidArgumentError
        raise kind(
            error.what,
            where=origin.where(error.where) if is_key else f"{origin.where(key)} ({error.where})",
            received=error.received,
            expected=error.expected,
            remedy=error.remedy,
        ) from error


def lines_of(root: yaml.Node) -> dict[tuple[str, ...], int]:
    """Return the line, from 1, of every key and list item of a YAML text that was parsed."""
    found: dict[tuple[str, ...], int] = {}

    def visit(node: yaml.Node, path: tuple[str, ...]) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                below = (*path, *parts_of(str(key.value)))
                found[below] = key.start_mark.line + 1
                visit(value, below)
        elif isinstance(node, yaml.SequenceNode):
            for number, item in enumerate(node.value):
                found[(*path, str(number))] = item.start_mark.line + 1
                visit(item, (*path, str(number)))

    visit(root, ())
    return found
