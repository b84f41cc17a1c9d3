"""How commands speak: tables for people, JSON for scripts, and nothing by which a file could command a terminal."""

from __future__ import annotations

import json
import math
import sys
import unicodedata
from collections.abc import Mapping, Sequence, Set
from typing import Any

import click

_LONGEST_CELL = 200


def printable(text: str) -> str:
    r"""Return ``text`` with everything a terminal could obey, such as escape sequences, spelled out; ``\n`` stays.

    >>> printable("fc.weight\x1b[2J")
    'fc.weight\\x1b[2J'
    """
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def say(text: str = "") -> None:
    """Print a line."""
    click.echo(printable(text))


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = (), title: str = ""
) -> None:
    """Print a table: with lines on a terminal, else plain columns, one line a row.

    Args:
        columns: Their headings.
        rows: A cell for each column; a row of none is a line between two sections.
        right: Headings of the columns that are set to the right, as numbers are.
        title: A line above it.
    """
    cells = [[_cell(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_to_terminal(columns, cells, right, title)
        return
    lines = [list(columns), *(row for row in cells if row)]
    widths = [max(_width(line[number]) for line in lines) for number in range(len(columns))]
    if title:
        say(title)
    for line in lines:
        padded = []
        for column, cell, width in zip(columns, line, widths):
            space = " " * (width - _width(cell))
            padded.append(space + cell if column in right else cell + space)
        click.echo("  ".join(padded).rstrip())


def _print_to_terminal(
    columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str], title: str
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(Text(column), justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        if row:
            table.add_row(*map(Text, row))
        else:
            table.add_section()
    console = Console(file=sys.stdout, highlight=False)
    if title:
        console.print(Text(printable(title)))
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip(), color=True)


def print_json(value: Any) -> None:
    """Print ``value`` as JSON in ASCII; what has no JSON form is written as `plain` says."""
    click.echo(json.dumps(plain(value), indent=2, allow_nan=False))


def plain(value: Any) -> Any:
    """Return ``value`` as JSON holds it: NaN and infinities as text, sets and tuples as lists, bytes as hexadecimal."""
    if callable(getattr(value, "tolist", None)):  # of NumPy, which is not imported for this
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Set):
        return sorted(map(plain, value), key=str)
    if isinstance(value, bytes):
        return value.hex()
    try:
        return [plain(item) for item in value]
    except TypeError:
        return str(value)


def bytes_text(count: int) -> str:
    """Return a number of bytes for people.

    >>> bytes_text(999), bytes_text(1_234_567)
    ('999 B', '1.2 MB')
    """
    size = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        # 999.96 kB would be rounded to 1000.0 kB
        if size < 999.95 or unit == "TB":
            break
        size /= 1000
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"


def age_text(seconds: float) -> str:
    """Return for people how long ago something was.

    >>> age_text(50), age_text(3 * 3600 + 59), age_text(86400 * 40)
    ('50 s', '3 h', '40 d')
    """
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length or (unit == "min" and seconds >= length):
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"


def metrics_text(metrics: Mapping[str, float]) -> str:
    """Return metrics in one line.

    >>> metrics_text({"acc": 0.9125, "loss": 1.0})
    'acc=0.9125 loss=1'
    """
    return " ".join(f"{name}={value:.5g}" for name, value in metrics.items())


def dtype_text(dtype: str) -> str:
    """Return a dtype's name as Paddle knows it: its files hold bfloat16 as uint16.

    >>> dtype_text("uint16"), dtype_text("float32")
    ('bfloat16', 'float32')
    """
    return "bfloat16" if dtype == "uint16" else dtype


def shape_text(shape: Sequence[int]) -> str:
    """Return a shape as Paddle prints it.

    >>> shape_text((64, 3)), shape_text(())
    ('[64, 3]', '[]')
    """
    return f"[{', '.join(map(str, shape))}]"


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes: a Chinese character two, a combining accent none."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


def _cell(text: str) -> str:
    shown = printable(text).replace("\n", "\\n")
    return shown if len(shown) <= _LONGEST_CELL else shown[:_LONGEST_CELL] + "…"
