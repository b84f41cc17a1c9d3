"""Checkpoints behind training: in order, one in flight, failures handed over once, nothing left running."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paddle_warm_callbacks.checkpoint import mirror, mirroring
from paddle_warm_callbacks.checkpoint.in_flight import SaveEvent
from paddle_warm_callbacks.checkpoint.mirroring import MirrorEvent
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.checkpoint.writer import BackgroundWriter
from paddle_warm_callbacks.errors import CheckpointWriteError
from paddle_warm_callbacks.plan.retention import KeepLatest
from tests.checkpoint.samples import contents, step_in


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


class Gate(CheckpointStore):
    """A store whose commits wait until they are let go, and fail if told to."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir)
        self.entered = threading.Semaphore(0)
        self.let_go = threading.Semaphore(0)
        self.failure: BaseException | None = None

    def commit(self, given: Any, others: Any = None) -> Any:
        self.entered.release()
        assert self.let_go.acquire(timeout=10)
        if self.failure is not None:
            raise self.failure
        return super().commit(given, others)


def test_each_is_committed_kept_and_reported(tmp_path: Path) -> None:
    store, events = CheckpointStore(tmp_path), list[SaveEvent]()
    writer = BackgroundWriter(store, keep=KeepLatest(2), on_commit=events.append)
    for step in range(5):
        writer.submit(contents(step))
    writer.wait()
    assert [step_in(checkpoint) for checkpoint in store.list()] == [3, 4]
    writer.close()
    writer.close()
    assert [event.name for event in events] == [f"step-0000000{step}" for step in range(5)]
    assert all(event.bytes_written > 500 and event.seconds_to_durable > 0 for event in events)


def test_submit_returns_while_the_write_goes_on_and_the_next_waits_for_it(tmp_path: Path) -> None:
    store, events = Gate(tmp_path), list[SaveEvent]()
    writer = BackgroundWriter(store, on_commit=events.append)
    writer.submit(contents(1))
    assert store.entered.acquire(timeout=10)
    second = threading.Thread(target=writer.submit, args=(contents(2),))
    second.start()
    second.join(0.2)
    assert second.is_alive()
    store.let_go.release()
    second.join(10)
    assert not second.is_alive()
    store.let_go.release()
    writer.close()
    assert [step_in(checkpoint) for checkpoint in store.list()] == [1, 2]
    assert events[0].seconds_blocked < 0.1 < events[1].seconds_blocked


@pytest.mark.parametrize("surfaces_at", ["submit", "wait", "close"])
@pytest.mark.parametrize(
    "failure", [CheckpointWriteError("no room"), RuntimeError("no room"), MemoryError("no room")]
)
def test_a_failure_surfaces_once_at_what_comes_next(
    tmp_path: Path, surfaces_at: str, failure: BaseException
) -> None:
    store = Gate(tmp_path)
    writer = BackgroundWriter(store)
    store.failure = failure
    store.let_go.release()
    writer.submit(contents(1))
    call = {"submit": lambda: writer.submit(contents(2)), "wait": writer.wait, "close": writer.close}[
        surfaces_at
    ]
    with pytest.raises(CheckpointWriteError, match="no room"):
        call()
    store.failure = None
    if surfaces_at != "close":
        store.let_go.release()
        writer.submit(contents(3))  # the writer goes on, and what was refused above was not taken
        writer.wait()
    writer.close()
    assert [step_in(checkpoint) for checkpoint in store.list()] == ([3] if surfaces_at != "close" else [])


def test_a_failing_listener_is_reported_and_the_checkpoint_is_there(tmp_path: Path) -> None:
    def listener(event: SaveEvent) -> None:
        raise ValueError("not quick")

    store = CheckpointStore(tmp_path)
    writer = BackgroundWriter(store, on_commit=listener)
    writer.submit(contents(1))
    with pytest.raises(CheckpointWriteError, match="ValueError: not quick"):
        writer.close()
    assert [step_in(checkpoint) for checkpoint in store.list()] == [1]


def test_a_writer_that_was_never_used_closes(tmp_path: Path) -> None:
    BackgroundWriter(CheckpointStore(tmp_path), mirror="memory://never").close()


# -- the mirror ------------------------------------------------------------------------------------------------------


def test_each_committed_checkpoint_reaches_the_mirror(tmp_path: Path) -> None:
    url = f"memory://{tmp_path}"
    writer = BackgroundWriter(CheckpointStore(tmp_path), keep=KeepLatest(1), mirror=url)
    for step in range(3):
        writer.submit(contents(step))
        writer.wait()
        assert writer._mirror is not None
        while writer._mirror.unfinished():  # give the mirror its time
            time.sleep(0.01)
    writer.close()
    assert mirror.list_mirrored(url) == ["step-00000000", "step-00000001", "step-00000002"]


def test_a_slow_mirror_holds_up_nothing_and_gets_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, let_go = threading.Event(), threading.Event()
    put, uploaded = mirror.put, list[str]()

    def slow(checkpoint: Any, *given: Any) -> None:
        begun.set()
        assert let_go.wait(10)
        checkpoint.verify()  # retention has spared it meanwhile
        uploaded.append(checkpoint.name)
        put(checkpoint, *given)

    monkeypatch.setattr(mirror, "put", slow)
    store = CheckpointStore(tmp_path)
    arrived: list[MirrorEvent] = []
    url = f"memory://{tmp_path}"
    writer = BackgroundWriter(store, keep=KeepLatest(1), mirror=url, on_mirrored=arrived.append)
    assert writer.mirror_lag() == 0
    writer.submit(contents(0))
    assert begun.wait(10)
    for step in range(1, 5):
        writer.submit(contents(step))
    writer.wait()
    assert [step_in(checkpoint) for checkpoint in store.list()] == [0, 4]
    assert (writer.mirror_lag() or 0) > 0
    let_go.set()
    writer.close()
    assert uploaded == ["step-00000000", "step-00000004"]
    assert [(event.name, event.passed_over) for event in arrived] == [
        ("step-00000000", 3),
        ("step-00000004", 3),
    ]
    assert writer.mirror_lag() == 0


@pytest.mark.parametrize("failures", [2, 6, 7, 99])
def test_a_failing_mirror_is_tried_again_and_reported_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    attempts = 0
    put = mirror.put

    def failing(*given: Any) -> None:
        nonlocal attempts
        attempts += 1
        if attempts <= failures:
            raise ConnectionError("no route")
        put(*given)

    monkeypatch.setattr(mirror, "put", failing)
    monkeypatch.setattr(mirroring, "_SECONDS_BETWEEN", 0.0)
    store = CheckpointStore(tmp_path)
    writer = BackgroundWriter(store, mirror=f"memory://{tmp_path}")
    writer.submit(contents(1))
    writer.wait()  # training does not hear of it
    if failures >= 7:
        with pytest.raises(CheckpointWriteError, match="could not be copied to the mirror"):
            writer.close()
        assert attempts == 7
    else:
        writer.close()
        assert mirror.list_mirrored(f"memory://{tmp_path}") == ["step-00000001"]
    assert [step_in(checkpoint) for checkpoint in store.list()] == [1]


@pytest.mark.parametrize("error", [PermissionError("who are you"), FileNotFoundError("no such bucket")])
def test_what_another_attempt_does_not_mend_is_not_attempted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    attempts: list[int] = []

    def refused(*given: Any) -> None:
        attempts.append(1)
        raise error

    monkeypatch.setattr(mirror, "put", refused)
    writer = BackgroundWriter(CheckpointStore(tmp_path), mirror=f"memory://{tmp_path}")
    writer.submit(contents(1))
    with pytest.raises(CheckpointWriteError, match=str(error)):
        writer.close()
    assert attempts == [1]
