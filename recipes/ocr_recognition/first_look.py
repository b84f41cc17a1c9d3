"""How good a network is before its first step: what a warm start has brought."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import paddle


class FirstLook(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
    """Evaluate once a run has started, before it trains, and write the metrics to a file.

    Args:
        data: What to evaluate on.
        file: A JSON object of metrics by name. Where it is already there, a resumed run's, nothing is done.
        batch_size: Samples at a time.
    """

    def __init__(self, data: Any, file: Path, batch_size: int) -> None:
        super().__init__()
        self._data = data
        self._file = file
        self._batch_size = batch_size

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._file.exists():
            return
        found = self.model.evaluate(self._data, batch_size=self._batch_size, verbose=0)
        half_written = self._file.with_suffix(".part")
        half_written.write_text(
            json.dumps({name: value for name, value in found.items() if isinstance(value, float)}),
            encoding="utf-8",
        )
        half_written.replace(self._file)
