"""A URL's credentials: used where they must be, and in no manifest, log, error or VisualDL record."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

from paddle_warm_callbacks import (
    Mirror,
    PeriodicCheckpoint,
    Registry,
    SourceError,
    WarmStartCallback,
    WarmVisualDL,
)
from paddle_warm_callbacks.checkpoint import cache
from paddle_warm_callbacks.checkpoint.pdparams import write_pdparams
from tests.callbacks.runs import fit, model
from tests.checkpoint.http_server import serving

SECRET = "hunter2"  # no secret at all


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_SECONDS_BETWEEN", 0.0)
    with (tmp_path / "net.pdparams").open("wb") as file:
        write_pdparams(
            file, {name: value.numpy() for name, value in model(seed=9).network.state_dict().items()}
        )
    with serving() as (files, address):
        path = f"/token={SECRET}/net.pdparams?X-Amz-Signature={SECRET}&jwt={SECRET}"
        files.content[path] = (tmp_path / "net.pdparams").read_bytes()
        yield address.replace("://", f"://me:{SECRET}@") + path


def test_a_run_from_such_a_url_tells_it_to_nobody(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "paddle_warm_callbacks")
    warm = WarmStartCallback(url)
    saver = PeriodicCheckpoint(
        tmp_path / "run", metadata={"config": {"source": url}}, mirror=str(tmp_path / "mirror")
    )
    fit(model(), warm, saver, WarmVisualDL(tmp_path / "run" / "vdl", texts={"config": url}), epochs=1)
    Registry(tmp_path / "models").push(str(tmp_path / "run"), "defects", metadata={"data_source": url})
    assert warm.report is not None
    assert "***@" in str(warm.report.source), "it did come from there"
    written = [
        path
        for place in ("run", "mirror", "models")
        for path in (tmp_path / place).rglob("*")
        if path.is_file()
    ]
    assert {"manifest.json", "metrics.jsonl", "00000001.json"} <= {path.name for path in written}
    assert any(path.name.startswith("vdlrecords") for path in written)
    for path in written:
        assert SECRET.encode() not in path.read_bytes(), path
    assert SECRET not in caplog.text
    assert "***@" in caplog.text


def test_nor_do_errors_and_what_caused_them(url: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        fit(model(), WarmStartCallback(url.replace("net.pdparams", "absent.pdparams").replace("?", "?x=1&")))
    shown = "".join(traceback.format_exception(caught.type, caught.value, caught.tb, chain=True))
    assert SECRET not in str(caught.value)
    said = [line for line in shown.splitlines() if SECRET in line and "replace(" not in line]
    assert said == []


def test_nor_does_a_mirrors_repr() -> None:
    assert SECRET not in repr(Mirror(f"memory://me:{SECRET}@x/y"))
