"""``match``: the table of a warm start before any training, equal to what a warm start then does."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks import HeadTransplant, WarmStartCallback
from paddle_warm_callbacks.checkpoint.contents import CheckpointContents
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from tests.callbacks import runs
from tests.cli.typed import typed, typed_json, write_weights

NETS = """
import paddle
from tests.callbacks.runs import model

three = lambda: model(3).network
two = lambda: model(2).network
number = 3

class Bare(paddle.nn.Linear):
    def __init__(self):
        super().__init__(2, 2)

def broken():
    raise RuntimeError("no weights on this machine")
"""


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("nets_of_match.py").write_text(NETS, encoding="utf-8")
    Path("old.txt").write_text("a\nb\n", encoding="utf-8")
    Path("new.txt").write_text("b\nc\na\n", encoding="utf-8")
    paddle.save(runs.model(2).network.state_dict(), "two.pdparams")
    yield
    sys.modules.pop("nets_of_match", None)


def test_it_says_what_a_warm_start_then_does(caplog: pytest.LogCaptureFixture) -> None:
    command = ["match", "two.pdparams", "--network", "nets_of_match:three"]
    shown = typed_json(*command)
    caplog.set_level(logging.INFO, "paddle_warm_callbacks")
    start = WarmStartCallback("two.pdparams")
    runs.fit(runs.model(3), start, epochs=1)
    assert start.report is not None
    report = start.report.to_json()
    assert {key: shown[key] for key in report if key != "notes"} == {
        key: value for key, value in report.items() if key != "notes"
    }
    assert shown["enough"]
    said = typed(*command).stdout
    assert said.startswith("warm start from two.pdparams: 2 tensors loaded, 0 transplanted, 2 not, of 4")
    assert "next: if fc is a head: --head fc --old-labels FILE --new-labels FILE shows which labels" in said


def test_a_head_by_label(tmp_path: Path) -> None:
    options = ["--head", "fc", "--old-labels", "old.txt", "--new-labels", "new.txt"]
    shown = typed_json("match", "two.pdparams", "--network", "nets_of_match:three", *options)
    assert (len(shown["transplanted"]), shown["skipped"]) == (2, [])
    assert (shown["labels_kept"], shown["labels_new"], shown["labels_dropped"]) == (["b", "a"], ["c"], [])
    assert shown["share_loaded"] < 1.0  # the row of c comes from nowhere
    start = WarmStartCallback("two.pdparams", head=HeadTransplant("fc", ["a", "b"], ["b", "c", "a"]))
    runs.fit(runs.model(3), start, epochs=1)
    assert start.report is not None
    assert list(start.report.transplanted) == shown["transplanted"]


def test_a_misspelt_label_is_told() -> None:
    Path("old.txt").write_text("scratch\ndent\n", encoding="utf-8")
    Path("new.txt").write_text("dent\nspot\nscrach\n", encoding="utf-8")
    command = ["match", "two.pdparams", "--network", "nets_of_match:three", "--head", "fc"]
    said = typed(*command, "--old-labels", "old.txt", "--new-labels", "new.txt").stdout
    assert "labels new (2): spot, scrach\nlabels dropped (1): scratch\n" in said
    assert "warning: 'scrach' is a new label, and the old label 'scratch' is dropped: if they are one" in said


def test_old_labels_of_a_run_come_from_its_checkpoint() -> None:
    weights = {name: tensor.numpy() for name, tensor in runs.model(2).network.state_dict().items()}
    CheckpointStore("run").commit(CheckpointContents(weights, metadata={"labels": ["a", "b"]}))
    command = ["match", "run", "--network", "nets_of_match:three", "--head", "fc", "--new-labels", "new.txt"]
    assert len(typed_json(*command)["transplanted"]) == 2


def test_a_network_by_name_has_as_many_outputs_as_there_are_labels() -> None:
    network = paddle.vision.models.squeezenet1_1(num_classes=2)
    paddle.save(network.state_dict(), "squeeze.pdparams")
    assert (
        "all of it"
        not in typed("match", "squeeze.pdparams", "--arch", "squeezenet1_1", "--classes", "2").stdout
    )
    assert (
        typed_json("match", "squeeze.pdparams", "--arch", "squeezenet1_1", "--classes", "2")["skipped"] == []
    )
    assert len(typed_json("match", "squeeze.pdparams", "--arch", "squeezenet1_1")["skipped"]) == 2


def test_less_than_min_loaded_is_a_finding() -> None:
    write_weights(Path("other.pdparams"), **{"stem.weight": np.zeros((2, 2), np.float32)})
    command = ["match", "other.pdparams", "--network", "nets_of_match:two"]
    said = typed(*command, exit_code=1).stdout
    assert "a warm start would be refused, for less than 50% would be loaded" in said
    assert typed_json(*command, exit_code=1)["enough"] is False
    assert typed_json(*command, "--min-loaded", "0")["enough"] is True


def test_names_are_mapped_as_in_a_warm_start() -> None:
    state = {f"net.{name}": tensor.numpy() for name, tensor in runs.model(2).network.state_dict().items()}
    write_weights(Path("nested.pdparams"), ema=state, step=np.zeros(1))
    command = ["match", "nested.pdparams", "--network", "nets_of_match:two", "--part", "ema"]
    assert len(typed_json(*command, "--rename", "^net[.]=")["loaded"]) == 4
    assert len(typed_json(*command, "--exclude", "^fc", "--min-loaded", "0")["loaded"]) == 2
    assert len(typed_json(*command, "--include", "^fc", "--min-loaded", "0")["loaded"]) == 2


TWO = ("two.pdparams", "--network", "nets_of_match:two")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["two.pdparams"], "into which network? Give --arch, or --network module:function"),
        (["two.pdparams", "--arch", "resnet18", "--network", "a:b"], "into which network?"),
        ([*TWO, "--classes", "3"], "--classes is the number of outputs of --arch"),
        ([*TWO, "--head", "fc"], "--head and --new-labels go together"),
        (["gone.pdparams", *TWO[1:]], "the source is not there"),
        (["two.pdparams", "--arch", "resnet19"], "did you mean resnet18?"),
        (["two.pdparams", "--network", "nets_of_match"], "expected: module:function"),
        (["two.pdparams", "--network", "nets_of_mach:two"], "No module named 'nets_of_mach'"),
        (
            ["two.pdparams", "--network", "nets_of_match:tow"],
            "nets_of_match has: model, three, two, Bare, broken",
        ),
        (["two.pdparams", "--network", "nets_of_match:number"], "received: a int"),
        (["two.pdparams", "--network", "nets_of_match:broken"], "RuntimeError: no weights on this machine"),
        ([*TWO, "--rename", "x"], "expected: OLD=NEW"),
        ([*TWO, "--exclude", "fd"], "a pattern matches nothing"),
        ([*TWO, "--head", "fc", "--new-labels", "new.txt"], "the old labels are not known"),
        ([*TWO, "--head", "fc", "--old-labels", "o.txt", "--new-labels", "new.txt"], "o.txt: No such file"),
        (["paddle.vision:resnet1", *TWO[1:]], "paddle.vision has no pretrained file of that name"),
    ],
)
def test_what_cannot_be_is_told_with_what_to_do(arguments: list[str], says: str) -> None:
    assert says in typed("match", *arguments, exit_code=2).stderr
