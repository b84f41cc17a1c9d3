"""One training server for all cells."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.exact_resume.harness import TrainingServer


@pytest.fixture(scope="session")
def server() -> Iterator[TrainingServer]:
    """Processes to train in."""
    with TrainingServer() as running:
        yield running
