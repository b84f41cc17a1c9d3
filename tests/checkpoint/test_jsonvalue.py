"""Values to JSON and back, exactly; and refusals that name the path."""

from __future__ import annotations

import json
import math
import random
import struct
from collections import OrderedDict, defaultdict, deque, namedtuple
from enum import IntEnum
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from paddle_warm_callbacks.checkpoint import jsonvalue
from paddle_warm_callbacks.errors import CorruptCheckpointError
from tests.checkpoint.samples import same

_DTYPES = st.sampled_from(
    [
        np.dtype(code)
        for code in ("?", "i1", "<i4", ">i4", "u8", "f2", "<f4", ">f8", "c8", "c16", "S3", "U2", "M8[ns]")
    ]
)
_ARRAYS = npst.arrays(_DTYPES, npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
_SCALARS = npst.arrays(_DTYPES, (1,)).map(lambda array: array[0])
_KEYS = st.one_of(
    st.text(), st.integers(), st.none(), st.booleans(), st.tuples(st.text(), st.integers()), st.binary()
)
_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), _ARRAYS, _SCALARS,
    st.sampled_from([2**63, -(2**63) - 1, 10**4000, -0.0, "\ud800", "$array", math.inf]),
)  # fmt: skip
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(_KEYS, inner, max_size=3),
        st.dictionaries(st.sampled_from(["$tuple", "$dict", "$", "a"]), inner, max_size=2),
        st.dictionaries(st.text(), inner, max_size=2).map(OrderedDict),
        st.lists(inner, max_size=3).map(deque),
    ),
    max_leaves=8,
)


def _there_and_back(value: Any) -> Any:
    return jsonvalue.decode(json.loads(json.dumps(jsonvalue.encode(value), allow_nan=False)))


@given(_VALUES)
def test_every_value_comes_back_equal_in_type_and_bits(value: Any) -> None:
    assert same(_there_and_back(value), value)


@given(_VALUES)
def test_what_is_encoded_can_itself_be_stored(value: Any) -> None:
    encoded = jsonvalue.encode(value)
    assert same(jsonvalue.decode(_there_and_back(encoded)), value)


@pytest.mark.parametrize(
    "value", [{1, "a"}, frozenset({(1, 2)}), deque([1, 2], maxlen=2), {(1, "a"): {None: 2}}]
)
def test_containers_beyond_json_come_back(value: Any) -> None:
    back = _there_and_back(value)
    assert back == value
    assert type(back) is type(value)
    assert getattr(back, "maxlen", 0) == getattr(value, "maxlen", 0)


def test_the_bits_of_a_nan_come_back() -> None:
    odd = struct.unpack(">d", bytes.fromhex("fff8000000000123"))[0]
    assert struct.pack(">d", _there_and_back(odd)).hex() == "fff8000000000123"


def test_random_state_comes_back() -> None:
    for state in (
        random.Random(3).getstate(),
        np.random.RandomState(3).get_state(),
        np.random.default_rng(3).bit_generator.state,
    ):
        assert same(_there_and_back(state), state)


def test_a_decoded_array_is_its_own_and_writable() -> None:
    array = np.arange(3)
    back = _there_and_back(array)
    back[0] = 9
    assert array[0] == 0


_Point = namedtuple("_Point", "x")


class _Subclass(np.ndarray):  # NumPy 1.21 takes no parameters here
    pass


class _Colour(IntEnum):
    RED = 1


@pytest.mark.parametrize(
    "value",
    [object(), len, _Point(1), _Colour.RED, defaultdict(int), np.array([None]), np.zeros(1, [("a", "f4")]), 1j,
     bytearray(b"a"), range(3), np.zeros(1).view(_Subclass)],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_anything_else_is_refused_with_its_path(value: Any) -> None:
    with pytest.raises(jsonvalue.NotEncodable) as caught:
        jsonvalue.encode({"a": [0, {"b": value}]})
    assert caught.value.path == "$['a'][1]['b']"
    assert caught.value.type is type(value)


def test_a_container_within_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(jsonvalue.NotEncodable, match="holds itself"):
        jsonvalue.encode(value)


@pytest.mark.parametrize(
    "encoded",
    [{"$pickle": "x"}, {"$int": "x"}, {"$tuple": 1}, {"$set": [[]]}, {"$array": ["|O", [1], "AAAA"]},
     {"$array": ["<f4", [2], "AAAA"]}, {"$bytes": "!"}, {"$float": "00"}, {"$tuple": [], "more": 1},
     {"$deque": [[1], "x"]}, {"$scalar": ["<f4", ""]}],
    ids=str,
)  # fmt: skip
def test_what_was_never_encoded_is_refused(encoded: Any) -> None:
    with pytest.raises(CorruptCheckpointError):
        jsonvalue.decode(encoded)
