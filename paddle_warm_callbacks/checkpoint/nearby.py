"""What is at a local path, or near it, where nothing of ours was found: for errors that say what to do next."""

from __future__ import annotations

import difflib
from itertools import islice
from pathlib import Path

from paddle_warm_callbacks.checkpoint.names import CHECKPOINTS

_MOST_ENTRIES = 2000
_MOST_SHOWN = 8
_WEIGHTS = (".pdparams", ".safetensors", ".pdiparams")


def seen(path: Path) -> str:
    """Return in words what is at ``path``, or how far it leads."""
    if path.is_dir():
        entries = _entries(path)
        if entries is None:
            return "a directory that cannot be listed"
        shown = ", ".join(entry.name for entry in entries[:_MOST_SHOWN])
        more = ", …" if len(entries) > _MOST_SHOWN else ""
        return f"a directory with {shown}{more}" if entries else "an empty directory"
    if path.exists():
        return "a file"
    return f"nothing; {_deepest(path)} is there"


def advice(path: Path) -> str:
    """Return what was probably meant by ``path``, as a remedy."""
    if path.is_dir():
        runs = runs_in(path)
        if runs:
            return f"name one of its runs: {_some(runs)}"
        weights = [entry for entry in _entries(path) or () if entry.suffix in _WEIGHTS]
        if weights:
            return f"name a file in it: {_some(weights)}"
        return (
            f"a run has {CHECKPOINTS}/ in its directory from its first save on: is another one the run_dir of "
            "PeriodicCheckpoint?"
        )
    return meant(path)


def meant(path: Path) -> str:
    """Return, of a path to any file, which one was probably meant, as a remedy."""
    near = None if path.exists() else _near(path)
    return (
        f"did you mean {near}?"
        if near is not None
        else f"check the path; relative ones begin at {Path.cwd()}"
    )


def runs_in(directory: Path) -> list[Path]:
    """Return the run directories directly in ``directory``, by name."""
    return [entry for entry in _entries(directory) or () if (entry / CHECKPOINTS).is_dir()]


def _near(path: Path) -> Path | None:
    """Return the path that is there and most like ``path``, which is not, in the part where it leaves the ground."""
    there = _deepest(path)
    wanted, *rest = path.absolute().relative_to(there).parts
    names = [entry.name for entry in _entries(there) or ()]
    by_stem = {name[: -len(suffix)]: name for suffix in _WEIGHTS for name in names if name.endswith(suffix)}
    (found,) = difflib.get_close_matches(wanted, [*names, *by_stem], n=1) or (None,)
    if found is None:
        return None
    # As it was written, so that it can be pasted: relative to where the user is, if it was.
    start = there if path.is_absolute() else Path(*path.parts[: len(path.parts) - len(rest) - 1])
    whole = start.joinpath(by_stem.get(found, found), *rest)
    return whole if whole.exists() else start / by_stem.get(found, found)


def _deepest(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.is_dir())


def _entries(directory: Path) -> list[Path] | None:
    try:
        return sorted(islice(directory.iterdir(), _MOST_ENTRIES))
    except OSError:
        return None


def _some(paths: list[Path]) -> str:
    return ", ".join(map(str, paths[:_MOST_SHOWN])) + (", …" if len(paths) > _MOST_SHOWN else "")
