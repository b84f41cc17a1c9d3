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


def show(
    title: str,
    columns: Mapping[str, Sequence[float]],
    target: float,
    starts: Mapping[str, float] | None = None,
) -> None:
    """Print the columns side by side, an epoch a row, and below the epochs each needed to reach ``target``.

    Args:
        title: What the values are, printed above.
        columns: A run's values by its name, one per epoch.
        target: The value to reach, 0 to 1.
        starts: Values before the first step, by the names of ``columns``: a first row, "start".
    """
    table = Table("epoch", *columns, title=title)
    if starts is not None:
        table.add_row("start", *(f"{starts[name]:.1%}" if name in starts else "" for name in columns))
    for epoch in range(max(map(len, columns.values()))):
        cells = (f"{values[epoch]:.1%}" if epoch < len(values) else "" for values in columns.values())
        table.add_row(str(epoch + 1), *cells)
    table.add_section()
    table.add_row(f"epochs to {target:.0%}", *(epochs_to(values, target) for values in columns.values()))
    Console().print(table)
