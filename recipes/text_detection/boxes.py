"""How well texts are found: outlines from DB's maps, matched with the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
from shapely.geometry import Polygon

from recipes.text_detection.maps import Outline
from recipes.text_detection.text_pages import TextPages

_OVERLAP = 0.5


def matched(
    found: Sequence[Outline], true: Sequence[Outline], ignored: Sequence[bool]
) -> tuple[int, int, int]:
    """Return how many texts were hit, how many outlines were found, and how many texts there are, as ICDAR counts.

    An outline hits a text if they overlap by more than half of their union, each at most once. One of which more than
    half lies on an ignored text is not counted, nor is the ignored text.
    """
    texts = [Polygon(outline).buffer(0) for outline in true]
    legible = [text for text, illegible in zip(texts, ignored) if not illegible]
    illegible = [text for text, skip in zip(texts, ignored) if skip]
    counted = [
        box
        for box in (Polygon(outline).buffer(0) for outline in found)
        if not any(box.intersection(text).area > _OVERLAP * box.area for text in illegible)
    ]
    left = list(legible)
    for box in counted:
        hit = next(
            (text for text in left if box.intersection(text).area > _OVERLAP * box.union(text).area), None
        )
        if hit is not None:
            left.remove(hit)
    return len(legible) - len(left), len(counted), len(legible)


class Hmean(paddle.metric.Metric):  # type: ignore[misc]  # Paddle is untyped
    """Precision, recall, and their harmonic mean ``hmean``, of the outlines that paddlex finds in the maps.

    Only evaluations are judged: finding outlines in a map of noise takes longer than a step of training.

    Args:
        pages: The pages that are evaluated on; their last item is a page's number.
    """

    def __init__(self, pages: TextPages) -> None:
        super().__init__()
        from paddlex.inference.models.text_detection.processors import DBPostProcess

        self._pages = pages
        self._find = DBPostProcess(thresh=0.3, box_thresh=0.6, unclip_ratio=1.5)
        self.reset()

    def reset(self) -> None:
        self._hit = self._found = self._there = 0

    def compute(self, probability: Any, *labels: Any) -> Any:
        count = len(probability) if probability.stop_gradient else 0
        return probability[:count], labels[-1][:count]

    def update(self, probability: Any, number: Any) -> list[float]:
        for chances, page in zip(np.asarray(probability), np.asarray(number).ravel()):
            height, width = chances.shape[1:]
            boxes, _ = self._find([chances[None]], [(height, width, 1.0, 1.0)])
            hit, found, there = matched(boxes[0], *self._pages.texts(int(page)))
            self._hit += hit
            self._found += found
            self._there += there
        return self.accumulate()

    def accumulate(self) -> list[float]:
        precision, recall = self._hit / max(self._found, 1), self._hit / max(self._there, 1)
        return [precision, recall, 2 * precision * recall / max(precision + recall, 1e-9)]

    def name(self) -> list[str]:
        return ["precision", "recall", "hmean"]
