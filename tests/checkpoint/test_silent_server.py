"""A download in whose middle the server falls silent is given up, and the setting named; a slow one is waited for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from paddle_warm_callbacks.checkpoint import cache
from paddle_warm_callbacks.checkpoint.pdparams import write_pdparams
from paddle_warm_callbacks.checkpoint.source import open_checkpoint, open_source
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.checkpoint.urls import ANSWER_VARIABLE
from paddle_warm_callbacks.errors import SourceError
from tests.checkpoint.http_server import Files, serving
from tests.checkpoint.samples import contents

pytest.importorskip("aiohttp")


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Files, str]]:
    """Yield a server's files and its address; it is not waited for long."""
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(ANSWER_VARIABLE, "1")
    monkeypatch.setattr(cache, "_SECONDS_BETWEEN", 0.0)
    with serving() as (files, address):
        yield files, address


@pytest.mark.timeout(60)
def test_a_file_goes_on_where_the_server_fell_silent(served: tuple[Files, str], tmp_path: Path) -> None:
    files, address = served
    large = {"w": np.random.default_rng(0).standard_normal(1_500_000)}  # 12 MB: in several reads
    with (tmp_path / "large").open("wb") as file:
        write_pdparams(file, large)
    files.content["/large.pdparams"] = (tmp_path / "large").read_bytes()
    files.silent_after = 100_000
    with pytest.raises(SourceError, match="could not be fetched") as caught:
        open_source(f"{address}/large.pdparams")
    assert ANSWER_VARIABLE in caught.value.received
    files.silent_after = None
    files.seconds_a_get = 0.4  # of each read; all of them take longer than the limit
    assert np.array_equal(open_source(f"{address}/large.pdparams").tensors["w"], large["w"])


@pytest.mark.timeout(60)
def test_so_does_a_checkpoint_and_one_that_comes_slowly_comes(
    served: tuple[Files, str], tmp_path: Path
) -> None:
    files, address = served
    model = {"backbone": np.random.default_rng(0).standard_normal(300_000)}  # 2.4 MB
    whole = dataclasses.replace(contents(7), model=model, model_names={})
    checkpoint = CheckpointStore(tmp_path / "run").commit(whole)
    for path in Path(checkpoint.path).rglob("*"):
        if path.is_file():
            files.content[f"/run/{path.relative_to(checkpoint.path).as_posix()}"] = path.read_bytes()
    files.silent_after = 1_000_000
    with pytest.raises(SourceError, match="could not be fetched") as caught:
        open_checkpoint(f"{address}/run")
    assert ANSWER_VARIABLE in caught.value.received
    files.silent_after = None
    files.seconds_a_piece = 0.15  # the model takes 1.5 s, longer than the limit
    copy = open_checkpoint(f"{address}/run")
    assert np.array_equal(copy.read_model()["backbone"], model["backbone"])
