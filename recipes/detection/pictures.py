"""Sample pictures with what was found in them, after each epoch, in VisualDL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from paddle_warm_callbacks.hapi.callback import FitCallback
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from recipes.detection.coco_map import CocoMap

_COLORS = ("#e6194b", "#3cb44b", "#ffe119", "#4363d8", "#f58231", "#46f0f0", "#f032e6", "#bcf60c")


class SampleDetections(FitCallback):
    """Draw what the evaluation found in the first images of the validation set, beside what is there.

    Args:
        metric: That evaluates; its boxes are shown.
        annotations: COCO annotation file of the validation set.
        images: Folder that its file names are relative to.
        labels: The network's classes, in its order.
        count: Images shown.
        least_score: Of a box that is drawn, 0 to 1.
    """

    # Before the logs of the same epoch.
    order = 65

    def __init__(
        self,
        metric: CocoMap,
        annotations: Path,
        images: Path,
        labels: Sequence[str],
        *,
        count: int = 4,
        least_score: float = 0.3,
    ) -> None:
        super().__init__()
        content = json.loads(annotations.read_text(encoding="utf-8"))
        names = {category["id"]: category["name"] for category in content["categories"]}
        self._metric = metric
        self._labels = list(labels)
        self._least_score = least_score
        self._samples = [
            (
                image["id"],
                images / image["file_name"],
                [
                    (names[a["category_id"]], names[a["category_id"]], _corners(a["bbox"]))
                    for a in content["annotations"]
                    if a["image_id"] == image["id"]
                ],
            )
            for image in content["images"][:count]
        ]

    def epoch_completed(self, loop: FitLoop, logs: dict[str, Any], eval_logs: dict[str, Any] | None) -> None:
        """Put the pictures on the board."""
        if eval_logs is None or self._metric.last is None:
            return
        for number, (image, file, truth) in enumerate(self._samples):
            found = [
                (self._labels[int(kind)], f"{self._labels[int(kind)]} {score:.2f}", corners)
                for kind, score, *corners in self._metric.last.by_image.get(image, np.zeros((0, 6))).tolist()
                if score >= self._least_score
            ]
            picture = np.concatenate([self._drawn(file, truth), self._drawn(file, found)], axis=1)
            # A tag that begins so is an evaluation's, to the logs of a resumed run too.
            loop.board.pictures.append((f"eval/sample_{number}", loop.progress.global_step, picture))

    def _drawn(self, file: Path, boxes: Sequence[tuple[str, str, Sequence[float]]]) -> Any:
        with Image.open(file) as opened:
            picture = opened.convert("RGB")
        draw = ImageDraw.Draw(picture)
        for name, text, (x1, y1, x2, y2) in boxes:
            color = _COLORS[self._labels.index(name) % len(_COLORS)] if name in self._labels else "white"
            draw.rectangle([min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)], outline=color)
            draw.text((x1 + 2, y1), text, fill=color)
        return np.asarray(picture)


def _corners(box: Sequence[float]) -> list[float]:
    x, y, width, height = box
    return [x, y, x + width, y + height]
