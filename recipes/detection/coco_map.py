"""COCO's mean average precision as a metric of ``fit``: of all classes, and of groups of them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle

_MOST_BOXES = 2  # index of COCO's 100 boxes an image among pycocotools' three limits
_ALL_SIZES = 0


class Detections:
    """Boxes by image: of class number, score, x1, y1, x2, y2 in pixels, float [boxes, 6].

    In a class of its own, so that no checkpoint takes it for a count to be saved.
    """

    def __init__(self) -> None:
        self.by_image: dict[int, Any] = {}


class CocoMap(paddle.metric.Metric):  # type: ignore[misc]  # Paddle is untyped
    """AP at IoU .50:.05:.95, as pycocotools computes it, over the images of one annotation file.

    In training it has no value (an empty list, which nothing logs); in an evaluation from the last batch on.

    Args:
        annotations: COCO annotation file.
        labels: The network's classes, in its order. Those that the file lacks are not evaluated.
        groups: Name of a further value to the classes it is the mean of.

    Attributes:
        last: What the last evaluation found, by image; None before one.
    """

    def __init__(
        self, annotations: Path, labels: Sequence[str], groups: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        super().__init__()
        from pycocotools.coco import COCO

        with contextlib.redirect_stdout(io.StringIO()):
            self._truth = COCO(str(annotations))
        number = {category["name"]: category["id"] for category in self._truth.dataset["categories"]}
        self._category = {index: number[name] for index, name in enumerate(labels) if name in number}
        names = {"mAP": list(labels), **(groups or {})}
        self._groups = {
            name: [number[label] for label in members if label in number] for name, members in names.items()
        }
        self.last: Detections | None = None
        self.reset()

    def name(self) -> list[str]:
        return list(self._groups)

    def reset(self) -> None:
        self._found = Detections()

    def compute(self, *outputs: Any) -> list[Any]:
        """Pass an evaluation's outputs on; of training there are none but the loss."""
        return list(outputs) if len(outputs) > 1 else []

    def update(self, *arrays: Any) -> None:
        """Take in a batch; an image that comes twice, to fill up a batch, counts once."""
        if arrays:
            boxes, counts, ids = arrays
            for table, count, image in zip(boxes, counts.ravel(), ids.ravel()):
                own = table[: int(count)]
                self._found.by_image[int(image)] = own[own[:, 0] >= 0]

    def accumulate(self) -> list[Any]:
        """Return the values once every image was seen, else as many empty lists."""
        if len(self._found.by_image) < len(self._truth.dataset["images"]):
            return [[] for _ in self._groups]
        self.last = self._found
        return list(self._evaluated())

    def _evaluated(self) -> list[float]:
        from pycocotools.cocoeval import COCOeval

        rows = [
            (image, x1, y1, x2 - x1, y2 - y1, score, self._category[int(number)])
            for image, table in sorted(self._found.by_image.items())
            for number, score, x1, y1, x2, y2 in table.tolist()
            if int(number) in self._category
        ]
        if not rows:
            return [0.0 for _ in self._groups]
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(self._truth, self._truth.loadRes(np.array(rows, "float64")), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
        # [IoU, recall, category, size, limit]; -1 where a category has no box
        precision = evaluation.eval["precision"][:, :, :, _ALL_SIZES, _MOST_BOXES]
        place = {category: index for index, category in enumerate(evaluation.params.catIds)}
        values = []
        for members in self._groups.values():
            own = precision[:, :, [place[category] for category in members]]
            values.append(float(own[own > -1].mean()) if (own > -1).any() else 0.0)
        return values
