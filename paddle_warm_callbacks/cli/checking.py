"""Whether a checkpoint is what was written: every file and tensor against its digest, read once, where it lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import xxhash
from tqdm import tqdm

from paddle_warm_callbacks.checkpoint.digests import PIECE_BYTES, new_digest
from paddle_warm_callbacks.checkpoint.manifest import MANIFEST, TENSORS, FileEntry, TensorEntry
from paddle_warm_callbacks.cli.place import Place
from paddle_warm_callbacks.errors import CorruptCheckpointError

_MOST_TENSORS_NAMED = 3


@dataclass(frozen=True)
class Problem:
    """What is wrong with one file of a checkpoint.

    Attributes:
        file: Its name.
        what: What is wrong with it, in words.
        tensors: Names of the tensors in it whose bytes are not what was written.
    """

    file: str
    what: str
    tensors: tuple[str, ...] = ()

    def __str__(self) -> str:
        more = len(self.tensors) - _MOST_TENSORS_NAMED
        named = ", ".join(self.tensors[:_MOST_TENSORS_NAMED]) + (f" and {more} more" if more > 0 else "")
        return f"{self.file}: {self.what}" + (f", damaged tensors: {named}" if named else "")


@dataclass(frozen=True)
class Verdict:
    """What verifying one checkpoint found.

    Attributes:
        place: Where it is.
        files: How many files its manifest names, itself not counted.
        tensors: How many tensors were compared.
        size: Bytes the manifest promises.
        problems: One for each damaged file; none if it is whole.
    """

    place: Place
    files: int
    tensors: int
    size: int
    problems: tuple[Problem, ...]


def verify_place(place: Place, *, with_bar: bool = False) -> Verdict:
    """Read every byte of a checkpoint and compare it with what was written.

    Args:
        place: Where it is.
        with_bar: Whether to show on a terminal how far it is.

    Raises:
        SourceError: It could not be reached.
    """
    try:
        manifest = place.manifest()
    except CorruptCheckpointError as error:
        return Verdict(place, 0, 0, 0, (Problem(MANIFEST, f"{error.what} ({error.received})"),))
    tensors: tuple[TensorEntry, ...] = ()
    problems: list[Problem] = []
    try:
        tensors = place.tensors(manifest)
    except CorruptCheckpointError as error:
        problems.append(Problem(TENSORS, f"{error.what} ({error.received})"))
    # None shows the bar where someone is looking: on a terminal.
    hidden = None if with_bar else True
    with tqdm(
        desc=place.name, total=manifest.size, unit="B", unit_scale=True, leave=False, disable=hidden
    ) as bar:
        for file, entry in manifest.files.items():
            if file != TENSORS:
                problem = _verify_file(place, file, entry, _stored_in(file, tensors), bar)
                problems += [problem] if problem is not None else []
    problems += [
        Problem(tensor.stored_in, "not in the manifest, which names tensors of it", (tensor.name,))
        for tensor in tensors
        if tensor.stored_in not in manifest.files
    ]
    return Verdict(place, len(manifest.files), len(tensors), manifest.size, tuple(problems))


def _stored_in(file: str, tensors: Sequence[TensorEntry]) -> list[TensorEntry]:
    """Return the tensors in a file; of those whose bytes it holds once for several, one."""
    return list({(t.offset, t.nbytes): t for t in tensors if t.stored_in == file}.values())


def _verify_file(
    place: Place, file: str, entry: FileEntry, tensors: Sequence[TensorEntry], bar: Any
) -> Problem | None:
    try:
        with place.open(file) as opened:
            size, digest, hit = _digests(_Counted(opened, bar), tensors)
    except CorruptCheckpointError as error:
        return Problem(file, f"{error.what} ({error.received})")
    if size != entry.size:
        return Problem(file, f"{size} bytes, {entry.size} were written", hit)
    if digest != entry.digest:
        return Problem(file, f"digest {digest}, {entry.digest} was written", hit)
    return Problem(file, "the file is whole, but its tensors are not those listed", hit) if hit else None


class _Counted:
    """A file whose reading a bar shows."""

    def __init__(self, opened: BinaryIO, bar: Any) -> None:
        self._opened, self._bar = opened, bar

    def read(self, length: int) -> bytes:
        """Read up to ``length`` bytes."""
        data = self._opened.read(length)
        self._bar.update(len(data))
        return data


def _digests(opened: _Counted, tensors: Sequence[TensorEntry]) -> tuple[int, str, tuple[str, ...]]:
    """Read a file once; return its size, its digest, and the names of tensors that are not what was written."""
    whole = new_digest()
    size = 0
    hit = []
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.nbytes)):
        size += _pass_by(opened, tensor.offset - size, whole)
        own = new_digest()
        length = int(np.prod(tensor.shape, dtype=np.int64)) * np.dtype(tensor.dtype).itemsize
        size += _pass_by(opened, length, whole, own)
        if own.hexdigest() != tensor.digest:
            hit.append(tensor.name)
    while more := _pass_by(opened, PIECE_BYTES, whole):
        size += more
    return size, whole.hexdigest(), tuple(hit)


def _pass_by(opened: _Counted, length: int, *digests: xxhash.xxh3_128) -> int:
    """Read up to ``length`` bytes into each of ``digests``; return how many there were."""
    done = 0
    while done < length:
        piece = opened.read(min(PIECE_BYTES, length - done))
        if not piece:
            break
        for digest in digests:
            digest.update(piece)
        done += len(piece)
    return done
