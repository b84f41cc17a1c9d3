"""A commit and the deletions after it, stopped or failed at every single operation, then recovered from."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_warm_callbacks.checkpoint.contents import CheckpointContents
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.errors import CheckpointWriteError
from paddle_warm_callbacks.plan.retention import KeepBest, KeepLatest
from tests.checkpoint.faults import Faults
from tests.checkpoint.samples import contents as changing
from tests.checkpoint.samples import entries, step_in

LAYOUTS = pytest.mark.parametrize("layout", ["native", "shards"])
KEEP = KeepLatest(1) | KeepBest("acc")


def contents(step: int, **options: Any) -> CheckpointContents:
    """Return contents of which most is the same at every step."""
    made = changing(step, **options)
    return replace(made, optimizer={**made.optimizer, "frozen": np.arange(400)})


def _prepared(run_dir: Path, layout: str = "native") -> CheckpointStore:
    store = CheckpointStore(run_dir, layout=layout)
    for step, acc in ((1, 0.5), (2, 0.9), (3, 0.1)):
        store.commit(contents(step, metrics={"acc": acc}))
    return CheckpointStore(run_dir, layout=layout)


def _save(store: CheckpointStore, committed: Path) -> None:
    store.begin("step-00000003")
    store.commit(contents(4, metrics={"acc": 0.2}))
    os.close(os.open(committed, os.O_CREAT))
    store.retain(KEEP)


def _error_of(store: CheckpointStore, committed: Path) -> CheckpointWriteError | None:
    try:
        _save(store, committed)
    except CheckpointWriteError as error:
        return error
    return None


def _operations(tmp_path: Path, layout: str) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        store = _prepared(tmp_path / "counted", layout)
        faults = Faults(patch, lambda *_: None)
        _save(store, tmp_path / "committed while counted")
    return faults.operations


def _require_sound(run_dir: Path, layout: str, *, at_least: int) -> None:
    """Require that everything listed is whole, nothing reported is lost, and the run goes on."""
    store = CheckpointStore(run_dir, layout=layout)
    listed = [step_in(checkpoint) for checkpoint in store.list()]
    for checkpoint in store.list():
        checkpoint.verify()
    assert 2 in listed  # the best one
    latest = store.latest_verified()
    assert latest is not None
    assert max(listed) == step_in(latest) >= at_least
    store.begin(latest.name)
    assert step_in(store.commit(contents(5, metrics={"acc": 0.3}))) == 5
    store.retain(KEEP)
    assert [step_in(checkpoint) for checkpoint in store.list()] == [2, 5]
    assert entries(run_dir / "checkpoints") == ["step-00000002", "step-00000005"]
    best = store.best()
    assert best is not None
    assert step_in(best) == 2
    assert {name for name in entries(run_dir) if name.endswith(".new")} == set()


@LAYOUTS
@pytest.mark.parametrize("flushed_only", [False, True], ids=["killed", "power cut"])
def test_a_process_that_dies_at_any_operation_loses_nothing(
    tmp_path: Path, flushed_only: bool, layout: str
) -> None:
    operations = _operations(tmp_path, layout)
    assert len(operations) > 40
    assert ("link" in operations) == (layout == "shards")
    assert {"rename", "fsync", "replace", "rmtree", "mkdir"} <= set(operations)
    for number in range(1, len(operations) + 1):
        run_dir, committed = tmp_path / f"run{number}", tmp_path / f"committed{number}"
        _prepared(run_dir, layout)
        _die_at(number, CheckpointStore(run_dir, layout=layout), committed, flushed_only)
        _require_sound(run_dir, layout, at_least=4 if committed.exists() else 3)


def _die_at(number: int, store: CheckpointStore, committed: Path, flushed_only: bool) -> None:
    """Save in a process of its own that ends at its ``number``-th operation, without any cleaning up."""
    child = os.fork()
    if child == 0:
        try:
            patch = pytest.MonkeyPatch()

            def die(count: int, operation: str) -> None:
                if count == number:
                    patch.undo()
                    if flushed_only:
                        faults.forget_what_was_not_flushed()
                    os._exit(17)

            faults = Faults(patch, die)
            _save(store, committed)
        finally:
            os._exit(18)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 17


@LAYOUTS
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_an_error_at_any_operation_is_raised_or_harmless(tmp_path: Path, code: int, layout: str) -> None:
    operations = _operations(tmp_path, layout)
    raised = []
    for number in range(1, len(operations) + 1):
        run_dir, committed = tmp_path / f"run{number}", tmp_path / f"committed{number}"
        store = _prepared(run_dir, layout)

        def fail(count: int, operation: str, number: int = number) -> None:
            if count == number:
                raise OSError(code, os.strerror(code))

        with pytest.MonkeyPatch.context() as patch:
            Faults(patch, fail)
            error = _error_of(store, committed)
        if error is not None:
            raised.append(operations[number - 1])
            assert os.strerror(code) in error.received
        _require_sound(run_dir, layout, at_least=4 if committed.exists() else 3)
    # Of the commit itself nothing may fail in silence; pointers may.
    assert {
        "create structure.json" if layout == "shards" else "create model.pdparams",
        "write state.json",
        "create manifest.json",
        "rename",
        "fsync",
    } <= set(raised)
    assert not {"replace", "link"} & set(raised)


def test_a_disk_that_is_full_for_a_while(tmp_path: Path) -> None:
    store = _prepared(tmp_path / "run")

    def full(count: int, operation: str) -> None:
        if operation.startswith("write"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        Faults(patch, full)
        for step in (4, 5):
            with pytest.raises(CheckpointWriteError, match="No space left"):
                store.commit(contents(step))
    assert entries(tmp_path / "run" / "checkpoints") == [f"step-0000000{step}" for step in (1, 2, 3)]
    assert step_in(store.commit(contents(6))) == 6


def test_a_run_directory_that_vanishes_is_made_again(tmp_path: Path) -> None:
    import shutil

    store = _prepared(tmp_path / "run")
    lock = store.lock()
    shutil.rmtree(tmp_path / "run")
    assert step_in(store.commit(contents(4))) == 4
    lock.release()
    assert [step_in(checkpoint) for checkpoint in store.list()] == [4]
