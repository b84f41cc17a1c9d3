"""The revision that git itself would say, in every state a repository is in."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from paddle_warm_callbacks.checkpoint.revision import code_revision

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="compares with git")


def git(where: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=where, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    place = tmp_path / "code"
    (place / "inner").mkdir(parents=True)
    git(place, "init")
    git(place, "commit", "--allow-empty", "-m", "one")
    return place


@pytest.mark.parametrize("state", ["branch", "packed", "detached", "linked work tree", "linked and packed"])
def test_it_is_what_git_says(repository: Path, state: str) -> None:
    place = repository
    if state == "detached":
        git(place, "checkout", "--detach")
    if state.startswith("linked"):
        place = repository.parent / "linked"
        git(repository, "worktree", "add", str(place), "-b", "other")
        git(place, "commit", "--allow-empty", "-m", "two")
        (place / "inner").mkdir()
    if state.endswith("packed"):
        git(repository, "pack-refs", "--all")
    found = code_revision(place / "inner")
    assert found == git(place, "rev-parse", "HEAD")
    assert found is not None
    assert len(found) == 40


def test_outside_of_a_repository_there_is_none(tmp_path: Path) -> None:
    assert code_revision(tmp_path) is None
    (tmp_path / ".git").mkdir()
    assert code_revision(tmp_path) is None, "nor in what is not one"


def test_before_the_first_commit_there_is_none(tmp_path: Path) -> None:
    git(tmp_path, "init")
    assert code_revision(tmp_path) is None
