"""``transplant``: a head's rows by label, from file to file, without a network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from paddle_warm_callbacks.checkpoint.contents import CheckpointContents
from paddle_warm_callbacks.checkpoint.pdparams import read_pdparams
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from tests.cli.typed import bfloat16, typed, write_weights

OLD, NEW = "a\nb\nc\n", "c\nd\na\n"


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("old.txt").write_text(OLD, encoding="utf-8")
    Path("new.txt").write_text(NEW, encoding="utf-8")
    weight = np.arange(12, dtype=np.float32).reshape(4, 3)
    write_weights(
        Path("net.pdparams"), **{"body.weight": np.ones((2, 4)), "fc.weight": weight, "fc.bias": weight[0]}
    )


LABELS = ("--old-labels", "old.txt", "--new-labels", "new.txt")


def test_rows_go_where_their_labels_are() -> None:
    said = typed(
        "transplant", "net.pdparams", "out.pdparams", "--head", "fc", *LABELS, "--new-rows", "zero"
    ).stdout
    before, after = read_pdparams(Path("net.pdparams")), read_pdparams(Path("out.pdparams"))
    old = before["fc.weight"]
    assert np.array_equal(after["fc.weight"], np.stack([old[:, 2], np.zeros(4), old[:, 0]], axis=1))
    assert np.array_equal(after["fc.bias"], [2, 0, 0])
    assert np.array_equal(after["body.weight"], before["body.weight"])
    assert list(after) == list(before)
    assert said.splitlines() == [
        "fc.weight: [4, 3] -> [4, 3]",
        "fc.bias: [3] -> [3]",
        "labels kept: c, a",
        "labels new (new_rows: zero): d",
        "labels dropped: b",
        "3 tensors of net.pdparams -> out.pdparams, " + said.split()[-2] + " B",
    ]


def test_a_misspelt_label_is_told() -> None:
    Path("old.txt").write_text("scratch\ndent\nspot\n", encoding="utf-8")
    Path("new.txt").write_text("scrach\ndent\nspot\n", encoding="utf-8")
    said = typed("transplant", "net.pdparams", "out.pdparams", "--head", "fc", *LABELS).stdout
    assert "labels dropped: scratch\nwarning: 'scrach' is a new label, and the old label 'scratch' is" in said


def test_new_rows_are_the_mean_unless_told_otherwise() -> None:
    Path("new.txt").write_text("a\nb\nc\nd\n", encoding="utf-8")
    typed("transplant", "net.pdparams", "out.safetensors", "--head", "fc", *LABELS)
    typed("export", "out.safetensors", "out.pdparams")
    after = read_pdparams(Path("out.pdparams"))
    assert after["fc.weight"].shape == (4, 4)
    assert np.array_equal(after["fc.weight"][:, 3], [1, 4, 7, 10])
    assert after["fc.bias"][3] == 1


def test_bfloat16_stays_bfloat16() -> None:
    write_weights(Path("half.pdparams"), **{"fc.weight": bfloat16(1, 2, 4).reshape(1, 3)})
    typed("transplant", "half.pdparams", "out.pdparams", "--head", "fc", *LABELS)
    after = read_pdparams(Path("out.pdparams"))["fc.weight"]
    assert np.array_equal(
        after, bfloat16(4, 7 / 3, 1).reshape(1, 3)
    )  # 7 / 3 is rounded down, as it is cut off


@pytest.mark.parametrize(
    ("layout", "key", "sizes"),
    [
        # Name to the shape for three labels and for five.
        ("ctc", "head.fc", {"head.fc.weight": ((5, 4), (5, 6)), "head.fc.bias": ((4,), (6,))}),
        ("yolov3", "h", {"h.yolo_output.0.weight": ((24, 2, 1, 1), (30, 2, 1, 1))}),
        (
            "faster_rcnn",
            "h",
            {"h.bbox_score.weight": ((2, 4), (2, 6)), "h.bbox_delta.weight": ((2, 12), (2, 20))},
        ),
    ],
)
def test_every_layout_grows_by_its_own_rule(
    layout: str, key: str, sizes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
) -> None:
    Path("new.txt").write_text("a\nb\nc\nd\ne\n", encoding="utf-8")
    write_weights(Path("head.pdparams"), **{name: np.ones(of[0], np.float32) for name, of in sizes.items()})
    typed("transplant", "head.pdparams", "out.pdparams", "--head", key, *LABELS, "--layout", layout)
    after = read_pdparams(Path("out.pdparams"))
    assert {name: array.shape for name, array in after.items()} == {name: of[1] for name, of in sizes.items()}


def test_labels_of_a_checkpoint_and_of_coco_and_a_rename() -> None:
    CheckpointStore("run").commit(
        CheckpointContents({"fc.weight": np.arange(2.0).reshape(1, 2)}, metadata={"labels": ["cat", "dog"]})
    )
    categories = [{"id": 1, "name": "hound"}, {"id": 2, "name": "cat"}]
    Path("new.json").write_text(json.dumps({"categories": categories}), encoding="utf-8")
    options = [
        "--head",
        "fc",
        "--new-labels",
        "new.json",
        "--label-files",
        "coco",
        "--rename-label",
        "dog=hound",
    ]
    said = typed("transplant", "run", "out.pdparams", *options).stdout
    assert "labels kept: hound, cat\n" in said
    assert read_pdparams(Path("out.pdparams"))["fc.weight"].tolist() == [[1.0, 0.0]]


PLAIN = ("net.pdparams", "out.pdparams", "--head", "fc")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["net.pdparams", "out.txt", "--head", "fc", *LABELS], "the suffix says which format to write"),
        (
            ["net.pdparams", "net.pdparams", "--head", "fc", *LABELS],
            "there is something by that name already",
        ),
        (["gone.pdparams", "out.pdparams", "--head", "fc", *LABELS], "the source is not there"),
        (["net.pdparams", "out.pdparams", "--head", "cf", *LABELS], "did you mean HeadTransplant('fc', …)"),
        ([*PLAIN, "--new-labels", "new.txt"], "expected: a file with the labels the source"),
        ([*PLAIN, "--old-labels", "gone.txt", "--new-labels", "new.txt"], "gone.txt: No such file"),
        ([*PLAIN, "--old-labels", "oldd.txt", "--new-labels", "new.txt"], "did you mean old.txt?"),
        (["net.pdparams", "out.pdparams", "--head", "body", *LABELS], "3 old_labels do not fit the source's"),
        ([*PLAIN, *LABELS, "--rename-label", "a"], "expected: OLD=NEW"),
        ([*PLAIN, *LABELS, "--layout", "liner"], "Invalid value for '--layout'"),
        (
            [*PLAIN, *LABELS, "--new-rows", "init"],
            "remedy:   in a script: WarmStartCallback('net.pdparams', head=HeadTransplant('fc', […], […]))",
        ),
        (["net.pdparams", "out.pdparams", *LABELS], "Missing option '--head'"),
    ],
)
def test_what_cannot_be_is_told_and_nothing_is_written(arguments: list[str], says: str) -> None:
    assert says in typed("transplant", *arguments, exit_code=2).stderr
    assert not Path("out.pdparams").exists()
