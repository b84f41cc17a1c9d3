"""Arrays taken in one step: the same values, and the same refusals, as by the interpreter opcode by opcode."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from paddle_warm_callbacks.checkpoint import pickle_values
from paddle_warm_callbacks.checkpoint.pdparams import read_pdparams, write_pdparams
from paddle_warm_callbacks.errors import UnsafeFileError
from tests.checkpoint.genuine import write
from tests.checkpoint.pickle_reading import step_by_step
from tests.checkpoint.samples import same

_DTYPES = st.sampled_from(
    [np.dtype(code) for code in ("?", "i1", "u2", "<i4", ">i4", "i8", "f2", "f4", "f8", "c8")]
)
_ARRAYS = npst.arrays(_DTYPES, npst.array_shapes(min_dims=0, max_dims=6, min_side=0, max_side=4))
_LARGE = st.sampled_from(
    [np.arange(1025.0), np.ones((70_000, 2), np.float32), np.asfortranarray(np.ones((9, 300)))]
)
_VALUES = st.one_of(_ARRAYS, _ARRAYS, _LARGE, st.integers(), st.text(), st.lists(_ARRAYS, max_size=2))
_CONTENTS = st.dictionaries(st.text(), _VALUES, min_size=2, max_size=6)


class _Refusal(NamedTuple):
    received: str
    where: str


def _outcome(data: bytes) -> Any:
    try:
        return read_pdparams(io.BytesIO(data))
    except UnsafeFileError as error:
        return _Refusal(error.received, error.where)


def _refused(outcome: Any) -> bool:
    return isinstance(outcome, _Refusal)


def _written(contents: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    write_pdparams(file, contents)
    return file.getvalue()


def _require_the_same(data: bytes) -> Any:
    at_once = _outcome(data)
    with step_by_step():
        assert same(at_once, _outcome(data))
    return at_once


_FORMS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "repeated": lambda contents: pickle.dumps(contents, 4),
    "repeated, shared": lambda contents: pickle.dumps([contents, list(contents.values()), contents], 4),
    "written out": _written,
    "protocol 2": lambda contents: pickle.dumps(contents, 2),
    "protocol 5": lambda contents: pickle.dumps(contents, 5),
}


@pytest.mark.parametrize("form", _FORMS)
@settings(max_examples=60)
@given(contents=_CONTENTS)
def test_whatever_is_stored_is_read_the_same(form: str, contents: dict[str, Any]) -> None:
    assert not _refused(_require_the_same(_FORMS[form](contents)))


@pytest.mark.parametrize(
    "path", sorted(Path(write.__file__).parent.glob("*/*.pdparams")), ids=lambda path: path.name
)
def test_so_are_paddles_own_files(path: Path) -> None:
    assert not _refused(_require_the_same(path.read_bytes()))


_SMALL = {f"layer.{number}": np.full((2, 3, number + 1), number, "f4") for number in range(4)}
_CHANGED = [
    pickle.dumps(_SMALL, 4),
    _written(_SMALL),
    pickle.dumps(
        {"first": np.ones(3, "f4"), "large": np.ones((40, 600), "f4"), "next": np.zeros(2, "f4")}, 4
    ),
    pickle.dumps([_SMALL["layer.0"], _SMALL["layer.1"], _SMALL], 4),
]


_INSERTED = [b"", b"h", b"j", b"K", b"q\x04", b"r\x00\x01\x00\x00", b"\x94", b"0", b"(", b"t", b"\x85"]


@pytest.mark.parametrize("data", _CHANGED, ids=("repeated", "written out", "large", "shared"))
@settings(max_examples=400)
@given(
    changes=st.lists(
        st.tuples(
            st.integers(0, 1100),
            st.integers(0, 3),
            st.one_of(st.sampled_from(_INSERTED), st.binary(max_size=3)),
        ),
        min_size=1,
        max_size=3,
    )
)  # fmt: skip
def test_a_changed_file_is_read_or_refused_the_same(
    data: bytes, changes: list[tuple[int, int, bytes]]
) -> None:
    for place, removed, inserted in changes:
        place = 2 + place % (len(data) - 2)
        data = data[:place] + inserted + data[place + removed :]
    _require_the_same(data)


def test_a_file_cut_off_anywhere_is_refused_the_same() -> None:
    for data in _CHANGED[:2]:
        for end in range(1, len(data)):
            assert _refused(_require_the_same(data[:end]))


def test_it_is_the_way_that_arrays_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the tests above would compare the interpreter with itself."""
    filled = []
    original = pickle_values.fill_array

    def counting(*arguments: Any) -> None:
        filled.append(1)
        original(*arguments)

    monkeypatch.setattr(pickle_values, "fill_array", counting)
    arrays: dict[str, Any] = {
        f"layer.{number}": np.full((3, number + 1), number, "f4") for number in range(300)
    }
    arrays.update(large=np.ones((40, 600), "f4"), last=np.ones(3, "f4"))
    # The first of a pickle says what the others refer to.
    for data, by_opcode in ((pickle.dumps(arrays, 4), 1), (_written(arrays), 0)):
        filled.clear()
        assert same(read_pdparams(io.BytesIO(data)), arrays)
        assert len(filled) == by_opcode
        filled.clear()
        with step_by_step():
            read_pdparams(io.BytesIO(data))
        assert len(filled) == len(arrays)


_THREE = pickle.dumps([np.full(3, number, "f4") for number in range(3)], 4)
_LAST = _THREE.rindex(b"h", 0, _THREE.rindex(b"K\x00\x85\x94") - 2)  # the references of the third array


def test_a_reference_to_anything_else_gives_what_the_interpreter_gives() -> None:
    refused = 0
    for place in (1, 3, 9):
        assert _THREE[_LAST + place - 1] == ord("h")
        for entry in range(40):
            changed = bytearray(_THREE)
            changed[_LAST + place] = entry
            refused += _refused(_require_the_same(bytes(changed)))
    assert refused > 70  # only the third, an argument that is not looked at, may be anything


@pytest.mark.parametrize("opcodes", [b"K\x00q%c0", b"K\x00r%c\x00\x00\x000"])
def test_what_the_file_puts_over_an_entry_counts(opcodes: bytes) -> None:
    """What arrays refer to is remembered only as long as the memo still has it."""
    overwritten = _THREE[:_LAST] + opcodes % _THREE[_LAST + 1] + _THREE[_LAST:]
    assert _refused(_require_the_same(overwritten))
    elsewhere = _THREE[:_LAST] + opcodes % 200 + _THREE[_LAST:]
    assert len(_require_the_same(elsewhere)) == 3


def test_each_array_has_memory_of_its_own() -> None:
    shared = np.ones(2000)
    value = pickle.loads(pickle.dumps([shared, shared.copy(), np.ones(3), np.ones(3)], 4))
    read = _require_the_same(pickle.dumps(value, 4))
    assert all(array.flags.writeable for array in read)
    assert not any(np.shares_memory(a, b) for a in read for b in read if a is not b)


def test_a_frame_longer_than_the_file_is_refused_behind_an_array_too() -> None:
    data = pickle.dumps([np.ones(3, "f4"), np.ones((40, 600), "f4")], 4)
    frame = data.rindex(b"\x95")
    assert data[frame + 9 : frame + 12] == b"\x94t\x94"
    longer = data[: frame + 1] + (1 << 20).to_bytes(8, "little") + data[frame + 9 :]
    assert _refused(_require_the_same(longer))


def test_memory_that_is_spent_is_not_there_for_an_array_in_one_step_either() -> None:
    """A file may take about its size: what it has encoded over and over is missing for the array behind."""
    array = _written({"a": np.zeros(1000, "i1")})
    array = array[array.index(b"\x8c\x15") : -2]  # without the end of the dictionary
    outcomes = []
    for letters in range(3000, 4000, 50):
        text = b"X" + letters.to_bytes(4, "little") + b"a" * letters + b"\x940("
        encoded = b"\x8c\x07_codecs\x8c\x06encode\x93h\x00\x8c\x06latin1\x86R0"  # and dropped
        times = ((1 << 20) + len(text) + 2 * len(array)) // (letters - len(encoded))
        found = _require_the_same(b"\x80\x04" + text + encoded * times + array * 2 + b"t.")
        outcomes.append(_refused(found) and "memory" in found.received)
    assert {True, False} == set(outcomes)
