"""What errors say of a path where nothing of ours is: what is there, and what was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from paddle_warm_callbacks.checkpoint import nearby
from paddle_warm_callbacks.checkpoint.source import open_checkpoint, open_source
from paddle_warm_callbacks.errors import SourceError


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("runs/defects/checkpoints", "runs/parts/checkpoints", "runs/logs/vdl", "weights", "empty"):
        Path(name).mkdir(parents=True)
    Path("weights/resnet50.pdparams").touch()
    Path("weights/notes.txt").touch()


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("weights", "a directory with notes.txt, resnet50.pdparams"),
        ("empty", "an empty directory"),
        ("weights/notes.txt", "a file"),
    ],
)
def test_what_is_there_is_said(path: str, seen: str) -> None:
    assert nearby.seen(Path(path)) == seen


def test_of_what_is_not_there_it_is_said_how_far_the_path_leads(tmp_path: Path) -> None:
    assert nearby.seen(Path("runs/x/y")) == f"nothing; {tmp_path}/runs is there"


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("runs", "name one of its runs: runs/defects, runs/parts"),
        ("weights", "name a file in it: weights/resnet50.pdparams"),
        ("runs/logs", "is another one the run_dir of PeriodicCheckpoint?"),
        ("runs/defect", "did you mean runs/defects?"),
        ("run/defects/checkpoints", "did you mean runs/defects/checkpoints?"),
        ("run/gone", "did you mean runs?"),
        ("weights/resnet50.pdparam", "did you mean weights/resnet50.pdparams?"),
        ("weights/resnet5", "did you mean weights/resnet50.pdparams?"),
        ("zzzzz", "check the path; relative ones begin at"),
    ],
)
def test_what_was_probably_meant_is_said(path: str, advice: str, tmp_path: Path) -> None:
    assert advice in nearby.advice(Path(path))
    given = f"{tmp_path}/{path}"
    if advice.startswith("did you mean"):
        assert nearby.advice(Path(given)) == advice.replace("mean ", f"mean {tmp_path}/")


def test_a_very_large_directory_costs_no_more_than_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearby, "_MOST_ENTRIES", 3)
    for number in range(9):
        Path(f"empty/{number}").touch()
    assert nearby.seen(Path("empty")).count(",") == 2


@pytest.mark.parametrize("open_it", [open_source, open_checkpoint])
def test_the_errors_of_a_start_say_it(open_it: object) -> None:
    assert callable(open_it)
    for given, says in (("runs", "runs/defects"), ("runs/defect", "did you mean runs/defects?")):
        with pytest.raises(SourceError) as caught:
            open_it(given)
        assert says in caught.value.remedy
    with pytest.raises(SourceError) as caught:
        open_it("runs/logs")
    assert "not there" not in caught.value.what
    assert caught.value.received == "a directory with vdl"
