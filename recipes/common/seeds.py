"""A recipe over several seeds, and Markdown tables of how its runs went: what the benchmarks of recipes share."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from recipes.common.comparison import by_epoch


def arguments(documentation: str, folder: str) -> argparse.Namespace:
    """Return a benchmark's command line: ``seeds``, how many; ``dir``, a Path; ``overrides``, of the recipe.

    Args:
        documentation: The benchmark's; its first line is the help's.
        folder: Default of ``dir``.
    """
    parser = argparse.ArgumentParser(description=documentation.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=Path(folder))
    parser.add_argument("overrides", nargs="*")
    return parser.parse_args()


def train(script: Path, output: Path, *overrides: str) -> None:
    """Run a recipe, or what is left of it; what it prints goes to standard error.

    Raises:
        subprocess.CalledProcessError: It could not go on.
    """
    command = [sys.executable, str(script), f"output={output}", *overrides]
    subprocess.run(command, check=True, stdout=sys.stderr)  # noqa: S603  # the recipe's own script


def from_the_start(log_dir: Path, metric: str) -> list[float]:
    """Return a metric of the evaluations before the first step and after each epoch."""
    return [*by_epoch(log_dir, f"start/{metric}"), *by_epoch(log_dir, f"eval/{metric}")]


def spread(values: Sequence[float]) -> str:
    """Return the mean of shares, and their least and greatest: "41.3% (40 to 42)"."""
    mean = sum(values) / len(values)
    return f"{mean:.1%} ({100 * min(values):.0f} to {100 * max(values):.0f})"


def markdown(columns: Sequence[object], rows: Mapping[str, Sequence[object]]) -> str:
    """Return a table; each row is its name and a cell a column."""
    lines = [("", *columns), ("---",) * (len(columns) + 1), *((name, *cells) for name, cells in rows.items())]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
