"""Committing, listing, keeping and stepping back, on a healthy disk."""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_warm_callbacks.checkpoint import staging
from paddle_warm_callbacks.checkpoint.store import Checkpoint, CheckpointStore
from paddle_warm_callbacks.errors import (
    CheckpointError,
    CheckpointWriteError,
    CorruptCheckpointError,
    InvalidArgumentError,
    NoUsableCheckpointError,
)
from paddle_warm_callbacks.plan.retention import (
    KeepBest,
    KeepLatest,
)
from tests.checkpoint.samples import contents, damage, entries, names_in, same, step_in


def test_what_was_committed_is_read_back(tmp_path: Path) -> None:
    given = contents(7, metrics={"acc": 0.5, "loss": float("nan")})
    checkpoint = CheckpointStore(tmp_path / "run").commit(given)
    again = Checkpoint(checkpoint.path)
    again.verify()
    assert same(again.read_model(), dict(given.model))
    assert same(again.read_optimizer(), dict(given.optimizer))
    assert same(again.read_extra(), dict(given.extra))
    assert same(again.read_state(), dict(given.state))
    assert again.progress == given.progress
    assert again.name == "step-00000007"
    assert again.manifest.metadata == {"labels": ["a", "b"]}
    assert same(dict(again.manifest.metrics), {"acc": 0.5, "loss": float("nan")})
    assert again.manifest.size == sum(
        path.stat().st_size for path in Path(again.path).iterdir() if path.name != "manifest.json"
    )


def test_the_digest_of_every_tensor_is_on_record(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    one, other = store.commit(contents(1)), store.commit(contents(2, size=7))
    tensors = {(tensor.file, tensor.name): tensor for tensor in one.read_tensors()}
    assert set(tensors) == {
        ("model.pdparams", "fc.weight"),
        ("model.pdparams", "fc.bias"),
        ("model.pdopt", "linear_0.w_0_moment1_0"),
        ("extra.pdparams", "running"),
    }
    weight = tensors["model.pdparams", "fc.weight"]
    assert (weight.shape, weight.dtype) == ((6, 2), "float32")
    data = (Path(one.path) / "model.pdparams").read_bytes()
    assert data[weight.offset : weight.offset + 48] == np.full((6, 2), 1, np.float32).tobytes()
    # equal bytes have equal digests, others have others: the moment is filled as the weight is
    assert tensors["model.pdopt", "linear_0.w_0_moment1_0"].digest == weight.digest
    assert weight.digest not in {tensor.digest for tensor in other.read_tensors()}


def test_without_optimizer_and_extra_there_are_no_files_of_theirs(tmp_path: Path) -> None:
    checkpoint = CheckpointStore(tmp_path).commit(replace(contents(1), optimizer={}, extra={}))
    assert entries(checkpoint.path) == [
        "manifest.json",
        "model.pdparams",
        "state.json",
        "tensors.json",
    ]
    assert checkpoint.read_optimizer() == {}
    assert checkpoint.read_extra() == {}


def test_the_digest_stands_for_everything_in_the_checkpoint(tmp_path: Path) -> None:
    one = CheckpointStore(tmp_path / "one").commit(contents(1))
    other = CheckpointStore(tmp_path / "other").commit(contents(1, metrics={"acc": 1.0}))
    assert one.digest == Checkpoint(one.path).digest
    assert one.digest != other.digest


def test_listed_oldest_first_whatever_the_order_of_commits(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for given in (
        contents(4, epoch=1),
        contents(2),
        contents(4),
        contents(123_456_789),
        contents(99_999_999),
    ):
        store.commit(given)
    assert names_in(store) == [
        "step-00000002",
        "step-00000004",
        "step-00000004-epoch-0001",
        "step-99999999",
        "step-123456789",
    ]
    latest = store.latest_verified()
    assert latest is not None
    assert latest.name == "step-123456789"


def test_an_empty_or_missing_run_directory_has_no_checkpoint(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "nothing")
    assert store.list() == []
    assert store.latest_verified() is None
    assert store.best() is None
    assert store.retain(KeepLatest(1)) == ()
    assert not (tmp_path / "nothing" / "checkpoints").exists()


@pytest.mark.parametrize("run_dir", ["", "s3://bucket/run", None, 3])
def test_only_a_local_path_is_a_run_directory(run_dir: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        CheckpointStore(run_dir)


def test_open_by_name(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.commit(contents(1))
    assert step_in(store.open("step-00000001")) == 1
    for name in ("step-00000002", "../run", ".staging-x"):
        with pytest.raises(CheckpointError, match="no such checkpoint"):
            store.open(name)


def test_holds_its_own_checkpoints_and_no_others(tmp_path: Path) -> None:
    one, other = CheckpointStore(tmp_path / "one"), CheckpointStore(tmp_path / "other")
    checkpoint = one.commit(contents(1))
    (tmp_path / "link").symlink_to(tmp_path / "one")
    assert one.holds(checkpoint)
    assert CheckpointStore(tmp_path / "link").holds(checkpoint)
    assert not other.holds(checkpoint)


def test_a_copied_or_renamed_checkpoint_is_as_good(tmp_path: Path) -> None:
    checkpoint = CheckpointStore(tmp_path / "run").commit(contents(3))
    shutil.copytree(checkpoint.path, tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "run")
    copied = Checkpoint(tmp_path / "elsewhere")
    copied.verify()
    assert step_in(copied) == 3


# -- stepping back ---------------------------------------------------------------------------------------------------


def test_latest_steps_back_over_the_damaged_and_says_which_and_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = CheckpointStore(tmp_path)
    for step in range(1, 5):
        store.commit(contents(step))
    damage(store.open("step-00000004"))
    (Path(store.open("step-00000003").path) / "manifest.json").unlink()
    with caplog.at_level(logging.WARNING, "paddle_warm_callbacks"):
        latest = store.latest_verified()
    assert latest is not None
    assert step_in(latest) == 2
    assert [record.message.split(",")[0] for record in caplog.records] == ["step-00000004", "step-00000003"]
    assert "model.pdparams" in caplog.records[0].message
    assert "manifest.json" in caplog.records[1].message


def test_a_healthy_run_is_read_without_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = CheckpointStore(tmp_path)
    store.commit(contents(1))
    assert store.latest_verified() is not None
    assert not caplog.records


def test_with_none_left_it_is_an_error_and_no_cold_start(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step in (1, 2):
        damage(store.commit(contents(step)), "state.json")
    with pytest.raises(NoUsableCheckpointError) as caught:
        store.latest_verified()
    assert "step-00000001" in caught.value.received
    assert "step-00000002" in caught.value.received


def test_the_error_names_the_damaged_tensor(tmp_path: Path) -> None:
    checkpoint = CheckpointStore(tmp_path).commit(contents(1))
    bias = next(tensor for tensor in checkpoint.read_tensors() if tensor.name == "fc.bias")
    path = Path(checkpoint.path) / "model.pdparams"
    data = bytearray(path.read_bytes())
    data[bias.offset] ^= 0x80
    path.write_bytes(data)
    with pytest.raises(CorruptCheckpointError) as caught:
        checkpoint.verify()
    assert "damaged: fc.bias" in caught.value.received
    assert "fc.weight" not in caught.value.received
    with pytest.raises(CorruptCheckpointError, match=r"fc\.bias"):
        checkpoint.read_model()


def test_pointers_are_hints_only(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step in (1, 2):
        store.commit(contents(step, epoch=step, metrics={"acc": 1.0 / step}))
        store.retain(KeepLatest(2) | KeepBest("acc"))
    assert json.loads((tmp_path / "latest.json").read_bytes()) == {"name": "step-00000002-epoch-0002"}
    assert json.loads((tmp_path / "best.json").read_bytes())["name"] == "step-00000001-epoch-0001"
    (tmp_path / "latest.json").write_text('{"name": "step-00000001-epoch-0001"}')
    (tmp_path / "best.json").write_text('{"name": "gone", "metric": "acc", "mode": "max"}')
    latest, best = store.latest_verified(), store.best()
    assert latest is not None
    assert best is not None
    assert (step_in(latest), step_in(best)) == (2, 1)


# -- best ------------------------------------------------------------------------------------------------------------


def test_best_steps_back_to_the_next_best(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step, acc in ((1, 0.5), (2, 0.9), (3, 0.7), (4, float("nan"))):
        store.commit(contents(step, epoch=step, metrics={"acc": acc}))
        store.retain(KeepLatest(9) | KeepBest("acc"))
    best = store.best()
    assert best is not None
    assert step_in(best) == 2
    damage(best)
    second = CheckpointStore(tmp_path).best()
    assert second is not None
    assert step_in(second) == 3


def test_best_without_a_metric_is_an_error_that_says_so(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.commit(contents(1))
    with pytest.raises(NoUsableCheckpointError, match="KeepBest"):
        store.best()
    store.retain(KeepBest("acc"))
    with pytest.raises(NoUsableCheckpointError, match="no checkpoint with a metric 'acc'"):
        store.best()


# -- generations and names that are taken ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resumed_from", "expected"),
    [
        ("step-00000004", "step-00000005"),
        ("step-00000002", "step-00000005.g1"),
        (None, "step-00000005.g1"),
    ],
)
def test_a_return_to_an_older_checkpoint_begins_a_generation(
    tmp_path: Path, resumed_from: str | None, expected: str
) -> None:
    store = CheckpointStore(tmp_path)
    for step in (2, 4):
        store.commit(contents(step))
    store = CheckpointStore(tmp_path)
    store.begin(resumed_from)
    assert store.commit(contents(5)).name == expected


def test_a_later_generation_is_newer_than_a_later_step(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step in (2, 4, 6):
        store.commit(contents(step))
    store.begin("step-00000002")
    store.commit(contents(3))
    store.begin("step-00000003.g1")  # a rerun that goes on from the newest stays in its generation
    store.commit(contents(4))
    assert names_in(store)[-2:] == ["step-00000003.g1", "step-00000004.g1"]
    latest = CheckpointStore(tmp_path).latest_verified()
    assert latest is not None
    assert latest.name == "step-00000004.g1"
    store.retain(KeepLatest(2))
    assert names_in(store) == ["step-00000003.g1", "step-00000004.g1"]


def test_a_name_that_is_taken_is_the_same_position_and_is_not_written_again(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    first = store.commit(contents(1))
    before = Path(first.path).stat()
    assert store.commit(contents(1, metrics={"acc": 1.0})).digest == first.digest
    assert Path(first.path).stat().st_ino == before.st_ino


def test_a_damaged_checkpoint_of_that_name_is_replaced(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    damage(store.commit(contents(1)))
    store.commit(contents(1)).verify()
    assert entries(tmp_path / "checkpoints") == ["step-00000001"]


# -- leftovers and refusals ------------------------------------------------------------------------------------------


def test_what_the_dead_left_is_never_listed_and_is_swept_at_the_beginning(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.commit(contents(1))
    for left in (".staging-step-00000002-1234abcd", ".staging-deleted-step-00000000-1234abcd"):
        shutil.copytree(tmp_path / "checkpoints" / "step-00000001", tmp_path / "checkpoints" / left)
    (tmp_path / "checkpoints" / "notes").mkdir()
    assert names_in(store) == ["step-00000001"]
    store.begin("step-00000001")
    assert entries(tmp_path / "checkpoints") == ["notes", "step-00000001"]
    assert store.sweep() == 0


@pytest.mark.parametrize("field", ["state", "metadata", "optimizer"])
def test_a_value_that_cannot_be_stored_is_refused_and_leaves_nothing(tmp_path: Path, field: str) -> None:
    store = CheckpointStore(tmp_path)
    store.commit(contents(1))
    bad: dict[str, Any] = {field: {"here": {"it": object()}}}
    with pytest.raises(CheckpointWriteError) as caught:
        store.commit(replace(contents(2), **bad))
    assert "object" in caught.value.received
    assert "here" in caught.value.received
    assert entries(tmp_path / "checkpoints") == ["step-00000001"]


def test_ten_thousand_checkpoints_are_listed_without_opening_one(tmp_path: Path) -> None:
    for step in range(10_000):
        (tmp_path / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
    store = CheckpointStore(tmp_path)
    assert len(store.list()) == 10_000
    with pytest.raises(NoUsableCheckpointError):
        store.latest_verified()  # they are empty


def test_a_clock_that_jumps_back_changes_no_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hours = iter(range(100, 0, -1))

    class Backwards(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime(2030, 1, 1, tzinfo=tz) + timedelta(hours=next(hours))

    monkeypatch.setattr(staging, "datetime", Backwards)
    store = CheckpointStore(tmp_path)
    for step in (1, 2, 3):
        made = store.commit(contents(step))
        hour = next(hours) * 3600
        for path in (*Path(made.path).iterdir(), Path(made.path)):
            os.utime(path, (hour, hour))
    created = [checkpoint.manifest.created for checkpoint in store.list()]
    assert created == sorted(created, reverse=True), "the clock did go back"
    latest = CheckpointStore(tmp_path).latest_verified()
    assert latest is not None
    assert step_in(latest) == 3
    store.retain(KeepLatest(2))
    assert [step_in(checkpoint) for checkpoint in store.list()] == [2, 3]
