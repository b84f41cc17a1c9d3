"""Pages to find text on: PaddleOCR's label files for detection, as ``Model.fit`` wants them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import paddle

from paddle_warm_callbacks.errors import SourceError
from recipes.text_detection.maps import Outline, text_maps

# PaddleOCR's, which takes those of ImageNet's RGB for its BGR.
_MEAN = np.array([0.485, 0.456, 0.406], dtype="float32")
_DEVIATION = np.array([0.229, 0.224, 0.225], dtype="float32")
_IGNORED = ("*", "###")


class TextPages(paddle.io.Dataset):  # type: ignore[misc]  # Paddle is untyped
    """The pages of a label file.

    Yields ``(image: float32 [3, size, size], text, counts: float32 [1, size, size], number: int64 [1])``: the image
    BGR, scaled so that its longer side is ``size``, zeros right of it or below, normalised as PaddleOCR does; the maps
    of `text_maps`; and the page's number here.

    Args:
        file: ``path<TAB>[{"transcription": …, "points": [[x, y], …]}, …]`` a line.
        size: Height and width, in pixels, a multiple of 32.
        root: What paths are relative to; None: the file's folder.
        limit: At most so many pages, spread over the file; None for all.
        augment: Turn, scale and shift each page a little and change its contrast, at random.

    Raises:
        SourceError: The file cannot be read, has no page, or has a line of another form.
    """

    def __init__(
        self,
        file: Path,
        size: int,
        *,
        root: Path | None = None,
        limit: int | None = None,
        augment: bool = False,
    ) -> None:
        super().__init__()
        pages = read_label_file(file)
        if limit is not None and limit < len(pages):
            pages = [pages[number * len(pages) // limit] for number in range(limit)]
        self._pages = [(str((root or file.parent) / path), texts) for path, texts in pages]
        self._size = size
        self._augment = augment

    def __len__(self) -> int:
        return len(self._pages)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        pixels, outlines, ignored = self._read(index)
        if self._augment:
            middle = self._size / 2
            matrix = cv2.getRotationMatrix2D(
                (middle, middle), random.uniform(-10, 10), random.uniform(0.8, 1.25)
            )
            matrix[:, 2] += random.uniform(-middle / 4, middle / 4), random.uniform(-middle / 4, middle / 4)
            pixels = cv2.warpAffine(pixels, matrix, (self._size, self._size))
            outlines = [cv2.transform(outline[None], matrix)[0] for outline in outlines]
        image = (pixels / np.float32(255) - _MEAN) / _DEVIATION
        if self._augment:
            image *= np.float32(random.uniform(0.7, 1.2))
        text, counts = text_maps(outlines, ignored, (self._size, self._size))
        number = np.array([index], dtype="int64")
        return np.ascontiguousarray(image.transpose(2, 0, 1)), text, counts, number

    def texts(self, index: int) -> tuple[list[Outline], list[bool]]:
        """Return the outlines on a page, in the pixels of what the network gets, and which of them are illegible."""
        _, outlines, ignored = self._read(index)
        return outlines, ignored

    def _read(self, index: int) -> tuple[np.ndarray[Any, Any], list[Outline], list[bool]]:
        path, texts = self._pages[index]
        given = cv2.imread(path)
        if given is None:
            raise SourceError("not an image", where=path, expected="what OpenCV can read")
        scale = self._size / max(given.shape[:2])
        height, width = (max(1, round(scale * side)) for side in given.shape[:2])
        pixels = np.zeros((self._size, self._size, 3), dtype="uint8")
        pixels[:height, :width] = cv2.resize(given, (width, height))
        outlines = [np.array(text["points"], dtype="float32") * np.float32(scale) for text in texts]
        return pixels, outlines, [text["transcription"] in _IGNORED for text in texts]


def read_label_file(file: Path) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return path and texts of each page.

    Raises:
        SourceError: The file cannot be read, has no page, or a line is not a path, a tab and a JSON list of texts.
    """
    expected = 'path<TAB>[{"transcription": "text", "points": [[x, y], …]}, …] a line, in UTF-8'
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as unreadable:
        raise SourceError(
            "the label file cannot be read",
            where=str(file),
            received=str(unreadable),
            expected=expected,
            remedy="pass data.train=… data.val=…",
        ) from unreadable
    found = []
    for number, line in enumerate(lines, 1):
        path, _, texts = line.partition("\t")
        try:
            pages = json.loads(texts)
            for text in pages:
                if np.shape(text["points"])[1:] != (2,) or len(text["points"]) < 4:
                    raise ValueError(f"points {text['points']}")
                text["transcription"].strip()
        except (ValueError, KeyError, TypeError, AttributeError) as wrong:
            raise SourceError(
                "not a line of a label file for detection",
                where=f"{file}, line {number}",
                received=f"{line[:100]} ({type(wrong).__name__}: {wrong})",
                expected=expected,
            ) from wrong
        found.append((path, pages))
    if not found:
        raise SourceError("no page to train on", where=str(file), received="an empty file", expected=expected)
    return found
