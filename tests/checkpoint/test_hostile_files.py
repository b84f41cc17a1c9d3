"""Files from a stranger: nothing they ask for runs, nothing large is allocated, and the error says what."""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddle_warm_callbacks.checkpoint.pdparams import read_pdparams
from paddle_warm_callbacks.errors import UnsafeFileError
from tests.checkpoint.genuine import write

GENUINE = Path(write.__file__).parent / "paddle-3.3.1"
CANARY = "canary_of_hostile_files"


class _Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Any, *arguments: Any, then: Any = None) -> None:
        self._reduced = (function, arguments) if then is None else (function, arguments, then)

    def __reduce__(self) -> Any:
        return self._reduced


def _call(module: str, name: str, *arguments: Any) -> bytes:
    """Return a pickle that calls a function by its name, whether or not this Python has it."""
    return b"\x80\x04" + _name(module, name) + _plain(arguments) + b"R."


def _plain(value: Any) -> bytes:
    """Return the opcodes that make ``value``, without entries in the memo."""
    return pickletools.optimize(pickle.dumps(value, 3))[2:-1]


def _name(module: str, name: str) -> bytes:
    return b"".join(b"X" + struct.pack("<I", len(part)) + part.encode() for part in (module, name)) + b"\x93"


_RECONSTRUCT = (
    _name("numpy.core.multiarray", "_reconstruct") + _name("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
)


def _dtype(code: str, state: Any = (3, "<", None, None, None, -1, -1, 0)) -> bytes:
    return _name("numpy", "dtype") + _plain((code, False, True)) + b"R" + _plain(state) + b"b"


def _array(shape: Any, code: str, data: bytes) -> bytes:
    return _RECONSTRUCT + _state(shape, code, data) + b"b"


def _state(shape: Any, code: str, data: bytes) -> bytes:
    return b"(K\x01" + _plain(shape) + _dtype(code) + b"\x89B" + struct.pack("<I", len(data)) + data + b"t"


def _p(body: bytes, protocol: int = 4) -> bytes:
    return b"\x80" + bytes([protocol]) + body + b"."


_SET_CANARY = f"__import__('sys').modules.setdefault({CANARY!r}, 1)"
_TEXT = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20)

_LONG_TEXT = b"X\x00\x20\x00\x00" + b"a" * 0x2000
# 40 lists, each of the one before, twice: 2**40 when written out
_DOUBLED = b"]" + b"".join(b"q\x00]h\x00ah\x00a" for _ in range(40))
HOSTILE: dict[str, bytes] = {
    # calls of what runs code
    "os.system": _call("os", "system", "echo"),
    "posix.system": _call("posix", "system", "echo"),
    "nt.system": _call("nt", "system", "echo"),
    "subprocess.Popen": _call("subprocess", "Popen", ["true"]),
    "builtins.eval": _call("builtins", "eval", _SET_CANARY),
    "builtins.eval with globals": _call("builtins", "eval", _SET_CANARY, {}),
    "__builtin__.eval": _call("__builtin__", "eval", _SET_CANARY),
    "eval of data, but not an array": _call("builtins", "eval", "data", {"data": 1}),
    "eval of data, with more than data": _call("builtins", "eval", "data", {"data": 1, "__builtins__": {}}),
    "eval of something like data": _call("builtins", "eval", "data ", {"data": 1}),
    "builtins.exec": _call("builtins", "exec", _SET_CANARY),
    "builtins.compile": _call("builtins", "compile", _SET_CANARY, "x", "eval"),
    "builtins.__import__": _call("builtins", "__import__", "antigravity"),
    "builtins.getattr": _call("builtins", "getattr", "x", "upper"),
    "builtins.setattr": _call("builtins", "setattr", {}, "x", 1),
    "builtins.open": _call("builtins", "open", "/dev/null"),
    "builtins.map": _call("builtins", "map", None, []),
    "builtins.print": _call("builtins", "print", "x"),
    "importlib.import_module": _call("importlib", "import_module", "antigravity"),
    "runpy.run_path": _call("runpy", "run_path", "/dev/null"),
    "operator.attrgetter": _call("operator", "attrgetter", "x"),
    "functools.partial": _call("functools", "partial", None),
    "types.FunctionType": _call("types", "FunctionType", None),
    "ctypes.CDLL": _call("ctypes", "CDLL", "libc.so.6"),
    "shutil.rmtree": _call("shutil", "rmtree", "/nonexistent"),
    "pickle.loads": _call("pickle", "loads", b"N."),
    "numpy.load": _call("numpy", "load", "/dev/null"),
    "numpy.fromfile": _call("numpy.core.multiarray", "fromfile", "/dev/null"),
    "numpy runstring": _call("numpy.testing._private.utils", "runstring", _SET_CANARY, {}),
    "paddle GeneratorState": _call("paddle.base.libpaddle", "GeneratorState"),
    "paddle.load": _call("paddle", "load", "/dev/null"),
    "copyreg._reconstructor": _call("copyreg", "_reconstructor", None, None, None),
    "_codecs.lookup": _call("_codecs", "lookup", "rot13"),
    "_codecs.encode as another codec": _call("_codecs", "encode", "x", "rot13"),
    "a module that runs when imported": b"\x80\x02cantigravity\nx\n.",
    "this module's own class": pickle.dumps(_Calls(_Calls, "x")),
    # ways to a name that is not on the list
    "a dotted name below an allowed one": _p(_name("numpy", "ndarray.__class__") + b")R"),
    "an allowed name of another module": _call("paddle", "ndarray"),
    "a name that is no text": _p(b"K\x01K\x02\x93"),
    "a name in two halves": _p(b"X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x94h\x00\x93)R"),
    "the extension registry, one byte": _p(b"\x82\x01"),
    "the extension registry, four bytes": _p(b"\x84\x01\x00\x00\x00"),
    "a persistent id": _p(b"K\x01Q"),
    "a persistent id in text": _p(b"Pid\n", 2),
    "INST": _p(b"(ios\nsystem\n", 2),
    "OBJ": _p(b"(" + _name("os", "system") + b"o", 2),
    "NEWOBJ of an allowed class": _p(_name("numpy", "ndarray") + b")\x81"),
    "NEWOBJ_EX of an allowed class": _p(_name("numpy", "ndarray") + b")}\x92"),
    "a buffer outside the file": _p(b"\x97", 5),
    # an allowed name with other arguments, or in another role
    "ndarray called": _p(_name("numpy", "ndarray") + b"K\x05\x85R"),
    "an array of another class": _p(
        _name("numpy.core.multiarray", "_reconstruct") + b"K\x01K\x00\x85C\x01b\x87R"
    ),
    "an array of objects": _p(_array((1,), "O8", b"\x00" * 8)),
    "an array of records": _p(_array((1,), "V8", b"\x00" * 8)),
    "a dtype with fields": _p(_dtype("f4", (3, "|", None, ("a",), {"a": 1}, 4, 1, 0))),
    "a dtype with a subarray": _p(_dtype("f4", (3, "|", (1, 2), None, None, 4, 1, 0))),
    "a dtype for a value": _p(_dtype("f4")),
    "a function for a value": _p(_name("builtins", "eval")),
    "a function within a list": _p(b"]" + _name("_codecs", "encode") + b"a"),
    "attributes of a dictionary": _p(b"}}b"),
    "attributes of a function": _p(_name("_codecs", "encode") + b"}b"),
    "attributes of an OrderedDict": _p(_name("collections", "OrderedDict") + b")R}b"),
    "a call of a text": _p(b"X\x01\x00\x00\x00x)R"),
    "a call with a list": _p(_name("collections", "OrderedDict") + b"]R"),
    "items appended to a dictionary": _p(b"}K\x01a"),
    "keys set on a list": _p(b"]K\x01K\x02s"),
    "members added to a list": _p(b"](K\x01\x90"),
    "an odd number of keys and values": _p(b"}(K\x01u"),
    "a key that is a list": _p(b"}]K\x01s"),
    "a key nested very deep": _p(b"})" + b"\x85" * 100_000 + b"K\x01s"),
    "a set that holds a dictionary": _p(b"\x8f(}\x90"),
    # an array that does not add up
    "an array never filled": _p(_RECONSTRUCT),
    "an array filled twice": _p(_array((1,), "f4", bytes(4)) + _state((1,), "f4", bytes(4)) + b"b"),
    "an array filled with nothing": _p(_RECONSTRUCT + b")b"),
    "a shape larger than its bytes": _p(_array((2**40, 2**40), "f4", b"\x00" * 4)),
    "a shape with a hole in it": _p(_array((0, 2**62, 2**62), "f4", b"")),
    "a negative shape": _p(_array((-1, -4), "i1", b"\x00" * 4)),
    "a shape of floats": _p(_array((4.0,), "i1", b"\x00" * 4)),
    "a shape of 65 dimensions": _p(_array((1,) * 65, "i1", b"\x00")),
    "a boolean shape": _p(_array((True,), "i1", b"\x00")),
    # what would fill memory if it were shown in the error
    "a name of lists that double": _p(_DOUBLED + b"K\x01\x93"),
    "a dtype of lists that double": _p(_name("numpy", "dtype") + _DOUBLED + b"\x85R"),
    # memory that the file does not have
    "2**62 bytes": _p(b"\x8e" + struct.pack("<Q", 2**62)),
    "2**63 bytes and more": _p(b"\x8e" + struct.pack("<Q", 2**64 - 1)),
    "4 GiB of bytes": _p(b"B" + struct.pack("<I", 2**32 - 1)),
    "2**62 letters": _p(b"\x8d" + struct.pack("<Q", 2**62)),
    "a bytearray of 2**40": _p(b"\x96" + struct.pack("<Q", 2**40), 5),
    "a frame of 2**62": _p(b"\x95" + struct.pack("<Q", 2**62)),
    "an int of 2 GiB": _p(b"\x8b" + struct.pack("<i", 2**31 - 1)),
    "an int of a negative length": _p(b"\x8b" + struct.pack("<i", -1)),
    "an int of a megabyte": _p(b"\x8b" + struct.pack("<i", 1 << 20) + b"\x01" * (1 << 20)),
    "one text encoded over and over": _p(
        _TEXT + b"\x940(" + (_name("_codecs", "encode") + b"h\x00X\x06\x00\x00\x00latin1\x86R") * 100 + b"t"
    ),
    # structure
    "a list within itself": _p(b"]\x94h\x00a"),
    "a dictionary within itself": _p(b"}\x94K\x01h\x00s"),
    "1,000 lists in each other": _p(b"]" * 1000 + b"a" * 999),
    "a mark for a value": _p(b"("),
    "a mark in a list": _p(b"](a"),
    "items without a mark": _p(b"]e"),
    "nothing to pop": _p(b"0"),
    "a memo that is not there": _p(b"h\x05"),
    "two values at the end": _p(b"NN"),
    "no value at the end": _p(b""),
    "no end": b"\x80\x04}",
    "an opcode that is none": _p(b"\xff"),
    "text that is not UTF-8": _p(b"X\x01\x00\x00\x00\xff"),
    "a name without an end": b"\x80\x02c" + b"a" * 10_000,
    "protocol 0": pickle.dumps({"a": 1}, 0),
    "protocol 1": pickle.dumps({"a": 1}, 1),
    "protocol 9": b"\x80\x09N.",
    "an int in text": _p(b"I1\n"),
    # no pickle at all
    "an empty file": b"",
    "an array's text for a key": _p(b"}" + _LONG_TEXT + b"K\x01s"),
    "an array's text encoded twice": _p(
        _LONG_TEXT
        + b"\x940("
        + (_name("_codecs", "encode") + b"h\x00X\x06\x00\x00\x00latin1\x86R") * 2
        + b"t"
    ),
    "a name that is an array's text": _p(_LONG_TEXT + b"\x8c\x06system\x93)R"),
    "a zip archive": b"PK\x03\x04" + b"\x00" * 100,
    "an inference model's parameters": b"\x00" * 100,
    "a web page": b"<!DOCTYPE html><html></html>",
    "a pointer of git-lfs": b"version https://git-lfs.github.com/spec/v1\n",
}


def test_long_text_that_is_no_array_stays_text() -> None:
    long = "é" * 5000
    for protocol in (2, 3, 4, 5):
        value = {"a": long, "b": [long, (long, "short")]}
        assert read_pdparams(io.BytesIO(pickle.dumps(value, protocol))) == value


def test_there_are_more_than_forty_kinds() -> None:
    assert len(HOSTILE) >= 40
    assert len(set(HOSTILE.values())) == len(HOSTILE)


@pytest.mark.parametrize("kind", HOSTILE)
def test_nothing_runs_and_the_error_says_what(kind: str) -> None:
    data = HOSTILE[kind]
    modules = set(sys.modules)
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeFileError) as caught:
            read_pdparams(io.BytesIO(data))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert CANARY not in sys.modules
    assert not {"antigravity", "ctypes.wintypes", "runpy"} & (set(sys.modules) - modules)
    assert most < 8 * len(data) + (4 << 20)
    assert caught.value.what
    assert caught.value.where
    assert caught.value.expected


def test_control_the_same_kind_of_file_does_run_in_pickle() -> None:
    try:
        pickle.loads(HOSTILE["builtins.eval"])
        assert CANARY in sys.modules
    finally:
        sys.modules.pop(CANARY, None)


def test_the_error_names_the_global_and_the_offset() -> None:
    body = b"]" + _name("os", "system")
    with pytest.raises(UnsafeFileError) as caught:
        read_pdparams(io.BytesIO(_p(body)))
    assert caught.value.received == "os.system"
    assert caught.value.where.endswith(f"byte {1 + len(body)}")


def test_the_builders_of_these_files_are_sound() -> None:
    """The same builders make files that are read, so that it is the hostile part that is refused."""
    good = _p(_array((2, 2), "i2", bytes(range(8))))
    assert np.array_equal(
        read_pdparams(io.BytesIO(good)), np.arange(8, dtype=np.uint8).view("<i2").reshape(2, 2)
    )
    assert read_pdparams(io.BytesIO(_call("collections", "OrderedDict"))) == {}
    assert read_pdparams(io.BytesIO(_call("_codecs", "encode", "xy", "latin1"))) == b"xy"
    assert read_pdparams(io.BytesIO(_p(b"(K\x01r\xff\xff\xff\xffK\x02t"))) == (1, 2)  # a memo entry far out


def test_an_array_stored_twice_is_not_two_views_of_one_memory() -> None:
    raw = b"C\x04" + bytes(4)
    once = _RECONSTRUCT + b"(K\x01K\x04\x85" + _dtype("i1") + b"\x89"
    read = read_pdparams(io.BytesIO(_p(raw + b"\x940(" + (once + b"h\x00tb") * 2 + b"t")))
    assert not np.shares_memory(*read)


@pytest.mark.parametrize("name", ["nested-2", "nested-4", "state-4"])
def test_a_file_cut_off_anywhere_is_refused(name: str) -> None:
    data = (GENUINE / f"{name}.pdparams").read_bytes()
    boundaries = {position for _, _, position in pickletools.genops(data) if position}
    inside = set(range(1, len(data), max(1, len(data) // 200)))
    for end in sorted(boundaries | inside):
        with pytest.raises(UnsafeFileError):
            read_pdparams(io.BytesIO(data[:end]))


_FUZZED = [
    (GENUINE / f"{name}.pdparams").read_bytes() for name in ("nested-2", "nested-4", "master-4", "tensor-3")
]
_OPCODES = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]


@settings(max_examples=300)
@given(
    data=st.sampled_from(_FUZZED),
    changes=st.lists(
        st.tuples(
            st.floats(0, 1, exclude_max=True),
            st.integers(0, 3),
            st.one_of(st.sampled_from(_OPCODES), st.binary(max_size=9)),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_a_changed_file_is_read_as_data_or_refused(
    data: bytes, changes: list[tuple[float, int, bytes]]
) -> None:
    for share, removed, inserted in changes:
        place = 2 + int(share * (len(data) - 2))
        data = data[:place] + inserted + data[place + removed :]
    try:
        value = read_pdparams(io.BytesIO(data))
    except UnsafeFileError:
        return
    _require_plain(value)


@settings(max_examples=300)
@given(st.lists(st.one_of(st.sampled_from(_OPCODES), st.binary(max_size=4)), max_size=40))
def test_any_run_of_opcodes_is_read_as_data_or_refused(opcodes: list[bytes]) -> None:
    try:
        value = read_pdparams(io.BytesIO(_p(b"".join(opcodes))))
    except UnsafeFileError:
        return
    _require_plain(value)


def _require_plain(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _require_plain(key)
            _require_plain(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            _require_plain(item)
    else:
        assert value is None or isinstance(value, (bool, int, float, str, bytes, np.ndarray, np.generic)), (
            value
        )
        if isinstance(value, (np.ndarray, np.generic)):
            assert value.dtype.kind in "biufc"
