"""What is in a file of weights or of an optimizer's state, and what its names tell of where it comes from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paddle_warm_callbacks.checkpoint.numbers import Array, dtype_of, exact, is_float
from paddle_warm_callbacks.checkpoint.pdparams import NAME_TABLE, read_pdparams
from paddle_warm_callbacks.checkpoint.safetensors import read_safetensors
from paddle_warm_callbacks.plan.matching import KNOWN_PREFIXES

# What Paddle counts up in a process: linear_0.w_0, batch_norm2d_3.b_0_moment1_0, fc_0.w_0_fp32_master_0_moment1_0.
_GENERATED = re.compile(r"\w+_\d+\.[wb]_\d+\w*")
OTHER_PREFIXES = ("Teacher.", "_orig_mod.", "ema.")
# What only an optimizer's state has.
_OPTIMIZER_KEYS = frozenset({"LR_Scheduler", "master_weights"})


@dataclass(frozen=True)
class Part:
    """A dictionary in the file with tensors directly in it.

    Attributes:
        path: The keys to it, joined by dots; empty for the outermost.
        tensors: Names to tensors.
    """

    path: str
    tensors: Mapping[str, Array]

    @property
    def prefixes(self) -> dict[str, int]:
        """Prefix to the number of names that begin with it, of those that trainers and wrappers add."""
        counts = {
            prefix: sum(name.startswith(prefix) for name in self.tensors)
            for prefix in (*KNOWN_PREFIXES, *OTHER_PREFIXES)
        }
        return {prefix: count for prefix, count in counts.items() if count}

    @property
    def generated(self) -> int:
        """How many names are ones that Paddle generates, which differ from process to process."""
        return sum(_GENERATED.fullmatch(name) is not None for name in self.tensors)


@dataclass(frozen=True)
class Examined:
    """A file that could be read.

    Attributes:
        keys: Its outermost keys, or the name of its type if it is not a dictionary.
        parts: Every dictionary with tensors directly in it, the outermost first.
        with_table: Whether it has the table of generated names that ``paddle.save`` adds to a state dict.
        optimizer: Whether it is an optimizer's state.
    """

    keys: Sequence[str]
    parts: Sequence[Part]
    with_table: bool
    optimizer: bool

    @property
    def tensors(self) -> list[Array]:
        """All tensors of all parts."""
        return [array for part in self.parts for array in part.tensors.values()]

    @property
    def dtypes(self) -> dict[str, int]:
        """Name of dtype to number of tensors, the most frequent first."""
        return dict(Counter(map(dtype_of, self.tensors)).most_common())

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(array.nbytes for array in self.tensors)

    @property
    def not_finite(self) -> list[str]:
        """Names of tensors that hold a NaN or an infinity."""
        return [
            f"{part.path}.{name}" if part.path else name
            for part in self.parts
            for name, array in part.tensors.items()
            if is_float(array) and not np.isfinite(exact(array)).all()
        ]


def examine(path: Path) -> Examined:
    """Read a file, and execute nothing in it.

    Raises:
        UnsafeFileError: It asks to run code, is cut off, or is of another kind.
        OSError: It cannot be read.
    """
    if path.suffix == ".safetensors":
        content: Any = read_safetensors(path)
    else:
        content = read_pdparams(path, keep_names=True)
    with_table = isinstance(content, dict) and content.pop(NAME_TABLE, None) is not None
    keys = [str(key) for key in content] if isinstance(content, dict) else [type(content).__name__]
    parts = list(_parts(content, ""))
    generated, named = sum(part.generated for part in parts), sum(len(part.tensors) for part in parts)
    optimizer = bool(_OPTIMIZER_KEYS.intersection(keys)) or (
        path.suffix == ".pdopt" and named > 0 and 2 * generated > named
    )
    return Examined(keys, parts, with_table, optimizer)


def _parts(value: Any, path: str) -> Iterator[Part]:
    if isinstance(value, np.ndarray):
        yield Part(path, {"": value})
        return
    if isinstance(value, (list, tuple)):
        value = {str(number): item for number, item in enumerate(value)}
    if not isinstance(value, Mapping):
        return
    tensors = {str(key): item for key, item in value.items() if isinstance(item, np.ndarray)}
    if tensors:
        yield Part(path, tensors)
    for key, item in value.items():
        if not isinstance(item, np.ndarray):
            yield from _parts(item, f"{path}.{key}" if path else str(key))
