"""Copies from a GPU to pinned host memory, on a stream of their own. Written from Paddle's documentation; not run yet.

No machine that this was written on has a GPU. What the tests check, with a device made of Python, is the order in which
streams wait for each other, and what happens when pinned memory is short.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle

logger = logging.getLogger("paddle_warm_callbacks")


class DeviceCopies:
    """Tensors on their way from a GPU.

    The copies are made of what the work queued before leaves behind. The host does not wait for them; the GPU does, in
    :meth:`hold_device`, before it goes on to what would overwrite the tensors.
    """

    def __init__(self, pinned: Mapping[str, Any], done: Any) -> None:
        self._pinned = pinned
        self._done = done

    @classmethod
    def begun(cls, at_once: Mapping[str, Any], behind: Mapping[str, Any]) -> DeviceCopies | None:
        """Queue the copies; return None where pinned memory is short: then copy without it.

        Args:
            at_once: Tensors that the next forward pass may change: copied on its own stream, so before it.
            behind: Tensors that are held back: copied on another stream, beside it.
        """
        to = paddle.CUDAPinnedPlace()
        try:
            pinned = {name: tensor._copy_to(to, False) for name, tensor in at_once.items()}
            computing, beside = paddle.device.current_stream(), _side_stream()
            beside.wait_stream(computing)
            with paddle.device.stream_guard(beside):
                pinned.update({name: tensor._copy_to(to, False) for name, tensor in behind.items()})
            return cls(pinned, beside.record_event())
        # Paddle raises what its C++ has for it, of several types: ResourceExhausted is a MemoryError or a RuntimeError.
        except (MemoryError, RuntimeError, OSError) as error:
            logger.warning("pinned host memory is short, training waits for this copy: %s", error)
            paddle.device.synchronize()  # what was queued must not outlive its destination
            return None

    def hold_device(self) -> None:
        """Let the GPU finish the copies before it does what is queued from now on; the host goes on."""
        paddle.device.current_stream().wait_event(self._done)

    def finish(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Wait for the copies, and put them into ``arrays``, by name."""
        self._done.synchronize()
        for name, pinned in self._pinned.items():
            np.copyto(arrays[name], pinned.numpy())


_stream: Any = None


def _side_stream() -> Any:
    global _stream  # one for the process: making one takes a while
    if _stream is None:
        _stream = paddle.device.Stream()
    return _stream
