"""A VisualDL log that goes on where a resumed run goes on: one file, and no step in it twice.

The file is a row of records, each its length (8 bytes, little-endian) and a ``visualdl.Record`` message; read from
VisualDL 2.5.3, and held to that by tests that read the file with its own LogReader. The messages are VisualDL's; they
are written here rather than by its LogWriter, whose thread takes the interpreter from training at every single point.
"""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddle_warm_callbacks.logs.rewriting import rewrite

FILE = "vdlrecords.run.log"
_LENGTH = struct.Struct("<Q")
_BINS = 10  # of a histogram, as LogWriter has it


class VisualDLLog:
    """Append scalars, texts, histograms and hyper-parameters to a VisualDL log of one run.

    Args:
        directory: Exists.
        keep: Which records of an earlier process stay, by tag and step; the others, and a torn last one, are dropped.

    Raises:
        ImportError: VisualDL is not installed.
    """

    def __init__(self, directory: Path, keep: Callable[[str, int], bool]) -> None:
        from visualdl.component import base_component

        self._records: Any = base_component
        # Filled anew for each point: building the message takes six times as long as writing it.
        self._scalar: Any = base_component.scalar("", 0.0, 0, 0)
        path = directory / FILE
        fresh = not path.exists()
        if not fresh:
            rewrite(path, b"".join(_kept(path.read_bytes(), keep)))
        self._file = path.open("ab")
        if fresh:
            self._write(self._records.meta_data(walltime=_now()))

    def scalar(self, tag: str, step: int, value: float, at: float) -> None:
        """Log one value, which was so at ``at``, in seconds since the epoch."""
        (point,) = self._scalar.values
        point.tag, point.id, point.timestamp, point.value = _named(tag), step, round(at * 1000), value
        self._write(self._scalar)

    def text(self, tag: str, step: int, text: str) -> None:
        """Log one text; its page collapses white space, so lines end in a paragraph sign there, and cells in a bar."""
        lines = (re.sub(r"\s{2,}", " | ", line.strip()) for line in text.splitlines() if line.strip(" -"))
        self._write(self._records.text(_named(tag), " ¶ ".join(lines), step, _now()))

    def hparams(self, settings: Mapping[str, str | float], metrics: Sequence[str]) -> None:
        """Log the run's settings, to be compared with other runs' by the last values of the scalars named."""
        self._write(self._records.hparam("run", dict(settings), [_named(tag) for tag in metrics], _now()))

    def histogram(self, tag: str, step: int, values: Any) -> None:
        """Log the distribution of an array's values."""
        counts, edges = np.histogram(values, bins=_BINS)
        self._write(self._records.histogram(_named(tag), counts, edges, step, _now()))

    def image(self, tag: str, step: int, picture: Any) -> None:
        """Log a picture: uint8 [height, width, 3], RGB."""
        self._write(self._records.image(_named(tag), picture, step, _now()))

    def flush(self) -> None:
        """Hand what was logged to the operating system: a killed process loses none of it."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()

    def _write(self, record: Any) -> None:
        data = record.SerializeToString()
        self._file.write(_LENGTH.pack(len(data)) + data)


def _now() -> int:
    return round(time.time() * 1000)


def _named(tag: str) -> str:
    """Return ``tag`` without the one sign that VisualDL keeps to itself."""
    return tag.replace("%", "_")


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
