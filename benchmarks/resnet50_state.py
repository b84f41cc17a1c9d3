"""The state that benchmarks of checkpoints save, as arrays: of ResNet50 and Momentum; and a plain write beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, "np.ndarray[Any, Any]"]


def resnet50() -> tuple[Arrays, Arrays]:
    """Return arrays of the shapes of ResNet50's state and of Momentum's velocities: 534 in all, 204 MB."""
    model: Arrays = {}
    trained = []

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "_mean", "_variance"):
            model[f"{name}.{part}"] = _values((channels,))
        trained.extend((f"{name}.weight", f"{name}.bias"))

    def conv(name: str, *shape: int) -> None:
        model[f"{name}.weight"] = _values(shape)
        trained.append(f"{name}.weight")

    conv("conv1", 64, 3, 7, 7)
    norm("bn1", 64)
    width_in = 64
    for layer, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), start=1):
        for block in range(blocks):
            name = f"layer{layer}.{block}"
            conv(f"{name}.conv1", width, width_in, 1, 1)
            norm(f"{name}.bn1", width)
            conv(f"{name}.conv2", width, width, 3, 3)
            norm(f"{name}.bn2", width)
            conv(f"{name}.conv3", 4 * width, width, 1, 1)
            norm(f"{name}.bn3", 4 * width)
            if block == 0:
                conv(f"{name}.downsample.0", 4 * width, width_in, 1, 1)
                norm(f"{name}.downsample.1", 4 * width)
            width_in = 4 * width
    model["fc.weight"] = _values((2048, 1000))
    model["fc.bias"] = _values((1000,))
    trained.extend(("fc.weight", "fc.bias"))
    return model, {f"{name}_velocity_0": _values(model[name].shape) for name in trained}


def _values(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def write_plainly(path: Path, data: np.ndarray[Any, Any]) -> None:
    """Write the bytes to a file and flush it to disk: what a commit is compared with."""
    with path.open("wb", buffering=0) as file:
        file.write(data.data)
        os.fsync(file.fileno())
