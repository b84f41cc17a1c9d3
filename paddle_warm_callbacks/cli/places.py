"""Where the checkpoints of a run are, on this machine or at a URL: found by listing, without opening any."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paddle_warm_callbacks.checkpoint import names, nearby
from paddle_warm_callbacks.checkpoint.manifest import MANIFEST
from paddle_warm_callbacks.checkpoint.names import CHECKPOINTS
from paddle_warm_callbacks.checkpoint.registry.references import SCHEME
from paddle_warm_callbacks.checkpoint.urls import is_url, opened
from paddle_warm_callbacks.cli.place import LocalFiles, Place, unreachable
from paddle_warm_callbacks.errors import SourceError
from paddle_warm_callbacks.secrets import cause

_MOST_SHOWN = 8
OF_DAMAGED = (
    "next: a resume passes damaged ones over; take them from a mirror or backup, or delete their directories"
)


def find(given: str) -> tuple[Sequence[Place], bool]:
    """Return the checkpoints at a path or URL, oldest first, and whether it is a run rather than one checkpoint.

    Nothing in them is opened: a damaged one is among them. At a URL those without a manifest, which are not whole yet,
    are not. ``registry://`` names one of a registry.

    Raises:
        SourceError: There is neither a checkpoint nor a run.
        RegistryError: The registry has no such model, version or tag.
    """
    if given.startswith(SCHEME):
        from paddle_warm_callbacks.checkpoint.registry.catalog import locate  # fsspec is slow to import

        given = locate(given)
    return _find_remote(given.rstrip("/")) if is_url(given) else _find_local(given)


def newest(given: str) -> tuple[Place, str]:
    """Return the checkpoint at a path or URL, of a run the newest, and in words how it was chosen.

    Raises:
        SourceError: There is none.
    """
    places, is_run = find(given)
    if not places:
        raise SourceError(
            "the run has no checkpoint yet",
            where=given,
            received=f"an empty {CHECKPOINTS}/",
            expected="a committed checkpoint",
            remedy="wait for the run's first save, or name another run",
        )
    return places[-1], f"the newest of {len(places)} in {given}" if is_run else ""


def _find_local(given: str) -> tuple[Sequence[Place], bool]:
    path = Path(given).expanduser().absolute()
    files = LocalFiles()
    if (path / MANIFEST).is_file() or (names.position_of(path.name) is not None and path.is_dir()):
        return [Place(path.name, str(path), files, str(path))], False
    inside = path if path.name == CHECKPOINTS else path / CHECKPOINTS
    if not inside.is_dir():
        asked = Path(given).expanduser()
        instead = "of a single file, ask `paddle-warm doctor`" if path.is_file() else nearby.advice(asked)
        raise _nothing_there(given, nearby.seen(asked), instead)
    listed = names.in_order(entry.name for entry in inside.iterdir())
    return [Place(name, str(inside / name), files, str(inside / name)) for name in listed], True


def _find_remote(url: str) -> tuple[Sequence[Place], bool]:
    from paddle_warm_callbacks.checkpoint import mirror  # as slow to import as what it is for

    files, root = opened(url)
    run, run_root = (
        part[: -len(CHECKPOINTS) - 1] if part.endswith(f"/{CHECKPOINTS}") else part for part in (url, root)
    )
    try:
        if files.exists(f"{root}/{MANIFEST}"):
            return [Place(root.rsplit("/", 1)[-1], url, files, root)], False
        listed = mirror.list_mirrored(run)
    except Exception as error:
        raise unreachable(url, error) from cause(error)
    if not listed:
        raise _nothing_there(
            url, _seen_remote(files, root), "check the URL, or name a run or a checkpoint in it"
        )
    return [
        Place(name, f"{run}/{CHECKPOINTS}/{name}", files, f"{run_root}/{CHECKPOINTS}/{name}")
        for name in listed
    ], True


def _seen_remote(files: Any, root: str) -> str:
    try:
        names_there = sorted(
            str(entry).rstrip("/").rpartition("/")[2] for entry in files.ls(root, detail=False)
        )
    # Every storage library raises its own; most have no directories that could be empty.
    except Exception:
        names_there = []
    more = ", …" if len(names_there) > _MOST_SHOWN else ""
    return f"{', '.join(names_there[:_MOST_SHOWN])}{more}" if names_there else "nothing"


def _nothing_there(given: str, seen: str, remedy: str) -> SourceError:
    return SourceError(
        "there is neither a checkpoint nor a run",
        where=given,
        received=seen,
        expected=f"a directory with {MANIFEST}, or a run directory with {CHECKPOINTS}/",
        remedy=remedy,
    )
