"""``show``: everything a manifest says, and every tensor in the network's order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.plan.report import RestoreReport
from tests.checkpoint.samples import contents
from tests.cli.typed import bfloat16, flip_a_bit, lines_of, make_mirror, make_run, typed, typed_json


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def facts(*arguments: Any) -> dict[str, str]:
    head = typed("show", *arguments).stdout.partition("\n\n")[0]
    # Two blanks or more end a name.
    return {name: value.strip() for name, _, value in (line.partition("  ") for line in head.splitlines())}


def test_a_checkpoint_by_its_directory(run: Path) -> None:
    first = CheckpointStore(run).list()[0]
    said = facts(first.path)
    assert said["checkpoint"] == first.path
    assert said["progress"] == "step 2, epochs 1 done"
    assert said["created"].startswith(first.manifest.created)
    assert said["created"].endswith("ago)")
    assert said["written by"] == f"numpy {np.__version__}"
    assert said["digest"] == first.digest
    assert said["parent"].startswith("none")
    assert said["metrics"] == "acc=0.9"
    assert said["metadata['labels']"] == '["a", "b"]'


def test_of_a_run_the_newest_is_shown_and_said_so(run: Path) -> None:
    said = facts(run)
    assert said["checkpoint"] == f"{run}/checkpoints/step-00000005 (the newest of 3 in {run})"
    assert said["progress"] == "step 5, epochs 0 + 5 steps"


def test_files_with_sizes_and_digests(run: Path) -> None:
    manifest = CheckpointStore(run).list()[-1].manifest
    rows = {row[0]: row[-1] for row in lines_of(typed("show", run)) if row}
    for name, entry in manifest.files.items():
        assert rows[name] == entry.digest


def test_json(run: Path) -> None:
    first = CheckpointStore(run).list()[0]
    record = typed_json("show", first.path)
    assert record["progress"] == {"global_step": 2, "epoch": 1, "step_in_epoch": 0}
    assert (record["epoch_completed"], record["parent"], record["digest"]) == (True, None, first.digest)
    assert record["metadata"] == {"labels": ["a", "b"]}
    assert set(record["files"]) == set(first.manifest.files)
    assert "tensors" not in record


def test_at_a_url_as_here(run: Path) -> None:
    here, there = typed_json("show", run, "--tensors"), typed_json("show", make_mirror(run), "--tensors")
    assert there.pop("path").startswith("memory://")
    here.pop("path")
    assert there == here


def test_tensors_stand_in_the_networks_order_grouped_by_layer(tmp_path: Path) -> None:
    model = {
        "stem.weight": np.zeros((3, 2), np.float32),
        "stem.scale": bfloat16(1, 2),
        "block.10.weight": np.zeros(4, np.float16),
        "block.2.weight": np.zeros(4, np.int64),
    }
    optimizer = {
        "linear_0.w_0_moment1_0": np.zeros((3, 2), np.float32),
        "unknown_0.w_0_moment1_0": np.zeros(1, np.float32),
        "linear_0.w_0_moment2_0": np.zeros((3, 2), np.float32),
        "master_weights": {"linear_0.w_0": ("linear_0.w_0_fp32_master_0", np.zeros(2, np.float32))},
    }
    state = {
        "optimizer_keys": [
            ("linear_0.w_0_moment1_0", "stem.weight", "moment1"),
            ("linear_0.w_0_moment2_0", "stem.weight", "moment2"),
            ("linear_0.w_0", "stem.weight", "master_weight"),
        ]
    }
    made = replace(contents(1), model=model, model_names={}, optimizer=optimizer, state=state, extra={})
    CheckpointStore(tmp_path).commit(made)
    text = typed("show", tmp_path, "--tensors").stdout
    tables = [[" ".join(line.split()) for line in part.splitlines()] for part in text.split("\n\n")[2:]]
    assert tables[0] == [
        "model.pdparams",
        "tensor shape dtype size",
        "stem: 2 tensors 28 B",
        "stem.weight [3, 2] float32 24 B",
        "stem.scale [2] bfloat16 4 B",
        "block: 2 tensors 40 B",
        "block.10.weight [4] float16 8 B",
        "block.2.weight [4] int64 32 B",
    ]
    assert tables[1] == [
        "model.pdopt",
        "tensor shape dtype size",
        "stem: 3 tensors 56 B",
        "stem.weight moment1 [3, 2] float32 24 B",
        "stem.weight moment2 [3, 2] float32 24 B",
        "stem.weight master_weight [2] float32 8 B",
        "unknown_0: 1 tensor 4 B",
        "unknown_0.w_0_moment1_0 [1] float32 4 B",
    ]
    tensors = typed_json("show", tmp_path, "--tensors")["tensors"]
    assert [tensor["name"] for tensor in tensors][:4] == list(model)
    assert tensors[4]["stands_for"] == "stem.weight moment1"


def test_how_the_run_started_is_one_line_and_a_long_value_is_cut(tmp_path: Path) -> None:
    report = RestoreReport("warm", "resnet50.pdparams", loaded=("a", "b"), share_loaded=1.0)
    metadata = {"start": report.to_json(), "labels": ["x" * 300]}
    CheckpointStore(tmp_path).commit(replace(contents(1), metadata=metadata))
    said = facts(tmp_path)
    assert said["start"].startswith("warm start from resnet50.pdparams: 2 tensors loaded")
    assert said["metadata['labels']"].endswith("(304 characters; --json shows all)")
    assert typed_json("show", tmp_path)["metadata"]["labels"] == ["x" * 300]


def test_a_damaged_manifest_or_list_of_tensors_is_an_error(run: Path) -> None:
    newest = run / "checkpoints" / "step-00000005"
    flip_a_bit(newest / "tensors.json")
    typed("show", run)
    assert "tensors.json" in typed("show", run, "--tensors", exit_code=2).stderr
    flip_a_bit(newest / "manifest.json")
    assert "the manifest's bytes are not what was written" in typed("show", run, exit_code=2).stderr


def test_a_run_without_a_checkpoint_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    assert "the run has no checkpoint yet" in typed("show", tmp_path, exit_code=2).stderr
