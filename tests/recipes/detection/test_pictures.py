"""Sample detections as they stand in VisualDL: what is there on the left, what was found on the right."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paddle_warm_callbacks import WarmVisualDL
from recipes.detection.coco_map import Detections
from recipes.detection.pictures import SampleDetections
from tests.callbacks.runs import STEPS, Points, fit, model

visualdl = pytest.importorskip("visualdl")

LABELS = ("dent", "scratch")
DENT, SCRATCH = (230, 25, 75), (60, 180, 75)
WIDTH, HEIGHT = 60, 40


def annotated(folder: Path) -> Path:
    """Write two black pictures, the first with a scratch; return their annotation file."""
    for number in (7, 8):
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / f"{number}.png")
    content = {
        "images": [{"id": number, "file_name": f"{number}.png"} for number in (7, 8)],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 5, "bbox": [5, 10, 20, 15]}],
        "categories": [{"id": 5, "name": "scratch"}, {"id": 3, "name": "dent"}],
    }
    (folder / "val.json").write_text(json.dumps(content), encoding="utf-8")
    return folder / "val.json"


def logged(directory: Path, tag: str) -> list[tuple[int, Any]]:
    reader = visualdl.LogReader(file_path=str(directory / "vdlrecords.run.log"))
    return [
        (point.id, np.asarray(Image.open(io.BytesIO(point.image.encoded_image_string)).convert("RGB")))
        for point in reader.get_data("image", tag.replace("/", "%"))
    ]


def has(picture: Any, color: tuple[int, int, int], *corners: tuple[int, int]) -> bool:
    """Return whether each corner, x and y, has the color; without corners, whether any place has."""
    there = (picture == np.array(color)).all(axis=-1)
    return all(there[y, x] for x, y in corners) if corners else bool(there.any())


def test_each_epoch_shows_what_is_there_beside_what_was_found(tmp_path: Path) -> None:
    found = Detections()
    # The second is too faint to be drawn.
    found.by_image = {7: np.array([[0, 0.9, 30, 5, 50, 25], [1, 0.29, 2, 2, 12, 12]])}
    metric: Any = SimpleNamespace(last=found)
    samples = SampleDetections(metric, annotated(tmp_path), tmp_path, LABELS)
    fit(model(), samples, WarmVisualDL(tmp_path / "vdl"), eval_data=Points(), epochs=2)

    first, second = (logged(tmp_path / "vdl", f"eval/sample_{number}") for number in range(2))
    assert [step for step, _ in first] == [step for step, _ in second] == [STEPS, 2 * STEPS]
    for _, picture in first:
        assert picture.shape == (HEIGHT, 2 * WIDTH, 3)
        there, seen = picture[:, :WIDTH], picture[:, WIDTH:]
        assert has(there, SCRATCH, (5, 10), (25, 10), (5, 25), (25, 25))
        assert not has(there, DENT)
        assert has(seen, DENT, (30, 5), (50, 5), (30, 25), (50, 25))
        assert not has(seen, SCRATCH)
    assert not second[-1][1].any(), "nothing is there, and nothing was found"


def test_without_an_evaluation_there_is_no_picture(tmp_path: Path) -> None:
    metric: Any = SimpleNamespace(last=None)
    samples = SampleDetections(metric, annotated(tmp_path), tmp_path, LABELS)
    fit(model(), samples, WarmVisualDL(tmp_path / "vdl"), eval_data=Points(), epochs=1)
    records = (tmp_path / "vdl" / "vdlrecords.run.log").read_bytes()
    assert b"sample_0" not in records
    assert b"eval" in records
