"""Damaged checkpoints are told once: as warnings beside the one that is taken, or in the error that none is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from paddle_warm_callbacks.checkpoint import cache, mirror
from paddle_warm_callbacks.checkpoint.newest import newest_verified
from paddle_warm_callbacks.checkpoint.passed_over import PassedOver
from paddle_warm_callbacks.checkpoint.source import open_checkpoint
from paddle_warm_callbacks.checkpoint.store import Checkpoint, CheckpointStore
from paddle_warm_callbacks.errors import CorruptCheckpointError, NoUsableCheckpointError
from tests.checkpoint.samples import contents

STEPS = (1, 2, 3)


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    yield f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


def a_run(tmp_path: Path, url: str, damaged: tuple[int, ...]) -> CheckpointStore:
    """Return a run of three checkpoints, here and at the mirror, the same ones damaged in both places."""
    store = CheckpointStore(tmp_path / "run")
    for step in STEPS:
        mirror.upload(store.commit(contents(step)), url)
    files = fsspec.filesystem("memory")
    for step in damaged:
        file = f"checkpoints/step-{step:08d}/state.json"
        (tmp_path / "run" / file).write_bytes(b"{}")
        files.pipe_file(f"/{tmp_path.name}/{file}", b"{}")
    return store


FINDS: dict[str, Callable[[CheckpointStore, str], Checkpoint | None]] = {
    "a run's directory": lambda store, url: store.latest_verified(),
    "a run's directory and its mirror": newest_verified,
    "a mirror": lambda store, url: open_checkpoint(url),
}


@pytest.mark.parametrize("where", FINDS)
def test_beside_the_one_that_is_taken_there_is_a_warning_of_each_newer_one(
    tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    store = a_run(tmp_path, url, (2, 3))
    found = FINDS[where](store, url)
    assert found is not None
    assert found.name == "step-00000001"
    told = [record.getMessage().splitlines()[0] for record in caplog.records if record.levelname == "WARNING"]
    places = {"a run's directory and its mirror": 2}.get(where, 1)
    assert sum("step-00000003, the newest so far, is passed over" in line for line in told) == places
    assert sum("step-00000002, the newest so far, is passed over" in line for line in told) == places
    assert len(told) == 2 * places


@pytest.mark.parametrize("where", FINDS)
def test_where_none_is_whole_the_error_alone_says_what_is_wrong_with_each(
    tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    store = a_run(tmp_path, url, STEPS)
    with pytest.raises(NoUsableCheckpointError, match="none of them is whole") as failure:
        FINDS[where](store, url)
    for step in STEPS:
        assert f"step-{step:08d}" in failure.value.received
    assert "is not what was written" in failure.value.received
    assert not caplog.records


def test_what_was_passed_over_is_told_however_else_the_search_ends(caplog: pytest.LogCaptureFixture) -> None:
    def interrupted() -> None:
        with PassedOver("best") as passed:
            passed.add("step-00000001", CorruptCheckpointError("it is damaged", where="model.pdparams"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (record,) = caplog.records
    assert record.getMessage().startswith("step-00000001, the best so far, is passed over: it is damaged\n")


def test_of_many_the_error_names_five_and_counts_the_others() -> None:
    with PassedOver("newest") as passed:
        for step in range(8):
            passed.add(f"step-{step}", OSError("gone"), place="here")
        with pytest.raises(NoUsableCheckpointError) as failure:
            passed.none_is_whole("run", remedy="name another run")
    named = [f"step-{step} here: gone" for step in range(5)]
    assert failure.value.received == "; ".join([*named, "and 3 more"])
