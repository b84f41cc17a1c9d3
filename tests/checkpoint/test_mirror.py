"""Copies on another file system: the manifest last, verified on the way back, nothing half taken for whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pytest

from paddle_warm_callbacks.checkpoint import mirror
from paddle_warm_callbacks.checkpoint.store import Checkpoint, CheckpointStore
from paddle_warm_callbacks.checkpoint.urls import opened
from paddle_warm_callbacks.errors import CheckpointWriteError, CorruptCheckpointError, SourceError
from tests.checkpoint.samples import contents, entries, step_in


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"memory://{tmp_path}/mirror"


def _files(url: str) -> Any:
    return fsspec.filesystem(url.partition("://")[0])


def _commit(tmp_path: Path, *steps: int) -> list[Checkpoint]:
    store = CheckpointStore(tmp_path / "run")
    return [store.commit(contents(step)) for step in steps]


@pytest.mark.parametrize("kind", ["memory", "local path", "file"])
def test_there_and_back(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "mirror"
    root = {"memory": f"memory://{place}", "local path": str(place), "file": f"file://{place}"}[kind]
    checkpoints = _commit(tmp_path, 1, 2)
    for checkpoint in checkpoints:
        copied = mirror.upload(checkpoint, root)
        assert copied == f"{root}/checkpoints/{checkpoint.name}"
    assert mirror.list_mirrored(root) == ["step-00000001", "step-00000002"]
    back = mirror.download(f"{root}/checkpoints/step-00000002", tmp_path / "back")
    assert step_in(back) == 2
    assert back.digest == checkpoints[1].digest
    assert entries(back.path) == entries(checkpoints[1].path)


def test_a_local_mirror_is_a_run_directory(tmp_path: Path) -> None:
    mirror.upload(_commit(tmp_path, 1)[0], str(tmp_path / "mirror"))
    latest = CheckpointStore(tmp_path / "mirror").latest_verified()
    assert latest is not None
    assert step_in(latest) == 1


def test_the_manifest_comes_last_and_the_pointer_after_it(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, written = _files(url), list[str]()
    for name in ("put_file", "pipe_file"):
        original = getattr(files, name)

        def noting(*arguments: Any, original: Any = original) -> Any:
            written.append(
                str(arguments[1] if original.__name__ == "put_file" else arguments[0]).rpartition("/")[2]
            )
            return original(*arguments)

        monkeypatch.setattr(files, name, noting)
    mirror.upload(_commit(tmp_path, 1)[0], url)
    assert set(written[:-2]) == {
        "model.pdparams",
        "model.pdopt",
        "extra.pdparams",
        "state.json",
        "tensors.json",
    }
    assert written[-2:] == ["manifest.json", "latest.json"]
    written.clear()
    mirror.upload(_commit(tmp_path, 1)[0], url)  # the same again moves no data
    assert written == ["latest.json"]


@pytest.mark.parametrize("number", range(7))
def test_an_upload_that_breaks_off_anywhere_shows_nothing_and_can_be_repeated(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    files, done = _files(url), 0
    checkpoint = _commit(tmp_path, 1)[0]
    with monkeypatch.context() as patch:
        for name in ("put_file", "pipe_file"):
            original = getattr(files, name)

            def failing(*arguments: Any, original: Any = original) -> Any:
                nonlocal done
                if done == number:
                    raise ConnectionError("lost")
                done += 1
                return original(*arguments)

            patch.setattr(files, name, failing)
        with pytest.raises(ConnectionError):
            mirror.upload(checkpoint, url)
    assert mirror.list_mirrored(url) == (["step-00000001"] if number == 6 else [])
    mirror.upload(checkpoint, url)
    assert step_in(mirror.download(f"{url}/checkpoints/step-00000001", tmp_path / "back")) == 1


def test_another_checkpoint_of_the_same_name_is_not_written_over(tmp_path: Path, url: str) -> None:
    first = _commit(tmp_path, 1)[0]
    mirror.upload(first, url)
    other = CheckpointStore(tmp_path / "other").commit(contents(1, metrics={"acc": 1.0}))
    with pytest.raises(CheckpointWriteError, match="is not written over"):
        mirror.upload(other, url)
    assert mirror.download(f"{url}/checkpoints/step-00000001", tmp_path / "back").digest == first.digest


def test_a_damaged_checkpoint_is_not_uploaded(tmp_path: Path, url: str) -> None:
    checkpoint = _commit(tmp_path, 1)[0]
    (Path(checkpoint.path) / "state.json").write_bytes(b"{}")
    with pytest.raises(CorruptCheckpointError):
        mirror.upload(checkpoint, url)
    assert mirror.list_mirrored(url) == []


def test_a_damaged_copy_is_not_downloaded(tmp_path: Path, url: str) -> None:
    mirror.upload(_commit(tmp_path, 1)[0], url)
    path = f"{opened(url)[1]}/checkpoints/step-00000001/model.pdparams"
    data = bytearray(_files(url).cat_file(path))
    data[-20] ^= 1
    _files(url).pipe_file(path, bytes(data))
    with pytest.raises(CorruptCheckpointError):
        mirror.download(f"{url}/checkpoints/step-00000001", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_what_is_not_there_says_so(tmp_path: Path, url: str) -> None:
    assert mirror.list_mirrored(url) == []
    with pytest.raises(SourceError, match="no whole checkpoint"):
        mirror.download(f"{url}/checkpoints/step-00000001", tmp_path / "back")


def test_a_scheme_that_cannot_be_opened_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError) as caught:
        opened("nope://x/y")
    assert "nope://" in caught.value.remedy

    def missing(url: str) -> None:
        raise ImportError("install ossfs to access")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(SourceError) as caught:
        opened("oss://bucket/key")
    assert "paddle-warm-callbacks[oss]" in caught.value.remedy
    assert "install ossfs" in caught.value.received
