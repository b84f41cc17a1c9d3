"""A real S3 service for all tests of this room, a bucket for each, and a proxy with faults in between for some."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paddle_warm_callbacks.checkpoint import cache, mirroring, newest
from tests.checkpoint.s3.faulty_proxy import FaultyProxy
from tests.checkpoint.s3.server import S3Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Yield a running server."""
    running = S3Server(tmp_path_factory.mktemp("s3"))
    running.start()
    yield running
    running.kill()


@pytest.fixture
def client(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield s3fs; every client of this process finds the server as it would find Amazon's, by the environment."""
    import s3fs

    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    for module in (cache, newest):
        monkeypatch.setattr(module, "_SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(mirroring, "_SECONDS_BETWEEN", 0.1)
    s3fs.S3FileSystem.clear_instance_cache()
    yield s3fs
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def bucket(client: Any) -> str:
    """Return the URL of an empty bucket."""
    name = f"models-{uuid.uuid4().hex}"
    client.S3FileSystem().mkdir(name)
    return f"s3://{name}"


@pytest.fixture
def proxy(
    server: S3Server, client: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultyProxy]:
    """Yield a proxy that from now on every client of this process goes through."""
    with FaultyProxy(server.port) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", between.url)
        client.S3FileSystem.clear_instance_cache()
        yield between
