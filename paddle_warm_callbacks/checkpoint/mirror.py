"""Copies of checkpoints on any fsspec file system: data first, the manifest last, so that what has one is whole."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from paddle_warm_callbacks.checkpoint import durable, names, pointers
from paddle_warm_callbacks.checkpoint.digests import digest_of
from paddle_warm_callbacks.checkpoint.manifest import MANIFEST, FileEntry, Manifest
from paddle_warm_callbacks.checkpoint.names import CHECKPOINTS
from paddle_warm_callbacks.checkpoint.pointers import BEST, LATEST
from paddle_warm_callbacks.checkpoint.sending import Sender
from paddle_warm_callbacks.checkpoint.store import Checkpoint
from paddle_warm_callbacks.checkpoint.store.records import record_of
from paddle_warm_callbacks.checkpoint.urls import answered, bytes_at, make_directory, opened, require_bucket
from paddle_warm_callbacks.errors import CheckpointWriteError, CorruptCheckpointError, SourceError
from paddle_warm_callbacks.plan.retention import CheckpointRecord, KeepBest

logger = logging.getLogger("paddle_warm_callbacks")

_FILES_AT_ONCE = 4


def upload(checkpoint: Checkpoint, url: str) -> str:
    """Copy a checkpoint to ``<url>/checkpoints/<name>``, unless the very same is there.

    The order is that of a commit: first come the files, then the manifest, and at last ``latest.json``. A reader never
    finds a manifest beside files that are not its own.

    Args:
        checkpoint: A committed one.
        url: The mirror's root: any fsspec URL or a local path.

    Returns:
        The URL of the copy.

    Raises:
        CorruptCheckpointError: The local files are not what its manifest says.
        CheckpointWriteError: Another checkpoint of that name is there.
        OSError: The file system refused, or was not reached; also what its own library raises for that.
    """
    files, root = opened(url)
    with Sender(files) as sender:
        put(checkpoint, sender, f"{root}/{CHECKPOINTS}/{checkpoint.name}")
    point_at_latest(files, root, checkpoint.name)
    return f"{url.rstrip('/')}/{CHECKPOINTS}/{checkpoint.name}"


def put(
    checkpoint: Checkpoint,
    sender: Sender,
    target: str,
    known: Mapping[str, str] | None = None,
    require_own: Callable[[], None] = lambda: None,
) -> None:
    """Copy a checkpoint to the directory ``target``, unless the very same is there; errors as :func:`upload`.

    Args:
        checkpoint: A committed one.
        sender: Its file system is the target's.
        target: A directory there, which need not exist.
        known: Digest to a path there, of files that were sent before.
        require_own: Called before each file and before the manifest, to raise if they are no longer this process's to
            write.
    """
    manifest = (Path(checkpoint.path) / MANIFEST).read_bytes()
    there = bytes_at(sender.files, f"{target}/{MANIFEST}")
    if there == manifest:
        return
    if there is not None:
        raise CheckpointWriteError(
            "another checkpoint of that name is there, and is not written over",
            where=f"{checkpoint.path} -> {target}",
            received=f"a manifest of digest {digest_of(there)}",
            expected=f"none, or that of digest {digest_of(manifest)}",
            remedy="two runs were given one mirror: give each its own; or delete what is there",
        )
    checkpoint.verify()  # a damaged copy would be found only when it is needed
    make_directory(sender.files, target)

    def send(item: tuple[str, FileEntry]) -> None:
        name, entry = item
        require_own()
        sender.send(Path(checkpoint.path) / name, f"{target}/{name}", entry, (known or {}).get(entry.digest))

    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        list(pool.map(send, checkpoint.manifest.files.items()))
    require_own()
    sender.files.pipe_file(f"{target}/{MANIFEST}", manifest)


def point_at_latest(files: Any, root: str, name: str) -> None:
    """Name the newest checkpoint in the mirror's ``latest.json``."""
    files.pipe_file(f"{root}/{LATEST}", json.dumps({"name": name}).encode("ascii"))


def say_ranking(files: Any, root: str, ranking: KeepBest) -> None:
    """Say in the mirror's ``best.json`` by what its checkpoints are ranked; which is the best, their manifests say."""
    said = {"metric": ranking.metric, "mode": ranking.mode}
    files.pipe_file(f"{root}/{BEST}", json.dumps(said).encode("ascii"))


def ranked(
    url: str, there: Sequence[str], here: Sequence[CheckpointRecord] = (), by: KeepBest | None = None
) -> list[str]:
    """Return the names of checkpoints at a mirror, and of others of the run, best first.

    Args:
        url: The mirror's root.
        there: The names of its checkpoints.
        here: What else there is; of a name that is in both places too.
        by: The ranking; None: the one that the mirror's ``best.json`` says.

    Returns:
        Those that have the metric; nothing where no ranking is known.

    Raises:
        OSError: The file system was not reached.
    """
    files, root = opened(url)
    ranking = by
    if ranking is None:
        ranking = pointers.ranking_said(answered(url, lambda: _json_at(files, f"{root}/{BEST}")))
    if ranking is None:
        return []

    def record(name: str) -> CheckpointRecord | None:
        place = f"{root}/{CHECKPOINTS}/{name}/{MANIFEST}"
        data = answered(url, lambda: bytes_at(files, place))
        try:
            return None if data is None else record_of(name, Manifest.from_bytes(data, place))
        except CorruptCheckpointError as error:
            logger.warning("%s counts as one without metrics: %s", name, error)
            return None

    known = {record.name for record in here}
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        found = list(pool.map(record, (name for name in there if name not in known)))
    return [one.name for one in ranking.ranked([*here, *(one for one in found if one is not None)])]


def _json_at(files: Any, path: str) -> Any:
    try:
        return json.loads(bytes_at(files, path) or b"null")
    except ValueError:
        logger.warning("%s is not one that this package writes", path)
        return None


def list_mirrored(url: str) -> Sequence[str]:
    """Return the names of the whole checkpoints at a mirror's root, oldest first: one listing, and one pointer.

    A listing may lag behind: it can lack the newest, which the pointer then names, and have one that is gone, which
    will be found out when its manifest is read.

    Raises:
        OSError: The file system was not reached, or the bucket is not there; a TimeoutError if there was no answer in
            the time that :func:`~paddle_warm_callbacks.checkpoint.urls.answered` waits.
    """
    files, root = opened(url)
    return answered(url, lambda: _listed(files, root))


def _listed(files: Any, root: str) -> Sequence[str]:
    found = set()
    try:
        manifests = files.glob(f"{root}/{CHECKPOINTS}/*/{MANIFEST}")
        found = {str(path).split("/")[-2] for path in manifests}
    except FileNotFoundError:
        pass
    pointer = _json_at(files, f"{root}/{LATEST}")
    newest = str(pointer.get("name")) if isinstance(pointer, dict) else ""
    if newest not in found and names.position_of(newest) is not None:
        listed_late = bytes_at(files, f"{root}/{CHECKPOINTS}/{newest}/{MANIFEST}") is not None
        found.update({newest} if listed_late else ())
    if not found:
        require_bucket(files, root)
    return names.in_order(found)


def names_there(url: str) -> Sequence[str]:
    """Return what :func:`list_mirrored` does; nothing, with a warning, if the mirror cannot be asked."""
    try:
        return list_mirrored(url)
    # Every storage library raises its own, and training goes on without a mirror.
    except Exception as error:
        logger.warning("the mirror %s cannot be asked for its checkpoints: %s", url, error)
        return ()


def download(url: str, into: Path) -> Checkpoint:
    """Copy a checkpoint from ``url``, its directory, to a new directory ``into``, and verify it.

    Raises:
        SourceError: There is no checkpoint at ``url``.
        CorruptCheckpointError: What came is not what its manifest says; ``into`` is not there then.
        OSError: The file system was not reached.
    """
    beside = into.with_name(f".{into.name}.part")
    durable.remove_directory(beside)
    beside.mkdir(parents=True)
    try:
        download_into(url, beside)
    except BaseException:
        durable.remove_directory(beside)
        raise
    durable.rename_directory(beside, into)
    return Checkpoint(into)


def _shown_on(bar: Any) -> Any:
    """Return what fsspec tells of each piece of a file that it has copied, shown on one bar for several files."""
    from fsspec.callbacks import Callback  # slow to import, as all of it

    callback: Any = Callback()

    def arrived(count: int) -> None:
        callback.value += count
        bar.update(count)

    callback.relative_update = arrived
    return callback


def download_into(url: str, directory: Path) -> None:
    """Copy a checkpoint's files from ``url`` into a directory that is there and empty; verified and on disk on return.

    Raises:
        SourceError: There is no checkpoint at ``url``.
        CorruptCheckpointError: What came is not what its manifest says.
        OSError: The file system was not reached; a TimeoutError if it fell silent.
    """
    files, root = opened(url)
    data = answered(url, lambda: bytes_at(files, f"{root}/{MANIFEST}"))
    if data is None:
        raise SourceError(
            "there is no whole checkpoint", where=url, received=f"no {MANIFEST}",
            expected="a directory that mirror= has written", remedy="list_mirrored(url) names those that are there",
        )  # fmt: skip
    manifest = Manifest.from_bytes(data, f"{url}/{MANIFEST}")
    # None shows the bar where someone is looking: on a terminal.
    bar = tqdm(desc=root.rsplit("/", 1)[-1], total=manifest.size, unit="B", unit_scale=True, disable=None)
    with bar, ThreadPoolExecutor(_FILES_AT_ONCE) as pool:

        def get(name: str) -> None:
            shown = _shown_on(bar)
            target = str(directory / name)
            answered(
                url, lambda: files.get_file(f"{root}/{name}", target, callback=shown), lambda: shown.value
            )

        list(pool.map(get, manifest.files))
    (directory / MANIFEST).write_bytes(data)
    Checkpoint(directory).verify()
    for name in (*manifest.files, MANIFEST):
        with (directory / name).open("rb+") as file:
            durable.flush(file)
    durable.flush_directory(directory)
