"""oss:// through ossfs, gs:// through gcsfs, over sockets, to small servers that check signatures and tokens."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
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
from tests.checkpoint.remote import gcs_server
from tests.checkpoint.samples import contents, same, step_in
from tests.checkpoint.test_source import WEIGHTS

# gcsfs reads it when it is imported. It would ask each bucket's kind by gRPC, and again after each failure: for minutes
# of a server that speaks HTTP alone.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"


@dataclass(frozen=True)
class Served:
    """A bucket that is served, and how this process comes to it.

    Attributes:
        store: What it holds, what was asked of it, and what it does wrongly: gcs_server.Store, or that of oss_server.
        root: Its URL.
        secrets: What may be shown to nobody.
        refuse: Makes this process come with credentials that do not count from now on.
        refusal: What is to be said of them.
        reads: The names of the query's parameters where an object's bytes are asked for.
        sends_part: That of one which a piece of a large file has.
        rate: The limit, in bytes per second, with which large files go in pieces of a few MB; None: without one.
    """

    store: Any
    root: str
    secrets: tuple[str, ...]
    refuse: Callable[[], None]
    refusal: str
    reads: frozenset[str]
    sends_part: str
    rate: float | None

    def downloads(self) -> int:
        """Return how often weights were asked for."""
        return sum(
            method == "GET" and key.endswith(".pdparams") and query == self.reads
            for method, key, query in self.store.requests
        )

    def parts(self) -> list[str]:
        """Return of each piece of a model that was sent, of which checkpoint it is."""
        return [
            key.split("/")[3]
            for _, key, query in self.store.requests
            if self.sends_part in query and key.endswith("/model.pdparams")
        ]


@contextmanager
def _oss(patch: pytest.MonkeyPatch) -> Iterator[Served]:
    ossfs = pytest.importorskip("ossfs")
    import fsspec.config

    from tests.checkpoint.remote import oss_server  # needs a package that ossfs brings

    def come_with(secret: str) -> None:
        patch.setitem(fsspec.config.conf, "oss", {"key": oss_server.KEY, "secret": secret})
        ossfs.OSSFileSystem.clear_instance_cache()

    patch.setattr("ossfs.core.SIMPLE_TRANSFER_THRESHOLD", 1 << 20)  # of 100 MB
    with oss_server.serving() as (store, endpoint):
        patch.setenv("OSS_ENDPOINT", endpoint)
        come_with(oss_server.SECRET)
        yield Served(
            store,
            f"oss://{oss_server.BUCKET}",
            (oss_server.SECRET, "other-than-right"),
            lambda: come_with("other-than-right"),
            "SignatureDoesNotMatch",
            frozenset(),
            "partNumber",
            None,
        )
    ossfs.OSSFileSystem.clear_instance_cache()


@contextmanager
def _gs(patch: pytest.MonkeyPatch) -> Iterator[Served]:
    gcsfs = pytest.importorskip("gcsfs")
    import fsspec.config
    from google.oauth2.credentials import Credentials

    def come_with(token: str) -> None:
        patch.setitem(fsspec.config.conf, "gs", {"token": Credentials(token), "project": "defects"})
        gcsfs.GCSFileSystem.clear_instance_cache()

    # It tries six times, in half a minute.
    patch.setattr("gcsfs.retry.asyncio", SimpleNamespace(sleep=lambda seconds: asyncio.sleep(0)))
    with gcs_server.serving() as (store, address):
        patch.setenv("STORAGE_EMULATOR_HOST", address)
        come_with(gcs_server.TOKEN)
        yield Served(
            store,
            f"gs://{gcs_server.BUCKET}",
            (gcs_server.TOKEN, gcs_server.STRANGER),
            lambda: come_with(gcs_server.STRANGER),
            "does not have storage.objects",
            frozenset({"alt"}),
            "upload_id",
            1e9,
        )
    gcsfs.GCSFileSystem.clear_instance_cache()


@pytest.fixture(params=[_oss, _gs], ids=["oss", "gs"])
def served(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Served]:
    """Yield a bucket; this process finds the server, and its credentials, by the environment."""
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))  # where oss2 notes what of a large file has arrived
    for module in (cache, newest):
        monkeypatch.setattr(module, "_SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(mirroring, "_SECONDS_BETWEEN", 0.05)
    with request.param(monkeypatch) as one:
        yield one


def _weights(path: Path, weights: Any = None) -> bytes:
    with path.open("wb") as file:
        write_pdparams(file, WEIGHTS if weights is None else weights)
    return path.read_bytes()


def test_weights_are_downloaded_once_per_version(served: Served, tmp_path: Path) -> None:
    served.store.put("nets/best.pdparams", _weights(tmp_path / "a"))
    url = f"{served.root}/nets/best.pdparams"
    first = open_source(url)
    assert same(first.tensors, WEIGHTS)
    assert first.description == url
    asked = served.downloads()
    assert same(open_source(url).tensors, WEIGHTS)
    one_look = served.downloads() - asked
    served.store.put("nets/best.pdparams", _weights(tmp_path / "b", {"other": np.ones(9)}))
    assert list(open_source(url).tensors) == ["other"]
    assert served.downloads() - asked - one_look > one_look


def test_a_download_that_breaks_off_goes_on(served: Served, tmp_path: Path) -> None:
    large = {"w": np.random.default_rng(0).standard_normal(3_000_000)}  # 24 MB, in several reads
    served.store.put("large.pdparams", _weights(tmp_path / "a", large))
    served.store.cut_after = 1_000_000
    url = f"{served.root}/large.pdparams"
    with pytest.raises(SourceError, match="could not be fetched"):
        open_source(url)
    served.store.cut_after = None
    assert same(open_source(url).tensors, large)


def test_a_run_goes_there_and_comes_back_on_an_empty_disk(served: Served, tmp_path: Path) -> None:
    url = f"{served.root}/runs/defects"
    here = CheckpointStore(tmp_path / "here")
    writer = MirrorWriter(Mirror(url, keep=KeepLatest(2)))
    for step in (1, 2, 3, 4):  # of each four files, and a listing has three on a page
        writer.copy(here.commit(contents(step)))
    writer.close()
    assert list(mirror.list_mirrored(url)) == ["step-00000003", "step-00000004"]
    assert not any("step-00000001" in key for key in served.store.objects)
    elsewhere = newest_verified(CheckpointStore(tmp_path / "elsewhere"), url)
    assert elsewhere is not None
    assert step_in(elsewhere) == 4
    assert step_in(open_checkpoint(f"{url}/checkpoints/step-00000003")) == 3


# aiohttp warns of how gcsfs hands a piece over.
@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
def test_large_files_go_in_parts_and_the_same_again_is_copied_there(served: Served, tmp_path: Path) -> None:
    backbone = np.random.default_rng(0).standard_normal(3_000_000)
    here = CheckpointStore(tmp_path / "here")
    writer = MirrorWriter(Mirror(f"{served.root}/runs/large", max_bytes_per_second=served.rate))
    for step in (1, 2):
        writer.copy(
            here.commit(dataclasses.replace(contents(step), model={"backbone": backbone}, model_names={}))
        )
    writer.close()
    assert len(served.parts()) >= 2
    assert set(served.parts()) == {"step-00000001"}
    copy = newest_verified(CheckpointStore(tmp_path / "there"), f"{served.root}/runs/large")
    assert copy is not None
    assert np.array_equal(copy.read_model()["backbone"], backbone)


def test_a_bucket_that_is_not_there_and_wrong_credentials_are_said_and_shown_to_nobody(
    served: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(SourceError) as absent:
        open_source(f"{served.root}/nets/absent.pdparams")
    assert "absent.pdparams" in str(absent.value)
    served.refuse()
    with pytest.raises(SourceError) as refused:
        open_source(f"{served.root}/nets/best.pdparams")
    writer = BackgroundWriter(CheckpointStore(tmp_path / "run"), mirror=f"{served.root}/runs/x")
    writer.submit(contents(1))
    with pytest.raises(CheckpointWriteError, match="committed"):
        writer.close()
    assert served.refusal in str(refused.value)
    for text in (str(refused.value), caplog.text):
        assert not any(secret in text for secret in served.secrets)


def test_a_bucket_that_is_gone_is_an_error_and_no_empty_mirror(served: Served, tmp_path: Path) -> None:
    scheme = served.root.partition("://")[0]
    assert not mirror.list_mirrored(f"{served.root}/runs/new")
    assert newest_verified(CheckpointStore(tmp_path / "run"), f"{served.root}/runs/new") is None
    with pytest.raises(SourceError, match="mistyped"):
        newest_verified(CheckpointStore(tmp_path / "run"), f"{scheme}://mistyped/runs/new")


@pytest.mark.parametrize("served", [_gs], indirect=True, ids=["gs"])
def test_what_is_no_longer_kept_is_deleted_by_one_request(served: Served, tmp_path: Path) -> None:
    here = CheckpointStore(tmp_path / "here")
    writer = MirrorWriter(Mirror(f"{served.root}/runs/defects", keep=KeepLatest(1)))
    writer.copy(here.commit(contents(1)))
    assert not served.store.batched
    there = [key for key in served.store.objects if "step-00000001" in key]
    writer.copy(here.commit(contents(2)))
    writer.close()
    assert served.store.batched == len(there) - 1 >= 3  # the manifest goes before, alone
    assert not any("step-00000001" in key for key in served.store.objects)
