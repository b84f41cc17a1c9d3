"""``prove`` tells an exact script from one that only seems so, and a broken one from both."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = str(Path(__file__).parent / "training_script.py")


def prove(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-m", "paddle_warm_callbacks", "prove", "--kills", "2", SCRIPT, *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": root, "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_an_exact_script_is_proved_so_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = prove(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("identical to the bit")
    assert "killed with SIGKILL after step" in done.stdout
    assert not (tmp_path / "runs").exists(), "the script's own run directory is left alone"


@pytest.mark.slow
def test_a_script_with_a_hidden_generator_is_told_what_differs_first_and_why(tmp_path: Path) -> None:
    done = prove(tmp_path, "--hidden")
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("NOT identical: loss of step")
    assert "a generator of its own" in done.stdout


@pytest.mark.slow
def test_a_script_is_not_proved_by_kills_that_leave_nothing_to_resume(tmp_path: Path) -> None:
    done = prove(tmp_path, "--seldom", "--hidden")
    assert done.returncode == 1, "the first kills come before the first of few checkpoints, and prove nothing"
    assert done.stdout.startswith("NOT identical: loss of step")
    done = prove(tmp_path, "--seldom", "--at-the-end")
    assert done.returncode == 2, done.stdout
    assert "the script leaves nothing to resume" in done.stderr
    assert "save more often" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (["--evaluated"], "identical"),
        (["--evaluated", "--hidden-evaluation"], "NOT identical: loss of the evaluation after epoch"),
        (["--two"], "identical"),
        (["--two", "--hidden"], "NOT identical: loss of step"),
    ],
)
def test_evaluations_are_compared_and_each_fit_by_itself(
    tmp_path: Path, arguments: list[str], first: str
) -> None:
    done = prove(tmp_path, *arguments)
    assert done.returncode == (first != "identical"), done.stderr
    difference, kills, *cause = done.stdout.splitlines()
    assert difference.startswith(first)
    assert kills.startswith("24 steps" if "--two" in arguments else "12 steps"), "those of both fits"
    if "--two" in arguments and cause:
        assert "of fit 1: " in difference, "steps of the second fit have the same numbers"
    if "--hidden-evaluation" in arguments:
        assert "evaluation data" in cause[0]


def test_a_script_without_our_callbacks_is_told_what_to_add(tmp_path: Path) -> None:
    done = prove(tmp_path, "--bare")
    assert done.returncode == 2
    assert 'WarmStartCallback(run_dir=d, resume_from="latest")' in done.stderr


def test_a_script_that_fails_by_itself_is_told_apart(tmp_path: Path) -> None:
    done = prove(tmp_path, "--broken")
    assert done.returncode == 2
    assert "no data today" in done.stderr
