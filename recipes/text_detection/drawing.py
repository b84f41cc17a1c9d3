"""Pages with text drawn on them and written as a PaddleOCR data set: what the recipe trains on without arguments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from shapely.geometry import Polygon

from recipes.common.fonts import bundled_fonts
from recipes.common.written_once import write_once

SIZE = 128
_LETTERS = list("ABCDEFGHIJKLMNOPRSTUVXYZabcdefghiklmnoprstuvxyz0123456789")
_TRIES = 40  # to place a text where no other is


@dataclass(frozen=True)
class Look:
    """What pages look like.

    Attributes:
        turned: Texts are turned by up to so many degrees.
        dark: Whether paper is dark and ink is light.
        clutter: How many lines and rectangles are drawn beside the texts.
    """

    turned: float
    dark: bool
    clutter: int


DOCUMENTS = Look(turned=4, dark=False, clutter=0)
LABELS = Look(turned=35, dark=True, clutter=4)  # of machines, as a camera in a workshop sees them


def write_pages(directory: Path, sets: Mapping[str, tuple[Look, int]], seed: int = 0) -> dict[str, Path]:
    """Draw the pages once; where the folder is already there nothing is done. It appears by a rename.

    Args:
        directory: Gets ``images/`` and a label file for each set.
        sets: Look and number of pages by the set's name.
        seed: Of everything that is random.

    Returns:
        The label files by the sets' names.
    """
    write_once(directory, lambda folder: _write(folder, sets, np.random.default_rng(seed)))
    return {name: directory / f"{name}.txt" for name in sets}


def _write(directory: Path, sets: Mapping[str, tuple[Look, int]], random: np.random.Generator) -> None:
    (directory / "images").mkdir()
    for name, (look, count) in sets.items():
        lines = []
        for number in range(count):
            path = f"images/{name}-{number:04d}.png"
            image, texts = page(look, random)
            cv2.imwrite(str(directory / path), image)
            lines.append(f"{path}\t{json.dumps(texts, ensure_ascii=False)}\n")
        (directory / f"{name}.txt").write_text("".join(lines), encoding="utf-8")


def page(look: Look, random: np.random.Generator) -> tuple[np.ndarray[Any, Any], list[dict[str, Any]]]:
    """Return a page as uint8 [128, 128, 3], and its texts as PaddleOCR's label files have them."""
    paper, ink = (random.uniform(*range_, 3) for range_ in ((170, 255), (0, 90)))
    if look.dark:
        paper, ink = ink, paper
    left, right = random.uniform(0.8, 1.1, 2)
    light = np.linspace(left, right, SIZE)[None, :, None]
    pixels = np.broadcast_to(paper * light, (SIZE, SIZE, 3)).astype("float32", order="C")
    for _ in range(look.clutter):
        ends = random.integers(0, SIZE, 4).tolist()
        colour = (paper + random.uniform(-60, 60, 3)).tolist()
        draw = cv2.line if random.random() < 0.5 else cv2.rectangle
        draw(pixels, tuple(ends[:2]), tuple(ends[2:]), colour, int(random.integers(1, 4)))
    texts: list[dict[str, Any]] = []
    taken: list[Polygon] = []
    for _ in range(int(random.integers(1, 5))):
        word = "".join(random.choice(_LETTERS, random.integers(3, 8)))
        fonts = bundled_fonts()
        font = ImageFont.truetype(str(fonts[random.integers(len(fonts))]), int(random.integers(12, 20)))
        mask, outline = _placed(word, font, look.turned, random, taken)
        if mask is None:
            continue
        taken.append(Polygon(outline).buffer(4))
        texts.append({"transcription": word, "points": np.round(outline).astype(int).tolist()})
        pixels += (ink - pixels) * mask[:, :, None]
    pixels = cv2.GaussianBlur(pixels, (0, 0), random.uniform(0.3, 1.0))
    pixels += random.normal(0, random.uniform(2, 8), pixels.shape)
    image: np.ndarray[Any, Any] = np.clip(pixels, 0, 255).astype("uint8")
    return image, texts


def _placed(
    word: str, font: Any, turned: float, random: np.random.Generator, taken: list[Polygon]
) -> tuple[Any, np.ndarray[Any, Any]]:
    """Return a word's ink, 0 to 1, and its outline, where nothing is yet; the ink is None where no place is found."""
    left, top, right, bottom = font.getbbox(word)
    width, height = int(right - left) + 6, int(bottom - top) + 6
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype="float32")
    for _ in range(_TRIES):
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), random.uniform(-turned, turned), 1)
        matrix[:, 2] += random.uniform(0, SIZE, 2) - (width / 2, height / 2)
        outline = cv2.transform(corners[None], matrix)[0]
        inside = outline.min() >= 2 and outline.max() <= SIZE - 2
        if inside and not any(Polygon(outline).intersects(other) for other in taken):
            drawn = Image.new("L", (width, height))
            ImageDraw.Draw(drawn).text((3 - left, 3 - top), word, fill=255, font=font)
            mask = cv2.warpAffine(np.asarray(drawn), matrix, (SIZE, SIZE), flags=cv2.INTER_AREA)
            return mask.astype("float32") / 255, outline
    return None, corners
