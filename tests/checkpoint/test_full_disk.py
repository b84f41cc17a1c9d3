"""A file system that is really full, and one that is really read-only."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.checkpoint.writer import BackgroundWriter
from paddle_warm_callbacks.errors import CheckpointWriteError
from paddle_warm_callbacks.plan.retention import KeepLatest
from tests.checkpoint.samples import contents, entries, step_in

BYTES = 1 << 20
# A checkpoint of this size is a little under 0.4 MB: two fit, three do not.
SIZE = 24_000


# Directories and files that the file system has room for, however small: two checkpoints and a half.
INODES = 24


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    yield from _mounted(tmp_path / "disk", f"size={BYTES}")


@pytest.fixture
def few_inodes(tmp_path: Path) -> Iterator[Path]:
    yield from _mounted(tmp_path / "disk", f"size={BYTES},nr_inodes={INODES}")


def _mounted(place: Path, options: str) -> Iterator[Path]:
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_costs_the_checkpoint_and_nothing_else(small_disk: Path) -> None:
    store = CheckpointStore(small_disk / "run")
    for step in (1, 2):
        store.commit(contents(step, size=SIZE))
    with pytest.raises(CheckpointWriteError, match="No space left"):
        store.commit(contents(3, size=SIZE))
    assert entries(small_disk / "run" / "checkpoints") == ["step-00000001", "step-00000002"]
    assert [step_in(checkpoint) for checkpoint in store.list()] == [1, 2]
    store.retain(KeepLatest(1))
    assert step_in(store.commit(contents(3, size=SIZE))) == 3


def test_the_background_writer_goes_on_after_it(small_disk: Path) -> None:
    store = CheckpointStore(small_disk / "run")
    writer = BackgroundWriter(store)
    filler = small_disk / "filler"
    writer.submit(contents(1, size=SIZE))
    writer.wait()
    filler.write_bytes(bytes(BYTES // 2))
    writer.submit(contents(2, size=SIZE))
    with pytest.raises(CheckpointWriteError, match="No space left"):
        writer.submit(contents(3, size=SIZE))
    filler.unlink()
    writer.submit(contents(4, size=SIZE))
    writer.close()
    assert [step_in(checkpoint) for checkpoint in store.list()] == [1, 4]


def test_a_read_only_run_is_read_and_not_written(small_disk: Path) -> None:
    store = CheckpointStore(small_disk / "run")
    store.commit(contents(1))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    latest = store.latest_verified()
    assert latest is not None
    assert step_in(latest) == 1
    for write in (lambda: store.commit(contents(2)), store.lock, lambda: store.retain(KeepLatest(1))):
        with pytest.raises(CheckpointWriteError, match="Read-only"):
            write()


def _first_refused(store: CheckpointStore) -> int:
    for step in range(1, 20):
        try:
            store.commit(contents(step))
        except CheckpointWriteError as error:
            if "No space left" in error.received:
                return step
            raise
    raise AssertionError("there was room for all of them")


@pytest.mark.parametrize("layout", ["native", "shards"])
def test_a_full_inode_table_costs_the_checkpoint_and_nothing_else(few_inodes: Path, layout: str) -> None:
    store = CheckpointStore(few_inodes / "run", layout=layout)
    step = _first_refused(store)
    committed = [step_in(checkpoint) for checkpoint in store.list()]
    assert len(committed) >= 2
    assert committed == list(range(1, step))
    for checkpoint in store.list():
        checkpoint.verify()
    assert [name for name in entries(few_inodes / "run" / "checkpoints") if name.startswith(".")] == []
    store.retain(KeepLatest(1))
    assert step_in(store.commit(contents(step))) == step
