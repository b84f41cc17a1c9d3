"""What the policies keep stays, the rest goes, and the newest whole one is never among it."""

from __future__ import annotations

import math
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.errors import (
    CorruptCheckpointError,
)
from paddle_warm_callbacks.plan.retention import (
    CheckpointRecord,
    KeepBest,
    KeepEvery,
    KeepLatest,
    RetentionPolicy,
)
from tests.checkpoint.samples import contents, damage, entries, names_in


def test_what_the_policies_keep_stays_and_the_rest_goes(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    gone: list[str] = []
    for epoch, acc in enumerate((0.1, 0.9, 0.2, 0.3, 0.4, 0.5), start=1):
        store.commit(contents(10 * epoch, epoch=epoch, metrics={"acc": acc}))
        gone += store.retain(KeepLatest(1) | KeepBest("acc") | KeepEvery(3))
    kept = [checkpoint.progress.epoch for checkpoint in store.list()]
    assert kept == [2, 3, 6]
    assert gone == [f"step-000000{epoch}0-epoch-000{epoch}" for epoch in (1, 4, 5)]
    assert entries(tmp_path / "checkpoints") == names_in(store)


def test_the_newest_stays_whatever_the_policy_says(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step, acc in ((1, 0.9), (2, 0.1)):
        store.commit(contents(step, metrics={"acc": acc}))
    store.retain(KeepBest("acc"))
    assert names_in(store) == ["step-00000001", "step-00000002"]


def test_an_epochs_end_takes_the_place_of_its_last_step(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step, epoch in ((3, None), (4, None), (4, 1), (5, None)):
        store.commit(contents(step, epoch=epoch))
        store.retain(KeepLatest(3))
        if (step, epoch) == (4, None):
            assert names_in(store)[-1] == "step-00000004", "until the one that takes its place is there"
    assert names_in(store) == ["step-00000003", "step-00000004-epoch-0001", "step-00000005"]


def test_what_is_spared_stays(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step in (1, 2, 3):
        store.commit(contents(step))
    assert store.retain(KeepLatest(1), spare=["step-00000001"]) == ("step-00000002",)


def test_nothing_is_deleted_while_the_newest_does_not_verify(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step in (1, 2):
        newest = store.commit(contents(step))
    damage(newest)
    with pytest.raises(CorruptCheckpointError):
        store.retain(KeepLatest(1))
    assert names_in(store) == ["step-00000001", "step-00000002"]


def test_each_manifest_is_read_once_and_none_without_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = CheckpointStore(tmp_path)
    for step in range(10):
        writer.commit(contents(step, epoch=step, metrics={"acc": float(step)}))
    read: list[str] = []
    read_bytes = Path.read_bytes

    def counting(path: Path) -> bytes:
        if path.name == "manifest.json":
            read.append(path.parent.name)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", counting)
    store = CheckpointStore(tmp_path)
    store.retain(KeepLatest(10))
    store.retain(KeepLatest(10) | KeepEvery(3))
    assert read == []
    for _ in range(3):
        store.retain(KeepBest("acc", n=10))
    assert sorted(read) == names_in(writer)


def test_policies_are_told_the_truth_about_names(tmp_path: Path) -> None:
    class Asking(RetentionPolicy):
        def keep(self, records: Any) -> frozenset[str]:
            self.seen: list[CheckpointRecord] = list(records)
            return frozenset(record.name for record in records)

    writer = CheckpointStore(tmp_path)
    writer.commit(contents(3))
    writer.commit(contents(4, epoch=2))
    asking = Asking()
    CheckpointStore(tmp_path).retain(asking)
    within, completed = asking.seen
    assert (within.epoch_completed, within.progress.global_step) == (False, 3)
    assert (completed.epoch_completed, completed.progress.epoch) == (True, 2)


POLICIES: tuple[RetentionPolicy, ...] = (
    KeepLatest(2),
    KeepEvery(2),
    KeepEvery(3) | KeepLatest(1),
    KeepEvery(2) | KeepBest("acc", n=2) | KeepLatest(2),
    KeepBest("acc", "min"),
)


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_what_a_policy_has_settled_changes_no_decision(tmp_path: Path, policy: RetentionPolicy) -> None:
    rng = random.Random(str(policy))
    store, control = CheckpointStore(tmp_path / "one"), tmp_path / "control"
    with store.lock():
        for epoch in range(1, 25):
            metrics = {"acc": rng.choice([0.1, 0.2, 0.3, math.nan])}
            for each in (store, CheckpointStore(control)):
                each.commit(contents(epoch, epoch=epoch, metrics=metrics))
                each.retain(policy)
            assert entries(tmp_path / "one" / "checkpoints") == entries(control / "checkpoints")
            if policy.metrics and not math.isnan(metrics["acc"]):
                assert store.best() is not None
            if rng.random() < 0.1:  # by hand
                shutil.rmtree(store.list()[0].path)
                shutil.rmtree(CheckpointStore(control).list()[0].path)


def test_what_is_kept_for_good_is_not_listed_again_at_every_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = KeepEvery(1) | KeepBest("acc") | KeepLatest(2)
    seen: list[int] = []
    keep = KeepBest.keep

    def counted(best: KeepBest, records: Any) -> frozenset[str]:
        seen.append(len(records))
        return keep(best, records)

    monkeypatch.setattr(KeepBest, "keep", counted)
    store = CheckpointStore(tmp_path)
    for epoch in range(1, 30):
        store.commit(contents(epoch, epoch=epoch))
    with store.lock():
        for epoch in range(30, 34):
            store.commit(contents(epoch, epoch=epoch))
            store.retain(policy)
    at_each_call = seen[::2]
    assert at_each_call[0] == 30
    assert max(seen[4:]) <= 4
    assert len(store.list()) == 33
