"""Checkpoints that several ranks write side by side: as one rank would, and whole or not at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_warm_callbacks.checkpoint import durable, shards
from paddle_warm_callbacks.checkpoint.contents import CheckpointContents, Elsewhere
from paddle_warm_callbacks.checkpoint.in_flight import InFlight, SaveEvent
from paddle_warm_callbacks.checkpoint.shares import ShareContents, ShareWriter, writers
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.checkpoint.writer import BackgroundWriter
from paddle_warm_callbacks.errors import CheckpointWriteError, RankError
from paddle_warm_callbacks.progress import Progress
from tests.checkpoint.meeting import Meeting, on_each
from tests.checkpoint.samples import entries, same

LAYERS = 12


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def tensors(step: int) -> dict[str, np.ndarray[Any, Any]]:
    """Return a backbone that stays, a head and moments that change, and moments of zeros that all look the same."""
    rng = np.random.default_rng(0)
    return {
        **{f"model@layer{n}": rng.random((50, 40 + n)) for n in range(LAYERS)},
        "model@head": np.full(10, step, np.float32),
        "slot@head": np.full((2, 5), step + 0.5),
        **{f"slot@zero{n}": np.zeros(64) for n in range(8)},
    }


def contents(step: int, size: int = 1, rank: int = 0) -> CheckpointContents:
    """Return what a rank knows of step ``step``: its own tensors, and who is elsewhere."""
    held: dict[str, Any] = {
        key: array if owner(key, size) == rank else Elsewhere(key) for key, array in tensors(step).items()
    }
    return CheckpointContents(
        model={key[6:]: value for key, value in held.items() if key.startswith("model@")},
        model_names={"head": "linear_0.w_0"},
        optimizer={
            **{f"linear_0.{key[5:]}": value for key, value in held.items() if key.startswith("slot@zero")},
            "master_weights": {"linear_0.w_0": ("linear_0.w_0_fp32", held["slot@head"])},
            "LR_Scheduler": {"last_lr": 0.1, "milestones": [1, 2]},
        },
        extra={"running": np.array([step])},
        state={"step": step},
        progress=Progress(step, 0, step),
    )


def owner(key: str, size: int) -> int:
    return sorted(tensors(0)).index(key) % size


def share(step: int, size: int, rank: int) -> ShareContents:
    return ShareContents({key: a for key, a in tensors(step).items() if owner(key, size) == rank}, step)


class Writing:
    """The writers of all ranks of a run.

    Args:
        run_dir: The run directory.
        size: How many ranks.
        places: Other run directories, by rank.
        seconds: How long a rank is waited for.
    """

    def __init__(
        self, run_dir: Path, size: int, places: dict[int, Path] | None = None, seconds: float = 20.0
    ) -> None:
        self.size = size
        self.store = CheckpointStore(run_dir, layout="shards")
        self.meeting = Meeting(size, seconds)
        self.events: dict[int, list[SaveEvent]] = {rank: [] for rank in range(size)}
        one = BackgroundWriter(self.store, agree=self.meeting.of(0), on_commit=self.events[0].append)
        self.writers: list[InFlight[Any]] = [one]
        for rank in range(1, size):
            place = (places or {}).get(rank, run_dir)
            on_commit = self.events[rank].append
            self.writers.append(ShareWriter(place, rank, self.meeting.of(rank), on_commit))

    def save(self, step: int, *, torn: int | None = None, absent: int | None = None) -> list[Any]:
        """Save on all ranks; return by rank None, or what it raised."""

        def act(rank: int) -> None:
            if rank == absent:
                return
            mine = contents(step, self.size) if rank == 0 else share(step, self.size, rank)
            self.writers[rank].submit(mine, lambda: rank != torn)
            self.writers[rank].wait()

        return on_each(self.size, act)

    def close(self) -> list[Any]:
        return on_each(self.size, lambda rank: self.writers[rank].close())


def read(store: CheckpointStore) -> tuple[Any, ...]:
    checkpoint = store.list()[-1]
    checkpoint.verify()
    listed = [(t.file, t.name, t.shape, t.dtype, t.digest) for t in checkpoint.read_tensors()]
    return (
        checkpoint.read_model(),
        checkpoint.read_optimizer(),
        checkpoint.read_extra(),
        checkpoint.read_state(),
        listed,
    )


@pytest.mark.parametrize("size", [2, 4, 5])
def test_what_is_read_is_what_one_rank_alone_would_have_written(tmp_path: Path, size: int) -> None:
    alone = CheckpointStore(tmp_path / "alone", layout="shards")
    alone.commit(contents(3))
    together = Writing(tmp_path / "together", size)
    assert together.save(3) == [None] * size
    assert same(list(read(together.store)), list(read(alone)))
    assert together.close() == [None] * size
    assert len([file for file in together.store.list()[0].manifest.files if "shard-" in file]) == size


def test_each_rank_writes_its_share_and_rank_0_tells_the_whole(tmp_path: Path) -> None:
    together = Writing(tmp_path, 4)
    together.save(1)
    together.close()
    written = [together.events[rank][0].bytes_written for rank in range(4)]
    files = together.store.list()[0].manifest.files
    by_ranks = sum(entry.size for name, entry in files.items() if name.startswith("shard-"))
    small = sum(entry.size for name, entry in files.items() if not name.startswith("shard-"))
    assert written[0] == by_ranks + small
    for rank in range(1, 4):
        assert 0.15 * by_ranks < written[rank] < 0.35 * by_ranks
    assert {event.name for events in together.events.values() for event in events} == {"step-00000001"}


def test_what_has_not_changed_is_shared_by_the_rank_whose_share_it_is(tmp_path: Path) -> None:
    together = Writing(tmp_path, 3)
    assert together.save(1) == together.save(2) == together.save(3) == [None] * 3
    together.close()
    sizes = [event.bytes_written for event in together.events[0]]
    assert sizes[2] < 0.2 * sizes[0]
    inodes = [
        {path.stat().st_ino for path in Path(checkpoint.path).glob("shard-*")}
        for checkpoint in together.store.list()
    ]
    assert len(inodes[0] & inodes[2]) == 3
    expected = CheckpointStore(tmp_path / "alone", layout="shards")
    expected.commit(contents(3))
    assert same(read(together.store)[:4], read(expected)[:4])


@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 4), (1, 3), (3, 1)])
def test_another_number_of_ranks_goes_on(tmp_path: Path, before: int, after: int) -> None:
    for size, step in ((before, 1), (after, 2)):
        together = Writing(tmp_path, size)
        assert together.save(step) == [None] * size
        together.close()
    alone = CheckpointStore(tmp_path / "alone", layout="shards")
    alone.commit(contents(2))
    assert same(read(together.store)[:4], read(alone)[:4])


def test_a_damaged_shard_is_written_again_by_the_rank_that_would_share_it(tmp_path: Path) -> None:
    first = Writing(tmp_path, 2)
    first.save(1)
    first.close()
    for path in Path(first.store.list()[0].path).glob("shard-*"):
        with path.open("r+b") as file:
            file.write(b"damage")
    again = Writing(tmp_path, 2)
    assert again.save(2) == [None, None]
    again.close()
    read(again.store)
    assert min(events[0].bytes_written for events in again.events.values()) > 50_000


def test_a_rank_that_cannot_write_is_named_and_nothing_is_committed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "no such place"
    together = Writing(tmp_path / "run", 3, {2: elsewhere})
    first, second, third = together.save(1)
    for error in (first, second, third):
        assert isinstance(error, CheckpointWriteError)
    assert "rank 2 could not write its share of a checkpoint: FileNotFoundError" in first.what
    assert "rank 2 could not write" in second.received
    assert "rank 2 could not write" in third.received
    assert entries(tmp_path / "run" / "checkpoints") == []
    elsewhere.symlink_to(tmp_path / "run")  # the file system is mounted
    assert together.save(2) == [None] * 3
    assert together.close() == [None] * 3
    assert [checkpoint.name for checkpoint in together.store.list()] == ["step-00000002"]


def test_rank_0_cannot_write_the_rest_and_every_rank_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = Writing(tmp_path, 3)
    together.save(1)
    write = durable.write_file

    def full(path: Path, data: bytes) -> None:
        if path.name == "structure.json":
            raise OSError(28, "No space left on device")
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_file", full)
        found = together.save(2)
    assert all(isinstance(error, CheckpointWriteError) for error in found)
    assert "No space left" in found[0].received
    assert "a checkpoint could not be written" in found[2].received
    assert entries(tmp_path / "checkpoints") == ["step-00000001"]
    assert together.save(3) == [None] * 3
    together.close()


def test_shares_are_gathered_before_a_failed_directory_is_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a rank that is slower than rank 0's failure would leave its files behind, or fail of their absence."""
    together = Writing(tmp_path, 2)
    real, order = shards.write_share, list[str]()

    def slow(directory: Path, arrays: Any, *args: Any, **options: Any) -> shards.Share:
        if not any("@" in key for key in arrays):  # rank 0's, which have no need of names
            raise OSError(28, "No space left on device")
        time.sleep(0.3)
        written = real(directory, arrays, *args, **options)
        order.append("written")
        return written

    monkeypatch.setattr(shards, "write_share", slow)
    monkeypatch.setattr(durable, "remove_directory", lambda path: order.append("cleared"))
    found = together.save(1)
    assert [type(error) for error in found] == [CheckpointWriteError] * 2
    assert order == ["written", "cleared"]
    together.close()


def test_a_worthless_copy_on_one_rank_is_saved_by_none(tmp_path: Path) -> None:
    for torn in range(3):
        together = Writing(tmp_path, 3)
        assert together.save(torn, torn=torn) == [None] * 3
        assert together.store.list() == []
        together.close()
    together = Writing(tmp_path, 3)
    assert together.save(5) == [None] * 3
    together.close()
    assert [checkpoint.name for checkpoint in together.store.list()] == ["step-00000005"]


def test_a_rank_that_does_not_come_is_named_and_nothing_is_committed(tmp_path: Path) -> None:
    together = Writing(tmp_path, 3, seconds=0.5)
    found = together.save(1, absent=1)
    assert isinstance(found[0], RankError)
    assert found[0].what == "rank 1 did not come to the copies of step 1"
    assert isinstance(found[2], RankError)
    assert together.store.list() == []
    together.close()


def test_a_rank_that_stops_in_the_middle_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = Writing(tmp_path, 2, seconds=0.5)
    let_go = threading.Event()

    def stop(self: Any, *_: Any) -> dict[str, Any]:
        let_go.wait(10)
        return {}

    monkeypatch.setattr(ShareWriter, "_written", stop)
    for rank, mine in enumerate((contents(1, 2), share(1, 2, 1))):
        together.writers[rank].submit(mine)
    with pytest.raises(RankError, match="rank 1 did not come to the shares of step 1"):
        together.writers[0].wait()
    let_go.set()
    assert together.store.list() == []
    assert entries(tmp_path / "checkpoints") == []
    together.close()


def test_a_share_that_is_not_where_rank_0_looks_is_no_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a directory of the same name is on another file system."""
    together = Writing(tmp_path, 2)
    write = ShareWriter._written

    def lost(self: Any, staged: str, *rest: Any) -> Any:
        part = write(self, staged, *rest)
        (tmp_path / "checkpoints" / staged / next(iter(part["share"].files))).unlink()
        return part

    monkeypatch.setattr(ShareWriter, "_written", lost)
    first, _ = together.save(1)
    assert "what rank 1 says it has written is not there" in first.what
    assert together.store.list() == []
    together.close()


def test_an_array_that_nobody_has_written_is_named(tmp_path: Path) -> None:
    together = Writing(tmp_path, 2)
    missing = next(key for key in tensors(1) if owner(key, 2) == 1)

    def act(rank: int) -> None:
        mine: Any = contents(1, 2)
        if rank == 1:
            arrays = share(1, 2, 1).arrays
            mine = ShareContents({key: array for key, array in arrays.items() if key != missing}, 1)
        together.writers[rank].submit(mine)
        together.writers[rank].wait()

    first, second = on_each(2, act)
    assert first.what == "no rank has written a tensor"
    assert missing.partition("@")[2] in first.where
    assert isinstance(second, CheckpointWriteError)
    assert together.store.list() == []
    together.close()


def test_a_checkpoint_that_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    together = Writing(tmp_path, 2)
    assert together.save(1) == together.save(1) == [None, None]
    together.close()
    assert len(together.store.list()) == 1
    assert [event.bytes_written for event in together.events[1]][1] == 0


def test_a_rank_without_a_share_needs_no_directory(tmp_path: Path) -> None:
    together = Writing(tmp_path / "run", 3, {2: tmp_path / "nowhere"})

    def act(rank: int) -> None:
        mine: Any = contents(4, 2)
        if rank:
            mine = share(4, 2, 1) if rank == 1 else ShareContents({}, 4)
        together.writers[rank].submit(mine)
        together.writers[rank].wait()

    assert on_each(3, act) == [None] * 3
    together.close()
    read(together.store)


# -- who can write -----------------------------------------------------------------------------------------------------


def found_by(places: list[Path]) -> list[Any]:
    meeting = Meeting(len(places))
    return on_each(len(places), lambda rank: writers(places[rank], rank, meeting.of(rank)))


def test_ranks_that_reach_the_run_directory_by_any_path_can_write(tmp_path: Path) -> None:
    (tmp_path / "mounted").symlink_to(tmp_path / "run")
    found = found_by([tmp_path / "run", tmp_path / "mounted", tmp_path / "other", tmp_path / "run"])
    assert found == [(0, 1, 3)] * 4
    assert entries(tmp_path / "run" / "checkpoints") == []
    assert not (tmp_path / "other").exists()


def test_a_run_directory_that_rank_0_cannot_make_is_its_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    meeting = Meeting(2, seconds=0.5)
    first, second = on_each(2, lambda rank: writers(tmp_path / "run", rank, meeting.of(rank)))
    assert isinstance(first, CheckpointWriteError)
    assert "cannot be written to" in first.what
    assert isinstance(second, RankError)
