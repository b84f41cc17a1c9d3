"""``dashboard``: VisualDL on the folder that has the logs, or a word on why not."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from paddle_warm_callbacks.cli import dashboard as module
from tests.cli.typed import typed


def log(directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "vdlrecords.run.log").touch()
    return directory


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a program of VisualDL's name beside this Python, for the command's eyes alone; it notes its arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    path = folder / "visualdl"
    path.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\nexit ${{CODE:-0}}\n', encoding="utf-8")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))

    def in_a_child(program: str, arguments: list[str]) -> None:
        """Do as execv does, without the end of this process."""
        sys.exit(subprocess.run([program, *arguments[1:]], check=False).returncode)

    monkeypatch.setattr(os, "execv", in_a_child)
    return tmp_path / "called"


@pytest.mark.parametrize(
    ("logs", "given", "shown"),
    [
        (["run/vdl"], "run", "run/vdl"),
        (["run/vdl"], "run/vdl", "run/vdl"),
        (["run/vdl/old", "run/vdl/new"], "run", "run/vdl"),
        (["run/vdl", "run/vdl/new"], "run", "run/vdl"),
        (["one/vdl", "other/vdl"], ".", "."),
    ],
)
def test_the_folder_that_has_all_logs(
    tmp_path: Path, program: Path, logs: list[str], given: str, shown: str
) -> None:
    for name in logs:
        log(tmp_path / "runs" / name)
    typed("dashboard", tmp_path / "runs" / given)
    called = program.read_text(encoding="utf-8").split()
    assert called[0] == "--logdir"
    assert Path(called[1]) == tmp_path / "runs" / shown
    assert called[2:] == ["--language", "en"]


def test_print_starts_nothing_and_quotes_for_a_shell(tmp_path: Path, program: Path) -> None:
    place = log(tmp_path / "my run" / "vdl")
    said = typed("dashboard", tmp_path / "my run", "--print", "--port", "8123").stdout
    assert said == f"visualdl --logdir '{place}' --language en --port 8123\n"
    assert not program.exists()


def test_visualdls_exit_code_is_the_commands(
    tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(tmp_path / "vdl")
    monkeypatch.setenv("CODE", "3")
    typed("dashboard", tmp_path / "vdl", exit_code=3)
    assert program.exists()


def test_without_logs_it_says_so(tmp_path: Path, program: Path) -> None:
    (tmp_path / "run").mkdir()
    for given, seen in (("run", "a directory without them"), ("none", "nothing")):
        said = typed("dashboard", tmp_path / given, exit_code=2).stderr
        assert "there are no logs of VisualDL" in said
        assert seen in said
    assert f"did you mean {tmp_path}/run?" in typed("dashboard", tmp_path / "rnu", exit_code=2).stderr
    assert not program.exists()


def test_without_visualdl_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log(tmp_path / "vdl")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    said = typed("dashboard", tmp_path / "vdl", exit_code=2).stderr
    assert 'pip install "paddle-warm-callbacks[visualdl]"' in said
    assert "visualdl --logdir" in typed("dashboard", tmp_path / "vdl", "--print").stdout


def test_what_is_found_here_is_what_visualdl_reads(tmp_path: Path) -> None:
    if importlib.util.find_spec("visualdl") is None:
        pytest.skip("VisualDL is not installed")
    from visualdl import LogReader, LogWriter

    with LogWriter(str(tmp_path / "runs" / "vdl")) as writer:
        writer.add_scalar("loss", 1.0, 0)
    folder = module.log_dir(tmp_path / "runs")
    assert os.fspath(folder) == str(tmp_path / "runs" / "vdl")
    assert "scalar" in LogReader(logdir=str(folder)).tags().values()
