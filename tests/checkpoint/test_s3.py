"""The same over S3's own protocol, spoken to a server on this machine: mirror, warm start, resume, refusal."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paddle_warm_callbacks.checkpoint import cache, mirror, mirroring
from paddle_warm_callbacks.checkpoint.pdparams import write_pdparams
from paddle_warm_callbacks.checkpoint.source import open_checkpoint, open_source
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.checkpoint.writer import BackgroundWriter
from paddle_warm_callbacks.errors import CheckpointWriteError, SourceError
from tests.checkpoint.samples import contents, entries, same, step_in
from tests.checkpoint.test_source import WEIGHTS

pytestmark = [pytest.mark.s3, pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore")]


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the URL of an empty bucket; every client of this process finds it as it would find Amazon's."""
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "something")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_SECONDS_BETWEEN", 0.0)
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"models-{uuid.uuid4().hex}"  # the server's buckets outlive it
    s3fs.S3FileSystem().mkdir(name)
    yield f"s3://{name}"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


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


def test_what_is_not_there_and_where_it_cannot_go_are_errors_of_ours(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceError, match="absent"):
        open_source(f"{bucket}/absent/net.pdparams")
    with pytest.raises(SourceError):
        open_checkpoint(f"{bucket}/absent")
    monkeypatch.setattr(mirroring, "_SECONDS_BETWEEN", 0.0)
    writer = BackgroundWriter(CheckpointStore(tmp_path / "run"), mirror="s3://no-such-bucket/defects")
    writer.submit(contents(1))
    with pytest.raises(CheckpointWriteError, match="could not be copied to the mirror"):
        writer.close()
    latest = CheckpointStore(tmp_path / "run").latest_verified()
    assert latest is not None
    assert step_in(latest) == 1
