"""The newest checkpoint that verifies, here or at the mirror, whatever a listing says and whatever is half there."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from paddle_warm_callbacks.checkpoint import cache, mirror, newest, pointers
from paddle_warm_callbacks.checkpoint.mirror_writer import Mirror, MirrorWriter
from paddle_warm_callbacks.checkpoint.newest import best, newest_verified
from paddle_warm_callbacks.checkpoint.source import open_checkpoint
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.checkpoint.urls import ANSWER_VARIABLE, opened
from paddle_warm_callbacks.errors import InvalidArgumentError, NoUsableCheckpointError, SourceError
from paddle_warm_callbacks.plan.retention import KeepBest, KeepLatest
from tests.checkpoint.samples import contents, entries, step_in


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(newest, "_SECONDS_BETWEEN", 0.0)
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    return f"memory://{tmp_path}/mirror"


def mirrored(tmp_path: Path, url: str, *steps: int) -> CheckpointStore:
    """Return a run whose checkpoints are all at ``url``."""
    store = CheckpointStore(tmp_path / "elsewhere")
    for step in steps:
        mirror.upload(store.commit(contents(step)), url)
    return store


def path_at(url: str, step: int, file: str) -> str:
    return f"{opened(url)[1]}/checkpoints/step-{step:08d}/{file}"


def damage(url: str, step: int) -> None:
    files, path = fsspec.filesystem("memory"), path_at(url, step, "model.pdparams")
    data = bytearray(files.cat_file(path))
    data[-20] ^= 1
    files.pipe_file(path, bytes(data))


def test_on_an_empty_disk_the_mirrors_newest_is_copied_and_becomes_the_runs_own(
    tmp_path: Path, url: str
) -> None:
    mirrored(tmp_path, url, 1, 2)
    store = CheckpointStore(tmp_path / "run")
    found = newest_verified(store, url)
    assert found is not None
    assert step_in(found) == 2
    assert store.holds(found)
    assert [checkpoint.name for checkpoint in CheckpointStore(tmp_path / "run").list()] == [found.name]
    assert store.latest_verified() is not None
    assert entries(tmp_path / "run" / "checkpoints") == [found.name], "nothing half done is left"
    # What comes is of the same generation, as on the machine that was lost.
    store.begin(found.name, elsewhere=mirror.list_mirrored(url))
    assert store.commit(contents(3)).name == "step-00000003"


@pytest.mark.parametrize(("here", "there", "chosen"), [((1, 2), (1,), 2), ((1,), (1, 2), 2), ((3,), (3,), 3)])
def test_the_newer_of_both_wins_and_only_what_is_missing_is_moved(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, here: Any, there: Any, chosen: int
) -> None:
    mirrored(tmp_path, url, *there)
    store = CheckpointStore(tmp_path / "run")
    for step in here:
        store.commit(contents(step))
    moved: list[str] = []
    download = mirror.download_into

    def noting(source: str, directory: Path) -> None:
        moved.append(source)
        download(source, directory)

    monkeypatch.setattr(mirror, "download_into", noting)
    found = newest_verified(store, url)
    assert found is not None
    assert step_in(found) == chosen
    assert len(moved) == (chosen not in here)


def test_a_damaged_checkpoint_here_is_mended_from_the_mirror(tmp_path: Path, url: str) -> None:
    mirrored(tmp_path, url, 1, 2)
    store = CheckpointStore(tmp_path / "run")
    for step in (1, 2):
        store.commit(contents(step))
    (tmp_path / "run/checkpoints/step-00000002/state.json").write_bytes(b"{}")
    found = newest_verified(store, url)
    assert found is not None
    assert step_in(found) == 2
    assert Path(found.path).parent == tmp_path / "run/checkpoints"


def test_damage_at_the_mirror_is_stepped_over_and_what_follows_is_newer_than_it(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrored(tmp_path, url, 1, 2)
    damage(url, 2)
    store = CheckpointStore(tmp_path / "run")
    found = newest_verified(store, url)
    assert found is not None
    assert step_in(found) == 1
    assert step_in(open_checkpoint(url)) == 1, "so does resume_from=URL"
    store.begin(found.name, elsewhere=mirror.list_mirrored(url))
    assert store.commit(contents(2)).name == "step-00000002.g1", "else the damaged one would be taken for it"
    damage(url, 1)
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "another cache"))
    with pytest.raises(NoUsableCheckpointError, match="none of them is whole"):
        newest_verified(CheckpointStore(tmp_path / "x"), url)
    with pytest.raises(NoUsableCheckpointError, match="none of them is whole"):
        open_checkpoint(url)


def test_an_upload_that_is_under_way_is_not_there(tmp_path: Path, url: str) -> None:
    mirrored(tmp_path, url, 1, 2)
    fsspec.filesystem("memory").rm_file(path_at(url, 2, "manifest.json"))
    found = newest_verified(CheckpointStore(tmp_path / "run"), url)
    assert found is not None
    assert step_in(found) == 1


@pytest.mark.parametrize("listed", [[1], [1, 3], [1, 2, 9], []])
def test_a_listing_that_lags_behind_does_not_mislead(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, listed: list[int]
) -> None:
    """The newest is 3, whatever of it a listing has; 2 is gone and 9 never was."""
    mirrored(tmp_path, url, 1, 2, 3)
    files = fsspec.filesystem("memory")
    files.rm(path_at(url, 2, ""), recursive=True)
    monkeypatch.setattr(files, "glob", lambda _: [path_at(url, step, "manifest.json") for step in listed])
    found = newest_verified(CheckpointStore(tmp_path / "run"), url)
    assert found is not None
    assert step_in(found) == 3


def test_a_pointer_to_what_is_not_whole_yet_misleads_nobody(tmp_path: Path, url: str) -> None:
    mirrored(tmp_path, url, 1)
    files, root = fsspec.filesystem("memory"), opened(url)[1]
    for pointer in (b'{"name": "step-00000009"}', b"[]", b"\xff", b"{}"):
        files.pipe_file(f"{root}/latest.json", pointer)
        assert mirror.list_mirrored(url) == ["step-00000001"]


def test_without_any_checkpoint_there_is_none(tmp_path: Path, url: str) -> None:
    store = CheckpointStore(tmp_path / "run")
    assert newest_verified(store, url) is None
    assert newest_verified(store, None) is None
    assert best(store, url) is None
    assert not (tmp_path / "run").exists()


def test_a_mirror_that_is_out_of_reach_starts_nothing_over(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unreachable(*given: Any, **options: Any) -> Any:
        raise RuntimeError("no route")

    store = CheckpointStore(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(fsspec.filesystem("memory"), "glob", unreachable)
        for start in (newest_verified, best):
            with pytest.raises(SourceError, match="no route"):
                start(store, url)
        store.commit(contents(1))
        found = newest_verified(store, url)
    assert found is not None
    assert step_in(found) == 1
    assert "may have a newer checkpoint" in caplog.text


def test_a_download_that_breaks_off_is_repeated_and_then_an_error_but_never_an_older_state(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrored(tmp_path, url, 1, 2)
    files, failures = fsspec.filesystem("memory"), [0]
    get_file = files.get_file

    def failing(*given: Any, **options: Any) -> Any:
        if failures[0]:
            failures[0] -= 1
            raise RuntimeError("cut")
        return get_file(*given, **options)

    monkeypatch.setattr(files, "get_file", failing)
    failures[0] = 100
    with pytest.raises(SourceError, match="cut"):
        newest_verified(CheckpointStore(tmp_path / "run"), url)
    assert entries(tmp_path / "run" / "checkpoints") == []
    failures[0] = 2
    found = newest_verified(CheckpointStore(tmp_path / "run"), url)
    assert found is not None
    assert step_in(found) == 2


def ranked(tmp_path: Path, url: str, **accuracies: float) -> CheckpointStore:
    """Return a run whose checkpoints have these accuracies, by step, all at ``url`` as a training copies them."""
    store = CheckpointStore(tmp_path / "elsewhere")
    writer = MirrorWriter(Mirror(url), pointers.ranking_in(KeepLatest(9) | KeepBest("acc")))
    for step, accuracy in accuracies.items():
        writer.copy(store.commit(contents(int(step[1:]), metrics={"acc": accuracy})))
    writer.close()
    return store


def test_the_best_is_found_on_an_empty_disk_and_becomes_the_runs_own(tmp_path: Path, url: str) -> None:
    ranked(tmp_path, url, s1=0.5, s2=0.9, s3=0.7)
    store = CheckpointStore(tmp_path / "run")
    found = best(store, url)
    assert found is not None
    assert step_in(found) == 2
    assert store.holds(found)
    assert step_in(open_checkpoint(url, which="best")) == 2
    assert step_in(open_checkpoint(url)) == 3  # the control


def test_the_best_of_here_and_there_wins(tmp_path: Path, url: str) -> None:
    ranked(tmp_path, url, s1=0.5, s2=0.9, s3=0.7)
    store = CheckpointStore(tmp_path / "run")
    assert newest_verified(store, url) is not None  # the third is here now
    found = best(store, url)
    assert found is not None
    assert step_in(found) == 2
    store.commit(contents(4, metrics={"acc": 0.95}))  # not copied
    found = best(store, url)
    assert found is not None
    assert step_in(found) == 4


def test_a_damaged_best_is_stepped_over(tmp_path: Path, url: str) -> None:
    ranked(tmp_path, url, s1=0.5, s2=0.9, s3=0.7)
    damage(url, 2)
    found = best(CheckpointStore(tmp_path / "run"), url)
    assert found is not None
    assert step_in(found) == 3


def test_the_best_of_an_empty_disk_is_not_a_cold_start(tmp_path: Path, url: str) -> None:
    """Neither where nobody ranked, nor where the mirror cannot be asked."""
    mirrored(tmp_path, url, 1)
    with pytest.raises(NoUsableCheckpointError, match="best"):
        best(CheckpointStore(tmp_path / "run"), url)
    with pytest.raises(NoUsableCheckpointError, match="best"):
        open_checkpoint(url, which="best")


def test_without_the_mirror_the_best_is_the_one_here(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = ranked(tmp_path, url, s1=0.9, s2=0.5)
    store.retain(KeepBest("acc") | KeepLatest(2))

    def out_of_reach(url: str) -> Any:
        raise ConnectionError("no route")

    monkeypatch.setattr(mirror, "list_mirrored", out_of_reach)
    found = best(store, url)
    assert found is not None
    assert step_in(found) == 1
    assert "may have a better checkpoint" in caplog.text
    with pytest.raises(SourceError, match="could not be reached"):
        best(CheckpointStore(tmp_path / "run"), url)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the URL of a server that takes connections and never answers, and is not waited for long."""
    monkeypatch.setenv(ANSWER_VARIABLE, "0.5")
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/run"


@pytest.mark.parametrize("find", [newest_verified, best])
def test_a_mirror_that_never_answers_is_given_up_and_the_setting_named(
    find: Any, silent: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SourceError, match="could not be reached") as caught:
        find(CheckpointStore(tmp_path / "empty"), silent)
    assert ANSWER_VARIABLE in caught.value.received
    store = CheckpointStore(tmp_path / "run")
    store.commit(contents(1, metrics={"acc": 0.5}))
    store.retain(KeepBest("acc"))
    found = find(store, silent)  # documented: with something here, it goes on from that
    assert found is not None
    assert step_in(found) == 1
    assert ANSWER_VARIABLE in caplog.text


def test_so_is_the_url_of_a_run_that_never_answers(silent: str) -> None:
    with pytest.raises(SourceError, match="could not be reached") as caught:
        open_checkpoint(silent)
    assert ANSWER_VARIABLE in caught.value.received


@pytest.mark.parametrize("seconds", ["soon", "0", "-1", "inf", "nan"])
def test_a_limit_that_is_none_is_an_error(seconds: str, silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ANSWER_VARIABLE, seconds)
    with pytest.raises(InvalidArgumentError, match="seconds"):
        mirror.list_mirrored(silent)
