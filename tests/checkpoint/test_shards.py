"""The layout that writes the unchanged once: how little it writes, and that each directory stands alone."""

from __future__ import annotations

import logging
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_warm_callbacks.checkpoint.contents import CheckpointContents
from paddle_warm_callbacks.checkpoint.mirror import download, upload
from paddle_warm_callbacks.checkpoint.store import Checkpoint, CheckpointStore
from paddle_warm_callbacks.errors import CorruptCheckpointError, InvalidArgumentError
from paddle_warm_callbacks.plan.retention import KeepLatest
from paddle_warm_callbacks.progress import Progress
from tests.checkpoint.samples import contents, entries, same

BACKBONE = {f"layer{i}.weight": np.random.default_rng(i).random((100, 100)) for i in range(10)}


def head_only(step: int) -> CheckpointContents:
    """Return a state of 800 kB, of which 160 bytes change from step to step."""
    head = np.full(10, step, np.float64)
    return CheckpointContents(
        model={**BACKBONE, "fc": head},
        model_names={"fc": "linear_0.w_0"},
        optimizer={
            "fc_moment": head + 0.5,
            "LR_Scheduler": {"last_lr": 0.1},
            "master_weights": {"fc": ("m", head)},
        },
        state={"step": step},
        progress=Progress(step, 0, step),
    )


def shards_of(checkpoint: Checkpoint) -> set[str]:
    return {name for name in checkpoint.manifest.files if name.startswith("shard-")}


def read(checkpoint: Checkpoint) -> tuple[Any, Any, Any, Any]:
    return (
        checkpoint.read_model(),
        checkpoint.read_optimizer(),
        checkpoint.read_extra(),
        checkpoint.read_state(),
    )


def test_what_is_read_equals_the_native_layouts(tmp_path: Path) -> None:
    special = replace(
        contents(3),
        model={
            "scalar": np.array(2.5),
            "empty": np.zeros((0, 4), np.int32),
            "big endian": np.arange(3, dtype=">f4"),
            "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            "twice": np.ones(7, np.uint16),
            "again": np.ones(7, np.uint16),
        },
        optimizer={
            "master_weights": {"w": ("generated", np.ones(2))},
            "LR_Scheduler": {"milestones": [1, 2]},
        },
    )
    for given in (contents(3), special, head_only(3)):
        native = CheckpointStore(tmp_path / "native").commit(given)
        sharded = CheckpointStore(tmp_path / "shards", layout="shards").commit(given)
        assert same(list(read(sharded)), list(read(native)))
        described = [
            [(t.file, t.name, t.shape, t.dtype, t.digest) for t in checkpoint.read_tensors()]
            for checkpoint in (native, sharded)
        ]
        assert described[0] == described[1]
        shutil.rmtree(tmp_path / "native")
        shutil.rmtree(tmp_path / "shards")


def test_what_has_not_changed_is_not_written_again(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, layout="shards")
    store.commit(head_only(1))
    full = store.bytes_written
    for step in (2, 3):
        store.commit(head_only(step))
        assert store.bytes_written < 0.02 * full
    control = CheckpointStore(tmp_path / "native")
    control.commit(head_only(1))
    control.commit(head_only(2))
    assert control.bytes_written > 0.95 * full
    assert len(shards_of(store.list()[2])) == 2


def test_another_process_goes_on_sharing(tmp_path: Path) -> None:
    CheckpointStore(tmp_path, layout="shards").commit(head_only(1))
    store = CheckpointStore(tmp_path, layout="shards")
    store.commit(head_only(2))
    assert store.bytes_written < 20_000


def test_a_directory_stands_alone(tmp_path: Path) -> None:
    """Whether the others are deleted, it is copied away, or it comes back from a mirror."""
    store = CheckpointStore(tmp_path / "run", layout="shards")
    for step in (1, 2, 3):
        last = store.commit(head_only(step))
    shutil.copytree(last.path, tmp_path / "copied")
    upload(last, str(tmp_path / "mirror"))
    fetched = download(f"{tmp_path}/mirror/checkpoints/{last.name}", tmp_path / "fetched")
    store.retain(KeepLatest(1))
    shutil.move(last.path, tmp_path / "moved")
    shutil.rmtree(tmp_path / "run")
    for place in (tmp_path / "copied", tmp_path / "moved", Path(fetched.path)):
        checkpoint = Checkpoint(place)
        checkpoint.verify()
        assert same(checkpoint.read_model(), dict(head_only(3).model))


def test_a_shard_hardly_used_any_more_is_written_again(tmp_path: Path) -> None:
    """Else the room of tensors that nobody has any more would never come back."""
    store = CheckpointStore(tmp_path, layout="shards")
    store.commit(head_only(1))
    thawed = {name: array + 1 for name, array in list(BACKBONE.items())[:6]}
    second = store.commit(replace(head_only(2), model={**BACKBONE, **thawed}))
    assert len(shards_of(second)) == 1
    assert second.manifest.size < 1.1 * store.list()[0].manifest.size
    few = {name: array + 1 for name, array in list(BACKBONE.items())[6:8]}
    third = store.commit(replace(head_only(3), model={**BACKBONE, **thawed, **few}))
    assert len(shards_of(third)) == 2, "most of it is used still"


def test_a_damaged_shard_is_not_handed_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = CheckpointStore(tmp_path, layout="shards")
    first = store.commit(head_only(1))
    (shard,) = shards_of(first)
    with (Path(first.path) / shard).open("r+b") as file:
        file.seek(5000)
        file.write(b"damage")
    second = store.commit(head_only(2))
    second.verify()
    assert same(second.read_model(), dict(head_only(2).model))
    assert "not what was written" in caplog.text
    with pytest.raises(CorruptCheckpointError):
        first.read_model()


@pytest.mark.parametrize("lost", ["shard", "checkpoint"])
def test_what_is_gone_is_written_again(tmp_path: Path, lost: str) -> None:
    store = CheckpointStore(tmp_path, layout="shards")
    first = Path(store.commit(head_only(1)).path)
    if lost == "shard":
        next(first.glob("shard-*")).unlink()
    else:
        shutil.rmtree(first)
    second = store.commit(head_only(2))
    second.verify()
    assert store.bytes_written > 800_000


def test_without_hard_links_all_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    store = CheckpointStore(tmp_path, layout="shards")
    store.commit(head_only(1))
    store.commit(head_only(2)).verify()
    assert store.bytes_written > 800_000


def test_the_layout_may_change_between_checkpoints(tmp_path: Path) -> None:
    CheckpointStore(tmp_path).commit(head_only(1))
    CheckpointStore(tmp_path, layout="shards").commit(head_only(2))
    CheckpointStore(tmp_path).commit(head_only(3))
    for step, checkpoint in enumerate(CheckpointStore(tmp_path).list(), start=1):
        checkpoint.verify()
        assert same(checkpoint.read_model(), dict(head_only(step).model))
    with pytest.raises(InvalidArgumentError, match="shards"):
        CheckpointStore(tmp_path, layout="zip")


def test_every_flipped_bit_and_every_truncation_is_detected(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, layout="shards")
    store.commit(contents(4, size=40))
    checkpoint = store.commit(contents(5, size=40))
    rng = random.Random(0)
    for name in entries(checkpoint.path):
        path = Path(checkpoint.path) / name
        whole = path.read_bytes()
        for _ in range(100):
            damaged = bytearray(whole)
            bit = rng.randrange(8 * len(whole))
            damaged[bit // 8] ^= 1 << bit % 8
            for data in (damaged, whole[: rng.randrange(len(whole))]):
                path.write_bytes(data)
                with pytest.raises(CorruptCheckpointError):
                    Checkpoint(checkpoint.path).verify()
        path.write_bytes(whole)
    Checkpoint(checkpoint.path).verify()


def test_a_tensor_is_compared_when_it_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = CheckpointStore(tmp_path, layout="shards").commit(head_only(1))
    place = next(tensor for tensor in checkpoint.read_tensors() if tensor.name == "layer3.weight")
    with (Path(checkpoint.path) / place.stored_in).open("r+b") as file:
        file.seek(place.offset + 10)
        file.write(b"x")
    with caplog.at_level(logging.DEBUG), pytest.raises(CorruptCheckpointError) as caught:
        checkpoint.read_model()
    assert "layer3.weight" in caught.value.where
    with pytest.raises(CorruptCheckpointError, match=r"layer3\.weight"):
        Checkpoint(checkpoint.path).verify()
    assert checkpoint.read_optimizer()["fc_moment"][0] == 1.5
