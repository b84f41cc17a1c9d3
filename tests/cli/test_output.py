"""What is printed cannot command a terminal, breaks no line in a pipe, and is valid JSON whatever is in it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections import deque
from pathlib import Path

import numpy as np
import pytest

from paddle_warm_callbacks.cli.output import age_text, bytes_text, plain, print_table, printable
from tests.cli.typed import make_run, typed, write_weights


def test_a_name_with_escape_sequences_is_spelled_out(tmp_path: Path) -> None:
    hostile = write_weights(tmp_path / "net.pdparams", **{"w\x1b[2J\x07": np.zeros(2, np.float32)})
    said = typed("doctor", hostile).stdout
    assert "w\\x1b[2J\\x07" in said
    assert "\x1b" not in said
    assert printable("\ud800\n\x9b") == "\\ud800\n\\x9b"


def test_a_long_row_is_one_line_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a", "b"), [("x" * 150, "[bold]y[/bold]"), ("1", "2")], right=("b",), title="t")
    assert capsys.readouterr().out.splitlines() == [
        "t",
        "a".ljust(152) + "b".rjust(14),
        "x" * 150 + "  [bold]y[/bold]",
        "1".ljust(152) + "2".rjust(14),
    ]


def test_wide_letters_and_accents_are_counted_as_they_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a", "b"), [("漢字", "1"), ("e\u0301", "2"), (), ("xyz", "3")])
    assert capsys.readouterr().out == "a     b\n漢字  1\ne\u0301     2\nxyz   3\n"


def test_a_terminal_gets_a_table_that_fits_it(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    ours, theirs = pty.openpty()
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-m", "paddle_warm_callbacks", "ls", "run"],
        cwd=tmp_path,
        env={"PYTHONPATH": root, "TERM": "xterm", "COLUMNS": "70", "LANG": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.STDOUT,
    ) as process:
        os.close(theirs)
        said = b""
        while piece := _read(ours):
            said += piece
        assert process.wait(60) == 0
    os.close(ours)
    text = said.decode("utf-8")
    assert "─" * 20 in text
    assert max(len(line) for line in text.splitlines() if "\x1b" not in line) <= 70


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # how Linux says that the other side is closed
        return b""


def test_values_without_a_json_form() -> None:
    given = {
        "nan": float("nan"),
        "infinite": np.float32("-inf"),
        "array": np.array([[1, 2]]),
        "tuple": (1, None, True),
        "set": {"b", "a"},
        "queue": deque([1]),
        "bytes": b"\x01\xff",
        3: "three",
        "other": 1j,
    }
    assert plain(given) == {
        "nan": "nan",
        "infinite": "-inf",
        "array": [[1, 2]],
        "tuple": [1, None, True],
        "set": ["a", "b"],
        "queue": [1],
        "bytes": "01ff",
        "3": "three",
        "other": "1j",
    }


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (10**16, "10000.0 TB")],
)
def test_bytes(count: int, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (7199, "119 min"), (7200, "2 h"), (172800, "2 d")],
)
def test_ages(seconds: float, text: str) -> None:
    assert age_text(seconds) == text
