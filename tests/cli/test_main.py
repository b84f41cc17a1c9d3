"""The commands as a whole: found, quick to start, and ended by our errors with exit code 2 and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from paddle_warm_callbacks.cli.main import COMMANDS, main
from tests.cli.typed import make_run, typed, write_weights

ROOT = str(Path(__file__).parents[2])


def in_a_process(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={"PYTHONPATH": ROOT, "PATH": "", "HOME": str(cwd)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_python_m_lists_a_run(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    done = in_a_process("-m", "paddle_warm_callbacks", "ls", "run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        *("name", "step-00000002-epoch-0001", "step-00000004-epoch-0002", "step-00000005")
    ]


def test_a_command_that_raises_our_error_prints_it_and_ends_with_2(tmp_path: Path) -> None:
    done = in_a_process("-m", "paddle_warm_callbacks", "ls", "nowhere", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("there is neither a checkpoint nor a run\n  where:    nowhere\n")
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [sys.executable, "-m", "paddle_warm_callbacks", "show", "run"],
        cwd=tmp_path,
        env={"PYTHONPATH": ROOT},
        stdout=theirs,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(theirs)
    assert (done.returncode, done.stderr) == (1, b"")  # as click ends every program


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--help"], {"numpy", "paddle", "fsspec", "rich"}),
        (["ls", "run"], {"numpy", "paddle", "fsspec", "rich"}),
        (["ls", "run", "--json"], {"numpy", "paddle", "fsspec", "rich"}),
        (["ls", "run", "--verify"], {"paddle"}),
        (["show", "run", "--tensors"], {"paddle"}),
        (["verify", "run"], {"paddle"}),
        (["diff", "run", "run"], {"paddle"}),
        (["export", "run", "out.safetensors"], {"paddle"}),
        (["average", "run", "run", "-o", "out.pdparams"], {"paddle"}),
        (["prune", "run", "--keep-latest", "1"], {"paddle"}),
        (["registry", "--root", "models", "push", "run", "defects"], {"paddle"}),
        (["doctor", "net.pdparams"], {"paddle"}),
        (["doctor", "net.pdparams", "--repair", "out.pdparams"], {"paddle"}),
        (["transplant", "run", "out.pdparams", "--head", "fc", "--new-labels", "labels.txt"], {"paddle"}),
        (["match", "--help"], {"paddle"}),
        (["plan", "--help"], {"paddle", "omegaconf"}),
        (["dashboard", "log", "--print"], {"paddle", "visualdl"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_no_command_that_looks_at_files_imports_paddle(
    tmp_path: Path, arguments: list[str], absent: set[str]
) -> None:
    make_run(tmp_path / "run")
    write_weights(tmp_path / "net.pdparams", w=np.zeros(2))
    (tmp_path / "labels.txt").write_text("b\nc\n", encoding="utf-8")
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "vdlrecords.1.log").touch()
    script = (
        "import sys\nfrom paddle_warm_callbacks.cli.main import main\n"
        f"try:\n    main({arguments!r})\n"
        "finally:\n    print('loaded:', *sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    done = in_a_process("-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.rpartition("loaded:")[2].split())
    assert "click" in loaded
    assert not loaded & absent


def test_the_overview_names_every_command_in_its_own_words() -> None:
    overview = " ".join(typed("--help").stdout.split())
    assert list(COMMANDS) == [
        *("ls", "show", "verify", "diff", "match", "transplant", "export", "average", "prune", "registry"),
        *("doctor", "plan", "dashboard"),
    ]
    for name, (_, line) in COMMANDS.items():
        command = main.get_command(main.make_context("x", ["prove"]), name)
        assert command is not None
        assert (command.help or "").splitlines()[0] == line
        assert f"{name} {line}" in overview
        assert line in typed(name, "--help").stdout.replace("\n  ", " ")
    assert "prove Run SCRIPT" in overview


def test_a_wrong_call_ends_with_2() -> None:
    assert "No such command 'lss'" in typed("lss", exit_code=2).stderr
    assert "Missing argument 'RUN'" in typed("ls", exit_code=2).stderr


def test_an_error_of_the_system_ends_with_2_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = write_weights(tmp_path / "net.pdparams")

    def refused(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied", str(weights))

    monkeypatch.setattr("paddle_warm_callbacks.cli.doctor.examine", refused)
    assert typed("doctor", weights, exit_code=2).stderr.startswith("PermissionError: [Errno 13]")


def test_the_package_installs_the_command() -> None:
    text = (Path(ROOT) / "pyproject.toml").read_text(encoding="utf-8")
    assert '[project.scripts]\npaddle-warm = "paddle_warm_callbacks.cli.main:main"\n' in text


@pytest.mark.parametrize(
    ("typed_so_far", "completed"),
    [
        ("paddle-warm ma", "plain,match\n"),
        ("paddle-warm export --e", "plain,--ema\n"),
        ("paddle-warm zz", "\n"),
    ],
)
def test_the_shell_is_told_how_to_go_on(typed_so_far: str, completed: str) -> None:
    words = typed_so_far.split()
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from paddle_warm_callbacks.cli.main import main; main(prog_name='paddle-warm')",
        ],
        env={
            "PYTHONPATH": ROOT,
            "COMP_WORDS": typed_so_far,
            "COMP_CWORD": str(len(words) - 1),
            "_PADDLE_WARM_COMPLETE": "bash_complete",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == (completed, "")
