"""A registry as its readers see it: versions listed, references resolved, models fetched and verified."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from paddle_warm_callbacks.checkpoint import cache
from paddle_warm_callbacks.checkpoint.registry.record import ModelVersion
from paddle_warm_callbacks.checkpoint.registry.references import (
    BEST,
    LATEST,
    Reference,
    parse,
    parse_url,
    require_name,
)
from paddle_warm_callbacks.checkpoint.store import Checkpoint
from paddle_warm_callbacks.checkpoint.urls import bytes_at, is_url, opened, require_bucket
from paddle_warm_callbacks.errors import (
    CorruptCheckpointError,
    InvalidArgumentError,
    RegistryError,
    SourceError,
    WarmCallbacksError,
)
from paddle_warm_callbacks.plan.retention import CheckpointRecord, KeepBest
from paddle_warm_callbacks.secrets import cause

MODELS, CHECKPOINTS = "models", "checkpoints"
_ENTRY = re.compile(r"(\d{8,})\.json", re.ASCII)
# A record at a URL costs a round trip; this many are under way at once.
_AT_ONCE = 16


class Catalog:
    """Read a registry.

    Args:
        root: Its root: a directory, or any fsspec URL.

    Raises:
        SourceError: The root's scheme cannot be opened.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = str(root) if is_url(str(root)) else str(Path(root).expanduser().absolute())
        self._files, self._path = opened(self.root)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.root!r})"

    def names(self) -> Sequence[str]:
        """Return the names of all models, in alphabetical order.

        Raises:
            SourceError: The registry could not be reached.
        """
        with self._reaching():
            return sorted(self._entries(f"{self._path}/{MODELS}"))

    def list(self, name: str | None = None) -> Sequence[ModelVersion]:
        """Return every version of the model ``name``, or of all models: by name, then by number.

        Raises:
            SourceError: The registry could not be reached.
            CorruptCheckpointError: A record cannot be read.
        """
        chosen = self.names() if name is None else [require_name(name)]
        with self._reaching(), ThreadPoolExecutor(_AT_ONCE) as pool:
            numbers = zip(chosen, pool.map(self._numbers, chosen))
            wanted = [(model, number) for model, found in numbers for number in found]
            records = pool.map(lambda one: self._record(*one), wanted)
            return [record for record in records if record is not None]

    def resolve(self, reference: str) -> ModelVersion:
        """Return the version that a reference stands for.

        Args:
            reference: ``"defects@3"``: that version. ``"defects"`` and ``"defects@latest"``: the newest.
                ``"defects@best"``: the best by what the newest version that was pushed with ``rank_by`` is ranked by;
                of equal ones the newer. ``"defects@production"``: the version that has the tag.

        Raises:
            RegistryError: There is none; the error says what there is.
            InvalidArgumentError: It is no reference.
            SourceError: The registry could not be reached.
            CorruptCheckpointError: A record cannot be read.
        """
        wanted = parse(reference)
        with self._reaching():
            number = self._number_of(wanted)
            record = None if number is None else self._record(wanted.name, number)
            if record is None:
                raise self._nothing(wanted)
        return record

    def show(self, reference: str) -> tuple[ModelVersion, Sequence[str]]:
        """Return the version that a reference stands for, and the tags it has; errors as :meth:`resolve`."""
        version = self.resolve(reference)
        tags = self.tags(version.name)
        return version, sorted(tag for tag, number in tags.items() if number == version.version)

    def tags(self, name: str) -> dict[str, int]:
        """Return each tag of the model ``name`` and the version it stands for.

        Raises:
            SourceError: The registry could not be reached.
        """
        with self._reaching():
            found = sorted(self._entries(f"{self._model(require_name(name))}/tags"))
            standing = ((tag, self._tagged(name, tag)) for tag in found)
            return {tag: number for tag, number in standing if number is not None}

    def open(self, version: ModelVersion) -> Checkpoint:
        """Return a version's checkpoint: where it lies if that is on this machine, else a verified copy in the cache.

        Raises:
            SourceError: It could not be fetched.
            CorruptCheckpointError: What lies there is not what was pushed.
        """
        place = self.place(version)
        checkpoint = cache.fetch_checkpoint(place) if is_url(place) else Checkpoint(place)
        if checkpoint.digest != version.digest:
            raise CorruptCheckpointError(
                "the model is not what was pushed", where=place,
                received=f"a manifest of digest {checkpoint.digest}", expected=version.digest,
                remedy="someone has written to the registry's files; push the model again",
            )  # fmt: skip
        return checkpoint

    def place(self, version: ModelVersion) -> str:
        """Return the path or URL of a version's checkpoint: a directory like any other checkpoint's."""
        return f"{self.root.rstrip('/')}/{CHECKPOINTS}/{version.digest}"

    # -- entries: small objects with numbers, written once -----------------------------------------------------------

    def _model(self, name: str) -> str:
        return f"{self._path}/{MODELS}/{name}"

    def _version_path(self, name: str, number: int) -> str:
        return f"{self._model(name)}/versions/{number:08d}.json"

    def _tag_path(self, name: str, tag: str, number: int) -> str:
        return f"{self._model(name)}/tags/{tag}/{number:08d}.json"

    def _entries(self, path: str) -> Sequence[str]:
        """Return the names in a directory, as the storage has them now; none if it is not there."""
        self._files.invalidate_cache()
        try:
            listed = self._files.ls(path, detail=False)
        except FileNotFoundError:
            require_bucket(self._files, self._path)
            return ()
        names = [str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in listed]
        return [name for name in names if not name.startswith(".")]

    def _numbered(self, path: str) -> Sequence[int]:
        found = (_ENTRY.fullmatch(entry) for entry in self._entries(path))
        return sorted(int(match.group(1)) for match in found if match is not None)

    def _numbers(self, name: str) -> Sequence[int]:
        return self._numbered(f"{self._model(name)}/versions")

    def _record(self, name: str, number: int) -> ModelVersion | None:
        path = self._version_path(name, number)
        data = bytes_at(self._files, path)
        return None if data is None else ModelVersion.from_bytes(data, path)

    def _tagged(self, name: str, tag: str) -> int | None:
        """Return what the last entry of a tag's log says."""
        moves = self._numbered(f"{self._model(name)}/tags/{tag}")
        if not moves:
            return None
        path = self._tag_path(name, tag, moves[-1])
        data = self._files.cat_file(path)
        try:
            return int(json.loads(data)["version"])
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptCheckpointError(
                "this is no record of a tag", where=path, received=f"{type(error).__name__}: {error}",
                expected='JSON with a "version"', remedy=f"set the tag {tag!r} again",
            ) from error  # fmt: skip

    # -- references --------------------------------------------------------------------------------------------------

    def _number_of(self, wanted: Reference) -> int | None:
        if isinstance(wanted.which, int):
            return wanted.which
        if wanted.which == LATEST:
            return max(self._numbers(wanted.name), default=None)
        if wanted.which == BEST:
            return best_of(self.list(wanted.name), wanted.name).version
        return self._tagged(wanted.name, wanted.which)

    def _nothing(self, wanted: Reference) -> RegistryError:
        versions, tags = self._numbers(wanted.name), self.tags(wanted.name)
        if not versions:
            there = f"the models {', '.join(self.names()) or '(none)'}"
        else:
            there = f"{wanted.name}@{versions[0]} to @{versions[-1]}" + "".join(
                f", @{tag} ({number})" for tag, number in tags.items()
            )
        return RegistryError(
            "the registry has no such model" if not versions else "the model has no such version or tag",
            where=self.root,
            received=str(wanted),
            expected=there,
            remedy="paddle-warm registry list shows what there is",
        )

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except WarmCallbacksError:
            raise
        # Every storage library raises its own.
        except Exception as error:
            raise SourceError(
                "the registry could not be reached",
                where=self.root,
                received=f"{type(error).__name__}: {error}",
                expected="a root that can be read, and for push and tag written to",
                remedy="check the root, the network and the credentials",
            ) from cause(error)


def best_of(versions: Sequence[ModelVersion], name: str) -> ModelVersion:
    """Return the best of a model's versions, oldest first, by the ranking of the newest that has one.

    Raises:
        RegistryError: None was pushed with ``rank_by``, or none has the metric.
    """
    ranking = next((version.rank_by for version in reversed(versions) if version.rank_by is not None), None)
    records = [
        CheckpointRecord(str(version.version), version.progress, False, version.metrics)
        for version in versions
    ]
    try:
        best = None if ranking is None else KeepBest(ranking["metric"], ranking["mode"]).best(records)
    except (KeyError, InvalidArgumentError):
        best = None
    if best is None:
        raise RegistryError(
            "which version is the best is not known",
            where=name,
            received=f"{len(versions)} versions, "
            + ("none pushed with rank_by=" if ranking is None else f"ranked by {dict(ranking)}"),
            expected="a version pushed with rank_by=, and at least one with that metric",
            remedy='Registry(root).push(…, rank_by=KeepBest("acc"))',
        )
    return versions[[record.name for record in records].index(best.name)]


def open_reference(url: str) -> tuple[ModelVersion, Checkpoint]:
    """Return the version that a ``registry://`` URL stands for, and its checkpoint.

    Raises:
        InvalidArgumentError: It is no reference, or no root is known.
        RegistryError: There is no such model, version or tag.
        SourceError: The registry could not be reached.
        CorruptCheckpointError: What lies there is not what was pushed.
    """
    catalog, version = _resolved(url)
    return version, catalog.open(version)


def locate(url: str) -> str:
    """Return the path or URL of the checkpoint that a ``registry://`` URL stands for; errors as `open_reference`."""
    catalog, version = _resolved(url)
    return catalog.place(version)


def _resolved(url: str) -> tuple[Catalog, ModelVersion]:
    root, reference = parse_url(url)
    catalog = Catalog(root)
    return catalog, catalog.resolve(str(reference))
