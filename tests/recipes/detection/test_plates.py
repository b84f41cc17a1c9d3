"""The plates the detection recipe makes: what is annotated is what is there, and the same again for the same seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from recipes.detection import plates
from recipes.detection.annotations import check_annotations
from recipes.detection.plates import CLASSES, OLD_CLASSES, SIZE, write_plates


def contents(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def read(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8")))


def test_sets_are_written_once_and_pass_the_check_of_annotations(tmp_path: Path) -> None:
    sets = {"old": (OLD_CLASSES, 5), "new": (CLASSES, 30)}
    files = write_plates(tmp_path / "plates", sets)
    assert {name: check_annotations(file, file.parent) for name, file in files.items()} == {
        "old": OLD_CLASSES,
        "new": CLASSES,
    }
    assert [len(read(files[name])["images"]) for name in sets] == [5, 30]
    categories = {annotation["category_id"] for annotation in read(files["new"])["annotations"]}
    assert categories == set(range(1, len(CLASSES) + 1))
    written = contents(tmp_path)
    assert write_plates(tmp_path / "plates", {}) == {}
    assert contents(tmp_path) == written


def test_the_seed_and_nothing_else_decides_what_is_drawn(tmp_path: Path) -> None:
    np.random.seed(0)
    write_plates(tmp_path / "one", {"set": (CLASSES, 3)})
    np.random.seed(1)
    write_plates(tmp_path / "two", {"set": (CLASSES, 3)})
    write_plates(tmp_path / "three", {"set": (CLASSES, 3)}, seed=1)
    one, two, three = (contents(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two
    assert all(one[file] != three[file] for file in one)


def test_what_an_interrupted_writing_left_is_not_taken_for_plates(tmp_path: Path) -> None:
    (tmp_path / ".plates-being-written" / "images").mkdir(parents=True)
    files = write_plates(tmp_path / "plates", {"set": (CLASSES, 1)})
    assert check_annotations(files["set"], tmp_path / "plates") == CLASSES
    assert [entry.name for entry in tmp_path.iterdir()] == ["plates"]


@pytest.mark.parametrize("name", CLASSES)
def test_a_box_holds_what_the_defect_changed(name: str) -> None:
    seen = 0
    for seed in range(20):
        draw = np.random.default_rng(seed)
        plain = plates._metal(draw)
        changed, opacity = plates._DEFECTS[name](plain, draw)
        box = plates._box(opacity)
        if box is None:
            continue
        seen += 1
        x, y, width, height = (int(number) for number in box)
        difference = np.abs(changed - plain).sum(axis=2)
        inside = difference[y : y + height, x : x + width].sum()
        assert inside > 0.7 * difference.sum()
        # No side of the box could be moved in by a quarter without losing some of it.
        for part in (
            difference[y : y + height // 4, x : x + width],
            difference[y + height - height // 4 : y + height, x : x + width],
            difference[y : y + height, x : x + width // 4],
            difference[y : y + height, x + width - width // 4 : x + width],
        ):
            assert part.sum() > 0
    assert seen > 10


def test_a_picture_is_of_the_size_its_boxes_are_measured_in(tmp_path: Path) -> None:
    files = write_plates(tmp_path / "plates", {"set": (CLASSES, 2)})
    for image in read(files["set"])["images"]:
        with Image.open(tmp_path / "plates" / image["file_name"]) as opened:
            assert opened.size == (image["width"], image["height"]) == (SIZE, SIZE)
