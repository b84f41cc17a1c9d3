"""hf:// through huggingface_hub's own file system, over a socket, to a small Hub that wants its token."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_warm_callbacks.checkpoint.cache import CACHE_VARIABLE
from paddle_warm_callbacks.checkpoint.pdparams import write_pdparams
from tests.checkpoint.remote import hub_server
from tests.checkpoint.remote.hub_server import MODEL, TOKEN, Hub

pytest.importorskip("huggingface_hub")

# huggingface_hub reads its environment once, when it is imported.
_READ = """
import sys
from paddle_warm_callbacks.checkpoint import cache
from paddle_warm_callbacks.checkpoint.source import open_source
from paddle_warm_callbacks.errors import SourceError
cache._SECONDS_BETWEEN = 0.0
try:
    source = open_source(sys.argv[1])
except SourceError as error:
    print(error)
    raise SystemExit(3)
print(source.description)
print({name: float(array.sum()) for name, array in source.tensors.items()})
"""

Read = Callable[..., tuple[int, str]]


@pytest.fixture
def hub() -> Iterator[tuple[Hub, str]]:
    """Yield a Hub and its address."""
    with hub_server.serving() as served:
        yield served


@pytest.fixture
def read(hub: tuple[Hub, str], tmp_path: Path) -> Read:
    """Return what reads a URL in a process of its own, and gives its exit status and what it said."""

    def run(url: str, token: str = TOKEN) -> tuple[int, str]:
        environment = {
            **os.environ, "HF_ENDPOINT": hub[1], "HF_TOKEN": token, "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_TELEMETRY": "1", CACHE_VARIABLE: str(tmp_path / "cache"),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", _READ, url], env=environment, capture_output=True, text=True, timeout=100
        )
        return done.returncode, done.stdout + done.stderr

    return run


def _weights(path: Path, **arrays: np.ndarray[Any, Any]) -> bytes:
    with path.open("wb") as file:
        write_pdparams(file, arrays)
    return path.read_bytes()


def test_a_file_of_a_model_is_read_once_per_version(hub: tuple[Hub, str], read: Read, tmp_path: Path) -> None:
    served, _ = hub
    url = f"hf://{MODEL}/nets/best.pdparams"
    served.files["main", "nets/best.pdparams"] = _weights(tmp_path / "a", w=np.full(4, 2.0))
    assert read(url) == (0, f"{url}\n{{'w': 8.0}}\n")
    asked = len(served.gets)
    assert asked >= 1
    assert read(url)[0] == 0
    assert len(served.gets) == asked
    served.files["main", "nets/best.pdparams"] = _weights(tmp_path / "b", w=np.full(4, 3.0))
    assert "{'w': 12.0}" in read(url)[1]


def test_a_revision_is_named_behind_an_at(hub: tuple[Hub, str], read: Read, tmp_path: Path) -> None:
    served, _ = hub
    served.files["main", "best.pdparams"] = _weights(tmp_path / "a", w=np.ones(1))
    served.files["v2", "best.pdparams"] = _weights(tmp_path / "b", w=np.ones(2))
    assert "{'w': 1.0}" in read(f"hf://{MODEL}/best.pdparams")[1]
    assert "{'w': 2.0}" in read(f"hf://{MODEL}@v2/best.pdparams")[1]
    status, said = read(f"hf://{MODEL}@v3/best.pdparams")
    assert status == 3
    assert "could not be fetched" in said


def test_a_download_whose_connection_breaks_comes_whole(
    hub: tuple[Hub, str], read: Read, tmp_path: Path
) -> None:
    served, _ = hub
    served.files["main", "large.pdparams"] = _weights(
        tmp_path / "a", w=np.ones(3_000_000)
    )  # 24 MB: in several reads
    served.cuts = 1
    assert "{'w': 3000000.0}" in read(f"hf://{MODEL}/large.pdparams")[1]
    assert served.cuts == 0


@pytest.mark.parametrize(
    ("url", "token"), [(f"hf://{MODEL}/absent.pdparams", TOKEN), (f"hf://{MODEL}/x.pdparams", "hf_other")]
)
def test_what_is_not_there_or_not_open_to_the_token_is_said(
    hub: tuple[Hub, str], read: Read, tmp_path: Path, url: str, token: str
) -> None:
    served, _ = hub
    served.files["main", "x.pdparams"] = _weights(tmp_path / "a", w=np.ones(1))
    status, said = read(url, token)
    assert status == 3
    assert url in said
    assert token not in said
