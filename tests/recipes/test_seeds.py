"""Recipes over several seeds: what their benchmarks ask for, read and print."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from recipes.common.seeds import arguments, from_the_start, markdown, spread, train


def test_a_command_line_has_seeds_a_folder_and_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", "--seeds", "2", "train.epochs=1", "compare_cold=false"])
    given = arguments("What it is.\n\nMore.", "runs/here")
    assert (given.seeds, given.dir) == (2, Path("runs/here"))
    assert given.overrides == ["train.epochs=1", "compare_cold=false"]


def test_a_recipe_gets_its_folder_and_overrides_and_keeps_standard_output_clean(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "train.py"
    script.write_text("import sys; print(sys.argv[1:]); sys.exit('wrong' in sys.argv)", encoding="utf-8")
    train(script, Path("there"), "train.seed=1")
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "['output=there', 'train.seed=1']\n")
    with pytest.raises(subprocess.CalledProcessError):
        train(script, Path("there"), "wrong")


def test_a_curve_begins_before_the_first_step(tmp_path: Path) -> None:
    records = [("eval/acc", 10, 0.5), ("start/acc", 0, 0.25), ("eval/acc", 20, 0.75), ("start/edit", 0, 0.0)]
    lines = [json.dumps({"tag": tag, "step": step, "value": value}) for tag, step, value in records]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert from_the_start(tmp_path, "acc") == [0.25, 0.5, 0.75]


def test_a_table_is_markdown_of_means_and_ranges() -> None:
    table = markdown(["start", "epoch 1"], {"warm": [spread([0.5, 0.6, 0.7]), spread([0.125])]})
    assert table.splitlines() == [
        "|  | start | epoch 1 |",
        "| --- | --- | --- |",
        "| warm | 60.0% (50 to 70) | 12.5% (12 to 12) |",
    ]
