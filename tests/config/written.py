"""YAML as the tests of this room write it: into the working directory, which is each test's own."""

from __future__ import annotations

from pathlib import Path


def write(yaml: str, name: str = "config.yaml") -> Path:
    """Write a configuration and return its path."""
    path = Path(name)
    path.write_text(yaml, encoding="utf-8")
    return path
