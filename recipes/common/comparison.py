"""How two runs compare, epoch by epoch, read from their logs, however often they were interrupted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table


def by_epoch(log_dir: Path, tag: str) -> list[float]:
    """Return the values of an evaluation's tag in ``metrics.jsonl``, one per epoch."""
    lines = (log_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [record for record in map(json.loads, lines) if record["tag"] == tag]
    return [float(record["value"]) for record in sorted(records, key=lambda record: int(record["step"]))]


def epochs_to(values: Sequence[float], target: float) -> str:
    """Return the number of the first epoch, from 1, whose value reaches ``target``; "never" if none does."""
    return next((str(epoch) for epoch, value in enumerate(values, 1) if value >= target), "never")


def show(title: str, columns: Mapping[str, Sequence[float]], target: float) -> None:
    """Print the columns side by side, an epoch a row, and below the epochs each needed to reach ``target``."""
    table = Table("epoch", *columns, title=title)
    for epoch in range(max(map(len, columns.values()))):
        cells = (f"{values[epoch]:.1%}" if epoch < len(values) else "" for values in columns.values())
        table.add_row(str(epoch + 1), *cells)
    table.add_section()
    table.add_row(f"epochs to {target:.0%}", *(epochs_to(values, target) for values in columns.values()))
    Console().print(table)
