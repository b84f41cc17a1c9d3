"""Copies of live tensors in host memory: at once, or behind training while nothing changes them."""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Callable

import numpy as np
import paddle

from paddle_warm_callbacks.hapi.device_copies import DeviceCopies

Array = np.ndarray[Any, Any]
# A copy's array, and the tensor's own memory as an array.
_Pair = tuple[Array, Array]
# Where a copy begins in the block that holds all: as far apart as the processor's cache lines.
_ALIGNED = 64


class StagingBuffers:
    """Copy tensors to arrays that stay valid until the next copy.

    The arrays lie in one block, which is kept: page faults of fresh memory cost several times the copy itself. Which
    tensor goes where is worked out once for a mapping of tensors, and again where another mapping comes, or where one
    of the tensors has moved. Whoever reads the arrays must have finished before the next copy is made.
    """

    def __init__(self) -> None:
        self._block = np.empty(0, np.uint8)
        self._sorted: _Sorted | None = None

    def copy(self, tensors: Mapping[str, Any], volatile: Collection[str] = ()) -> dict[str, Array]:
        """Return a copy of each tensor, by its name; blocks for the copy (on a GPU: for the transfer to the host).

        Args:
            tensors: By name. Not to be changed: the same object again stands for the same tensors.
            volatile: See :meth:`copy_behind`.
        """
        plan = self._plan(tensors, volatile)
        plan.first.copy()
        _copy(plan.behind)
        _transfer(tensors, plan.arrays, plan.apart)
        _transfer(tensors, plan.arrays, plan.on_device)
        return plan.arrays

    def copy_behind(
        self,
        tensors: Mapping[str, Any],
        volatile: Collection[str],
        *,
        check_later: Callable[[], bool] | None = None,
    ) -> tuple[dict[str, Array], Copying]:
        """Copy the tensors named ``volatile`` now, and leave the others to :meth:`Copying.run`.

        What is on a GPU is copied from there behind, all of it, on a stream of its own.

        Args:
            tensors: By name. Not to be changed: the same object again stands for the same tensors.
            volatile: Names of those that may change before :meth:`Copying.run` has ended.
            check_later: Whether ``tensors`` are the right ones, found out in :meth:`Copying.run`, together with whether
                they have moved; None: they are, and whether they have moved is found out now.

        Returns:
            The arrays by name, and the copy to be run: until it has, the others hold older values.
        """
        plan = self._plan(tensors, volatile, glance=check_later is not None)
        checks = [] if check_later is None else [check_later, plan.at_home]
        plan.first.copy()
        _transfer(tensors, plan.arrays, plan.apart)
        if not plan.on_device:
            return plan.arrays, Copying(plan.behind, plan.count, checks)
        first = {name: tensors[name] for name in plan.on_device if name in volatile}
        later = {name: tensors[name] for name in plan.on_device if name not in volatile}
        device = DeviceCopies.begun(first, later)
        if device is None:
            _transfer(tensors, plan.arrays, plan.on_device)
            return plan.arrays, Copying(plan.behind, plan.count, checks)
        from_device = {name: plan.arrays[name] for name in plan.on_device}

        def count() -> list[int]:
            return [*plan.count(), *(tensor._inplace_version() for tensor in later.values())]

        return plan.arrays, Copying(plan.behind, count, checks, device, from_device)

    def _plan(
        self, tensors: Mapping[str, Any], volatile: Collection[str], *, glance: bool = False
    ) -> _Sorted:
        plan = self._sorted
        if plan is None or not plan.is_of(tensors, volatile) or not (glance or plan.at_home()):
            self._sorted = plan = None  # it may be holding the block
            self._sorted = plan = _Sorted(tensors, volatile, self._room)
        return plan

    def _room(self, count: int) -> Array:
        """Return a block of ``count`` bytes: the one there is, if it is large enough."""
        if self._block.nbytes < count:
            self._block = np.empty(0, np.uint8)
            self._block = np.empty(count, np.uint8)
        return self._block[:count]


class _Sorted:
    """A mapping of tensors, told apart by how each is copied.

    Attributes:
        arrays: What each is copied to, by name.
        first: To be copied before the next forward pass.
        behind: To be copied while nothing may change those tensors.
        on_device: Names of those on a GPU.
        apart: Names of those in memory that cannot be read as an array.
    """

    def __init__(
        self, tensors: Mapping[str, Any], volatile: Collection[str], room: Callable[[int], Array]
    ) -> None:
        self._tensors, self._volatile = tensors, volatile
        self.on_device = [name for name, tensor in tensors.items() if _on_gpu(tensor)]
        elsewhere = set(self.on_device)
        self.apart = [n for n, tensor in tensors.items() if n not in elsewhere and not _readable(tensor)]
        elsewhere.update(self.apart)
        at_once = [name for name in tensors if name in volatile and name not in elsewhere]
        # Nothing is to be between them: with the widest numbers first, each begins at a multiple of its own width.
        at_once.sort(key=lambda name: -_dtype(tensors[name]).itemsize)
        self.arrays, together = _laid_out(tensors, at_once, room)
        # Another handle on each tensor's memory, which keeps it: one that has moved has left it behind.
        held = {name: tensor.detach() for name, tensor in tensors.items() if name not in elsewhere}
        memory = {name: borrowed(handle) for name, handle in held.items()}
        self.first = _Together(together, [memory[name] for name in at_once])
        behind = [name for name in held if name not in volatile]
        self.behind = [(self.arrays[name], memory[name]) for name in behind]
        self._counted = [tensors[name] for name in behind]
        self._held = list(held.values())
        self._asked = [tensors[name] for name in held]
        self._addresses = self._ask(self._held)

    def is_of(self, tensors: Mapping[str, Any], volatile: Collection[str]) -> bool:
        """Return whether it is these very mappings."""
        return tensors is self._tensors and volatile is self._volatile

    def count(self) -> list[int]:
        """Return how often each tensor in ``behind`` was changed in place; on any thread."""
        # Called by the class: to look the method up on each of hundreds of tensors takes longer than to call it.
        return list(map(paddle.Tensor._inplace_version, self._counted))

    def at_home(self) -> bool:
        """Return whether the tensors are where they were; on any thread."""
        return self._ask(self._asked) == self._addresses

    @staticmethod
    def _ask(tensors: Sequence[Any]) -> list[int]:
        return list(map(paddle.Tensor.data_ptr, tensors))


class _Together:
    """Arrays that are copied in one call: of a hundred small ones, each by itself, most of the time went to the calls.

    Args:
        target: What they are copied to, one behind the other.
        sources: Contiguous arrays, by their place in ``target``.
    """

    def __init__(self, target: Array, sources: Sequence[Array]) -> None:
        self._target = target
        self._sources = [source.reshape(-1).view(np.uint8) for source in sources]

    def copy(self) -> None:
        """Copy them."""
        if self._sources:
            np.concatenate(self._sources, out=self._target)


def _copy(pairs: Sequence[_Pair]) -> None:
    for array, memory in pairs:
        np.copyto(array, memory)


def _transfer(tensors: Mapping[str, Any], arrays: Mapping[str, Array], names: Sequence[str]) -> None:
    for name in names:
        np.copyto(arrays[name], borrowed(tensors[name]))


def _laid_out(
    tensors: Mapping[str, Any], together: Sequence[str], room: Callable[[int], Array]
) -> tuple[dict[str, Array], Array]:
    """Return an array for each tensor in a block, and, as bytes, those named in ``together``, in that order."""
    kinds = {name: (_dtype(tensor), tuple(tensor.shape)) for name, tensor in tensors.items()}
    sizes = {name: math.prod(shape) * dtype.itemsize for name, (dtype, shape) in kinds.items()}
    starts, end = {}, 0
    for name in together:
        starts[name] = end
        end += sizes[name]
    whole = end
    for name in tensors:
        if name not in starts:
            end = -(-end // _ALIGNED) * _ALIGNED
            starts[name] = end
            end += sizes[name]
    block = room(end)
    arrays = {name: np.ndarray(shape, dtype, block, starts[name]) for name, (dtype, shape) in kinds.items()}
    return arrays, block[:whole]


class Copying:
    """A copy that is still to be made of tensors that nothing may change until then.

    Writes by an optimizer or by ``set_value`` are held back meanwhile (:mod:`~paddle_warm_callbacks.hapi.hold_back`).
    Operations that change a tensor in place are not, but Paddle counts them: a copy during which there was one is known
    to be worthless.

    Attributes:
        seconds_held: How long a write was held back.
        stale: Whether :meth:`run` found that the tensors to copy were others, or elsewhere: nothing was copied then.
    """

    def __init__(
        self,
        behind: Sequence[_Pair],
        count: Callable[[], list[int]],
        checks: Sequence[Callable[[], bool]] = (),
        device: DeviceCopies | None = None,
        from_device: Mapping[str, Array] | None = None,
    ) -> None:
        self._behind = behind
        self._device = device
        self._from_device = from_device or {}
        self._count = count
        self._checks = checks
        self._looks: Sequence[Callable[[], None]] = ()
        self._before = count()
        self._over = threading.Event()
        self.seconds_held = 0.0
        self.stale = False

    def beside(self, look: Callable[[], None], tensors: Iterable[Any]) -> None:
        """Have :meth:`run` call ``look``, too, which reads ``tensors``: they must not change until then either."""
        looked_at, count = list(tensors), self._count
        self._looks = [*self._looks, look]
        self._count = lambda: [*count(), *(tensor._inplace_version() for tensor in looked_at)]
        self._before = self._count()

    def run(self) -> bool:
        """Copy, on the calling thread; return whether what was copied is the state that was to be."""
        try:
            self.stale = not all(check() for check in self._checks)
            if not self.stale:
                _copy(self._behind)
                for look in self._looks:
                    look()
            if self._device is not None:
                self._device.finish(self._from_device)  # stale or not: what is queued needs its destination
            return not self.stale and self._count() == self._before
        finally:
            # This is kept for what it says; the buffers and the tensors need not be.
            self._behind, self._checks, self._looks, self._count = (), (), (), list
            self._over.set()

    @property
    def over(self) -> bool:
        """Whether the tensors may change again."""
        return self._over.is_set()

    def wait(self) -> None:
        """Block until the tensors may change again; of those on a GPU, let the GPU wait and not the host."""
        if self._device is not None:
            self._device.hold_device()
        if self._behind or self._looks:
            self._over.wait()


def borrowed(tensor: Any) -> Array:
    """Return a tensor as an array to be read at once: its own memory where that can be had."""
    if _readable(tensor):
        dtype, shape = _dtype(tensor), tuple(tensor.shape)
        memory = (ctypes.c_char * (math.prod(shape) * dtype.itemsize)).from_address(tensor.data_ptr())
        flat: Array = np.frombuffer(memory, dtype)
        return flat.reshape(shape)
    array: Array = tensor.numpy()
    return array


def bytes_in(tensor: Any) -> int:
    """Return how many bytes a tensor's array has."""
    return int(math.prod(tensor.shape)) * _dtype(tensor).itemsize


def _readable(tensor: Any) -> bool:
    # Of an empty one there is nothing to read, and no address. Asking for its size takes ten times as long.
    return bool(tensor.place.is_cpu_place() and 0 not in tensor.shape and tensor.is_contiguous())


def _dtype(tensor: Any) -> np.dtype[Any]:
    return np.dtype(_NUMPY_NAMES.get(tensor.dtype) or str(tensor.dtype).rpartition(".")[2])


# Asking a tensor takes as long as copying a small one.
_GPU_BUILD = paddle.is_compiled_with_cuda()
# As Paddle stores it.
_NUMPY_NAMES = {paddle.bfloat16: "uint16"}


def _on_gpu(tensor: Any) -> bool:
    return _GPU_BUILD and bool(tensor.place.is_gpu_place())
