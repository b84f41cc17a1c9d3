"""The state that benchmarks of checkpoints save, as arrays: of ResNet50 and Momentum; and a plain write beside it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
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


class Memcpy:
    """Copies of as many bytes as a state has: in one block, and piece by piece, as tensors lie in memory.

    Of one block larger than a limit of its own, the C library writes past the caches, which it does of no tensor: the
    second is what a copy of tensors can reach where the first is out of reach.

    Args:
        sizes: Bytes of each tensor.
    """

    def __init__(self, sizes: Iterable[int]) -> None:
        ends = np.cumsum(list(sizes))
        self.source, self.target = np.ones(ends[-1], np.uint8), np.ones(ends[-1], np.uint8)
        cuts = [slice(end - size, end) for end, size in zip(ends, np.diff(ends, prepend=0))]
        self._pieces = [(self.target[cut], self.source[cut]) for cut in cuts]

    def seconds(self) -> tuple[float, float]:
        """Return the seconds that either takes: the shortest of three, taken in turn."""
        taken = [(seconds_of(self._in_one_block), seconds_of(self._piece_by_piece)) for _ in range(3)]
        return min(one for one, _ in taken), min(pieces for _, pieces in taken)

    def _in_one_block(self) -> None:
        np.copyto(self.target, self.source)

    def _piece_by_piece(self) -> None:
        for target, source in self._pieces:
            np.copyto(target, source)


def seconds_of(action: Callable[[], Any]) -> float:
    """Return how long ``action`` takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def write_plainly(path: Path, data: np.ndarray[Any, Any]) -> None:
    """Write the bytes to a file and flush it to disk: what a commit is compared with."""
    with path.open("wb", buffering=0) as file:
        file.write(data.data)
        os.fsync(file.fileno())
