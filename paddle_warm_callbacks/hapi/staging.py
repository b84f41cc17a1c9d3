"""Copies of live tensors in host memory, into buffers that are used again from one checkpoint to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle


class StagingBuffers:
    """Copy tensors to arrays that stay valid until the next copy under the same name.

    Page faults of fresh memory cost several times the copy itself, so the arrays are kept. Whoever reads them must have
    finished before :meth:`copy` is called again.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray[Any, Any]] = {}

    def copy(self, tensors: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
        """Return a copy of each tensor, by its name; blocks for the copy (on a GPU: for the transfer to the host)."""
        copies = {}
        for name, tensor in tensors.items():
            view = _view(tensor)
            held = self._arrays.get(name)
            if held is None or held.shape != view.shape or held.dtype != view.dtype:
                held = self._arrays[name] = np.empty_like(view, order="C")
            np.copyto(held, view)
            copies[name] = held
        return copies


def _view(tensor: Any) -> np.ndarray[Any, Any]:
    """Return ``tensor`` as an array, without a copy where Paddle and NumPy can share the memory."""
    shareable = tensor.place.is_cpu_place() and tensor.dtype not in (paddle.bfloat16, paddle.bool)
    if shareable and hasattr(tensor, "__dlpack__"):
        shared: np.ndarray[Any, Any] = np.from_dlpack(tensor.detach())
        return shared
    array: np.ndarray[Any, Any] = tensor.numpy()
    return array
