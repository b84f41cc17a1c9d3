"""Inference models of three Paddles: their parameters by name, to the bit; and files that are none."""

from __future__ import annotations

import shutil
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paddle_warm_callbacks.checkpoint import cache
from paddle_warm_callbacks.checkpoint.inference_model import read_inference_parameters
from paddle_warm_callbacks.checkpoint.source import open_source
from paddle_warm_callbacks.errors import SourceError, UnsafeFileError
from tests.checkpoint.genuine import write
from tests.checkpoint.http_server import serving
from tests.checkpoint.samples import same

FOLDER = Path(write.__file__).parent
SHIPPED = sorted(FOLDER.glob("*/inference.pdiparams"))
GENERATED = {
    "conv.weight": "conv2d_0.w_0", "bn.weight": "batch_norm2d_0.w_0", "bn.bias": "batch_norm2d_0.b_0",
    "bn._mean": "batch_norm2d_0.w_1", "bn._variance": "batch_norm2d_0.w_2", "fc.weight": "linear_0.w_0",
    "fc.bias": "linear_0.b_0", "scale": "eager_tmp_0",
}  # fmt: skip


def by_generated_name() -> dict[str, np.ndarray[Any, Any]]:
    return {GENERATED[name]: array for name, array in write.inference_weights().items()}


def test_those_of_three_versions_are_shipped() -> None:
    assert [path.parent.name for path in SHIPPED] == ["paddle-2.6.2", "paddle-3.0.0", "paddle-3.3.1"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_each_is_read_to_the_bit(path: Path) -> None:
    found = read_inference_parameters(path)
    assert found.structured is (path.parent.name == "paddle-2.6.2")  # later ones tell no structured names
    expected = write.inference_weights() if found.structured else by_generated_name()
    assert {name: array.tobytes() for name, array in found.arrays.items()} == {
        name: array.tobytes() for name, array in expected.items()
    }
    assert all(array.flags.writeable for array in found.arrays.values())


def test_names_come_from_the_program_where_there_is_no_table(tmp_path: Path) -> None:
    for suffix in (".pdiparams", ".pdmodel"):
        shutil.copy(SHIPPED[0].with_suffix(suffix), tmp_path)
    found = read_inference_parameters(tmp_path / "inference.pdiparams")
    assert not found.structured
    assert {name: array.tobytes() for name, array in found.arrays.items()} == {
        name: array.tobytes() for name, array in by_generated_name().items()
    }


def test_as_a_source_any_of_its_files_or_their_prefix_will_do() -> None:
    for name in ("inference", "inference.pdiparams", "inference.pdmodel"):
        source = open_source(FOLDER / "paddle-2.6.2" / name)
        assert same(source.tensors["fc.bias"], write.inference_weights()["fc.bias"])
        assert not source.generated_names
    assert open_source(FOLDER / "paddle-3.3.1" / "inference.json").generated_names


def test_alone_it_has_no_names_and_says_so(tmp_path: Path) -> None:
    shutil.copy(SHIPPED[0], tmp_path)
    with pytest.raises(
        SourceError, match=r"no inference\.pdiparams\.info, inference\.json or inference\.pdmodel"
    ):
        open_source(tmp_path / "inference")


def test_names_of_another_export_are_refused(tmp_path: Path) -> None:
    shutil.copy(SHIPPED[2].with_suffix(".json"), tmp_path)
    whole = SHIPPED[2].read_bytes()
    (tmp_path / "inference.pdiparams").write_bytes(whole + whole)
    with pytest.raises(UnsafeFileError, match="16 tensors, and 8 names"):
        read_inference_parameters(tmp_path / "inference.pdiparams")


@pytest.mark.parametrize("beside", [".json", ".pdmodel", ".pdiparams.info"])
@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[" * 10_000, b"\x80\x04cos\nsystem\n.", b"\x0a\xff\xff\xff\x7f"]
)
def test_what_tells_no_names_is_refused(tmp_path: Path, beside: str, content: bytes) -> None:
    shutil.copy(SHIPPED[0], tmp_path)
    (tmp_path / f"inference{beside}").write_bytes(content)
    with pytest.raises(UnsafeFileError):
        read_inference_parameters(tmp_path / "inference.pdiparams")


def test_every_cut_is_refused(tmp_path: Path) -> None:
    shutil.copy(SHIPPED[2].with_suffix(".json"), tmp_path)
    whole = SHIPPED[2].read_bytes()
    for length in range(len(whole)):
        (tmp_path / "inference.pdiparams").write_bytes(whole[:length])
        with pytest.raises(UnsafeFileError):
            read_inference_parameters(tmp_path / "inference.pdiparams")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    kind=st.sampled_from([(0, ".pdiparams"), (0, ".pdmodel"), (2, ".pdiparams"), (2, ".json")]),
)
def test_a_changed_file_is_read_or_refused(
    tmp_path: Path, data: st.DataObject, kind: tuple[int, str]
) -> None:
    number, changed = kind
    for suffix in (".pdiparams", ".pdmodel" if number == 0 else ".json"):
        content = bytearray(SHIPPED[number].with_suffix(suffix).read_bytes())
        if suffix == changed:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        (tmp_path / f"inference{suffix}").write_bytes(content)
    other = ".json" if number == 0 else ".pdmodel"
    (tmp_path / f"inference{other}").unlink(missing_ok=True)
    try:
        found = read_inference_parameters(tmp_path / "inference.pdiparams")
    except UnsafeFileError:
        return
    assert all(isinstance(array, np.ndarray) for array in found.arrays.values())


@pytest.mark.parametrize("shape", [(1 << 40,), (1 << 20, 1 << 20), (1 << 62, 2), (0, 1 << 62), (1,) * 2000])
def test_an_absurd_shape_takes_no_memory(tmp_path: Path, shape: tuple[int, ...]) -> None:
    def varint(value: int) -> bytes:
        return bytes([value & 0x7F | 0x80]) + varint(value >> 7) if value > 0x7F else bytes([value])

    described = b"\x08\x05" + b"".join(b"\x10" + varint(size) for size in shape)
    content = struct.pack("<IQIi", 0, 0, 0, len(described)) + described + bytes(64)
    (tmp_path / "inference.pdiparams").write_bytes(content)
    shutil.copy(SHIPPED[2].with_suffix(".json"), tmp_path)
    tracemalloc.start()
    with pytest.raises(UnsafeFileError):
        read_inference_parameters(tmp_path / "inference.pdiparams")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_the_installed_paddle_exports_what_is_read(tmp_path: Path) -> None:
    pytest.importorskip("paddle")
    write.export(tmp_path)
    found = read_inference_parameters(tmp_path / "inference.pdiparams")
    assert sorted(array.tobytes() for array in found.arrays.values()) == sorted(
        array.tobytes() for array in write.inference_weights().values()
    )


@pytest.mark.parametrize("version", ["paddle-2.6.2", "paddle-3.0.0", "paddle-3.3.1"])
def test_by_url_too_the_names_come_from_the_file_beside(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    here = open_source(FOLDER / version / "inference.pdiparams")
    with serving() as (files, address):
        for path in (FOLDER / version).glob("inference.*"):
            files.content[f"/{path.name}"] = path.read_bytes()
        for path in (FOLDER / version).glob("inference.*"):
            source = open_source(f"{address}/{path.name}")
            assert same(source.tensors, here.tensors)
            assert source.generated_names is here.generated_names
            assert source.description == f"{address}/inference.pdiparams"
            assert source.digest == here.digest


def test_parameters_at_a_url_without_names_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    with serving() as (files, address):
        files.content["/inference.pdiparams"] = SHIPPED[0].read_bytes()
        with pytest.raises(SourceError, match="no names") as caught:
            open_source(f"{address}/inference.pdiparams")
    for name in ("inference.pdiparams.info", "inference.json", "inference.pdmodel"):
        assert name in caught.value.received
