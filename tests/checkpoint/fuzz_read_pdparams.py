"""Look for a file that the reader of ``.pdparams`` does not either read as data or refuse; guided by coverage.

    python tests/checkpoint/fuzz_read_pdparams.py [-max_total_time=600] [libFuzzer's other options]

Starts from the genuine files. Ends with an error, and the input in a file ``crash-*``, at any other exception, at a
value that is no data, if anything is run, imported or opened while a file is read, or if arrays that are taken in one
step give something else than opcode by opcode.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris
import numpy as np

with atheris.instrument_imports(include=["paddle_warm_callbacks"]):
    from paddle_warm_callbacks.checkpoint.pdparams import read_pdparams, write_pdparams
    from paddle_warm_callbacks.errors import UnsafeFileError

from tests.checkpoint.pickle_reading import step_by_step
from tests.checkpoint.samples import same
from tests.checkpoint.test_hostile_files import _require_plain

GENUINE = Path(__file__).with_name("genuine")
# What Python reports of itself (sys.addaudithook) before it does what no reader of data needs.
_FORBIDDEN = ("exec", "compile", "import", "open", "os.", "subprocess.", "socket.", "ctypes.", "shutil.")
_reading = False


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _reading and event.startswith(_FORBIDDEN):
        raise AssertionError(f"while reading a file: {event} {arguments!r:.200}")


def read_once(data: bytes) -> None:
    """Read ``data`` as a file; anything but data and a refusal is an error."""
    value = _outcome(data)
    if not isinstance(value, UnsafeFileError):
        _require_plain(value)
    if _array_begins(data):
        with step_by_step():
            stepped = _outcome(data)
        if isinstance(value, UnsafeFileError):
            assert str(stepped) == str(value), (stepped, value)
        else:
            assert same(stepped, value), (stepped, value)


def _outcome(data: bytes) -> Any:
    global _reading
    try:
        _reading = True
        return read_pdparams(io.BytesIO(data))
    except UnsafeFileError as error:
        return error
    finally:
        _reading = False


def _array_begins(data: bytes) -> bool:
    """Whether anything in ``data`` can be taken in one step; else the two are the same, and half the time is saved."""
    return b"K\x00\x85\x94" in data or b"K\x00\x85C" in data


def main() -> None:
    """Fuzz until told to stop."""
    for path in sorted(GENUINE.glob("*/*.pdparams")):
        read_once(path.read_bytes())  # also what is imported the first time only
    sys.addaudithook(_watch)
    with tempfile.TemporaryDirectory() as corpus:
        for number, path in enumerate(sorted(GENUINE.glob("*/*.pdparams"))):
            shutil.copy(path, Path(corpus) / f"{number:03d}")
        with (Path(corpus) / "ours").open("wb") as file:
            write_pdparams(file, {f"layer.{number}": np.full((2, number), 1, "f4") for number in range(4)})
        atheris.Setup([*sys.argv, "-max_len=8192", corpus], read_once)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
