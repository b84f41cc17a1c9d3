"""Files that Paddle wrote: read without it, from three versions; and beside it, with the version that is installed."""

from __future__ import annotations

import io
import pickle
import tracemalloc
from pathlib import Path
from typing import Any, BinaryIO, Callable

import numpy as np
import pytest

from paddle_warm_callbacks.checkpoint.pdparams import read_pdparams, write_pdparams
from paddle_warm_callbacks.errors import UnsafeFileError
from tests.checkpoint.genuine import write
from tests.checkpoint.samples import same

FOLDER = Path(write.__file__).parent
SHIPPED = sorted(FOLDER.glob("*/*.pdparams"))


def test_files_of_three_versions_in_three_protocols_are_shipped() -> None:
    assert {path.parent.name for path in SHIPPED} == {"paddle-2.6.2", "paddle-3.0.0", "paddle-3.3.1"}
    assert {path.stem.rpartition("-")[2] for path in SHIPPED} == {"2", "3", "4"}
    assert len(SHIPPED) == 45


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_each_is_read_to_the_bit(path: Path) -> None:
    assert same(read_pdparams(path), write.expected()[path.stem.rpartition("-")[0]])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_paddle_reads_each_the_same(path: Path) -> None:
    paddle = pytest.importorskip("paddle")
    assert same(read_pdparams(path), paddle.load(str(path), return_numpy=True))


def test_the_installed_paddle_writes_what_is_read(tmp_path: Path) -> None:
    paddle = pytest.importorskip("paddle")
    write.main(tmp_path)
    written = sorted(tmp_path.glob("*.pdparams"))
    assert len(written) == 15
    for path in written:
        assert same(read_pdparams(path), paddle.load(str(path), return_numpy=True)), path


def test_the_name_table_is_kept_on_request() -> None:
    path = FOLDER / "paddle-3.3.1" / "state-4.pdparams"
    assert "StructuredToParameterName@@" not in read_pdparams(path)
    table = read_pdparams(path, keep_names=True)["StructuredToParameterName@@"]
    assert table["float32"] == "generated_float32"


def test_arrays_are_writable_and_apart() -> None:
    read = read_pdparams(FOLDER / "paddle-3.3.1" / "state-4.pdparams")
    arrays = list(read.values())
    assert all(array.flags.writeable for array in arrays)
    assert not any(np.shares_memory(one, other) for one in arrays for other in arrays if one is not other)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_numpy_pickles_is_read_in_every_protocol(protocol: int, tmp_path: Path) -> None:
    value = {
        "arrays": dict(write.arrays()),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big endian": np.arange(4, dtype=">i4"),
        "plain": [
            None,
            True,
            False,
            0,
            -1,
            255,
            2**31,
            -(2**63),
            2**100,
            0.5,
            "",
            "é" * 300,
            b"",
            b"\x00\xff",
            (),
        ],
        "large bytes": bytes(range(256)) * 40,
        "deep": [[[[{"a": ({"b": 1},)}]]]],
        "sets": [{1, 2}, frozenset({"x"})],
    }
    data = pickle.dumps(value, protocol)
    read = read_pdparams(io.BytesIO(data))
    assert same(read, pickle.loads(data))
    assert read["fortran"].flags.f_contiguous


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reading_takes_the_memory_of_the_arrays_once(protocol: int, tmp_path: Path) -> None:
    """Protocol 2 has an array's bytes as text, which a memo keeps beside it."""
    arrays = {f"w{number}": np.random.default_rng(number).random(1 << 18) for number in range(20)}
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps(arrays, protocol))

    def peak_of(read: Callable[[BinaryIO], Any]) -> float:
        with path.open("rb") as file:
            tracemalloc.start()
            found = read(file)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert same(found, arrays)
        return peak / sum(array.nbytes for array in arrays.values())

    assert peak_of(read_pdparams) < 1.3
    if protocol == 2:
        assert peak_of(pickle.load) > 1.9  # the control


def test_paths_files_and_streams_that_cannot_seek_give_the_same() -> None:
    path = FOLDER / "paddle-3.0.0" / "state-4.pdparams"
    data = path.read_bytes()

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    behind = io.BytesIO(b"header" + data)
    behind.seek(6)
    for source in (str(path), path, io.BytesIO(data), behind, Pipe(data)):
        assert same(read_pdparams(source), write.expected()["state"])


def _in_pieces(**change: Any) -> dict[str, Any]:
    """Return a parameter in two pieces, as protocols 2 and 3 store one above 1 GiB."""
    record = {"OriginShape": (3, 4), "slices": ["w@@.0", "w@@.1"], **change}
    flat = np.arange(12, dtype=np.float32)
    return {"w@@.0": flat[:7], "w@@.1": flat[7:], "b": flat[:2], "UnpackBigParamInfor@@": {"w": record}}


def test_a_parameter_in_pieces_is_put_together_as_paddle_does(tmp_path: Path) -> None:
    path = tmp_path / "pieces.pdparams"
    path.write_bytes(pickle.dumps(_in_pieces(), 2))
    read = read_pdparams(path)
    assert same(
        read, {"b": np.arange(2, dtype=np.float32), "w": np.arange(12, dtype=np.float32).reshape(3, 4)}
    )
    paddle = pytest.importorskip("paddle")
    assert same(read, paddle.load(str(path), return_numpy=True))


def _doubled(times: int) -> Any:
    """Return a tuple of the same tuple twice, and so on: quickly stored, never hashed."""
    value: Any = ()
    for _ in range(times):
        value = (value, value)
    return value


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"slices": ["w@@.0", "w@@.0"]}, id="a piece used twice"),
        pytest.param({"slices": ["w@@.0"]}, id="too few"),
        pytest.param({"slices": []}, id="none"),
        pytest.param({"slices": ["missing"]}, id="one that is not there"),
        pytest.param({"slices": [_doubled(90)]}, id="a name that would take for ever to look up"),
        pytest.param({"OriginShape": (10**9, 10**9)}, id="a shape of other size"),
        pytest.param({"OriginShape": None}, id="no shape"),
        pytest.param(
            {"OriginShape": (2**1000,) * 1_000_000}, id="a shape that would take for ever to multiply"
        ),
    ],
)
def test_pieces_that_do_not_fit_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UnsafeFileError, match="cannot be put together"):
        read_pdparams(io.BytesIO(pickle.dumps(_in_pieces(**change), 2)))


def test_paddle_reads_what_is_written_as_what_it_writes_itself(tmp_path: Path) -> None:
    paddle = pytest.importorskip("paddle")
    layer = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.BatchNorm2D(4))
    state = layer.state_dict()
    paddle.save(state, str(tmp_path / "theirs.pdparams"))
    with (tmp_path / "ours.pdparams").open("wb") as file:
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        write_pdparams(file, arrays, {name: tensor.name for name, tensor in state.items()})
    ours, theirs = (pickle.loads((tmp_path / f"{who}.pdparams").read_bytes()) for who in ("ours", "theirs"))
    assert same(ours, theirs)
    loaded = paddle.load(str(tmp_path / "ours.pdparams"))
    assert [tensor.name for tensor in loaded.values()] == [tensor.name for tensor in state.values()]
    assert all(np.array_equal(loaded[name].numpy(), state[name].numpy()) for name in state)


def test_model_load_reads_what_is_written(tmp_path: Path) -> None:
    paddle = pytest.importorskip("paddle")

    def model() -> Any:
        made = paddle.Model(paddle.nn.Linear(3, 2))
        adam = paddle.optimizer.Adam(parameters=made.parameters())
        made.prepare(adam, paddle.nn.MSELoss())
        made.train_batch([np.ones((4, 3), np.float32)], [np.ones((4, 2), np.float32)])
        return made

    with paddle.utils.unique_name.guard():
        trained = model()
    state, slots = trained.network.state_dict(), trained._optimizer.state_dict()
    with (tmp_path / "model.pdparams").open("wb") as file:
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        write_pdparams(file, arrays, {name: tensor.name for name, tensor in state.items()})
    with (tmp_path / "model.pdopt").open("wb") as file:
        moments = {name: value.numpy() for name, value in slots.items() if hasattr(value, "numpy")}
        write_pdparams(file, moments, {name: name for name in moments})
    with paddle.utils.unique_name.guard():
        other = model()
    for parameter in other.network.parameters():
        parameter.set_value(paddle.zeros_like(parameter))
    other.load(str(tmp_path / "model"))
    for name, tensor in state.items():
        assert np.array_equal(other.network.state_dict()[name].numpy(), tensor.numpy())
    for name, value in other._optimizer.state_dict().items():
        if name in moments:
            assert np.array_equal(value.numpy(), moments[name]), name
    assert moments


def test_named_tensors_keep_their_names_in_paddle(tmp_path: Path) -> None:
    paddle = pytest.importorskip("paddle")
    array = np.ones((2, 2), np.float32)
    with (tmp_path / "model.pdopt").open("wb") as file:
        write_pdparams(file, {"master_weights": {"linear_0.w_0": ("linear_0.w_0_fp32_master_0", array)}})
    loaded = paddle.load(str(tmp_path / "model.pdopt"))["master_weights"]["linear_0.w_0"]
    assert loaded.name == "linear_0.w_0_fp32_master_0"
    assert same(read_pdparams(tmp_path / "model.pdopt"), {"master_weights": {"linear_0.w_0": array}})
