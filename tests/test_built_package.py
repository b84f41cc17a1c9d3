"""The installed wheel holds every file of the checkout's package: modules, schema, the marker that says it is typed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "paddle_warm_callbacks"


def test_the_wheel_is_complete() -> None:
    try:
        files = distribution("paddle-warm-callbacks").files or []
    except PackageNotFoundError:
        pytest.skip("the package is not installed here; every tox environment installs it")
    installed = {str(path) for path in files if path.parts[0] == PACKAGE.name and path.suffix != ".pyc"}
    if not installed:
        pytest.skip("an editable install; every tox environment installs the wheel")
    in_checkout = {
        str(path.relative_to(PACKAGE.parent))
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert f"{PACKAGE.name}/py.typed" in installed
    assert installed == in_checkout
