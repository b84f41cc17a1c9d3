"""Copies of live tensors in host memory: at once, or behind training while nothing changes them."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import paddle

from paddle_warm_callbacks.hapi.device_copies import DeviceCopies

Array = np.ndarray[Any, Any]


class _Shared(NamedTuple):
    """A tensor's own memory as an array, which keeps that memory; right while the tensor's address is this one."""

    tensor: Any
    address: int
    view: Array


class StagingBuffers:
    """Copy tensors to arrays that stay valid until the next copy under the same name.

    Page faults of fresh memory cost several times the copy itself, so the arrays are kept. Whoever reads them must have
    finished before the next copy is made.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}
        self._shared: dict[str, _Shared] = {}

    def copy(self, tensors: Mapping[str, Any]) -> dict[str, Array]:
        """Return a copy of each tensor, by its name; blocks for the copy (on a GPU: for the transfer to the host)."""
        self._keep_only(tensors)
        return {name: self._copy(name, tensor) for name, tensor in tensors.items()}

    def copy_behind(
        self, tensors: Mapping[str, Any], at_once: Collection[str]
    ) -> tuple[dict[str, Array], Copying]:
        """Copy the tensors named ``at_once`` now, and leave the others to :meth:`Copying.run`.

        Also copied now is what NumPy cannot share memory with: on Paddle 2.6 that is everything. What is on a GPU is
        copied from there behind, all of it, on a stream of its own.

        Returns:
            The arrays by name, and the copy to be run: until it has, the others hold older values.
        """
        self._keep_only(tensors)
        on_device = {name: tensor for name, tensor in tensors.items() if _on_gpu(tensor)}
        device = self._from_device(on_device, at_once) if on_device else None
        arrays, behind = {}, []
        for name, tensor in tensors.items():
            if device is not None and name in on_device:
                arrays[name] = self._array_of(name, tensor)
                continue
            shared = None if name in at_once else self._share(name, tensor)
            if shared is None:
                arrays[name] = self._copy(name, tensor)
            else:
                arrays[name] = self._array(name, shared.view)
                behind.append((arrays[name], shared))
        watched = [tensor for name, tensor in on_device.items() if device is not None and name not in at_once]
        return arrays, Copying(behind, watched, device, {name: arrays[name] for name in on_device})

    def _from_device(self, tensors: Mapping[str, Any], at_once: Collection[str]) -> DeviceCopies | None:
        first = {name: tensor for name, tensor in tensors.items() if name in at_once}
        return DeviceCopies.begun(
            first, {name: tensor for name, tensor in tensors.items() if name not in first}
        )

    def _array_of(self, name: str, tensor: Any) -> Array:
        return self._array(name, np.empty(tuple(tensor.shape), _dtype(tensor)))

    def release(self) -> None:
        """Let go of the tensors' memory; the arrays stay."""
        self._shared.clear()

    def _keep_only(self, tensors: Collection[str]) -> None:
        """Let go of what is not copied any more, as when the tensors have been dealt to the ranks anew."""
        for name in self._arrays.keys() - set(tensors):
            del self._arrays[name]
            self._shared.pop(name, None)

    def _copy(self, name: str, tensor: Any) -> Array:
        shared = self._share(name, tensor)
        view = borrowed(tensor) if shared is None else shared.view
        array = self._array(name, view)
        np.copyto(array, view)
        return array

    def _array(self, name: str, like: Array) -> Array:
        held = self._arrays.get(name)
        if held is None or held.shape != like.shape or held.dtype != like.dtype:
            held = self._arrays[name] = np.empty_like(like, order="C")
        return held

    def _share(self, name: str, tensor: Any) -> _Shared | None:
        shared = self._shared.get(name)
        if shared is not None and shared.tensor is tensor and shared.address == tensor.data_ptr():
            return shared
        if not tensor.place.is_cpu_place() or not hasattr(tensor, "__dlpack__"):
            return None
        if tensor.dtype in (paddle.bfloat16, paddle.bool):  # NumPy takes neither
            return None
        made = self._shared[name] = _Shared(tensor, tensor.data_ptr(), np.from_dlpack(tensor.detach()))
        return made


class Copying:
    """A copy that is still to be made of tensors that nothing may change until then.

    Writes by an optimizer or by ``set_value`` are held back meanwhile (:mod:`~paddle_warm_callbacks.hapi.hold_back`).
    Operations that change a tensor in place are not, but Paddle counts them: a copy during which there was one is known
    to be worthless.
    """

    def __init__(
        self,
        behind: list[tuple[Array, _Shared]],
        watched: Iterable[Any] = (),
        device: DeviceCopies | None = None,
        from_device: Mapping[str, Array] | None = None,
    ) -> None:
        self._behind = behind
        self._device = device
        self._from_device = from_device or {}
        self._watched = [*(shared.tensor for _, shared in behind), *watched]
        self._versions = self._count()
        self._over = threading.Event()
        self.seconds_held = 0.0

    def run(self) -> bool:
        """Copy, on the calling thread; return whether what was copied is the state that was to be."""
        try:
            for array, shared in self._behind:
                np.copyto(array, shared.view)
            if self._device is not None:
                self._device.finish(self._from_device)
            return self._count() == self._versions
        finally:
            self._over.set()

    @property
    def over(self) -> bool:
        """Whether the tensors may change again."""
        return self._over.is_set()

    def wait(self) -> None:
        """Block until the tensors may change again; of those on a GPU, let the GPU wait and not the host."""
        if self._device is not None:
            self._device.hold_device()
        if self._behind:
            self._over.wait()

    def _count(self) -> list[int]:
        return [tensor.inplace_version for tensor in self._watched]


def borrowed(tensor: Any) -> Array:
    """Return a tensor as an array to be read at once: its own memory where that can be had."""
    if tensor.place.is_cpu_place() and tensor.size and tensor.is_contiguous():
        dtype = _dtype(tensor)
        memory = (ctypes.c_char * (int(tensor.size) * dtype.itemsize)).from_address(tensor.data_ptr())
        flat: Array = np.frombuffer(memory, dtype)  # type: ignore[call-overload]  # it takes any buffer
        return flat.reshape(tuple(tensor.shape))
    array: Array = tensor.numpy()
    return array


def bytes_in(tensor: Any) -> int:
    """Return how many bytes a tensor's array has."""
    return int(np.prod(tensor.shape)) * _dtype(tensor).itemsize


def _dtype(tensor: Any) -> np.dtype[Any]:
    return np.dtype(_NUMPY_NAMES.get(tensor.dtype) or str(tensor.dtype).rpartition(".")[2])


# Asking a tensor takes as long as copying a small one.
_GPU_BUILD = paddle.is_compiled_with_cuda()
# As Paddle stores it.
_NUMPY_NAMES = {paddle.bfloat16: "uint16"}


def _on_gpu(tensor: Any) -> bool:
    return _GPU_BUILD and bool(tensor.place.is_gpu_place())
