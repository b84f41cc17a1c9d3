"""COCO annotation files, checked before anything is trained on them: what is wrong, and in which image."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from paddle_warm_callbacks.errors import SourceError
from paddle_warm_callbacks.plan.labels import labels_from_coco

_ROUNDING = 1.0  # pixels that a box may stick out: COCO's own do, by less


def check_annotations(file: Path, images: Path, *, labels: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the classes of an annotation file in the order of its categories, after a look at everything in it.

    Args:
        file: In the COCO format.
        images: Folder that its file names are relative to.
        labels: Classes that the file must keep to, such as those that are trained; None: any.

    Raises:
        SourceError: It cannot be used; says the line, or the ids of annotation and image.
    """
    content = _read(file)
    known = labels_from_coco(content)
    _check_categories(file, content["categories"], known, labels)
    sizes = dict(_image_sizes(file, images, content["images"]))
    categories = {category["id"] for category in content["categories"]}
    seen: set[Any] = set()
    for number, annotation in enumerate(content["annotations"]):
        _check_annotation(file, number, annotation, sizes, categories, seen)
    return known


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as missing:
        raise _wrong("the annotation file cannot be read", file, str(missing)) from missing
    except UnicodeDecodeError as binary:
        raise _wrong("the annotation file is not text", file, str(binary)) from binary
    except json.JSONDecodeError as broken:
        where = f"line {broken.lineno}, column {broken.colno}: {broken.msg}"
        raise _wrong("the annotation file is not JSON", file, where) from broken
    for part in ("images", "annotations", "categories"):
        entries = content.get(part) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise _wrong("not COCO annotations", file, f"no list of objects under {part!r}")
        if not entries:
            raise _wrong("the annotation file is empty", file, f"{part!r} is an empty list")
    return dict(content)


def _check_categories(
    file: Path, categories: list[dict[str, Any]], known: Sequence[str], labels: Sequence[str] | None
) -> None:
    numbers = [category.get("id") for category in categories]
    if None in numbers:
        raise _wrong("a category has no id", file, known[numbers.index(None)])
    if len(set(known)) < len(known) or len(set(numbers)) < len(numbers):
        raise _wrong(
            "a category stands twice", file, ", ".join(f"{n}: {label}" for n, label in zip(numbers, known))
        )
    strange = [label for label in known if labels is not None and label not in labels]
    if strange:
        raise _wrong(
            "a class is not among those that are trained",
            file,
            ", ".join(strange),
            expected=", ".join(labels or ()),
            remedy="training and validation need the same class names",
        )


def _image_sizes(
    file: Path, folder: Path, images: list[dict[str, Any]]
) -> Iterator[tuple[Any, tuple[int, int]]]:
    seen: set[Any] = set()
    for number, image in enumerate(images):
        lacking = [key for key in ("id", "file_name", "width", "height") if key not in image]
        if lacking:
            raise _wrong(
                "an image's entry is incomplete", file, f"images[{number}] has no {', '.join(lacking)}"
            )
        where = f"image {image['id']} ({image['file_name']})"
        if image["id"] in seen:
            raise _wrong("an image's id stands twice", file, where)
        seen.add(image["id"])
        path = folder / image["file_name"]
        if not path.is_file():
            raise _wrong(
                "an image is missing",
                file,
                f"{where}: there is no {path}",
                remedy="file names are relative to data.images, or else to the annotation file's folder",
            )
        try:
            with Image.open(path) as opened:
                size = opened.size
        except OSError as unreadable:
            raise _wrong("an image cannot be read", file, f"{where}: {unreadable}") from unreadable
        if size != (image["width"], image["height"]):
            raise _wrong(
                "an image has another size than its entry says",
                file,
                f"{where}: {size[0]} x {size[1]}",
                expected=f"{image['width']} x {image['height']}, which its boxes are measured in",
            )
        yield image["id"], size


def _check_annotation(
    file: Path,
    number: int,
    annotation: dict[str, Any],
    sizes: dict[Any, tuple[int, int]],
    categories: set[Any],
    seen: set[Any],
) -> None:
    lacking = [
        key for key in ("id", "image_id", "category_id", "bbox", "area", "iscrowd") if key not in annotation
    ]
    if lacking:
        raise _wrong(
            "an annotation is incomplete", file, f"annotations[{number}] has no {', '.join(lacking)}"
        )
    where = f"annotation {annotation['id']} of image {annotation['image_id']}"
    if annotation["id"] in seen:
        raise _wrong("an annotation's id stands twice", file, where)
    seen.add(annotation["id"])
    if annotation["image_id"] not in sizes:
        raise _wrong("a box is of an image that is not in the file", file, where)
    if annotation["category_id"] not in categories:
        raise _wrong(
            "a box is of an unknown class",
            file,
            f"{where}: category {annotation['category_id']}",
            expected="one of " + ", ".join(map(str, sorted(categories))),
        )
    box, (width, height) = annotation["bbox"], sizes[annotation["image_id"]]
    if not _is_box(box):
        raise _wrong(
            "not a box",
            file,
            f"{where}: {box}",
            expected="[x, y, width, height] in pixels, width and height above 0",
        )
    x, y, across, down = box
    least, out = -_ROUNDING, (x + across > width + _ROUNDING or y + down > height + _ROUNDING)
    if x < least or y < least or out:
        raise _wrong(
            "a box reaches out of its image",
            file,
            f"{where}: {box}",
            expected=f"within {width} x {height}, as [x, y, width, height]",
            remedy="a box given by two corners has to be turned into its corner, width and height",
        )


def _is_box(box: Any) -> bool:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in box)
        and box[2] > 0
        and box[3] > 0
    )


def _wrong(what: str, file: Path, received: str, *, expected: str = "", remedy: str = "") -> SourceError:
    return SourceError(what, where=str(file), received=received, expected=expected, remedy=remedy)
