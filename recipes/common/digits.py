"""The data a recipe makes for its embedded default: images in one folder per class, as those it is pointed at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from recipes.common.written_once import write_once

_SHARE_FOR_TRAINING = 0.8


def write_digits(directory: Path) -> tuple[Path, Path]:
    """Write scikit-learn's 1,797 scans of handwritten digits as ``{train,val}/<class>/<number>.png``, once.

    Where the folder is already there nothing is done.

    Returns:
        The folders for training and validation.
    """
    write_once(directory, _write)
    return directory / "train", directory / "val"


def _write(directory: Path) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    seen: dict[int, int] = {}
    per_class = np.bincount(digits.target)
    for number, (image, label) in enumerate(zip(digits.images, digits.target)):
        seen[label] = seen.get(label, 0) + 1
        part = "train" if seen[label] <= _SHARE_FOR_TRAINING * per_class[label] else "val"
        file = directory / part / str(label) / f"{number:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255 / 16).astype("uint8")).save(file)
