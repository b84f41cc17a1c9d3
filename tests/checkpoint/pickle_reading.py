"""The reader of pickles without its step that takes whole arrays, to compare with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from paddle_warm_callbacks.checkpoint.pickle_arrays import ArrayRuns


@contextmanager
def step_by_step() -> Iterator[None]:
    """Interpret every opcode by itself."""
    with mock.patch.object(ArrayRuns, "arrays", return_value=0):
        yield
