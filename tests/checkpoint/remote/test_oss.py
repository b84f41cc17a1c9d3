"""oss:// through ossfs, over a socket, to a small server that checks each request's signature."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_warm_callbacks.checkpoint import cache, mirror, mirroring, newest
from paddle_warm_callbacks.checkpoint.mirror_writer import Mirror, MirrorWriter
from paddle_warm_callbacks.checkpoint.newest import newest_verified
from paddle_warm_callbacks.checkpoint.pdparams import write_pdparams
from paddle_warm_callbacks.checkpoint.source import open_checkpoint, open_source
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.checkpoint.writer import BackgroundWriter
from paddle_warm_callbacks.errors import CheckpointWriteError, SourceError
from paddle_warm_callbacks.plan.retention import KeepLatest
from tests.checkpoint.samples import contents, same, step_in
from tests.checkpoint.test_source import WEIGHTS

ossfs = pytest.importorskip("ossfs")

from tests.checkpoint.remote import oss_server  # noqa: E402  # needs a package that ossfs brings


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[oss_server.Store]:
    """Yield a server's content; this process finds the server, and its credentials, by the environment."""
    import fsspec.config

    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))  # where oss2 notes what of a large file has arrived
    for module in (cache, newest):
        monkeypatch.setattr(module, "_SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(mirroring, "_SECONDS_BETWEEN", 0.05)
    with oss_server.serving() as (content, endpoint):
        monkeypatch.setenv("OSS_ENDPOINT", endpoint)
        monkeypatch.setitem(fsspec.config.conf, "oss", {"key": oss_server.KEY, "secret": oss_server.SECRET})
        ossfs.OSSFileSystem.clear_instance_cache()
        yield content
    ossfs.OSSFileSystem.clear_instance_cache()


def _weights(path: Path, weights: Any = None) -> bytes:
    with path.open("wb") as file:
        write_pdparams(file, WEIGHTS if weights is None else weights)
    return path.read_bytes()


def _downloads(store: oss_server.Store) -> int:
    return sum(method == "GET" and key.endswith(".pdparams") for method, key, _ in store.requests)


def test_weights_are_downloaded_once_per_version(store: oss_server.Store, tmp_path: Path) -> None:
    store.put("nets/best.pdparams", _weights(tmp_path / "a"))
    url = f"oss://{oss_server.BUCKET}/nets/best.pdparams"
    first = open_source(url)
    assert same(first.tensors, WEIGHTS)
    assert first.description == url
    asked = _downloads(store)
    assert same(open_source(url).tensors, WEIGHTS)
    one_look = _downloads(store) - asked
    store.put("nets/best.pdparams", _weights(tmp_path / "b", {"other": np.ones(9)}))
    assert list(open_source(url).tensors) == ["other"]
    assert _downloads(store) - asked - one_look > one_look


def test_a_download_that_breaks_off_goes_on(store: oss_server.Store, tmp_path: Path) -> None:
    large = {"w": np.random.default_rng(0).standard_normal(3_000_000)}  # 24 MB, in several reads
    store.put("large.pdparams", _weights(tmp_path / "a", large))
    store.cut_after = 1_000_000
    url = f"oss://{oss_server.BUCKET}/large.pdparams"
    with pytest.raises(SourceError, match="could not be fetched"):
        open_source(url)
    store.cut_after = None
    assert same(open_source(url).tensors, large)


def test_a_run_goes_there_and_comes_back_on_an_empty_disk(store: oss_server.Store, tmp_path: Path) -> None:
    url = f"oss://{oss_server.BUCKET}/runs/defects"
    here = CheckpointStore(tmp_path / "here")
    writer = MirrorWriter(Mirror(url, keep=KeepLatest(2)))
    for step in (1, 2, 3, 4):  # of each four files, and a listing has three on a page
        writer.copy(here.commit(contents(step)))
    writer.close()
    assert list(mirror.list_mirrored(url)) == ["step-00000003", "step-00000004"]
    assert not any("step-00000001" in key for key in store.objects)
    elsewhere = newest_verified(CheckpointStore(tmp_path / "elsewhere"), url)
    assert elsewhere is not None
    assert step_in(elsewhere) == 4
    assert step_in(open_checkpoint(f"{url}/checkpoints/step-00000003")) == 3


def test_large_files_go_in_parts_and_the_same_again_is_copied_there(
    store: oss_server.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ossfs.core.SIMPLE_TRANSFER_THRESHOLD", 1 << 20)  # of 100 MB
    backbone = np.random.default_rng(0).standard_normal(3_000_000)
    here = CheckpointStore(tmp_path / "here")
    writer = MirrorWriter(Mirror(f"oss://{oss_server.BUCKET}/runs/large"))
    for step in (1, 2):
        writer.copy(
            here.commit(dataclasses.replace(contents(step), model={"backbone": backbone}, model_names={}))
        )
    writer.close()
    parts = [key for method, key, query in store.requests if method == "PUT" and "partNumber" in query]
    assert len(parts) >= 2
    assert {key.split("/")[3] for key in parts} == {"step-00000001"}
    copy = newest_verified(CheckpointStore(tmp_path / "there"), f"oss://{oss_server.BUCKET}/runs/large")
    assert copy is not None
    assert np.array_equal(copy.read_model()["backbone"], backbone)


def test_a_bucket_that_is_not_there_and_wrong_credentials_are_said_and_shown_to_nobody(
    store: oss_server.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import fsspec.config

    caplog.set_level(logging.DEBUG)
    with pytest.raises(SourceError) as absent:
        open_source(f"oss://{oss_server.BUCKET}/nets/absent.pdparams")
    assert "absent.pdparams" in str(absent.value)
    monkeypatch.setitem(fsspec.config.conf, "oss", {"key": oss_server.KEY, "secret": "other-than-right"})
    ossfs.OSSFileSystem.clear_instance_cache()
    with pytest.raises(SourceError) as refused:
        open_source(f"oss://{oss_server.BUCKET}/nets/best.pdparams")
    writer = BackgroundWriter(CheckpointStore(tmp_path / "run"), mirror=f"oss://{oss_server.BUCKET}/runs/x")
    writer.submit(contents(1))
    with pytest.raises(CheckpointWriteError, match="committed"):
        writer.close()
    assert "SignatureDoesNotMatch" in str(refused.value)
    for text in (str(refused.value), caplog.text):
        assert "other-than-right" not in text
        assert oss_server.SECRET not in text
