"""Each test of from_config in a directory of its own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the test's own directory the working directory, which a configuration's paths begin at."""
    monkeypatch.chdir(tmp_path)
