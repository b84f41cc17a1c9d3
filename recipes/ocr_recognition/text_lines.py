"""Text lines to train on: PaddleOCR's label files and dictionaries, as ``Model.fit`` wants them."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

import cv2
import numpy as np
import paddle

from paddle_warm_callbacks.errors import SourceError

logger = logging.getLogger("paddle_warm_callbacks")


class TextLines(paddle.io.Dataset):  # type: ignore[misc]  # Paddle is untyped
    """The lines of a label file.

    Yields ``(image: float32 [3, height, width] about 0, label: int64 [length], used: int64 [1])``: the image BGR,
    scaled to the height, at most to the width, zeros right of it, as PaddleOCR does; ``label`` has the characters'
    places in the dictionary from 1, 0 being CTC's blank, and zeros behind the first ``used``. With ``encode`` it
    yields ``(image, *further targets, label, used, label, used)``.

    Args:
        file: ``path<TAB>text`` a line.
        characters: The dictionary. Of a character that stands twice the last place counts.
        size: Height and width, in pixels.
        root: What paths are relative to; None: the file's folder.
        max_length: Characters of the longest line that is used.
        limit: At most so many lines, spread over the file; None for all.
        augment: Shift each image by a few pixels and change its contrast, at random.
        encode: Makes further targets of a text and of the share of the width that its image fills.

    Raises:
        SourceError: The file cannot be read, or no line is left. Lines that are too long or have a character that is
            not in the dictionary are left out, which is logged.
    """

    def __init__(
        self,
        file: Path,
        characters: Sequence[str],
        size: tuple[int, int],
        *,
        root: Path | None = None,
        max_length: int = 25,
        limit: int | None = None,
        augment: bool = False,
        encode: Callable[[str, float], list[Any]] | None = None,
    ) -> None:
        super().__init__()
        place = {character: number for number, character in enumerate(characters, 1)}
        lines = read_label_file(file)
        unknown = sorted({character for _, text in lines for character in text} - set(place))
        fitting = [
            (path, text)
            for path, text in lines
            if 0 < len(text) <= max_length and all(character in place for character in text)
        ]
        if not fitting:
            raise SourceError(
                "no line to train on",
                where=str(file),
                received=f"{len(lines)} lines; characters not in the dictionary: {''.join(unknown)!r}",
                expected=f"lines of 1 to {max_length} characters of the dictionary",
            )
        if len(fitting) < len(lines):
            logger.warning(
                "%s: %d of %d lines left out: longer than %d characters, or with one of %r",
                file,
                len(lines) - len(fitting),
                len(lines),
                max_length,
                "".join(unknown),
            )
        if limit is not None and limit < len(fitting):
            fitting = [fitting[number * len(fitting) // limit] for number in range(limit)]
        self._samples = [(str((root or file.parent) / path), text) for path, text in fitting]
        self._place = place
        self._size = size
        self._max_length = max_length
        self._augment = augment
        self._encode = encode

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        path, text = self._samples[index]
        pixels = cv2.imread(path)
        if pixels is None:
            raise SourceError("not an image", where=path, expected="what OpenCV can read")
        image, filled = padded(pixels, self._size)
        if self._augment:
            by = random.randint(-2, 2), random.randint(-2, 2)
            image = np.roll(image, by, axis=(1, 2)) * np.float32(random.uniform(0.7, 1.2))
        label = np.zeros(self._max_length, dtype="int64")
        label[: len(text)] = [self._place[character] for character in text]
        used = np.array([len(text)], dtype="int64")
        if self._encode is None:
            return image, label, used
        return image, *self._encode(text, filled), label, used, label, used


def read_label_file(file: Path) -> list[tuple[str, str]]:
    """Return path and text of each line.

    Raises:
        SourceError: The file is not there, or a line is not ``path<TAB>text``.
    """
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as unreadable:
        raise SourceError(
            "the label file cannot be read",
            where=str(file),
            received=str(unreadable),
            expected="path<TAB>text a line, in UTF-8",
            remedy="pass data.train=… data.val=…",
        ) from unreadable
    found = []
    for number, line in enumerate(lines, 1):
        path, tab, text = line.rstrip("\r").partition("\t")
        if tab:
            found.append((path, text))
        elif path:
            raise SourceError(
                "not a line of a label file",
                where=f"{file}, line {number}",
                received=line[:100],
                expected="path<TAB>text",
            )
    return found


def padded(pixels: np.ndarray[Any, Any], size: tuple[int, int]) -> tuple[np.ndarray[Any, Any], float]:
    """Return uint8 [h, w, 3] as float32 [3, height, width] about 0, and the share of the width that it fills.

    It is scaled to the height, and squeezed if it is too wide then; what is left on the right is 0.
    """
    height, width = size
    scaled = min(width, int(np.ceil(height * pixels.shape[1] / pixels.shape[0])))
    image = np.zeros((3, height, width), dtype="float32")
    image[:, :, :scaled] = cv2.resize(pixels, (scaled, height)).transpose(2, 0, 1) / 127.5 - 1
    return image, scaled / width
