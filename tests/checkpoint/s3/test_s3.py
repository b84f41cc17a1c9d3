"""The same over S3's own protocol, to a real server on this machine: mirror, resume, registry, refusal."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_warm_callbacks.checkpoint import mirror
from paddle_warm_callbacks.checkpoint.contents import CheckpointContents
from paddle_warm_callbacks.checkpoint.mirror_writer import Mirror, MirrorWriter
from paddle_warm_callbacks.checkpoint.newest import newest_verified
from paddle_warm_callbacks.checkpoint.pdparams import write_pdparams
from paddle_warm_callbacks.checkpoint.registry.registry import Registry
from paddle_warm_callbacks.checkpoint.source import open_checkpoint, open_source
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.checkpoint.writer import BackgroundWriter
from paddle_warm_callbacks.errors import CheckpointWriteError, SourceError
from paddle_warm_callbacks.plan.retention import KeepLatest
from tests.checkpoint.samples import contents, entries, same, step_in
from tests.checkpoint.test_source import WEIGHTS

pytestmark = [pytest.mark.s3, pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore")]


def large(step: int) -> CheckpointContents:
    """Return contents of 20 MB, of which a later step changes the optimizer's few."""
    base = contents(step)
    backbone = np.random.default_rng(0).standard_normal((5 << 20,), dtype=np.float32)
    return dataclasses.replace(base, model={"backbone": backbone}, model_names={})


def put(path: Path, url: str) -> Any:
    import s3fs

    files = s3fs.S3FileSystem()
    files.put_file(str(path), url)
    return files


def test_checkpoints_go_there_and_come_back_whole(bucket: str, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "run")
    writer = BackgroundWriter(store, mirror=f"{bucket}/defects")
    for step in (1, 2):
        writer.submit(contents(step))
        writer.wait()
    writer.close()
    assert mirror.list_mirrored(f"{bucket}/defects")[-1] == "step-00000002"
    newest = open_checkpoint(f"{bucket}/defects")
    assert step_in(newest) == 2
    local = store.latest_verified()
    assert local is not None
    assert entries(newest.path) == entries(local.path)


def test_weights_are_downloaded_once_per_version(bucket: str, tmp_path: Path) -> None:
    url, path = f"{bucket}/net.pdparams", tmp_path / "net.pdparams"
    for arrays in (WEIGHTS, {name: array + 1 for name, array in WEIGHTS.items() if array.dtype.kind == "f"}):
        with path.open("wb") as file:
            write_pdparams(file, arrays)
        put(path, url).invalidate_cache()
        assert same(open_source(url).tensors, arrays)
    assert len(list((tmp_path / "cache").glob("*/net.pdparams"))) == 2


def test_what_is_not_there_and_where_it_cannot_go_are_errors_of_ours(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="absent"):
        open_source(f"{bucket}/absent/net.pdparams")
    with pytest.raises(SourceError):
        open_checkpoint(f"{bucket}/absent")
    writer = BackgroundWriter(CheckpointStore(tmp_path / "run"), mirror="s3://no-such-bucket/defects")
    writer.submit(contents(1))
    with pytest.raises(CheckpointWriteError, match="could not be copied to the mirror"):
        writer.close()
    latest = CheckpointStore(tmp_path / "run").latest_verified()
    assert latest is not None
    assert step_in(latest) == 1


def test_an_empty_disk_goes_on_from_the_bucket(bucket: str, tmp_path: Path) -> None:
    writer = BackgroundWriter(CheckpointStore(tmp_path / "lost"), mirror=f"{bucket}/defects")
    for step in (1, 2):
        writer.submit(contents(step))
    writer.close()
    store = CheckpointStore(tmp_path / "run")
    found = newest_verified(store, f"{bucket}/defects")
    assert found is not None
    assert step_in(found) == 2
    assert store.holds(found)


def test_a_large_file_goes_in_parts_and_comes_back_whole(bucket: str, tmp_path: Path) -> None:
    checkpoint = CheckpointStore(tmp_path / "run").commit(large(1))
    mirror.upload(checkpoint, f"{bucket}/defects")
    back = mirror.download(f"{bucket}/defects/checkpoints/{checkpoint.name}", tmp_path / "back")
    assert back.digest == checkpoint.digest


def test_what_the_mirror_has_is_copied_there_and_not_sent_again(bucket: str, tmp_path: Path) -> None:
    first, second = (CheckpointStore(tmp_path / "run").commit(large(step)) for step in (1, 2))
    writer = MirrorWriter(Mirror(f"{bucket}/defects", keep=KeepLatest(1)))
    for checkpoint in (first, second):
        sent = writer.bytes_sent
        writer.copy(checkpoint)
    writer.close()
    assert writer.bytes_sent - sent < second.manifest.size / 50, "all but the backbone's file"
    assert mirror.list_mirrored(f"{bucket}/defects") == [second.name]
    back = mirror.download(f"{bucket}/defects/checkpoints/{second.name}", tmp_path / "back")
    assert back.digest == second.digest


def test_many_pushers_at_once_each_get_a_version_by_conditional_writes(bucket: str, tmp_path: Path) -> None:
    checkpoint = CheckpointStore(tmp_path / "run").commit(contents(1))
    root = f"{bucket}/registry"

    def push(number: int) -> int:
        return Registry(root).push(checkpoint, "defects", metadata={"number": number}).version

    with ThreadPoolExecutor(6) as pool:
        versions = list(pool.map(push, range(6)))
    registry = Registry(root)
    assert sorted(versions) == [1, 2, 3, 4, 5, 6], "none is skipped where the store itself decides"
    assert [registry.resolve(f"defects@{version}").extra["number"] for version in versions] == list(range(6))
    registry.tag("defects@2", "production")
    source = open_source(f"registry://defects@production?root={root}")
    assert source.description == "registry://defects@2"
    assert [link.source for link in registry.lineage("defects@production")] == ["defects@2"]


def test_a_server_that_takes_no_notice_of_conditions_is_found_out(
    bucket: str, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a double that drops the condition: the servers at hand all take notice of it."""
    pipe_file = client.S3FileSystem.pipe_file

    def unconditional(self: Any, path: str, data: bytes, **options: Any) -> Any:
        options.pop("mode", None)
        return pipe_file(self, path, data, **options)

    monkeypatch.setattr(client.S3FileSystem, "pipe_file", unconditional)
    checkpoint = CheckpointStore(tmp_path / "run").commit(contents(1))

    def push(_: int) -> int:
        return Registry(f"{bucket}/registry").push(checkpoint, "defects").version

    with ThreadPoolExecutor(6) as pool:
        versions = list(pool.map(push, range(6)))
    assert len(set(versions)) == 6
    assert len(Registry(f"{bucket}/registry").list("defects")) == 6


def test_a_registry_in_a_bucket_that_is_not_there_is_not_an_empty_one(bucket: str) -> None:
    assert Registry(f"{bucket}/registry").list() == []
    with pytest.raises(SourceError, match="could not be reached"):
        Registry("s3://no-such-bucket/registry").list()
