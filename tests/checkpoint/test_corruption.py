"""Random damage to every file of a checkpoint: all of it is detected, and the checkpoint before is found."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from paddle_warm_callbacks.checkpoint.store import Checkpoint, CheckpointStore
from paddle_warm_callbacks.errors import CorruptCheckpointError
from tests.checkpoint.samples import contents, entries, step_in

FILES = ("extra.pdparams", "manifest.json", "model.pdopt", "model.pdparams", "state.json", "tensors.json")


def _read_all(checkpoint: Checkpoint) -> None:
    checkpoint.read_model()
    checkpoint.read_optimizer()
    checkpoint.read_extra()
    checkpoint.read_state()
    checkpoint.read_tensors()


@pytest.mark.parametrize("file", FILES)
def test_every_flipped_bit_and_every_truncation_is_detected(tmp_path: Path, file: str) -> None:
    """Over the six files: 810 flips and 192 truncations, and 30 bytes too many."""
    checkpoint = CheckpointStore(tmp_path).commit(contents(5, size=40))
    assert entries(checkpoint.path) == list(FILES)
    path = Path(checkpoint.path) / file
    whole = path.read_bytes()
    rng = random.Random(file)
    flips = [rng.randrange(8 * len(whole)) for _ in range(135)]
    damaged = [_flipped(whole, bit) for bit in flips]
    damaged += [whole[: rng.randrange(len(whole))] for _ in range(30)] + [b"", whole[:-1]]
    damaged += [whole + bytes([rng.randrange(256)]) for _ in range(5)]
    assert all(data != whole for data in damaged)
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(CorruptCheckpointError):
            Checkpoint(checkpoint.path).verify()
        with pytest.raises(CorruptCheckpointError):
            _read_all(Checkpoint(checkpoint.path))
    path.write_bytes(whole)
    Checkpoint(checkpoint.path).verify()
    _read_all(Checkpoint(checkpoint.path))


def _flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["missing", "a directory", "another checkpoint's"])
def test_a_file_that_is_not_its_own_is_stepped_over(tmp_path: Path, file: str, damage: str) -> None:
    store = CheckpointStore(tmp_path)
    before, newest = store.commit(contents(1)), store.commit(contents(2))
    path = Path(newest.path) / file
    path.unlink()
    if damage == "a directory":
        path.mkdir()
    elif damage == "another checkpoint's":
        path.write_bytes((Path(before.path) / file).read_bytes())
    latest = CheckpointStore(tmp_path).latest_verified()
    assert latest is not None
    assert step_in(latest) == 1
