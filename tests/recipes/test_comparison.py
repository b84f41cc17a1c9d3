"""The table at the end of a recipe, read from the logs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recipes.common.comparison import by_epoch, epochs_to, show


def test_the_values_of_one_tag_in_the_order_of_their_steps(tmp_path: Path) -> None:
    records = [("eval/acc", 20, 0.5), ("train/acc", 10, 0.9), ("eval/acc", 10, 0.25)]
    lines = [json.dumps({"tag": tag, "step": step, "value": value}) for tag, step, value in records]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert by_epoch(tmp_path, "eval/acc") == [0.25, 0.5]


def test_the_first_epoch_that_reaches_the_target_counts_from_one() -> None:
    assert epochs_to([0.1, 0.9, 0.8], 0.9) == "2"
    assert epochs_to([0.1, 0.2], 0.9) == "never"


def test_the_table_has_a_row_for_each_epoch_and_one_for_the_target(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show("accuracy", {"warm": [0.5, 0.95], "cold": [0.125]}, 0.9)
    cells = [line.strip("│┃ ").replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    assert ["1", "50.0%", "12.5%"] in cells
    assert ["2", "95.0%"] in cells
    assert ["epochs", "to", "90%", "2", "never"] in cells
