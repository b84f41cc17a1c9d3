"""Run every docstring example of the package, in an empty directory."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

from tests.conftest import HAS_PADDLE

PACKAGE = Path(__file__).resolve().parents[2] / "paddle_warm_callbacks"
# The rooms that can be imported where Paddle is not installed.
_PURE = ("plan", "checkpoint")


def _module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _is_pure(path: Path) -> bool:
    room = path.relative_to(PACKAGE).parts[0]
    return room in _PURE or path.parent == PACKAGE


WITH_EXAMPLES = [
    _module_name(path)
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8") and (HAS_PADDLE or _is_pure(path))
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_docstring_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0, f"no example in {name} is run: skipped, or not in a docstring"
    assert result.failed == 0
