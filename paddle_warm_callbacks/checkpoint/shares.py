"""One checkpoint written by all ranks side by side: each its share of the tensors; rank 0 the rest, and the end.

For each checkpoint the writing threads of all ranks agree four times: whether every rank's copy is what it should be;
where the shares go; what each rank has written; whether it is committed. The manifest, which makes a checkpoint of a
directory, is written by rank 0 between the last two. Whatever fails on one rank, every rank goes through all four, so
that nobody waits for an agreement that does not come; only a rank that is gone, or silent for too long, ends the run.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from paddle_warm_callbacks.checkpoint import durable, names, shards
from paddle_warm_callbacks.checkpoint.contents import CheckpointContents
from paddle_warm_callbacks.checkpoint.in_flight import InFlight, Request, SaveEvent
from paddle_warm_callbacks.checkpoint.manifest import FileEntry
from paddle_warm_callbacks.checkpoint.store import Checkpoint, CheckpointStore
from paddle_warm_callbacks.errors import CheckpointWriteError, RankError, in_a_line

logger = logging.getLogger("paddle_warm_callbacks")

_PROBE = f"{names.STAGING}probe-"


class Agree(Protocol):
    """How the ranks of a run come to one outcome: see ``hapi.parallel.Ranks.agree``."""

    def __call__(self, what: str, mine: Any, decide: Callable[[Sequence[Any]], Any] | None, /) -> Any:
        """Hand in this rank's part; return what rank 0 decides from all."""


@dataclass(frozen=True)
class ShareContents:
    """What a rank above 0 writes of a checkpoint.

    Attributes:
        arrays: By the key under which rank 0 looks for them.
        step: The global step.
    """

    arrays: Mapping[str, np.ndarray[Any, Any]]
    step: int


def writers(run_dir: Path, rank: int, agree: Agree) -> tuple[int, ...]:
    """Return the ranks that can write into rank 0's run directory; every rank must call it.

    Found out by trying: each rank makes a file in a directory that rank 0 has just made, and rank 0 looks which came.

    Args:
        run_dir: As this rank knows it.
        rank: Of this process.
        agree: How the ranks of the run agree.

    Raises:
        CheckpointWriteError: On rank 0: it cannot itself.
        RankError: A rank has failed or is missing.
    """
    checkpoints = run_dir / names.CHECKPOINTS
    probe: AbstractContextManager[str | None]
    probe = _probe(checkpoints) if rank == 0 else contextlib.nullcontext()
    with probe as made:
        name = agree("where every rank tries to write", made, lambda parts: parts[0])
        with contextlib.suppress(OSError):  # not the same file system, or not to be written to
            (checkpoints / name / str(rank)).touch()
        found = agree("who can write", None, lambda _: _seen(checkpoints / name))
    return tuple(sorted(found))


@contextlib.contextmanager
def _probe(checkpoints: Path) -> Iterator[str]:
    made = checkpoints / f"{_PROBE}{uuid.uuid4().hex[:8]}"
    try:
        durable.make_directory(checkpoints)
        made.mkdir()
    except OSError as error:
        raise CheckpointWriteError(
            "the run directory cannot be written to",
            where=str(checkpoints),
            received=f"{type(error).__name__}: {error}",
        ) from error
    try:
        yield made.name
    finally:
        durable.remove_directory(made)


def _seen(made: Path) -> list[int]:
    return [int(entry.name) for entry in made.iterdir()]


def commit(
    store: CheckpointStore, contents: CheckpointContents, whole: bool, agree: Agree
) -> Checkpoint | None:
    """Commit a checkpoint on rank 0, with the shares of all ranks, whose :class:`ShareWriter` is at it meanwhile.

    Args:
        store: Of the layout ``"shards"``.
        contents: With an ``Elsewhere`` for each array that another rank writes.
        whole: Whether this rank's arrays are what they should be.
        agree: How the writing threads of all ranks agree.

    Returns:
        None if a rank's copy was worthless: nothing was written then.

    Raises:
        CheckpointWriteError: A rank could not write its share, or rank 0 the rest.
        RankError: A rank has failed, or did not come within the time limit; it is named.
    """
    step = contents.progress.global_step
    if not agree(_copies(step), whole, all):
        return None
    gathering = _Gathering(step, agree)
    try:
        checkpoint = store.commit(contents, gathering)
    except BaseException as error:
        with contextlib.suppress(RankError):  # the first failure is the one to tell of
            gathering.over({"problem": in_a_line(error)})
        raise
    gathering.over({"name": checkpoint.name})
    return checkpoint


class ShareWriter(InFlight[ShareContents]):
    """Write the share of a rank above 0 of each checkpoint, on a thread of its own.

    :meth:`wait` returns when rank 0 has committed the whole. How failures are raised: see the base.

    Args:
        run_dir: As this rank knows it.
        rank: Of this process.
        agree: How the writing threads of all ranks agree.
        on_commit: Called with a :class:`SaveEvent` after each commit, on the thread; must be quick.
    """

    def __init__(
        self,
        run_dir: Path,
        rank: int,
        agree: Agree,
        on_commit: Callable[[SaveEvent], None] | None = None,
    ) -> None:
        super().__init__()
        self._rank = rank
        self._checkpoints = run_dir / names.CHECKPOINTS
        self._agree = agree
        self._on_commit = on_commit
        self._linker = shards.Linker()

    def mirror_lag(self) -> None:
        """Return None: rank 0 copies to the mirror."""

    def write(self, request: Request[ShareContents]) -> None:
        """Write the share, and learn what becomes of the whole."""
        step = request.contents.step
        if not self._agree(_copies(step), request.ready(), None):
            return
        place = self._agree(_place(step), None, None)
        written = shards.Share()
        if place is not None:
            staged, base = place
            part = self._written(staged, base, request.contents.arrays)
            written = part.get("share", written)
            self._agree(_shares(step), {**part, "share": written.to_json()}, None)
        outcome = self._agree(_end(step), None, None)
        if "problem" in outcome:
            raise CheckpointWriteError(
                "a checkpoint was not committed",
                where=f"step {step}",
                received=outcome["problem"],
                expected="every rank's share, and rank 0's manifest",
                remedy="checkpoints committed before it are intact",
            )
        if self._on_commit is not None:
            self._on_commit(request.event(outcome["name"], written.bytes_written))

    def _written(
        self, staged: str, base: str | None, arrays: Mapping[str, np.ndarray[Any, Any]]
    ) -> dict[str, Any]:
        """Return the share, or in words why there is none: rank 0 must hear of either."""
        if not arrays:
            return {}
        try:
            shared = None if base is None else Checkpoint(self._checkpoints / base).to_share()
            salt = f"{staged} {self._rank}"
            return {
                "share": shards.write_share(
                    self._checkpoints / staged, arrays, shared, self._linker, salt=salt
                )
            }
        except Exception as error:
            logger.error("this rank's share of a checkpoint could not be written: %s", error)
            return {"problem": in_a_line(error)}


class _Gathering:
    """Rank 0's side of one checkpoint; an ``Others`` of :mod:`~paddle_warm_callbacks.checkpoint.shards`."""

    def __init__(self, step: int, agree: Agree) -> None:
        self._step = step
        self._agree = agree
        self._begun = self._broken = False
        self._directory = Path()

    def begin(self, directory: Path, base: shards.Base | None) -> None:
        self._directory = directory
        place = (directory.name, None if base is None else base.directory.name)
        self._told(_place(self._step), None, lambda _: place)
        self._begun = True

    def gathered(self) -> shards.Share:
        parts: list[dict[str, Any]] = []
        self._told(_shares(self._step), {}, parts.extend)
        problems = {rank: part["problem"] for rank, part in enumerate(parts) if "problem" in part}
        if problems:
            raise CheckpointWriteError(
                f"rank {', '.join(map(str, problems))} could not write its share of a checkpoint: "
                + "; ".join(problems.values()),
                where=f"step {self._step}",
                expected="a share from every rank",
                remedy="checkpoints committed before it are intact",
            )
        files: dict[str, FileEntry] = {}
        stored: dict[str, shards.Stored] = {}
        written = 0
        for rank, part in enumerate(parts[1:], start=1):
            share = shards.Share.from_json(part["share"])
            self._require_here(rank, share)
            files.update(share.files)
            stored.update(share.stored)
            written += share.bytes_written
        return shards.Share(files, stored, written)

    def over(self, outcome: dict[str, Any]) -> None:
        """Tell the others what became of it."""
        if not self._begun:
            self._told(_place(self._step), None, None)
        self._told(_end(self._step), None, lambda _: outcome)

    def _told(self, what: str, mine: Any, decide: Callable[[Sequence[Any]], Any] | None) -> None:
        """Agree, unless an agreement has failed before: a second one would wait for the same rank as long."""
        if self._broken:
            return
        self._broken = True
        self._agree(what, mine, decide)
        self._broken = False

    def _require_here(self, rank: int, share: shards.Share) -> None:
        for name, entry in share.files.items():
            path = self._directory / name
            size = path.stat().st_size if path.exists() else None
            if size != entry.size:
                raise CheckpointWriteError(
                    f"what rank {rank} says it has written is not there",
                    where=str(path),
                    received="no such file" if size is None else f"{size} bytes",
                    expected=f"{entry.size} bytes",
                    remedy="put the run directory on one file system, mounted on every rank's machine",
                )


# What is agreed on: the same words on every rank.


def _copies(step: int) -> str:
    return f"the copies of step {step}"


def _place(step: int) -> str:
    return f"the directory of step {step}"


def _shares(step: int) -> str:
    return f"the shares of step {step}"


def _end(step: int) -> str:
    return f"the commit of step {step}"
