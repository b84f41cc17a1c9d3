"""Images in one folder per class, as datasets for ``fit``."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle.vision.datasets import DatasetFolder
from PIL import Image

from paddle_warm_callbacks.arguments import nearest
from paddle_warm_callbacks.errors import SourceError


def class_names(folder: Path) -> list[str]:
    """Return the names of the class folders, sorted: the order of the labels.

    Raises:
        SourceError: The folder is not there, or has no class folders.
    """
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    if not names:
        raise SourceError(
            "no classes to train on",
            where=str(folder),
            received="no such folder" if not folder.is_dir() else "a folder without folders",
            expected="one folder per class, with images in it: folder/cat/1.png",
            remedy="pass data.train=… data.val=…",
        )
    return names


class ImageFolder(paddle.io.Dataset):  # type: ignore[misc]  # Paddle is untyped
    """The images of some classes of a folder.

    Yields ``(image: float32 [3, size, size] about 0, label: int64 [1])``.

    Args:
        folder: One folder per class.
        classes: Names of the classes to use; their order is the order of the labels.
        size: Height and width that images are resized to, in pixels.
        limit: At most so many images of each class; None for all.
        augment: Shift each image by up to an eighth of its size, at random.

    Raises:
        SourceError: A class has no images here.
    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str],
        size: int,
        *,
        limit: int | None = None,
        augment: bool = False,
    ) -> None:
        super().__init__()
        there = class_names(folder)
        missing = sorted(set(classes) - set(there))
        if missing:
            near = nearest(missing[0], [name for name in there if name not in classes])
            raise SourceError(
                "a class has no images",
                where=str(folder),
                received=f"no folder for {', '.join(missing)}; there are {', '.join(there)}",
                expected=f"folders {', '.join(classes)}",
                remedy=f"is {missing[0]} the folder {near}? Write both alike"
                if near
                else "training and validation need the same classes, and each label a folder of its name",
            )
        number = {name: index for index, name in enumerate(classes)}
        taken: dict[str, int] = {}
        self._samples: list[tuple[str, int]] = []
        for path, _ in DatasetFolder(str(folder)).samples:
            name = Path(path).parent.name
            if name in number and (limit is None or taken.get(name, 0) < limit):
                taken[name] = taken.get(name, 0) + 1
                self._samples.append((path, number[name]))
        self._size = size
        self._shift = size // 8 if augment else 0

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        path, label = self._samples[index]
        with Image.open(path) as image:
            resized = image.convert("RGB").resize((self._size, self._size), Image.Resampling.BILINEAR)
        pixels = np.asarray(resized, dtype="float32").transpose(2, 0, 1) / 127.5 - 1
        if self._shift:
            by = random.randint(-self._shift, self._shift), random.randint(-self._shift, self._shift)
            pixels = np.roll(pixels, by, axis=(1, 2))
        return pixels, np.array([label], dtype="int64")
