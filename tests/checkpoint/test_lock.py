"""One writer to a run directory: refused with a name while it lives, taken over when it is dead."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from paddle_warm_callbacks.checkpoint.lock import RunLock
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.errors import CheckpointWriteError, CorruptCheckpointError, RunDirectoryBusyError
from paddle_warm_callbacks.plan.retention import KeepLatest
from tests.checkpoint.samples import contents, step_in

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def _holder(run_dir: Path, then: str = "") -> Iterator[subprocess.Popen[str]]:
    """Run a process that holds ``run_dir`` until it is killed."""
    code = f"""
import os, sys, time
from pathlib import Path
from paddle_warm_callbacks.checkpoint.lock import RunLock
lock = RunLock(Path({str(run_dir)!r}))
{then}
print(os.getpid(), flush=True)
time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline().strip()
        yield process
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def test_the_second_process_is_refused_with_the_owners_pid_and_host(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.commit(contents(1))
    with _holder(tmp_path) as owner:
        for refused in (
            store.lock,
            store.sweep,
            lambda: store.begin(None),
            lambda: store.commit(contents(2)),
            lambda: store.retain(KeepLatest(1)),
        ):
            with pytest.raises(RunDirectoryBusyError) as caught:
                refused()
            assert str(owner.pid) in caught.value.received
            assert socket.gethostname() in caught.value.received
        # Readers are always welcome.
        latest = store.latest_verified()
        assert latest is not None
        assert step_in(latest) == 1


def test_a_killed_owners_lock_is_taken_over(tmp_path: Path) -> None:
    with _holder(tmp_path) as owner:
        owner.send_signal(signal.SIGKILL)
        owner.wait(10)
        assert (tmp_path / ".lock-owner.json").exists()
        with RunLock(tmp_path):
            pass
    assert not (tmp_path / ".lock-owner.json").exists()


def test_a_forked_child_that_outlives_its_killed_parent_holds_nothing(tmp_path: Path) -> None:
    fork = f"""
child = os.fork()
if not child:
    time.sleep(60)
    os._exit(0)
Path({str(tmp_path / "child")!r}).write_text(str(child))"""
    with _holder(tmp_path, fork) as owner:
        child = int((tmp_path / "child").read_text())
        owner.send_signal(signal.SIGKILL)
        owner.wait(10)
        try:
            with RunLock(tmp_path):
                pass
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_forked_child_does_not_release_its_parents_lock(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    child = os.fork()
    if child == 0:
        try:
            lock.release()
            RunLock(tmp_path)
        except RunDirectoryBusyError:
            os._exit(17)
        finally:
            os._exit(18)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 17
    assert (tmp_path / ".lock-owner.json").exists()
    lock.release()


def test_a_process_keeps_itself_out_too(tmp_path: Path) -> None:
    tmp_path.with_name("link").symlink_to(tmp_path)
    with RunLock(tmp_path), pytest.raises(RunDirectoryBusyError, match="this very process") as caught:
        RunLock(tmp_path.with_name("link"))
    assert "one PeriodicCheckpoint with several policies" in caught.value.remedy
    with RunLock(tmp_path):
        pass


def test_released_once_and_for_all(tmp_path: Path) -> None:
    first = RunLock(tmp_path)
    first.release()
    with RunLock(tmp_path):
        first.release()  # does not take the second holder's away
        with pytest.raises(RunDirectoryBusyError):
            RunLock(tmp_path)


def test_a_store_that_holds_the_lock_commits_from_any_thread(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    with store.lock():
        thread = threading.Thread(target=store.commit, args=(contents(1),))
        thread.start()
        thread.join(10)
    assert [step_in(checkpoint) for checkpoint in store.list()] == [1]


def test_a_directory_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "later a file" / "run")
    (tmp_path / "later a file").write_text("")
    with pytest.raises(CheckpointWriteError, match="cannot be written to"):
        store.lock()


@contextmanager
def _saving_without_a_pause(run_dir: Path, keep: int) -> Iterator[CheckpointStore]:
    """Commit and delete on another thread meanwhile."""
    CheckpointStore(run_dir).commit(contents(0))
    stop = threading.Event()

    def write() -> None:
        writer = CheckpointStore(run_dir)
        with writer.lock():
            step = 1
            while not stop.is_set():
                writer.commit(contents(step))
                writer.retain(KeepLatest(keep))
                step += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield CheckpointStore(run_dir)
    finally:
        stop.set()
        thread.join(10)


def test_reading_works_while_a_run_is_busy_committing(tmp_path: Path) -> None:
    seen = []
    with _saving_without_a_pause(tmp_path, keep=2) as store:
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            latest = store.latest_verified()
            assert latest is not None
            seen.append(latest.progress.global_step)
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]


def test_what_is_copied_from_a_busy_run_is_whole_or_refused(tmp_path: Path) -> None:
    def as_rsync_does(source: str, target: str) -> None:
        with suppress(FileNotFoundError):  # it vanished: rsync says so, and goes on
            shutil.copyfile(source, target)

    whole = partial = 0
    with _saving_without_a_pause(tmp_path / "run", keep=60) as store:
        deadline, number = time.monotonic() + 1.5, 0
        while time.monotonic() < deadline:
            number += 1
            before = store.list()[-1].progress.global_step
            copy = tmp_path / f"copy-{number}"
            with suppress(shutil.Error):  # a directory that vanished
                shutil.copytree(tmp_path / "run", copy, copy_function=as_rsync_does)
            for checkpoint in CheckpointStore(copy).list():
                try:
                    checkpoint.verify()
                except CorruptCheckpointError:
                    partial += 1
                else:
                    assert step_in(checkpoint) == int(checkpoint.name[5:13])
                    whole += 1
            latest = CheckpointStore(copy).latest_verified()
            assert latest is not None
            assert step_in(latest) >= before
    assert whole > number, "it was saving all the time"
    assert partial < whole
