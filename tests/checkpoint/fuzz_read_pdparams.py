"""Look for a file that the reader of ``.pdparams`` does not either read as data or refuse; guided by coverage.

    python tests/checkpoint/fuzz_read_pdparams.py [-max_total_time=600] [libFuzzer's other options]

Starts from the genuine files. Ends with an error, and the input in a file ``crash-*``, at any other exception, at a
value that is no data, or if anything is run, imported or opened while a file is read.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["paddle_warm_callbacks"]):
    from paddle_warm_callbacks.checkpoint.pdparams import read_pdparams
    from paddle_warm_callbacks.errors import UnsafeFileError

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
    global _reading
    try:
        _reading = True
        value = read_pdparams(io.BytesIO(data))
    except UnsafeFileError:
        return
    finally:
        _reading = False
    _require_plain(value)


def main() -> None:
    """Fuzz until told to stop."""
    for path in sorted(GENUINE.glob("*/*.pdparams")):
        read_once(path.read_bytes())  # also what is imported the first time only
    sys.addaudithook(_watch)
    with tempfile.TemporaryDirectory() as corpus:
        for number, path in enumerate(sorted(GENUINE.glob("*/*.pdparams"))):
            shutil.copy(path, Path(corpus) / f"{number:03d}")
        atheris.Setup([*sys.argv, "-max_len=8192", corpus], read_once)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
