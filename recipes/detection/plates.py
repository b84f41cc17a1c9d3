"""Pictures of metal plates with defects, made here, in the COCO format: what the recipe trains on by default."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

import numpy as np
from PIL import Image

from recipes.common.written_once import write_once

Array = Any  # float32 [size, size], or [size, size, 3] for pictures: brightness from 0 to 1

SIZE = 96
# In the order of the alphabet, so that the old classes stand neither first nor together among all.
CLASSES = ("blister", "crack", "dent", "rust", "scratch", "spot")
OLD_CLASSES = ("dent", "scratch", "spot")
_SEEN = 0.2  # share of a defect's greatest opacity, from which on a pixel belongs to its box
_LEAST_SIDE = 8  # pixels of a box: what is thinner has no cell of a detector's grid to itself
_MOST_OVERLAP = 0.2  # of two boxes, as a share of the smaller


def write_plates(
    directory: Path, sets: Mapping[str, tuple[Sequence[str], int]], *, seed: int = 0
) -> dict[str, Path]:
    """Write ``<set>.json`` and ``images/<set>/0001.jpg`` and so on for each set, once.

    Where the folder is already there nothing is done.

    Args:
        directory: The folder.
        sets: Set to its classes, in the order of the categories, and its number of pictures.
        seed: Of the pictures.

    Returns:
        Set to annotation file.
    """

    def write(into: Path) -> None:
        for number, (name, (classes, count)) in enumerate(sets.items()):
            _write_set(into, name, classes, count, np.random.default_rng([seed, number]))

    write_once(directory, write)
    return {name: directory / f"{name}.json" for name in sets}


def plate(classes: Sequence[str], draw: np.random.Generator) -> tuple[Array, list[tuple[str, list[float]]]]:
    """Return one picture and its defects: class and ``[x, y, width, height]`` in pixels."""
    picture = _metal(draw)
    for _ in range(int(draw.integers(0, 2))):
        picture = _rivet(picture, draw)
    defects: list[tuple[str, list[float]]] = []
    for _ in range(int(draw.integers(2, 5))):
        name = classes[int(draw.integers(len(classes)))]
        changed, opacity = _DEFECTS[name](picture, draw)
        box = _box(opacity)
        if box is None or any(_overlap(box, other) > _MOST_OVERLAP for _, other in defects):
            continue
        picture = changed
        defects.append((name, box))
    noisy = picture + draw.normal(0, 0.015, picture.shape)
    return (np.clip(noisy, 0, 1) * 255).astype("uint8"), defects


def _write_set(root: Path, name: str, classes: Sequence[str], count: int, draw: np.random.Generator) -> None:
    (root / "images" / name).mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    while len(images) < count:
        picture, defects = plate(classes, draw)
        if not defects:
            continue
        file = f"images/{name}/{len(images) + 1:04d}.jpg"
        Image.fromarray(picture).save(root / file, quality=92)
        images.append({"id": len(images) + 1, "file_name": file, "width": SIZE, "height": SIZE})
        annotations += [
            {
                "id": len(annotations) + number,
                "image_id": len(images),
                "category_id": classes.index(defect) + 1,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            for number, (defect, box) in enumerate(defects, 1)
        ]
    categories = [{"id": number, "name": label} for number, label in enumerate(classes, 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / f"{name}.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


# -- surfaces

_Y, _X = np.mgrid[0:SIZE, 0:SIZE].astype("float32")


def _smooth(draw: np.random.Generator, cells: int) -> Array:
    """Return noise between -1 and 1 whose hills are about ``SIZE / cells`` pixels wide."""
    coarse = draw.uniform(-1, 1, (cells, cells)).astype("float32")
    return np.asarray(Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def _metal(draw: np.random.Generator) -> Array:
    """Return a bare plate: brushed along or across, or cast, unevenly lit."""
    base = draw.uniform(0.4, 0.65) + 0.10 * _smooth(draw, 3)
    kind = draw.integers(3)
    if kind == 2:
        base = base + 0.05 * _smooth(draw, 40) + 0.03 * _smooth(draw, 80)
    else:
        lines = draw.normal(0, 0.025, SIZE).astype("float32")
        lines = (lines + np.roll(lines, 1)) / 2 + 0.02 * _smooth(draw, 60)
        base = base + (lines if kind == 0 else lines.T)
    tint = 1 + draw.uniform(-0.04, 0.04, 3)
    return (base[..., None] * tint).astype("float32")


def _rivet(picture: Array, draw: np.random.Generator) -> Array:
    """Return the picture with something round on it that is no defect."""
    x, y = draw.uniform(15, SIZE - 15, 2)
    radius = draw.uniform(5, 8)
    distance = np.hypot(_X - x, _Y - y)
    opacity = np.clip(radius - distance, 0, 1)
    slot = np.clip(1.5 - np.abs((_X - x) * 0.6 + (_Y - y) * 0.8), 0, 1) * (distance < radius * 0.8)
    return _blend(picture, 0.62 - 0.35 * slot[..., None], opacity)


# -- defects: each returns the picture with it, and its opacity


def _scratch(picture: Array, draw: np.random.Generator) -> tuple[Array, Array]:
    start = draw.uniform(10, SIZE - 10, 2)
    angle, length = draw.choice([-1, 1]) * draw.uniform(0.3, 1.25), draw.uniform(35, 65)
    end = start + length * np.array([np.cos(angle), np.sin(angle)])
    bend = (start + end) / 2 + draw.uniform(-8, 8, 2)
    t = np.linspace(0, 1, 40)[:, None]
    curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
    opacity = np.clip(draw.uniform(2.2, 3.4) - _distance(curve), 0, 1)
    shade = 0.32 if draw.random() < 0.3 else -0.32
    return _blend(picture, picture + shade * draw.uniform(0.7, 1.2), opacity), opacity


def _crack(picture: Array, draw: np.random.Generator) -> tuple[Array, Array]:
    at = draw.uniform(20, SIZE - 20, 2)
    heading = draw.uniform(0, 2 * np.pi)
    points = [at]
    for _ in range(int(draw.integers(6, 11))):
        turned = heading + draw.normal(0, 0.8)
        points.append(points[-1] + draw.uniform(6, 10) * np.array([np.cos(turned), np.sin(turned)]))
    branch = points[len(points) // 2]
    turned = heading + draw.choice([-1.2, 1.2])
    paths = [np.array(points), np.array([branch, branch + 12 * np.array([np.cos(turned), np.sin(turned)])])]
    opacity = np.clip(2.5 - np.min([_distance(_dense(path)) for path in paths], axis=0), 0, 1)
    return _blend(picture, picture - 0.32, opacity), opacity


def _dent(picture: Array, draw: np.random.Generator) -> tuple[Array, Array]:
    u, v, _ = _ellipse(draw, 11, 20)
    opacity = np.exp(-((u * u + v * v) ** 2))
    return _blend(picture, picture + 0.6 * np.clip(u, -1, 1)[..., None], opacity), opacity


def _blister(picture: Array, draw: np.random.Generator) -> tuple[Array, Array]:
    u, v, width = _ellipse(draw, 10, 18)
    radius = np.hypot(u, v)
    rim = np.exp(-(((radius - 0.9) * width / 2) ** 2))
    glint = np.exp(-12 * ((u - 0.35) ** 2 + (v + 0.35) ** 2))
    opacity = np.clip(rim + 0.9 * glint + 0.3 * (radius < 0.9), 0, 1)
    shade = -0.18 * rim + 0.32 * glint + 0.05
    return _blend(picture, picture + shade[..., None], opacity), opacity


def _spot(picture: Array, draw: np.random.Generator) -> tuple[Array, Array]:
    u, v, width = _ellipse(draw, 7, 11)
    opacity = np.clip((1 + 0.3 * _smooth(draw, 20) - np.hypot(u, v)) * width / 2, 0, 1)
    return _blend(picture, picture - draw.uniform(0.2, 0.35), opacity), opacity


def _rust(picture: Array, draw: np.random.Generator) -> tuple[Array, Array]:
    u, v, _ = _ellipse(draw, 13, 23)
    opacity = np.clip(3 * (1 - np.hypot(u, v) + 0.5 * _smooth(draw, 16)), 0, 0.6)
    color = np.array([0.45, 0.32, 0.24]) + 0.08 * _smooth(draw, 50)[..., None]
    return _blend(picture, color, opacity), opacity


_DEFECTS: dict[str, Callable[[Array, np.random.Generator], tuple[Array, Array]]] = {
    "blister": _blister,
    "crack": _crack,
    "dent": _dent,
    "rust": _rust,
    "scratch": _scratch,
    "spot": _spot,
}


def _ellipse(draw: np.random.Generator, least: float, most: float) -> tuple[Array, Array, float]:
    """Return coordinates in which an ellipse of so many pixels' half axes is the unit circle, and its half width."""
    x, y = draw.uniform(most, SIZE - most, 2)
    width, height = draw.uniform(least, most, 2)
    angle = draw.uniform(0, 2 * np.pi)
    dx, dy = _X - x, _Y - y
    u = (dx * np.cos(angle) + dy * np.sin(angle)) / width
    v = (-dx * np.sin(angle) + dy * np.cos(angle)) / height
    return u, v, float(width)


def _dense(path: Array) -> Array:
    t = np.linspace(0, len(path) - 1, 8 * len(path))
    return np.stack([np.interp(t, np.arange(len(path)), path[:, axis]) for axis in (0, 1)], axis=1)


def _distance(points: Array) -> Array:
    """Return each pixel's distance to the nearest of ``points``, x and y in pixels."""
    nearest = np.full((SIZE, SIZE), np.inf, "float32")
    for x, y in points:
        np.minimum(nearest, np.hypot(_X - x, _Y - y), out=nearest)
    return nearest


def _blend(picture: Array, over: Array, opacity: Array) -> Array:
    return picture + (over - picture) * opacity[..., None]


def _box(opacity: Array) -> list[float] | None:
    """Return the box of the pixels that show; None if it is too thin."""
    seen = opacity > _SEEN * max(float(opacity.max()), 0.5)
    columns, rows = np.flatnonzero(seen.any(0)), np.flatnonzero(seen.any(1))
    if len(columns) < _LEAST_SIDE or len(rows) < _LEAST_SIDE:
        return None
    x, y = float(columns[0]), float(rows[0])
    return [x, y, float(columns[-1] + 1 - x), float(rows[-1] + 1 - y)]


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0) / min(one[2] * one[3], other[2] * other[3])
