"""``ls``: a run's checkpoints from their manifests, here and at a URL, and which of them are whole."""

from __future__ import annotations

import builtins
import io
from pathlib import Path
from typing import Any

import pytest

from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.plan.retention import KeepBest, KeepLatest
from tests.checkpoint.samples import contents
from tests.cli.typed import flip_a_bit, lines_of, make_mirror, make_run, typed, typed_json

NAMES = ["step-00000002-epoch-0001", "step-00000004-epoch-0002", "step-00000005"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def test_each_row_says_position_metrics_size_and_age(run: Path) -> None:
    head, *rows = lines_of(typed("ls", run))
    assert head == ["name", "epochs", "step", "metrics", "size", "age"]
    assert [row[0] for row in rows] == NAMES
    assert rows[0][1:5] == ["1", "done", "2", "acc=0.9"]
    assert rows[2][1:6] == ["0", "+", "5", "steps", "5"]
    assert rows[0][-1] == "s"


def test_json_says_the_same_in_numbers(run: Path) -> None:
    first, _, last = typed_json("ls", run)
    age = first.pop("age_seconds")
    assert 0 <= age < 600
    created = first.pop("created")
    assert created.endswith("+00:00")
    manifest = CheckpointStore(run).list()[0].manifest
    assert first == {
        "name": NAMES[0],
        "path": str(run / "checkpoints" / NAMES[0]),
        "epoch": 1,
        "step_in_epoch": 0,
        "global_step": 2,
        "epoch_completed": True,
        "metrics": {"acc": 0.9},
        "size": manifest.size,
        "verified": None,
        "problems": [],
        "best_by": None,
    }
    assert (last["epoch_completed"], last["step_in_epoch"], last["metrics"]) == (False, 5, {})


def test_a_mirrored_run_is_listed_at_its_url(run: Path) -> None:
    url = make_mirror(run)
    here = typed_json("ls", run)
    there = typed_json("ls", url)
    assert [row.pop("path") for row in there] == [f"{url}/checkpoints/{name}" for name in NAMES]
    for row in (*here, *there):
        row.pop("age_seconds")
    assert there == [{key: value for key, value in row.items() if key != "path"} for row in here]
    assert typed_json("ls", f"{url}/checkpoints/")[0]["path"] == f"{url}/checkpoints/{NAMES[0]}"


@pytest.mark.parametrize("remote", [False, True])
def test_only_verify_finds_damage_in_a_file(run: Path, remote: bool) -> None:
    place = make_mirror(run) if remote else str(run)
    flip_a_bit(f"{place}/checkpoints/{NAMES[1]}/model.pdparams")
    assert "state" not in typed("ls", place).stdout
    *rows, advice = lines_of(typed("ls", place, "--verify", exit_code=1))
    assert " ".join(advice).startswith("next: a resume passes damaged ones over; ")
    assert [row[-1] for row in rows if row[0] != NAMES[1]] == ["state", "whole", "whole"]
    assert "damaged:" in rows[2]
    assert "model.pdparams:" in rows[2]
    assert [row["verified"] for row in typed_json("ls", place, "--verify", exit_code=1)] == [
        True,
        False,
        True,
    ]


def test_without_verify_no_file_but_the_manifests_is_opened(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def noting(path: Any, *arguments: Any, **options: Any) -> Any:
        if str(path).startswith(str(run)):
            opened.append(Path(path).name)
        return original(path, *arguments, **options)

    original = builtins.open
    monkeypatch.setattr(builtins, "open", noting)
    monkeypatch.setattr(io, "open", noting)
    typed("ls", run)
    assert set(opened) == {
        "manifest.json",
        "best.json",
    }  # the second is a small pointer, and says the ranking
    typed("ls", run, "--verify")
    assert "model.pdopt" in opened


def test_a_damaged_manifest_is_a_finding_and_the_others_are_listed(run: Path) -> None:
    flip_a_bit(run / "checkpoints" / NAMES[0] / "manifest.json")
    (run / "checkpoints" / NAMES[1] / "manifest.json").unlink()
    *rows, _ = lines_of(typed("ls", run, exit_code=1))
    assert [row[0] for row in rows[1:]] == NAMES
    assert "damaged: the manifest's bytes are not what was written" in " ".join(rows[1])
    assert "no such file" in " ".join(rows[2])
    first, second, third = typed_json("ls", run, exit_code=1)
    assert first["size"] is second["epoch"] is None
    assert third["problems"] == []


def test_a_run_without_a_checkpoint_yet(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert typed("ls", tmp_path / "run").stdout == "no checkpoint yet\n"
    assert typed_json("ls", tmp_path / "run") == []


def test_what_is_being_written_is_not_listed(run: Path) -> None:
    (run / "checkpoints" / ".staging-step-00000009-x").mkdir()
    assert [row["name"] for row in typed_json("ls", run)] == NAMES


def test_the_best_is_marked_where_the_run_ranks(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", keep=KeepLatest(9) | KeepBest("acc"))
    head, *rows = lines_of(typed("ls", run))
    assert head[-1] == "best"
    assert [row[-2:] == ["by", "acc"] for row in rows] == [True, False, False]
    assert [row["best_by"] for row in typed_json("ls", run)] == ["acc", None, None]
    assert [row["best_by"] for row in typed_json("ls", run / "checkpoints")] == ["acc", None, None]


def test_a_directory_of_runs_lists_them_with_the_newest_of_each(tmp_path: Path) -> None:
    make_run(tmp_path / "b")
    make_run(tmp_path / "a")
    (tmp_path / "c" / "checkpoints").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    head, *rows = lines_of(typed("ls", tmp_path))
    assert head == ["run", "checkpoints", "newest", "epochs", "step", "metrics", "size", "age"]
    assert [row[:3] for row in rows] == [
        [str(tmp_path / "a"), "3", NAMES[-1]],
        [str(tmp_path / "b"), "3", NAMES[-1]],
        [str(tmp_path / "c"), "0", "none"],
    ]
    first, _, last = typed_json("ls", tmp_path)
    assert (first["checkpoints"], first["newest"]["global_step"]) == (3, 5)
    assert (last["checkpoints"], last["newest"]) == (0, None)
    said = typed("ls", tmp_path, "--verify", exit_code=2).stderr
    assert f"which run is to be verified? Name one: {tmp_path / 'a'}" in said
    flip_a_bit(tmp_path / "a" / "checkpoints" / NAMES[-1] / "manifest.json")
    assert typed_json("ls", tmp_path, exit_code=1)[0]["newest"]["problems"]


@pytest.mark.parametrize("where", ["nothing", "a directory", "a URL"])
def test_what_is_no_run_is_an_error(tmp_path: Path, where: str) -> None:
    places = {
        "nothing": f"{tmp_path}/x",
        "a directory": str(tmp_path),
        "a URL": f"memory://{tmp_path}/none",
    }
    given = places[where]
    said = typed("ls", given, exit_code=2).stderr
    assert "there is neither a checkpoint nor a run" in said
    assert given in said


def test_a_store_that_is_not_reached_is_an_error_and_no_damage(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    url = make_mirror(run)
    files = fsspec.filesystem("memory")

    def lost(*arguments: Any, **options: Any) -> Any:
        raise ConnectionError("lost")

    monkeypatch.setattr(type(files), "open", lost)
    said = typed("ls", url, exit_code=2).stderr
    assert "it could not be reached" in said
    assert "ConnectionError: lost" in said


def test_metrics_that_are_not_finite_are_valid_json(tmp_path: Path) -> None:
    CheckpointStore(tmp_path).commit(contents(1, metrics={"loss": float("nan")}))
    assert typed_json("ls", tmp_path)[0]["metrics"] == {"loss": "nan"}
