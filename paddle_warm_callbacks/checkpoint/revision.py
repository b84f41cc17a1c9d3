"""Which revision of the code a process runs, from the files that git keeps; git itself is not asked."""

from __future__ import annotations

from pathlib import Path


def code_revision(directory: Path) -> str | None:
    """Return the commit that is checked out where ``directory`` is; None if it is in no git repository.

    Changes that are not committed are not seen.
    """
    for place in (directory.resolve(), *directory.resolve().parents):
        git = place / ".git"
        try:
            if git.is_file():  # a linked work tree
                git = place / git.read_text(encoding="utf-8").partition("gitdir: ")[2].strip()
            if git.is_dir():
                return _commit(git)
        except (OSError, UnicodeDecodeError):
            return None
    return None


def _commit(git: Path) -> str | None:
    head = (git / "HEAD").read_text(encoding="utf-8").strip()
    if not head.startswith("ref: "):
        return head
    branch = head[len("ref: ") :]
    common = git / "commondir"
    shared = (git / common.read_text(encoding="utf-8").strip()) if common.exists() else git
    for place in (git / branch, shared / branch):
        if place.is_file():
            return place.read_text(encoding="utf-8").strip()
    packed = shared / "packed-refs"
    for line in packed.read_text(encoding="utf-8").splitlines() if packed.exists() else ():
        commit, _, name = line.partition(" ")
        if name == branch:
            return commit
    return None
