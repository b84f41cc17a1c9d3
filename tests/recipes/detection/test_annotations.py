"""A wrong annotation file is one clear error, with the line or the image, before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from paddle_warm_callbacks.errors import InvalidArgumentError, SourceError
from recipes.detection.annotations import check_annotations


def right() -> dict[str, Any]:
    """Return annotations without a fault: two images of 40 by 30 pixels, ids 7 and 8; two classes, three boxes."""
    box = {"area": 100, "iscrowd": 0}
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 40, "height": 30} for n in (7, 8)],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 5, "bbox": [0, 0, 40, 30], **box},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [5, 5, 10.5, 10], **box},
            {"id": 3, "image_id": 8, "category_id": 5, "bbox": [29.5, 19.5, 11, 11], **box},
        ],
        "categories": [{"id": 5, "name": "scratch"}, {"id": 3, "name": "dent"}],
    }


def written(folder: Path, content: Any) -> Path:
    for number in (7, 8):
        Image.new("RGB", (40, 30)).save(folder / f"{number}.png")
    file = folder / "annotations.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


def test_a_file_without_a_fault_gives_its_classes_in_the_order_of_the_head(tmp_path: Path) -> None:
    file = written(tmp_path, right())
    assert check_annotations(file, tmp_path) == ("scratch", "dent")
    assert check_annotations(file, tmp_path, labels=["dent", "bend", "scratch"]) == ("scratch", "dent")


def annotation(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["annotations"][1].update(changes)


def image(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["images"][1].update(changes)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            annotation(bbox=[35, 5, 10, 10]),
            ["reaches out", "annotation 2 of image 7", "[35, 5, 10, 10]", "40 x 30"],
        ),
        (annotation(bbox=[5, 25, 10, 10]), ["reaches out", "image 7"]),
        (annotation(bbox=[-3, 5, 10, 10]), ["reaches out", "image 7"]),
        (annotation(bbox=[5, 5, 0, 10]), ["not a box", "annotation 2 of image 7", "above 0"]),
        (annotation(bbox=[5, 5, 10]), ["not a box", "image 7"]),
        (annotation(bbox=[5, 5, float("nan"), 10]), ["not a box", "image 7"]),
        (annotation(bbox="5 5 10 10"), ["not a box", "image 7"]),
        (annotation(category_id=4), ["unknown class", "annotation 2 of image 7: category 4", "3, 5"]),
        (annotation(image_id=9), ["an image that is not in the file", "annotation 2 of image 9"]),
        (annotation(id=1), ["stands twice", "annotation 1 of image 7"]),
        (lambda content: content["annotations"][1].pop("area"), ["incomplete", "annotations[1] has no area"]),
        (image(file_name="gone.png"), ["missing", "image 8 (gone.png)", "data.images"]),
        (image(width=41), ["another size", "image 8 (8.png): 40 x 30", "41 x 30"]),
        (image(id=7), ["stands twice", "image 7"]),
        (lambda content: content["images"][1].pop("height"), ["incomplete", "images[1] has no height"]),
        (lambda content: content["annotations"].clear(), ["empty", "'annotations' is an empty list"]),
        (lambda content: content["images"].clear(), ["empty", "'images'"]),
        (lambda content: content.pop("categories"), ["not COCO annotations", "'categories'"]),
        (lambda content: content["categories"][1].pop("id"), ["has no id", "dent"]),
        (lambda content: content["categories"][0].update(name="dent"), ["stands twice", "5: dent, 3: dent"]),
    ],
)
def test_each_fault_is_named(tmp_path: Path, spoil: Callable[[dict[str, Any]], Any], said: list[str]) -> None:
    content = right()
    spoil(content)
    file = written(tmp_path, content)
    with pytest.raises(SourceError) as caught:
        check_annotations(file, tmp_path)
    assert str(file) in str(caught.value)
    for words in said:
        assert words in str(caught.value), words


def test_a_class_that_is_not_trained_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"(?s)received: dent.*expected: scratch, bend"):
        check_annotations(written(tmp_path, right()), tmp_path, labels=["scratch", "bend"])


def test_a_category_without_a_name_is_no_category(tmp_path: Path) -> None:
    content = right()
    del content["categories"][0]["name"]
    with pytest.raises(InvalidArgumentError, match="not COCO annotations"):
        check_annotations(written(tmp_path, content), tmp_path)


def test_broken_json_is_reported_by_its_line(tmp_path: Path) -> None:
    lines = json.dumps(right(), indent=1).splitlines()
    lines[4] = lines[4].replace(":", "")
    with pytest.raises(SourceError, match=r"(?s)not JSON.*line 5, column"):
        check_annotations(written(tmp_path, "\n".join(lines)), tmp_path)


def test_what_is_no_file_and_no_text_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        check_annotations(tmp_path / "typo.json", tmp_path)
    (tmp_path / "binary.json").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(SourceError, match="not text"):
        check_annotations(tmp_path / "binary.json", tmp_path)
    with pytest.raises(SourceError, match="not COCO annotations"):
        check_annotations(written(tmp_path, "[1, 2]"), tmp_path)


def test_an_image_that_is_none_is_named(tmp_path: Path) -> None:
    file = written(tmp_path, right())
    (tmp_path / "8.png").write_bytes(b"not a picture")
    with pytest.raises(SourceError, match=r"(?s)cannot be read.*image 8 \(8\.png\)"):
        check_annotations(file, tmp_path)
