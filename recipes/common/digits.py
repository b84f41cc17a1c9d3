"""The data a recipe makes for its embedded default: images in one folder per class, as those it is pointed at."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

_SHARE_FOR_TRAINING = 0.8


def write_digits(directory: Path) -> tuple[Path, Path]:
    """Write scikit-learn's 1,797 scans of handwritten digits as ``{train,val}/<class>/<number>.png``, once.

    The folder appears by a rename, whole or not at all; where it is already there nothing is done.

    Returns:
        The folders for training and validation.
    """
    if not directory.exists():
        from sklearn.datasets import load_digits

        digits = load_digits()
        half_written = directory.with_name(f".{directory.name}-being-written")
        shutil.rmtree(half_written, ignore_errors=True)
        seen: dict[int, int] = {}
        per_class = np.bincount(digits.target)
        for number, (image, label) in enumerate(zip(digits.images, digits.target)):
            seen[label] = seen.get(label, 0) + 1
            part = "train" if seen[label] <= _SHARE_FOR_TRAINING * per_class[label] else "val"
            file = half_written / part / str(label) / f"{number:04d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image * 255 / 16).astype("uint8")).save(file)
        half_written.rename(directory)
    return directory / "train", directory / "val"
