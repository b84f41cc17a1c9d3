"""Tensors as numbers: bfloat16, which NumPy does not have and Paddle's files hold as uint16, among the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from paddle_warm_callbacks.errors import InvalidArgumentError

Array = npt.NDArray[Any]

_FLOATS = frozenset({"float16", "bfloat16", "float32", "float64", "complex64", "complex128"})


def dtype_of(array: Array) -> str:
    """Return the name of an array's dtype as Paddle knows it."""
    return "bfloat16" if array.dtype == np.uint16 else str(array.dtype.name)


def is_float(array: Array) -> bool:
    """Return whether an array holds floating-point numbers, bfloat16 and complex ones among them."""
    return dtype_of(array) in _FLOATS


def exact(array: Array) -> Array:
    """Return an array's numbers in float64, or in complex128; integers beyond 2**53 are rounded."""
    if dtype_of(array) == "bfloat16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(invalid="ignore"):  # a NaN of the signalling kind
        return array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)


def rounded(numbers: Array, dtype: str) -> Array:
    """Return numbers in ``dtype``, rounded to the nearest, ties to even; bfloat16 as uint16, by way of float32.

    Args:
        numbers: Of float64 or complex128.
        dtype: One of the floating-point types.
    """
    with np.errstate(over="ignore"):
        if dtype != "bfloat16":
            return numbers.astype(dtype)
        single = numbers.astype(np.float32)
    bits = single.view(np.uint32)
    # The upper half, one more where the lower half is above a half, or exactly a half and the upper one odd.
    upper = ((bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    # A NaN's bits must not carry into the sign, nor its only bits be cut off.
    quiet: Array = np.where(np.isnan(single), (bits >> 16).astype(np.uint16) | np.uint16(0x40), upper)
    return quiet


def cast(name: str, array: Array, dtype: str) -> Array:
    """Return a tensor in ``dtype``; one that holds no floating-point numbers, or complex ones, as it is.

    Raises:
        InvalidArgumentError: A finite number of it lies beyond what ``dtype`` can hold.
    """
    if not is_float(array) or np.iscomplexobj(array) or dtype_of(array) == dtype:
        return array
    numbers = exact(array)
    made = rounded(numbers, dtype)
    lost = np.isfinite(numbers) & ~np.isfinite(exact(made))
    if lost.any():
        raise InvalidArgumentError(
            f"{int(lost.sum())} numbers of a tensor are too large for {dtype}",
            where=name,
            received=f"up to {np.abs(numbers[lost]).max():g}",
            expected=f"at most {np.finfo(dtype).max:g}",
            remedy="export it as float32, or without --dtype",
        )
    return made
