"""``metrics.jsonl``: one JSON object a line, for grep and pandas, with or without VisualDL."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from paddle_warm_callbacks.logs.rewriting import rewrite

FILE = "metrics.jsonl"


class JsonlLog:
    """Append scalars and texts to ``metrics.jsonl``, each line ``{"tag": …, "step": …, "value": …}``.

    A value that is not finite is text: ``"nan"``, ``"inf"``, ``"-inf"``.

    Args:
        directory: Exists.
        keep: Which records of an earlier process stay, by tag and step; the others, and a torn last line, are dropped.
    """

    def __init__(self, directory: Path, keep: Callable[[str, int], bool]) -> None:
        path = directory / FILE
        if path.exists():
            kept = [line for line in path.read_bytes().splitlines(keepends=True) if _stays(line, keep)]
            rewrite(path, b"".join(kept))
        self._file = path.open("a", encoding="utf-8")
        self._quoted: dict[str, str] = {}

    def scalar(self, tag: str, step: int, value: float, at: float) -> None:
        """Log one value; the line is put together here, for json.dumps takes as long as all else of a logged step.

        Args:
            tag: Of its curve.
            step: Global step.
            value: Any float.
            at: When it was so, in seconds since the epoch; not in the line.
        """
        if value - value != 0.0:  # not finite
            self._write({"tag": tag, "step": step, "value": str(value)})  # JSON has no NaN and no infinity
            return
        quoted = self._quoted.get(tag)
        if quoted is None:
            quoted = self._quoted[tag] = json.dumps(tag)
        self._file.write(f'{{"tag": {quoted}, "step": {step}, "value": {value!r}}}\n')

    def text(self, tag: str, step: int, text: str) -> None:
        """Log one text."""
        self._write({"tag": tag, "step": step, "value": text})

    def hparams(self, settings: Mapping[str, str | float], metrics: Sequence[str]) -> None:
        """Log the run's settings, and by which of its scalars runs are to be compared."""
        self._write({"tag": "hparams", "step": 0, "value": {**settings, "metrics": list(metrics)}})

    def histogram(self, tag: str, step: int, values: Any) -> None:
        """Leave it out: a line is no place for a distribution."""

    def image(self, tag: str, step: int, picture: Any) -> None:
        """Leave it out: a line is no place for a picture."""

    def flush(self) -> None:
        """Hand what was logged to the operating system: a killed process loses none of it."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")


def _stays(line: bytes, keep: Callable[[str, int], bool]) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        record = json.loads(line)
        # Hyper-parameters are those of the process that is starting.
        return record["tag"] != "hparams" and keep(record["tag"], record["step"])
    except (ValueError, KeyError, TypeError):
        return False  # what a dying process wrote last
