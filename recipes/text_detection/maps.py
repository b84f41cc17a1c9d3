"""What DB learns of a page: a map of its texts, shrunk so that neighbours do not touch, and what of it counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pyclipper
from shapely.geometry import Polygon

Outline = np.ndarray[Any, Any]  # float32 [points, 2], x and y in pixels

# As in PaddleOCR, and in Liao et al., Real-time Scene Text Detection with Differentiable Binarization, section 3.4.
_SHRINK = 0.4
_SMALLEST = 4.0  # pixels; a lower text is neither text nor paper


def shrunk(outline: Outline) -> Outline | None:
    """Return an outline moved inwards by ``area * (1 - 0.4 ** 2) / perimeter``; None if nothing is left of it."""
    polygon = Polygon(outline)
    if polygon.area == 0:
        return None
    offset = pyclipper.PyclipperOffset()
    offset.AddPath(outline.tolist(), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    left = offset.Execute(-polygon.area * (1 - _SHRINK**2) / polygon.length)
    return np.array(max(left, key=len), dtype="float32") if left else None


def text_maps(
    outlines: Sequence[Outline], ignored: Sequence[bool], size: tuple[int, int]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return where text is and which pixels count: float32 [1, height, width] each, of zeros and ones.

    Pixels of a text that is ignored, or too small to be shrunk, do not count.

    Args:
        outlines: Of the texts.
        ignored: Whether a text is illegible, ``###`` in PaddleOCR's files.
        size: Height and width.
    """
    text, counts = np.zeros(size, dtype="float32"), np.ones(size, dtype="float32")
    for outline, illegible in zip(outlines, ignored):
        low = min(cv2.minAreaRect(outline.astype("float32"))[1]) < _SMALLEST
        inner = None if illegible or low else shrunk(outline)
        where, value, area = (counts, 0.0, outline) if inner is None else (text, 1.0, inner)
        cv2.fillPoly(where, [np.round(area).astype("int32")], value)
    return text[None], counts[None]
