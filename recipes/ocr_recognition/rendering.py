"""Text lines drawn with free fonts and written as a PaddleOCR data set: what the recipe trains on without arguments."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from paddle_warm_callbacks.errors import InvalidArgumentError
from recipes.common.fonts import fonts_for
from recipes.common.written_once import write_once

KNOWN = "0123456789ABCEHKMPTX"
NEW = "abdeghqr%€"  # letters that are no capital in small, and units
_HEIGHT = 48


@dataclass(frozen=True)
class DataSet:
    """Files of a data set as PaddleOCR has it.

    Attributes:
        train: Label file for training, ``path<TAB>text`` a line; paths are relative to its folder.
        val: Label file for validation.
        dictionary: The characters, one a line.
    """

    train: Path
    val: Path
    dictionary: Path


@dataclass(frozen=True)
class Lines:
    """How many lines of each kind are drawn.

    Attributes:
        old: For the old model: characters it knows.
        kept: For the new one: the same characters again.
        new: For the new one: at least one new character in each.
        val: For validation, of each kind.
    """

    old: int = 1920
    kept: int = 160
    new: int = 320
    val: int = 96


def write_text_lines(
    directory: Path,
    *,
    known: str = KNOWN,
    new: str = NEW,
    fonts: Sequence[Path] = (),
    lines: Lines | None = None,
    seed: int = 0,
) -> tuple[DataSet, DataSet]:
    """Draw the lines once; where the folder is already there nothing is done.

    It appears by a rename, whole or not at all. The new dictionary holds the old one's characters in another order,
    with the new ones among them.

    Args:
        directory: Gets ``images/``, the label files and the dictionaries.
        known: Characters of the old model.
        new: Characters that arrive.
        fonts: TrueType files; none for DejaVu if it has all of them, else for installed ones that have.
        lines: How many.
        seed: Of everything that is random.

    Returns:
        The data sets of the old and of the new model.

    Raises:
        SourceError: There is no font that has all of them.
        InvalidArgumentError: Lines of other characters are there.
    """
    write_once(
        directory,
        lambda folder: _write(folder, known, new, fonts_for(known + new, fonts), lines or Lines(), seed),
    )
    _require_same(directory / "old_dictionary.txt", known)
    _require_same(directory / "dictionary.txt", known + new)
    old = DataSet(directory / "old_train.txt", directory / "old_val.txt", directory / "old_dictionary.txt")
    return old, DataSet(directory / "train.txt", directory / "val.txt", directory / "dictionary.txt")


def _require_same(file: Path, characters: str) -> None:
    drawn = "".join(file.read_text(encoding="utf-8").split("\n"))
    if sorted(drawn) != sorted(characters):
        raise InvalidArgumentError(
            "other characters are drawn already",
            where=str(file),
            received=characters,
            expected=drawn,
            remedy="give another output, or delete the folder",
        )


def _write(directory: Path, known: str, new: str, fonts: Sequence[Path], lines: Lines, seed: int) -> None:
    random = np.random.default_rng(seed)
    (directory / "images").mkdir()
    faces = [(str(font), size) for font in fonts for size in (28, 32)]
    loaded = [ImageFont.truetype(font, size) for font, size in faces]
    number = 0

    def draw(file: str, count: int, having_new: bool) -> None:
        nonlocal number
        with (directory / file).open("a", encoding="utf-8") as labels:
            for _ in range(count):
                text = _text(random, known, new if having_new else "")
                path = f"images/{number:05d}.png"
                cv2.imwrite(
                    str(directory / path), line_image(text, loaded[random.integers(len(loaded))], random)
                )
                labels.write(f"{path}\t{text}\n")
                number += 1

    draw("old_train.txt", lines.old, False)
    draw("old_val.txt", lines.val, False)
    # The old model is judged on the very lines that the new one is, so that the two can be compared.
    shutil.copyfile(directory / "old_val.txt", directory / "val.txt")
    draw("val.txt", lines.val, True)
    draw("train.txt", lines.kept, False)
    draw("train.txt", lines.new, True)
    _dictionary(directory / "old_dictionary.txt", known)
    _dictionary(directory / "dictionary.txt", "".join(random.permutation(list(known + new))))


def _dictionary(file: Path, characters: str) -> None:
    file.write_text("".join(f"{character}\n" for character in characters), encoding="utf-8")


def _text(random: np.random.Generator, known: str, new: str) -> str:
    """Return one to three characters, at least one of ``new`` among them if there are any."""
    length = int(random.integers(1, 4))
    text = [known[random.integers(len(known))] for _ in range(length)]
    if new:
        for place in random.permutation(length)[: 1 + int(random.integers(0, 2))]:
            text[place] = new[random.integers(len(new))]
    return "".join(text)


def line_image(text: str, font: Any, random: np.random.Generator) -> np.ndarray[Any, Any]:
    """Return one line of text as uint8 [48, width, 3]: ink on paper, turned, sheared, blurred and noisy."""
    left, top, right, bottom = font.getbbox(text)
    width = int(right - left) + 12
    mask = Image.new("L", (width, _HEIGHT))
    ImageDraw.Draw(mask).text((6 - left, (_HEIGHT - (bottom - top)) // 2 - top), text, fill=255, font=font)
    turn = np.deg2rad(random.uniform(-3, 3))
    shear = random.uniform(-0.1, 0.1)
    center = np.array([width / 2, _HEIGHT / 2])
    matrix = np.array([[np.cos(turn), shear - np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shift = center - matrix @ center + random.uniform(-1.5, 1.5, 2)
    ink = cv2.warpAffine(np.asarray(mask), np.column_stack([matrix, shift]), (width, _HEIGHT))
    ink = cv2.GaussianBlur(ink, (0, 0), random.uniform(0.3, 0.8)).astype("float32")[:, :, None] / 255
    paper, colour = random.uniform(180, 255, 3), random.uniform(0, 70, 3)
    light = np.linspace(random.uniform(0.9, 1.05), random.uniform(0.9, 1.05), width)[None, :, None]
    pixels = (paper * (1 - ink) + colour * ink) * light + random.normal(0, random.uniform(2, 6), ink.shape)
    image: np.ndarray[Any, Any] = np.clip(pixels, 0, 255).astype("uint8")
    return image
