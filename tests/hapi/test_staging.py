"""Copies of tensors: right for every kind of tensor, right again after one has moved, and in one block of memory."""

from __future__ import annotations

import threading
import weakref
from typing import Any, Callable

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks.hapi.staging import StagingBuffers

KINDS: dict[str, Callable[[], Any]] = {
    "float32": lambda: paddle.rand([7, 5]),
    "float64, one number": lambda: paddle.to_tensor(0.1, "float64"),
    "int64": lambda: paddle.arange(9),
    "bool": lambda: paddle.to_tensor([True, False, True]),
    "bfloat16": lambda: paddle.rand([3, 3]).astype("bfloat16"),
    "empty": lambda: paddle.zeros([0, 4]),
    "not contiguous": lambda: paddle.arange(12).reshape([3, 4]).transpose([1, 0]),
}


def every_kind() -> dict[str, Any]:
    return {name: make() for name, make in KINDS.items()}


def same(arrays: dict[str, Any], tensors: dict[str, Any]) -> bool:
    return all(
        (array.shape, array.dtype) == (tensors[name].numpy().shape, tensors[name].numpy().dtype)
        and array.tobytes() == tensors[name].numpy().tobytes()
        for name, array in arrays.items()
    )


def change(tensors: dict[str, Any]) -> None:
    for name, make in KINDS.items():
        tensors[name].set_value(paddle.zeros_like(make()))


@pytest.mark.parametrize("volatile", [frozenset[str](), frozenset(KINDS)], ids=["lent", "volatile"])
def test_every_kind_of_tensor_is_copied_at_once_and_behind(volatile: frozenset[str]) -> None:
    tensors, buffers = every_kind(), StagingBuffers()
    arrays = buffers.copy(tensors, volatile)
    assert same(arrays, tensors)
    change(tensors)
    assert not same(arrays, tensors), "they are copies"
    arrays, copying = buffers.copy_behind(tensors, volatile)
    assert same(arrays, tensors) == bool(volatile), "the others are copied when that is run"
    assert copying.run()
    assert same(arrays, tensors)


def test_the_same_mapping_gets_the_same_arrays_and_another_its_own() -> None:
    tensors, buffers, none = every_kind(), StagingBuffers(), frozenset[str]()
    first = buffers.copy(tensors, none)
    assert buffers.copy(tensors, none) is first
    for other in (every_kind(), {"a": paddle.full([3], 2.0)}):
        assert same(buffers.copy(other, none), other)
    assert same(buffers.copy(tensors, none), tensors)


def test_a_tensor_that_has_moved_is_found() -> None:
    moving, elsewhere = paddle.zeros([1000]), paddle.ones([1000])
    tensors, buffers, none = {"moving": moving}, StagingBuffers(), frozenset[str]()
    buffers.copy(tensors, none)
    before = moving.data_ptr()
    moving.get_tensor()._share_data_with(elsewhere.get_tensor())
    assert moving.data_ptr() != before
    arrays, copying = buffers.copy_behind(tensors, none)
    assert copying.run()
    assert (arrays["moving"] == 1).all()


def others_say_so() -> bool:
    return True


def test_at_a_glance_it_is_found_while_copying_and_nothing_is_copied() -> None:
    moving, elsewhere = paddle.zeros([1000]), paddle.ones([1000])
    tensors, buffers, none = {"moving": moving}, StagingBuffers(), frozenset[str]()
    buffers.copy(tensors, none)
    _, copying = buffers.copy_behind(tensors, none, check_later=bool)
    assert (copying.run(), copying.stale) == (False, True), "whether these are the right ones, others say"
    _, copying = buffers.copy_behind(tensors, none, check_later=others_say_so)
    assert (copying.run(), copying.stale) == (True, False)
    moving.get_tensor()._share_data_with(elsewhere.get_tensor())
    arrays, copying = buffers.copy_behind(tensors, none, check_later=others_say_so)
    assert not copying.run()
    assert copying.stale
    assert copying.over
    assert not arrays["moving"].any()
    arrays, copying = buffers.copy_behind(tensors, none)
    assert copying.run()
    assert (arrays["moving"] == 1).all()


def test_what_is_changed_in_place_meanwhile_is_noticed() -> None:
    tensors, buffers = {"a": paddle.zeros([3]), "volatile": paddle.zeros([3])}, StagingBuffers()
    for changed, whole in (("volatile", True), ("a", False)):
        _, copying = buffers.copy_behind(tensors, frozenset({"volatile"}))
        tensors[changed].add_(paddle.ones([3]))
        assert copying.run() is whole


def test_what_is_looked_at_beside_is_held_and_watched_like_what_is_copied() -> None:
    looked_at, buffers, none = paddle.zeros([2]), StagingBuffers(), frozenset[str]()
    seen: list[float] = []

    def copying() -> Any:
        _, made = buffers.copy_behind({}, none)
        made.beside(lambda: seen.append(float(looked_at[0])), [looked_at])
        return made

    waiting = copying()
    held = threading.Thread(target=waiting.wait)
    held.start()
    assert not waiting.over
    assert waiting.run()
    held.join(60)
    assert waiting.over
    assert not held.is_alive()
    torn = copying()
    looked_at.add_(paddle.ones([2]))
    assert not torn.run()
    assert seen == [0.0, 1.0]


def test_there_is_one_block_and_a_larger_one_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks: list[weakref.ref[Any]] = []
    alive: list[int] = []
    empty = np.empty

    def watched(count: int, *args: Any, **options: Any) -> Any:
        if count > 1000:
            alive.append(sum(block() is not None for block in blocks))
        made = empty(count, *args, **options)
        if count > 1000:
            blocks.append(weakref.ref(made))
        return made

    monkeypatch.setattr(np, "empty", watched)
    buffers, none = StagingBuffers(), frozenset[str]()
    small, large = {"a": paddle.zeros([5000])}, {"a": paddle.zeros([5000]), "b": paddle.zeros([5000])}
    for tensors in (small, large, small, large):
        arrays, copying = buffers.copy_behind(tensors, none)
        copying.run()
        assert same(arrays, tensors)
        del arrays
    assert len(blocks) == 2, "the block is kept"
    assert alive == [0, 0], "and the old one gone before the new one comes"
