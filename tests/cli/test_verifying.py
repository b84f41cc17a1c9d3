"""``verify``: whole is whole, and whatever is damaged is named, file and tensor, here and at a URL."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path

import pytest

from paddle_warm_callbacks.checkpoint import cache
from paddle_warm_callbacks.checkpoint.digests import digest_of
from paddle_warm_callbacks.checkpoint.manifest import (
    FileEntry,
    Manifest,
    tensors_from_bytes,
    tensors_to_bytes,
)
from paddle_warm_callbacks.checkpoint.store import Checkpoint
from tests.cli.typed import flip_a_bit, lines_of, make_mirror, make_run, typed, typed_json

NAMES = ["step-00000002-epoch-0001", "step-00000004-epoch-0002", "step-00000005"]
FILES = ["model.pdparams", "model.pdopt", "extra.pdparams", "state.json", "tensors.json", "manifest.json"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def test_a_whole_run_is_whole_and_all_of_it_was_compared(run: Path) -> None:
    rows = list(lines_of(typed("verify", run)))
    assert [row[0] for row in rows[1:]] == NAMES
    assert {row[-1] for row in rows[1:]} == {"whole"}
    found = typed_json("verify", run)[0]
    assert found["whole"] is True
    assert (found["files"], found["tensors"]) == (5, 4)
    assert found["size"] == Checkpoint(run / "checkpoints" / NAMES[0]).manifest.size


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("remote", [False, True])
def test_a_flipped_bit_in_any_file_is_found_there_alone(run: Path, file: str, remote: bool) -> None:
    place = make_mirror(run) if remote else str(run)
    flip_a_bit(f"{place}/checkpoints/{NAMES[1]}/{file}")
    verdicts = typed_json("verify", place, exit_code=1)
    assert [verdict["whole"] for verdict in verdicts] == [True, False, True]
    assert [problem["file"] for problem in verdicts[1]["problems"]] == [file]
    said = typed("verify", place, exit_code=1).stdout
    assert f"{place}/checkpoints/{NAMES[1]}/{file}:" in said
    assert typed("verify", f"{place}/checkpoints/{NAMES[0]}").exit_code == 0
    typed("verify", f"{place}/checkpoints/{NAMES[1]}", exit_code=1)


def test_the_damaged_tensor_is_named(run: Path) -> None:
    checkpoint = Checkpoint(run / "checkpoints" / NAMES[0])
    bias = next(tensor for tensor in checkpoint.read_tensors() if tensor.name == "fc.bias")
    flip_a_bit(Path(checkpoint.path) / bias.file, bias.offset + 3)
    (problem,) = typed_json("verify", checkpoint.path, exit_code=1)[0]["problems"]
    assert problem["tensors"] == ["fc.bias"]
    assert "damaged tensors: fc.bias\n" in typed("verify", checkpoint.path, exit_code=1).stdout


@pytest.mark.parametrize("damage", ["shorter", "longer", "gone"])
def test_a_file_of_another_size_or_none(run: Path, damage: str) -> None:
    path = run / "checkpoints" / NAMES[2] / "model.pdparams"
    data = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(data[:-1] if damage == "shorter" else data + b"\0")
    (problem,) = typed_json("verify", path.parent, exit_code=1)[0]["problems"]
    expected = {
        "gone": "no such file",
        "shorter": f"{len(data) - 1} bytes",
        "longer": f"{len(data) + 1} bytes",
    }
    assert expected[damage] in problem["what"]


def test_a_tensor_digest_that_is_wrong_in_a_whole_file_is_found(run: Path) -> None:
    directory = run / "checkpoints" / NAMES[0]
    listed = tensors_from_bytes((directory / "tensors.json").read_bytes())
    forged = tensors_to_bytes((replace(listed[0], digest="0" * 32), *listed[1:]))
    manifest = Manifest.from_bytes((directory / "manifest.json").read_bytes(), "")
    files = {**manifest.files, "tensors.json": FileEntry(len(forged), digest_of(forged))}
    (directory / "tensors.json").write_bytes(forged)
    (directory / "manifest.json").write_bytes(replace(manifest, files=files).to_bytes())
    Checkpoint(directory).verify()  # the control: of the files alone, nothing is wrong
    (problem,) = typed_json("verify", directory, exit_code=1)[0]["problems"]
    assert problem["tensors"] == ["fc.weight"]
    assert "its tensors are not those listed" in problem["what"]


def test_a_copy_at_a_url_is_read_there_and_not_from_the_cache(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    url = f"{make_mirror(run)}/checkpoints/{NAMES[0]}"
    cache.fetch_checkpoint(url)
    flip_a_bit(f"{url}/model.pdopt")
    cache.fetch_checkpoint(url)  # the control: the cache's copy is whole
    typed("verify", url, exit_code=1)


def test_a_file_that_is_no_checkpoint_is_sent_to_the_doctor(tmp_path: Path) -> None:
    (tmp_path / "net.pdparams").touch()
    said = typed("verify", tmp_path / "net.pdparams", exit_code=2).stderr
    assert "received: a file" in said
    assert "paddle-warm doctor" in said


def test_a_run_without_a_checkpoint_has_no_damage(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    assert typed("verify", tmp_path).stdout == "no checkpoint yet\n"


def _on_a_terminal(*arguments: str, cwd: Path) -> str:
    """Return what a command's progress is, where its standard error is a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    command = [sys.executable, "-m", "paddle_warm_callbacks", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONWARNINGS": "ignore"}
    environment["PADDLE_WARM_CALLBACKS_CACHE"] = str(cwd / "cache")
    with subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=theirs
    ) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            seen += piece
            if not piece:
                break
        process.wait(60)
    os.close(ours)
    assert process.returncode == 0, seen
    return seen.decode("utf-8", "replace")


@pytest.mark.parametrize(
    "command", ["verify {run}", "verify file://{run}", "average file://{run} file://{run} -o x.pdparams"]
)
def test_long_work_shows_how_far_it_is_on_a_terminal_and_nothing_elsewhere(
    tmp_path: Path, command: str
) -> None:
    run = make_run(tmp_path / "run")
    arguments = command.format(run=run).split()
    said = _on_a_terminal(*arguments, cwd=tmp_path)
    assert "step-00000005" in said
    assert "%|" in said
    assert (
        typed(*[*arguments[:-1], str(tmp_path / "y.pdparams")] if "-o" in arguments else arguments).stderr
        == ""
    )
