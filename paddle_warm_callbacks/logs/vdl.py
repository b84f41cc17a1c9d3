"""A VisualDL log that goes on where a resumed run goes on: one file, and no step in it twice.

The file is a row of records, each its length (8 bytes, little-endian) and a ``visualdl.Record`` message; read from
VisualDL 2.5.3, and held to that by tests that read the file with its own LogReader.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from paddle_warm_callbacks.logs.rewriting import rewrite

FILE = "vdlrecords.run.log"
_LENGTH = struct.Struct("<Q")


class VisualDLLog:
    """Append scalars and texts to a VisualDL log of one run.

    Args:
        directory: Exists.
        keep: Which records of an earlier process stay, by tag and step; the others, and a torn last one, are dropped.

    Raises:
        ImportError: VisualDL is not installed.
    """

    def __init__(self, directory: Path, keep: Callable[[str, int], bool]) -> None:
        from visualdl import LogWriter

        path = directory / FILE
        if path.exists():
            rewrite(path, b"".join(_kept(path.read_bytes(), keep)))
        self._writer = LogWriter(str(directory), file_name=FILE)

    def scalar(self, tag: str, step: int, value: float) -> None:
        """Log one value."""
        self._writer.add_scalar(tag, value, step)

    def text(self, tag: str, step: int, text: str) -> None:
        """Log one text; its page collapses white space, so lines end in a paragraph sign there, and cells in a bar."""
        lines = (re.sub(r"\s{2,}", " | ", line.strip()) for line in text.splitlines() if line.strip(" -"))
        self._writer.add_text(tag, " ¶ ".join(lines), step)

    def hparams(self, settings: Mapping[str, str | float], metrics: Sequence[str]) -> None:
        """Log the run's settings, to be compared with other runs' by the last values of the scalars named."""
        self._writer.add_hparams(dict(settings), list(metrics))

    def histogram(self, tag: str, step: int, values: Any) -> None:
        """Log the distribution of an array's values."""
        self._writer.add_histogram(tag, values, step)

    def flush(self) -> None:
        """Hand what was logged to the operating system: a killed process loses none of it."""
        self._writer.flush()

    def close(self) -> None:
        """Flush and close; ends VisualDL's writing thread."""
        self._writer.close()


def _kept(data: bytes, keep: Callable[[str, int], bool]) -> Iterator[bytes]:
    from google.protobuf.message import DecodeError
    from visualdl.proto import record_pb2

    position = 0
    while position + _LENGTH.size <= len(data):
        (length,) = _LENGTH.unpack_from(data, position)
        end = position + _LENGTH.size + length
        record = record_pb2.Record()
        try:
            record.ParseFromString(data[position + _LENGTH.size : end])
        except DecodeError:
            return  # torn by a kill: nothing whole follows it
        if end > len(data):
            return
        if all(_stays(value, keep) for value in record.values):
            yield data[position:end]
        position = end


def _stays(value: Any, keep: Callable[[str, int], bool]) -> bool:
    kind = value.WhichOneof("one_value")
    if kind == "hparam":
        return False  # of the process before; only the first in a file is shown
    return kind == "meta_data" or keep(value.tag, value.id)
