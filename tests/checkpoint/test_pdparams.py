"""What is written: equal to what was given, streamed, digested on the way, refused where Paddle has no form for it."""

from __future__ import annotations

import io
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from paddle_warm_callbacks.checkpoint.digests import PIECE_BYTES, digest_of
from paddle_warm_callbacks.checkpoint.pdparams import NAME_TABLE, read_pdparams, write_pdparams
from paddle_warm_callbacks.errors import InvalidArgumentError
from tests.checkpoint.samples import same

_DTYPES = st.sampled_from([np.dtype(c) for c in ("?", "i1", "u2", "i4", "i8", "f2", "f4", "f8", "c8")])
_LEAVES = st.one_of(
    npst.arrays(_DTYPES, npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)),
    npst.arrays(_DTYPES, (1,)).map(lambda array: array[0]),
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(), st.just("é" * 200),
    st.sampled_from([255, 256, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**4000, -1]),
)  # fmt: skip
_CONTENTS = st.dictionaries(
    st.text(),
    st.recursive(
        _LEAVES,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=5).map(tuple),
            st.dictionaries(st.text(), inner),
        ),
        max_leaves=5,
    ),
    max_size=4,
)


def _written(contents: Any, names: Any = None) -> bytes:
    file = io.BytesIO()
    write_pdparams(file, contents, names)
    return file.getvalue()


def _without_named(value: Any) -> bool:
    """Whether nothing in ``value`` is a pair that Paddle takes for a named tensor."""
    if isinstance(value, dict):
        return all(map(_without_named, value.values()))
    if isinstance(value, (list, tuple)):
        named = len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], np.ndarray)
        return not named and all(map(_without_named, value))
    return True


@given(_CONTENTS.filter(_without_named))
def test_everything_comes_back_here_and_in_pickle(contents: dict[str, Any]) -> None:
    data = _written(contents)
    contents.pop(NAME_TABLE, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # NumPy 2 would warn of a name it wants to be rid of
        assert same(pickle.loads(data), contents)
    assert same(read_pdparams(io.BytesIO(data)), contents)


def test_arrays_that_are_not_contiguous_are_stored_by_value() -> None:
    base = np.arange(24.0).reshape(4, 6)
    contents = {
        "t": base.T,
        "step": base[::2, ::3],
        "reversed": base[::-1],
        "broadcast": np.broadcast_to(base[0], (3, 6)),
    }
    read = read_pdparams(io.BytesIO(_written(contents)))
    assert all(np.array_equal(read[name], contents[name]) for name in contents)


def test_other_byte_orders_are_stored_in_this_machines() -> None:
    swapped = np.arange(4, dtype=">i4")
    assert same(read_pdparams(io.BytesIO(_written({"a": swapped}))), {"a": np.arange(4, dtype=np.int32)})


def test_the_memory_given_is_what_is_written_without_a_copy() -> None:
    array = np.arange(PIECE_BYTES, dtype=np.float32)
    seen = []

    class File(io.BytesIO):
        def write(self, data: Any) -> int:
            seen.append(np.shares_memory(np.frombuffer(data, np.uint8), array) if len(data) > 1000 else None)
            return super().write(data)

    write_pdparams(File(), {"w": array})
    assert [shared for shared in seen if shared is not None] == [True] * 4


def test_digests_are_those_of_the_bytes_in_the_file() -> None:
    contents = {
        "small": np.arange(3),
        "large": np.arange(PIECE_BYTES, dtype=np.float32),
        "nested": {"w": np.ones(2, np.float32)},
        "named": {"w": ("name", np.zeros(2, np.float32))},
        "empty": np.zeros((0, 2)),
    }
    file = io.BytesIO()
    written = write_pdparams(file, contents)
    data = file.getvalue()
    assert (written.size, written.digest) == (len(data), digest_of(data))
    assert [tensor.name for tensor in written.tensors] == ["small", "large", "nested/w", "named/w", "empty"]
    for tensor in written.tensors:
        size = int(np.prod(tensor.shape)) * np.dtype(tensor.dtype).itemsize
        assert digest_of(data[tensor.offset : tensor.offset + size]) == tensor.digest


def test_the_name_table_is_stored_beside() -> None:
    data = _written({"fc.weight": np.ones(2)}, {"fc.weight": "linear_0.w_0"})
    assert pickle.loads(data)[NAME_TABLE] == {"fc.weight": "linear_0.w_0"}
    assert list(read_pdparams(io.BytesIO(data))) == ["fc.weight"]


@pytest.mark.parametrize(
    "value", [object(), {1}, np.array([None]), np.array(["a"]), np.zeros(1, [("a", "f4")]), len, 1j], ids=str
)
def test_what_has_no_form_in_a_paddle_file_is_refused_with_its_path(value: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        _written({"a": {"b": [0, value]}})
    assert caught.value.where == "a/b/1"
