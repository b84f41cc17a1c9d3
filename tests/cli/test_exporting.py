"""``export`` and ``average``: files that other tools read, whole or not there, and no mean of what has none."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks.checkpoint import durable
from paddle_warm_callbacks.checkpoint.numbers import exact, rounded
from paddle_warm_callbacks.checkpoint.pdparams import read_pdparams
from paddle_warm_callbacks.checkpoint.safetensors import read_safetensors
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from tests.checkpoint.samples import contents, entries, same
from tests.cli.typed import bfloat16, flip_a_bit, make_mirror, make_run, typed, typed_json, write_weights

MIXED = {
    "b.weight": np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
    "a.scale": bfloat16(1, -2.5, 3),
    "count": np.array(7),
    "flags": np.array([True, False]),
    "half": np.array([0.5], np.float16),
    "empty": np.zeros((0, 3), np.float64),
}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    return write_weights(tmp_path / "mixed.pdparams", **MIXED)


def read(path: Path) -> Any:
    return read_safetensors(path) if path.suffix == ".safetensors" else read_pdparams(path)


# -- export ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
def test_every_tensor_comes_out_as_it_was(mixed: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out{suffix}"
    said = typed("export", mixed, out).stdout
    assert said.startswith(f"6 tensors of {mixed} -> {out}, ")
    assert same(read(out), MIXED)


def test_a_run_gives_its_latest_and_a_checkpoint_itself(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    typed("export", run, tmp_path / "latest.pdparams")
    typed("export", run / "checkpoints/step-00000002-epoch-0001", tmp_path / "first.pdparams")
    assert read(tmp_path / "latest.pdparams")["fc.bias"][0] == 5
    assert read(tmp_path / "first.pdparams")["fc.bias"][0] == 2


def test_a_checkpoint_that_shares_its_tensors_comes_out_plain_and_verifies(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "run", layout="shards")
    for step in (1, 2):
        last = store.commit(contents(step, size=200))
    moved = shutil.copytree(last.path, tmp_path / "alone")
    typed("export", moved, tmp_path / "out.pdparams")
    assert same(read(tmp_path / "out.pdparams"), dict(contents(2, size=200).model))
    assert paddle.load(str(tmp_path / "out.pdparams"))["fc.bias"].numpy()[0] == 2
    assert typed_json("verify", tmp_path / "run")[1]["whole"] is True
    bias = next(tensor for tensor in last.read_tensors() if tensor.name == "fc.bias")
    flip_a_bit(moved / bias.stored_in, bias.offset + 3)
    (problem,) = typed_json("verify", moved, exit_code=1)[0]["problems"]
    assert problem["tensors"] == ["fc.bias"]
    typed("show", last.path)


def test_from_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDLE_WARM_CALLBACKS_CACHE", str(tmp_path / "cache"))
    typed("export", make_mirror(make_run(tmp_path / "run")), tmp_path / "out.safetensors")
    assert read(tmp_path / "out.safetensors")["fc.bias"][0] == 5


def test_paddle_loads_it_into_a_network(tmp_path: Path) -> None:
    typed("export", make_run(tmp_path / "run"), tmp_path / "net.pdparams")
    network = paddle.nn.Sequential(("fc", paddle.nn.Linear(6, 2)))
    assert network.set_state_dict(paddle.load(str(tmp_path / "net.pdparams"))) == ([], [])
    assert network.fc.weight.numpy().tolist() == [[5.0, 5.0]] * 6
    paddle.Model(network).load(str(tmp_path / "net"))


def test_paddle_sees_bfloat16_in_a_pdparams_file(mixed: Path, tmp_path: Path) -> None:
    typed("export", mixed, tmp_path / "out.pdparams")
    scale = paddle.load(str(tmp_path / "out.pdparams"))["a.scale"]
    assert str(scale.dtype) == "paddle.bfloat16"
    assert scale.astype("float32").numpy().tolist() == [1, -2.5, 3]


def test_safetensors_own_library_reads_it(mixed: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors")
    out = tmp_path / "out.safetensors"
    typed("export", mixed, out)
    with library.safe_open(out, "numpy") as file:
        assert set(file.keys()) == set(MIXED)
        assert np.array_equal(file.get_tensor("b.weight"), MIXED["b.weight"])
        assert file.get_slice("a.scale").get_dtype() == "BF16"


def test_the_tensors_bytes_are_aligned_and_in_the_networks_order(mixed: Path, tmp_path: Path) -> None:
    typed("export", mixed, tmp_path / "out.safetensors")
    data = (tmp_path / "out.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    assert length % 8 == 0
    assert list(json.loads(data[8 : 8 + length])) == list(MIXED)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_dtype_converts_floating_point_tensors_alone(mixed: Path, tmp_path: Path, dtype: str) -> None:
    typed("export", mixed, tmp_path / "out.pdparams", "--dtype", dtype)
    out = read(tmp_path / "out.pdparams")
    assert {name: str(array.dtype) for name, array in out.items()} == {
        **dict.fromkeys(MIXED, dtype),
        "count": "int64",
        "flags": "bool",
    }
    assert out["a.scale"].tolist() == [1, -2.5, 3]
    assert np.array_equal(out["b.weight"], MIXED["b.weight"].astype(dtype))


def test_numbers_too_large_for_a_dtype_are_an_error_and_infinities_are_not(tmp_path: Path) -> None:
    given = {"fine": np.array([np.inf, 65504], np.float32), "fc.weight": np.array([1, -7e4], np.float32)}
    source = write_weights(tmp_path / "net.pdparams", **given)
    said = typed("export", source, tmp_path / "out.pdparams", "--dtype", "float16", exit_code=2).stderr
    assert "1 numbers of a tensor are too large for float16" in said
    assert "fc.weight" in said
    assert not (tmp_path / "out.pdparams").exists()
    typed("export", source, tmp_path / "out.pdparams", "--dtype", "float32")


def test_a_file_is_replaced_only_with_force(mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.pdparams"
    out.write_bytes(b"precious")
    assert "there is something by that name already" in typed("export", mixed, out, exit_code=2).stderr
    assert out.read_bytes() == b"precious"
    typed("export", mixed, out, "--force")
    assert same(read(out), MIXED)
    typed("export", out, out, "--force")
    assert same(read(out), MIXED)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.pdparams"
    out.write_bytes(b"precious")

    def full(file: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "flush", full)
    assert "No space left on device" in typed("export", mixed, out, "--force", exit_code=2).stderr
    assert out.read_bytes() == b"precious"
    assert entries(tmp_path) == ["mixed.pdparams", "out.pdparams"]


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("out.pt", "the suffix says which format to write"),
        ("out", "no suffix"),
        ("none/out.pdparams", "mkdir -p"),
        ("folder.pdparams", "a directory"),
    ],
)
def test_where_nothing_can_be_written(mixed: Path, tmp_path: Path, out: str, says: str) -> None:
    (tmp_path / "folder.pdparams").mkdir()
    assert says in typed("export", mixed, tmp_path / out, "--force", exit_code=2).stderr


def test_a_type_that_safetensors_does_not_have_is_an_error(tmp_path: Path) -> None:
    source = write_weights(tmp_path / "net.pdparams", wave=np.zeros(2, np.complex128))
    said = typed("export", source, tmp_path / "out.safetensors", exit_code=2).stderr
    assert "wave" in said
    assert "complex128" in said
    assert entries(tmp_path) == ["net.pdparams"]


def test_a_nested_file_needs_its_part(tmp_path: Path) -> None:
    source = write_weights(tmp_path / "net.pdparams", ema=MIXED, epoch=3)
    assert "name their part" in typed("export", source, tmp_path / "out.pdparams", exit_code=2).stderr
    typed("export", source, tmp_path / "out.pdparams", "--part", "ema")
    assert same(read(tmp_path / "out.pdparams"), MIXED)


def test_a_damaged_checkpoint_is_not_exported(tmp_path: Path) -> None:
    checkpoint = CheckpointStore(make_run(tmp_path / "run")).list()[0]
    flip_a_bit(f"{checkpoint.path}/model.pdparams")
    said = typed("export", checkpoint.path, tmp_path / "out.pdparams", exit_code=2).stderr
    assert "is not what was written" in said
    assert entries(tmp_path) == ["run"]


def test_bfloat16_is_rounded_to_the_nearest_and_ties_to_even() -> None:
    exactly_between = 1 + 2.0**-8
    numbers = np.array([1, exactly_between, exactly_between + 2.0**-7, np.nan, -np.inf, 3.4e38, -0.0, 1e300])
    bits = rounded(numbers, "bfloat16")
    assert bits.tolist() == [0x3F80, 0x3F80, 0x3F82, 0x7FC0, 0xFF80, 0x7F80, 0x8000, 0x7F80]
    every = np.arange(1 << 16).astype(np.uint16)
    number = ~np.isnan(exact(every))
    assert np.array_equal(rounded(exact(every), "bfloat16")[number], every[number])


# -- average ---------------------------------------------------------------------------------------------------------


def average(tmp_path: Path, *sources: dict[str, Any], exit_code: int = 0) -> Any:
    """Return what is written, or said where the exit code is not 0."""
    paths = [
        write_weights(tmp_path / f"{number}.pdparams", **source) for number, source in enumerate(sources)
    ]
    result = typed("average", *paths, "-o", tmp_path / "mean.pdparams", exit_code=exit_code)
    if exit_code:
        assert not (tmp_path / "mean.pdparams").exists()
        return result.stderr
    return read(tmp_path / "mean.pdparams")


def test_the_mean_is_taken_in_float64_and_cast_back(tmp_path: Path) -> None:
    # In float16 the sum of these would be infinite, and in float32 the 1 would be lost.
    halves = [np.array([60000], np.float16), np.array([40000], np.float16), np.array([50000], np.float16)]
    singles = [np.array([2.0**25], np.float32), np.array([1], np.float32), np.array([-(2.0**25)], np.float32)]
    sources = [{"h": half, "s": single, "n": np.array([4])} for half, single in zip(halves, singles)]
    mean = average(tmp_path, *sources)
    assert same(
        mean,
        {"h": np.array([50000], np.float16), "s": np.array([1 / 3], np.float32), "n": np.array([4])},
    )


def test_bfloat16_is_averaged_as_numbers(tmp_path: Path) -> None:
    mean = average(tmp_path, {"w": bfloat16(1, -4)}, {"w": bfloat16(2, 4)})
    assert same(mean, {"w": bfloat16(1.5, 0)})


def test_checkpoints_of_a_run_by_their_names(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    first, second, _ = (checkpoint.path for checkpoint in CheckpointStore(run).list())
    said = typed("average", first, second, run, "-o", tmp_path / "mean.safetensors").stdout
    assert said.startswith("mean of 3: 2 tensors -> ")
    assert read(tmp_path / "mean.safetensors")["fc.bias"].tolist() == [np.float32(11 / 3)] * 2


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"w": np.ones(2, np.float32), "n": np.array([5])}, "a tensor of integers differs"),
        ({"w": np.ones(3, np.float32), "n": np.array([4])}, "float32 [2] and float32 [3]"),
        ({"w": np.ones(2, np.float16), "n": np.array([4])}, "float32 [2] and float16 [2]"),
        ({"w": np.ones(2, np.float32)}, "1 tensors are in one source only"),
        (
            {"w": np.ones(2, np.float32), "n": np.array([4]), "x": np.ones(1)},
            "1 tensors are in one source only",
        ),
    ],
)
def test_what_has_no_mean_is_an_error_that_names_the_tensor(
    tmp_path: Path, other: dict[str, Any], says: str
) -> None:
    one = {"w": np.ones(2, np.float32), "n": np.array([4])}
    said = average(tmp_path, one, one, other, exit_code=2)
    assert says in said
    named = "n" if "integers" in says or "n" not in other else "x" if "x" in other else "w"
    assert f"{named} of " in said or f"received: {named}\n" in said
    assert "2.pdparams" in said


def test_one_source_has_no_mean(mixed: Path, tmp_path: Path) -> None:
    said = typed("average", mixed, "-o", tmp_path / "mean.pdparams", exit_code=2).stderr
    assert "two or more" in said


def test_a_mean_replaces_a_file_only_with_force(mixed: Path) -> None:
    typed("average", mixed, mixed, "-o", mixed, exit_code=2)
    typed("average", mixed, mixed, "-o", mixed, "--force")
    assert same(read(mixed), MIXED)


def test_the_moving_average_is_exported_where_there_is_one(tmp_path: Path) -> None:
    nested = write_weights(tmp_path / "n.pdparams", model={"w": np.zeros(2)}, ema={"w": np.ones(2)})
    said = typed("export", nested, tmp_path / "out.pdparams", "--ema").stdout
    assert "1 tensors of the average in" in said
    assert np.array_equal(read_pdparams(tmp_path / "out.pdparams")["w"], np.ones(2))
    run = make_run(tmp_path / "run")
    assert (
        "keeps no moving average"
        in typed("export", run, tmp_path / "2.pdparams", "--ema", exit_code=2).stderr
    )
    both = typed("export", nested, tmp_path / "3.pdparams", "--ema", "--part", "ema", exit_code=2).stderr
    assert "leave out --part" in both
