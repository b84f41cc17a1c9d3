"""In a real browser, a run that was killed twice is one continuous curve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

SMALL = [
    *("model.arch=resnet18", "data.limit=15", "data.size=16", "train.old_epochs=1", "train.epochs=4"),
    "compare_cold=false",
]
# The columns of a canvas in which a curve's blue is found: neither grey, nor white, nor text.
COLUMNS = """
const canvas = arguments[0], {width, height} = canvas;
const data = canvas.getContext("2d").getImageData(0, 0, width, height).data, columns = [];
for (let x = 0; x < width; x++)
  for (let y = 0; y < height; y++) {
    const i = 4 * (y * width + x);
    if (data[i + 3] > 100 && data[i + 2] > data[i] + 60) { columns.push(x); break; }
  }
return [width, columns];
"""


def logged(log_dir: Path, tag: str) -> list[tuple[int, Any]]:
    records = map(json.loads, (log_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [(record["step"], record["value"]) for record in records if record["tag"] == tag]


def test_a_recipe_killed_twice_is_one_curve_in_the_browser(tmp_path: Path) -> None:
    from docs.screenshots import browser, scalars, served, show_scalars, train_with_kills

    train_with_kills(tmp_path / "killed", *SMALL, timeout=400)
    train_with_kills(tmp_path / "control", *SMALL, kills=0, timeout=400)
    killed, control = (tmp_path / name / "vdl" / "new" for name in ("killed", "control"))
    with served(killed) as address, browser() as driver:
        for tag in ("train/loss", "eval/acc"):
            points = scalars(address, "new", tag)
            assert len(points) >= 4
            steps, values = zip(*logged(control, tag))
            assert [step for step, _ in points] == list(steps)
            assert [value for _, value in points] == pytest.approx(list(values))
        (canvas,) = show_scalars(driver, address, "train/loss")
        width, columns = driver.execute_script(COLUMNS, canvas)
    assert len(columns) > width / 2
    assert columns == list(range(columns[0], columns[-1] + 1)), "the curve has a gap"


def test_the_control_a_log_that_was_cut_in_the_middle_is_seen_as_shorter(tmp_path: Path) -> None:
    from visualdl import LogWriter

    from docs.screenshots import browser, served, show_scalars

    with LogWriter(str(tmp_path / "log")) as log:
        for step in range(10):
            log.add_scalar("train/loss", float("nan") if step in (4, 5) else 1.0 + step, step)
    with served(tmp_path / "log") as address, browser() as driver:
        (canvas,) = show_scalars(driver, address, "train/loss")
        _, columns = driver.execute_script(COLUMNS, canvas)
    assert columns
    assert columns != list(range(columns[0], columns[-1] + 1))
