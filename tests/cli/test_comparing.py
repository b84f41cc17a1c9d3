"""``diff``: equal to the bit or not, by how much, and what is in one only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from tests.checkpoint.samples import contents
from tests.cli.typed import bfloat16, flip_a_bit, lines_of, make_run, typed, typed_json, write_weights

NAN, INFINITY = float("nan"), float("inf")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def of_one(tmp_path: Path, before: Any, after: Any) -> dict[str, Any]:
    """Return what is said of one tensor that differs."""
    one, other = (
        write_weights(tmp_path / f"{name}.pdparams", w=w) for name, w in (("a", before), ("b", after))
    )
    (tensor,) = typed_json("diff", one, other, exit_code=1)["tensors"]
    assert isinstance(tensor, dict)
    return tensor


def test_the_same_is_identical(run: Path) -> None:
    said = typed("diff", run, run / "checkpoints" / "step-00000005")
    assert said.stdout.splitlines()[2:] == ["2 same"]
    record = typed_json("diff", run, run)
    assert record["identical"] is True
    assert record["tensors"] == record["manifest"] == []


def test_every_kind_of_difference_in_the_order_of_a(tmp_path: Path) -> None:
    one = write_weights(
        tmp_path / "a.pdparams",
        gone=np.zeros(3, np.float32),
        wide=np.zeros((2, 3), np.float32),
        moved=np.array([3.0, 4.0], np.float32),
        half=np.ones(2, np.float32),
        same=np.ones(2, np.int64),
    )
    other = write_weights(
        tmp_path / "b.pdparams",
        new=np.zeros((), np.int8),
        same=np.ones(2, np.int64),
        half=np.ones(2, np.float16),
        moved=np.array([3.0, 3.5], np.float32),
        wide=np.zeros((3, 2), np.float32),
    )
    record = typed_json("diff", one, other, exit_code=1)
    assert record["counts"] == dict.fromkeys(
        ("same", "changed", "other dtype", "other shape", "only in A", "only in B"), 1
    )
    assert [tuple(tensor.values()) for tensor in record["tensors"]] == [
        ("gone", "only in A", "float32 [3]", None, None),
        ("wide", "other shape", "[2, 3] -> [3, 2]", None, None),
        ("moved", "changed", "", 0.5, 0.1),
        ("half", "other dtype", "float32 -> float16", 0.0, 0.0),
        ("new", "only in B", "int8 []", None, None),
    ]
    rows = list(lines_of(typed("diff", one, other, exit_code=1)))
    assert " ".join(rows[2]) == ("1 same, 1 changed, 1 other dtype, 1 other shape, 1 only in A, 1 only in B")
    assert ["moved", "changed", "0.5", "0.1"] in rows


@pytest.mark.parametrize(
    ("before", "after", "largest", "relative"),
    [
        (np.zeros(2, np.float32), np.ones(2, np.float32), 1.0, "inf"),
        (np.zeros(1, np.float32), -np.zeros(1, np.float32), 0.0, 0.0),
        (np.array([NAN, 1.0]), np.array([NAN, 3.0]), 2.0, 2.0),
        (np.array([INFINITY, 3.0, 4.0]), np.array([INFINITY, 3.0, 5.0]), 1.0, 0.0),
        (np.array([1.0]), np.array([NAN]), "nan", "nan"),
        (bfloat16(1, -2), bfloat16(1, 2), 4.0, 4 / 5**0.5),
        (np.array([True, False]), np.array([True, True]), 1.0, 1.0),
        (np.array([1 + 1j]), np.array([1 - 1j]), 2.0, 2**0.5),
    ],
)
def test_by_how_much(tmp_path: Path, before: Any, after: Any, largest: Any, relative: Any) -> None:
    tensor = of_one(tmp_path, before, after)
    assert tensor["kind"] == "changed"
    assert tensor["largest"] == largest
    assert tensor["relative"] == (relative if isinstance(relative, str) else pytest.approx(relative))


def test_metrics_and_metadata_of_two_checkpoints(tmp_path: Path) -> None:
    paths = []
    made = contents(1, metrics={"acc": 0.5, "loss": NAN})
    other = replace(made, metrics={"acc": 0.75, "loss": NAN}, metadata={"labels": ["a"], "by": "me"})
    for name, content in (("one", made), ("other", other)):
        paths.append(CheckpointStore(tmp_path / name).commit(content).path)
    record = typed_json("diff", *paths, exit_code=1)
    assert record["counts"]["same"] == 2
    assert record["identical"] is False
    assert record["manifest"] == [
        {"kind": "metrics", "key": "acc", "a": 0.5, "b": 0.75},
        {"kind": "metadata", "key": "labels", "a": ["a", "b"], "b": ["a"]},
        {"kind": "metadata", "key": "by", "a": None, "b": "me"},
    ]
    assert ["metrics.acc", "0.5", "0.75"] in list(lines_of(typed("diff", *paths, exit_code=1)))
    # The control: of weights alone, nothing differs.
    typed("diff", *(f"{path}/model.pdparams" for path in paths))


def test_nested_metadata_is_told_key_by_key_one_short_line_each(tmp_path: Path) -> None:
    paths = []
    names = [f"layer{number}.weight" for number in range(40)]
    for number, (factor, loaded, epochs) in enumerate(((0.5, [], 3), (0.25, names, 3))):
        start = {"kind": "warm", "loaded": loaded, "moved": [{"row": 1}, {"row": number}]}
        config = {"lr": {"factor": factor, "rate": NAN}, "training": {"epochs": epochs}}
        made = replace(contents(1), metadata={"start": start, "config": config})
        paths.append(CheckpointStore(tmp_path / str(number)).commit(made).path)
    record = typed_json("diff", *paths, exit_code=1)
    assert record["manifest"] == [
        {"kind": "metadata", "key": "start.loaded", "a": [], "b": names},
        {"kind": "metadata", "key": "start.moved[1].row", "a": 0, "b": 1},
        {"kind": "metadata", "key": "config.lr.factor", "a": 0.5, "b": 0.25},
    ]
    lines = typed("diff", *paths, exit_code=1).stdout.splitlines()
    assert lines[-3].split()[:4] == ["metadata.start.loaded", "[]", "40:", "['layer0.weight',"]
    assert [line.split() for line in lines[-2:]] == [
        ["metadata.start.moved[1].row", "0", "1"],
        ["metadata.config.lr.factor", "0.5", "0.25"],
    ]
    assert max(map(len, lines[-4:])) < 110


def test_a_tuple_where_there_was_a_list_is_a_difference(tmp_path: Path) -> None:
    paths = [
        CheckpointStore(tmp_path / name).commit(replace(contents(1), metadata={"sizes": sizes})).path
        for name, sizes in (("one", [1, 2]), ("other", (1, 2)))
    ]
    (told,) = typed_json("diff", *paths, exit_code=1)["manifest"]
    assert told["key"] == "sizes"


def test_a_file_beside_a_checkpoint_of_a_run(run: Path) -> None:
    best = typed_json("diff", run, run / "checkpoints/step-00000002-epoch-0001/model.pdparams", exit_code=1)
    assert best["a"].endswith("step-00000005")
    assert {tensor["largest"] for tensor in best["tensors"]} == {3.0}


def test_a_source_that_is_damaged_or_not_there_is_an_error(run: Path, tmp_path: Path) -> None:
    assert "the source is not there" in typed("diff", run, tmp_path / "none", exit_code=2).stderr
    damaged = run / "checkpoints" / "step-00000005"
    flip_a_bit(damaged / "model.pdparams")
    assert "is not what was written" in typed("diff", damaged, run, exit_code=2).stderr


def test_which_names_the_best_of_a_run_that_has_one(run: Path) -> None:
    said = typed("diff", run, run, "--which", "best", exit_code=2).stderr
    assert "which checkpoint is the best is not known" in said
