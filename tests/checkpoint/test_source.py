"""Everything a source may be given as, and what is said of what it is not."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from paddle_warm_callbacks.checkpoint import cache, mirror
from paddle_warm_callbacks.checkpoint.pdparams import write_pdparams
from paddle_warm_callbacks.checkpoint.source import Source, open_checkpoint, open_source
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.errors import (
    InvalidArgumentError,
    NoUsableCheckpointError,
    SourceError,
    UnsafeFileError,
)
from paddle_warm_callbacks.plan.retention import KeepBest, KeepLatest
from tests.checkpoint.http_server import serving
from tests.checkpoint.samples import contents, same

WEIGHTS = {"fc.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "fc.bias": np.zeros(3, np.float32)}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_SECONDS_BETWEEN", 0.0)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "net.pdparams"
    with path.open("wb") as file:
        write_pdparams(file, WEIGHTS, {"fc.weight": "linear_0.w_0", "fc.bias": "linear_0.b_0"})
    return path


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    store = CheckpointStore(tmp_path / "run")
    for step, acc in ((1, 0.9), (2, 0.1)):
        store.commit(contents(step, epoch=step, metrics={"acc": acc}))
        store.retain(KeepLatest(2) | KeepBest("acc"))
    return tmp_path / "run"


def _step(source: Source) -> int:
    return int(source.tensors["fc.weight"][0, 0])


def _safetensors(path: Path, tensors: dict[str, tuple[str, list[int], bytes]]) -> Path:
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, (dtype, shape, payload) in tensors.items():
        table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(payload)]}
        data += payload
    header = json.dumps(table).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


# -- local -----------------------------------------------------------------------------------------------------------


def test_a_file_or_its_prefix(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(weights.parent)
    for given in (weights, str(weights), weights.with_suffix(""), "net", "net.pdparams", "./net"):
        source = open_source(given)
        assert same(source.tensors, WEIGHTS)
        assert source.checkpoint is None
        assert source.description.endswith("net.pdparams")


def test_a_prefix_with_a_dot_in_it(weights: Path) -> None:
    dotted = weights.with_name("net.v2.pdparams")
    weights.rename(dotted)
    assert same(open_source(str(dotted)[: -len(".pdparams")]).tensors, WEIGHTS)


def test_a_checkpoint_and_a_run_directory(run_dir: Path) -> None:
    first = run_dir / "checkpoints" / "step-00000001-epoch-0001"
    for given, step in ((first, 1), (run_dir, 2), (run_dir / "checkpoints", 2)):
        source = open_source(given)
        assert _step(source) == step
        assert source.checkpoint is not None
        assert source.checkpoint.manifest.metadata == {"labels": ["a", "b"]}
        assert source.checkpoint.digest == open_checkpoint(given).digest
    assert _step(open_source(run_dir, which="best")) == 1
    assert open_checkpoint(str(run_dir), which="best").name == first.name


def test_a_dictionary_and_an_object_with_a_state_dict() -> None:
    class Tensor:
        def numpy(self) -> np.ndarray[Any, Any]:
            return WEIGHTS["fc.bias"]

    class Net:
        def state_dict(self) -> dict[str, Any]:
            return {"fc.weight": WEIGHTS["fc.weight"], "fc.bias": Tensor(), "epoch": 3}

    assert same(open_source(WEIGHTS).tensors, WEIGHTS)
    assert same(open_source(Net()).tensors, WEIGHTS)
    assert "Net" in open_source(Net()).description


def test_what_is_nowhere_says_all_that_was_tried(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "other.txt").write_text("")
    with pytest.raises(SourceError) as caught:
        open_source(tmp_path / "weights" / "net")
    for tried in ("net.pdparams", "net.safetensors", "net/manifest.json", "net/checkpoints"):
        assert tried in caught.value.expected
    assert str(tmp_path / "weights") in caught.value.received
    with pytest.raises(SourceError, match=r"a directory with other\.txt"):
        open_source(tmp_path / "weights")


@pytest.mark.parametrize("suffix", [".pdopt", ".pth", ".pt"])
def test_other_kinds_of_files_say_what_to_give_instead(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"net{suffix}").write_bytes(b"\x80\x04}.")
    with pytest.raises(SourceError) as caught:
        open_source(tmp_path / f"net{suffix}")
    assert "pdparams" in caught.value.remedy or "safetensors" in caught.value.remedy


@pytest.mark.parametrize("given", [None, 3, object()])
def test_what_is_no_source_is_refused(given: Any) -> None:
    with pytest.raises(SourceError, match="no source of weights"):
        open_source(given)


def test_a_source_without_weights_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "net.pdparams").open("wb") as file:
        write_pdparams(file, {"model": {"w": np.ones(1)}, "epoch": 3})
    for given in ({}, {"epoch": 3}, tmp_path / "net.pdparams"):
        with pytest.raises(SourceError, match="no weights") as caught:
            open_source(given)
    assert "model" in caught.value.received


def test_a_run_without_checkpoints_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for open_it in (open_source, open_checkpoint):
        with pytest.raises(SourceError, match="no checkpoint yet"):
            open_it(tmp_path / "run")


def test_a_run_whose_checkpoints_are_damaged_is_an_error(run_dir: Path) -> None:
    for checkpoint in (run_dir / "checkpoints").iterdir():
        (checkpoint / "model.pdparams").write_bytes(b"")
    with pytest.raises(NoUsableCheckpointError):
        open_source(run_dir)


def test_a_file_of_weights_is_no_checkpoint(weights: Path, tmp_path: Path) -> None:
    for given in (weights, tmp_path / "nothing"):
        with pytest.raises(SourceError, match="there is no checkpoint"):
            open_checkpoint(given)


def test_which_is_latest_or_best(run_dir: Path) -> None:
    with pytest.raises(InvalidArgumentError):
        open_source(run_dir, which="newest")


# -- safetensors -----------------------------------------------------------------------------------------------------


def test_a_safetensors_file(tmp_path: Path) -> None:
    path = _safetensors(
        tmp_path / "net.safetensors",
        {
            "w": ("F32", [2, 3], WEIGHTS["fc.weight"].tobytes()),
            "half": ("BF16", [2], b"\x80\x3f\x00\x40"),
            "empty": ("I64", [0], b""),
            "one": ("F64", [], struct.pack("<d", 2.5)),
        },
    )
    expected = {
        "w": WEIGHTS["fc.weight"],
        "half": np.array([0x3F80, 0x4000], np.uint16),
        "empty": np.zeros(0, np.int64),
        "one": np.array(2.5),
    }
    assert same(open_source(path).tensors, expected)
    assert same(open_source(path.with_suffix("")).tensors, expected)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:7],
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: struct.pack("<Q", 2**63) + data[8:],
        lambda data: data.replace(b"F32", b"F99"),
        lambda data: data.replace(b"[2, 3]", b"[2, 4]"),
        lambda data: data.replace(b"[2, 3]", b"[-2, -3]"),
        lambda data: data.replace(b"[0, 24]", b"[1, 25]"),
        lambda data: data.replace(b'"shape"', b'"shops"'),
        lambda data: data.replace(b"{", b"[", 1),
    ],
)
def test_a_safetensors_file_that_does_not_add_up_is_refused(tmp_path: Path, damage: Any) -> None:
    path = _safetensors(tmp_path / "net.safetensors", {"w": ("F32", [2, 3], WEIGHTS["fc.weight"].tobytes())})
    whole = path.read_bytes()
    assert damage(whole) != whole
    path.write_bytes(damage(whole))
    with pytest.raises(UnsafeFileError, match="not a whole safetensors file"):
        open_source(path)


# -- URLs ------------------------------------------------------------------------------------------------------------


def _put(path: Path, url: str) -> None:
    files, target = fsspec.core.url_to_fs(url)
    files.makedirs(target.rpartition("/")[0], exist_ok=True)
    files.put_file(str(path), target)


def test_a_file_by_url_is_downloaded_once_per_version(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"memory://{tmp_path}/net.pdparams"
    _put(weights, url)
    files = fsspec.filesystem("memory")
    opens = []
    original = files.open

    def noting(path: str, *arguments: Any, **options: Any) -> Any:
        opens.append(path)
        return original(path, *arguments, **options)

    monkeypatch.setattr(files, "open", noting)
    for _ in range(2):
        source = open_source(url)
        assert same(source.tensors, WEIGHTS)
        assert source.description == url
    assert len(opens) == 1
    with weights.open("wb") as file:
        write_pdparams(file, {"other": np.ones(99)})
    _put(weights, url)
    assert list(open_source(url).tensors) == ["other"]


def test_a_download_that_breaks_off_goes_on_where_it_stopped(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"memory://{tmp_path}/net.pdparams"
    _put(weights, url)
    files = fsspec.filesystem("memory")
    original, begun_at = files.open, list[int]()

    class Breaking:
        lossy = True

        def __init__(self, file: Any) -> None:
            self._file = file
            self._used = False

        def __enter__(self) -> Breaking:
            return self

        def __exit__(self, *raised: object) -> None:
            self._file.close()

        def seek(self, place: int) -> None:
            self._file.seek(place)

        def read(self, count: int) -> bytes:
            if self._used and self.lossy:
                raise ConnectionError("lost")
            self._used = True
            begun_at.append(self._file.tell())
            data: bytes = self._file.read(100)
            return data

    monkeypatch.setattr(
        files, "open", lambda *arguments, **options: Breaking(original(*arguments, **options))
    )
    assert weights.stat().st_size > 300  # so that the three attempts of one call are not enough
    with pytest.raises(SourceError, match="lost"):
        open_source(url)
    Breaking.lossy = False
    assert same(open_source(url).tensors, WEIGHTS)
    assert begun_at[:4] == [0, 100, 200, 300]  # no byte came twice


def test_a_file_on_a_web_server_is_downloaded_once_per_version(weights: Path) -> None:
    with serving() as (files, address):
        files.content["/net.pdparams"] = weights.read_bytes()
        for _ in range(2):
            assert same(open_source(f"{address}/net.pdparams").tensors, WEIGHTS)
        asked = len(files.gets)
        assert asked >= 1
        with weights.open("r+b") as file:  # other bytes, and as many
            write_pdparams(file, {name: array[::-1].copy() for name, array in WEIGHTS.items()})
        files.content["/net.pdparams"] = weights.read_bytes()
        assert not same(open_source(f"{address}/net.pdparams").tensors, WEIGHTS)
        assert len(files.gets) > asked


def test_two_processes_that_want_the_same_file_download_it_once(weights: Path) -> None:
    """Without the lock each downloads it, into the other's file."""
    script = (
        "import sys; from paddle_warm_callbacks.checkpoint.source import open_source\n"
        "print(sorted(open_source(sys.argv[1]).tensors))"
    )
    with serving() as (files, address):
        files.content["/net.pdparams"] = weights.read_bytes() + bytes(1 << 20)  # long enough to meet in
        files.seconds_a_get = 0.5
        started = [
            subprocess.Popen(
                [sys.executable, "-c", script, f"{address}/net.pdparams"], stdout=subprocess.PIPE
            )
            for _ in range(3)
        ]
        printed = {process.communicate(timeout=60)[0] for process in started}
        bodies = [get for get in files.gets if get == ("/net.pdparams", 0)]
    assert [process.returncode for process in started] == [0, 0, 0]
    assert printed == {(str(sorted(WEIGHTS)) + "\n").encode()}
    assert len(bodies) == 1


def test_a_web_server_that_breaks_off_is_asked_for_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_SECONDS_BETWEEN", 0.01)
    large = {"weight": np.random.RandomState(0).rand(3_000_000)}  # 24 MB: in several pieces
    with (tmp_path / "large.pdparams").open("wb") as file:
        write_pdparams(file, large)
    content = (tmp_path / "large.pdparams").read_bytes()
    with serving() as (files, address):
        files.content["/large.pdparams"] = content
        files.break_from = 12_000_000
        with pytest.raises(SourceError, match="what came so far is kept"):
            open_source(f"{address}/large.pdparams")
        files.break_from = None
        before = len(files.gets)
        assert same(open_source(f"{address}/large.pdparams").tensors, large)
        assert min(first for _, first in files.gets[before:]) > 0  # not from the beginning again
        with pytest.raises(SourceError, match="absent"):
            open_source(f"{address}/absent.pdparams")


@pytest.mark.parametrize("which", ["latest", "best"])
def test_a_mirrored_run_and_its_checkpoints(run_dir: Path, tmp_path: Path, which: str) -> None:
    url = f"memory://{tmp_path}/mirror"
    for checkpoint in CheckpointStore(run_dir).list():
        mirror.upload(checkpoint, url)
    assert _step(open_source(f"{url}/checkpoints/step-00000001-epoch-0001")) == 1
    if which == "best":
        with pytest.raises(NoUsableCheckpointError, match="not known"):
            open_source(url, which=which)
        return
    assert _step(open_source(url)) == 2
    copy = open_checkpoint(url)
    assert copy.digest == open_checkpoint(run_dir).digest
    assert Path(copy.path).is_relative_to(tmp_path / "cache")


def test_nothing_at_a_url_says_so(tmp_path: Path) -> None:
    for url in (f"memory://{tmp_path}/none.pdparams", f"memory://{tmp_path}/none"):
        with pytest.raises(SourceError) as caught:
            open_source(url)
        assert caught.value.where.startswith(url)
    with pytest.raises(SourceError, match="there is no checkpoint"):
        open_checkpoint(f"memory://{tmp_path}/none")


def test_no_paddle_is_needed(weights: Path) -> None:
    import subprocess

    code = f"""
import sys
from paddle_warm_callbacks.checkpoint.source import open_source
open_source({str(weights)!r})
assert "paddle" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])


def test_what_is_in_the_cache_is_not_called_by_a_urls_secrets(weights: Path, tmp_path: Path) -> None:
    for url in ("s3://bucket/run?token=hunter2", "https://host/runs/token=hunter2"):
        assert "hunter2" not in str(cache.run_directory(url))
        assert cache.run_directory(url) != cache.run_directory(url.replace("hunter2", "hunter3"))
    with serving() as (files, address):
        files.content["/token=hunter2"] = weights.read_bytes()
        assert same(open_source(f"{address}/token=hunter2").tensors, WEIGHTS)
    assert not any("hunter2" in str(path) for path in (tmp_path / "cache").rglob("*"))
