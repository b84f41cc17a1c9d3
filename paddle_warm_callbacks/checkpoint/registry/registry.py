"""A registry as those who publish models see it: versions pushed, tags moved, models compared, lineage followed.

    <root>/checkpoints/<digest>/                       a checkpoint's directory, whole once its manifest is there
    <root>/models/<name>/versions/00000003.json        a version: its record, written once, after the checkpoint
    <root>/models/<name>/tags/<tag>/00000002.json      the second time the tag was set; the last one counts

Nothing is ever written over, and nothing but a record makes a version. So a push that breaks off has published nothing,
whoever reads a tag finds a whole entry, and of two pushers at once each gets a number of its own (see ``exclusive``).
"""

from __future__ import annotations

import contextlib
import getpass
import json
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from paddle_warm_callbacks.arguments import require_int
from paddle_warm_callbacks.checkpoint import mirror
from paddle_warm_callbacks.checkpoint.contents import CheckpointContents
from paddle_warm_callbacks.checkpoint.manifest import TENSORS, Manifest, tensors_from_bytes
from paddle_warm_callbacks.checkpoint.registry.catalog import CHECKPOINTS, Catalog
from paddle_warm_callbacks.checkpoint.registry.exclusive import ExclusiveWriter
from paddle_warm_callbacks.checkpoint.registry.record import (
    FIELDS,
    Ancestor,
    ModelVersion,
    ancestry_of,
    described,
)
from paddle_warm_callbacks.checkpoint.registry.references import require_name, require_tag
from paddle_warm_callbacks.checkpoint.sending import Sender
from paddle_warm_callbacks.checkpoint.source import open_source
from paddle_warm_callbacks.checkpoint.store import Checkpoint, CheckpointStore
from paddle_warm_callbacks.errors import InvalidArgumentError, RegistryError
from paddle_warm_callbacks.plan.retention import KeepBest

# What PeriodicCheckpoint adds to a manifest's metadata for its own use.
_OURS = ("ancestry", "start", "waited_for_accumulation_window")
# What two versions are compared by.
_COMPARED = (*FIELDS, "metrics", "writer", "parent", "extra")


@dataclass(frozen=True)
class ModelDiff:
    """What two versions differ in.

    Attributes:
        a: The one.
        b: The other.
        fields: Field, or field and key joined by a dot, to its two values; None where one does not have it.
        changed: Names of the tensors whose bytes, shape or dtype differ, by file: ``model.pdparams/fc.weight``.
        only_a: Names of the tensors that only the one has.
        only_b: Names of the tensors that only the other has.
        same: How many tensors are equal to the bit.
    """

    a: ModelVersion
    b: ModelVersion
    fields: Mapping[str, tuple[Any, Any]]
    changed: Sequence[str]
    only_a: Sequence[str]
    only_b: Sequence[str]
    same: int


@dataclass(frozen=True)
class Link:
    """One model in a line of descent.

    Attributes:
        source: What it is called: its reference in this registry, or what the run that started from it was told.
        digest: Its digest, or None if it has none.
        version: Its record, if this registry has it.
    """

    source: str
    digest: str | None
    version: ModelVersion | None


class Registry(Catalog):
    """Publish and find models by name and version, on any file system that fsspec opens; there is no server.

    Example:
        >>> registry = Registry("models")
        >>> registry.list()
        []

    Args:
        root: Its root: a directory, or any fsspec URL such as ``s3://models/registry``. Made by the first push; a
            bucket must be there.

    Raises:
        SourceError: The root's scheme cannot be opened.
    """

    def __init__(self, root: str | Path) -> None:
        super().__init__(root)
        self._writer = ExclusiveWriter(self._files, self._path)

    def push(
        self,
        checkpoint: Checkpoint | str | Path,
        name: str,
        version: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        rank_by: KeepBest | None = None,
    ) -> ModelVersion:
        """Publish a checkpoint as the next version of ``name``; it can be resolved when this returns.

        Args:
            checkpoint: A checkpoint; or the path or URL of one, of a run (its newest that verifies), or of a file of
                weights.
            name: The model's name: letters, digits, ``.``, ``_`` and ``-``.
            version: Its number, at least 1, which must be free; None: one more than the greatest there is.
            metadata: What to say of it: ``author``, ``code_revision``, ``config``, ``data_source``, ``device``,
                ``input_spec``, ``labels``, ``notes``, ``metrics``, ``parent`` (a reference to a model of this
                registry, for weights that do not know it), and fields of your own. What the checkpoint's own metadata
                says is taken over where this says nothing.
            rank_by: What ``name@best`` is decided by from now on: a ``KeepBest("acc")``.

        Returns:
            The version's record.

        Raises:
            RegistryError: That version is there already, or no such parent is.
            InvalidArgumentError: A wrong argument; nothing was sent.
            SourceError: There is no such checkpoint, or the registry could not be reached.
            CorruptCheckpointError: The checkpoint is damaged; nothing was published.
        """
        require_name(name)
        if version is not None:
            require_int(version, "Registry.push(version=)", at_least=1)
        if rank_by is not None and not isinstance(rank_by, KeepBest):
            raise InvalidArgumentError(
                "not a ranking",
                where="Registry.push(rank_by=)",
                received=repr(rank_by),
                expected='KeepBest("acc"), or KeepBest("loss", "min")',
            )
        with _checkpoint_of(checkpoint) as found:
            told = self._told(found.manifest, dict(metadata or {}))
            with self._reaching():
                with Sender(self._files) as sender:
                    mirror.put(found, sender, f"{self._path}/{CHECKPOINTS}/{found.digest}")
                return self._publish(found, name, version, told, rank_by)

    def tag(self, reference: str, tag: str) -> ModelVersion:
        """Let ``name@tag`` stand for the version that ``reference`` stands for, from now on; return its record.

        A reader finds the version before or this one. Of two who move a tag at once the one that comes second wins, and
        its log has both.

        Raises:
            RegistryError: There is no such version.
            InvalidArgumentError: Not a tag's name.
            SourceError: The registry could not be reached.
        """
        require_tag(tag)
        version = self.resolve(reference)
        with self._reaching():
            number = 0
            while True:
                moves = self._numbered(f"{self._model(version.name)}/tags/{tag}")
                number = max((number, *moves)) + 1
                entry = {"version": version.version, "by": _user(), "at": _now(), "id": uuid.uuid4().hex}
                path = self._tag_path(version.name, tag, number)
                if self._writer.create(path, json.dumps(entry).encode("ascii")):
                    return version

    def diff(self, a: str, b: str) -> ModelDiff:
        """Return what two versions differ in, tensor by tensor, without reading a weight; errors as :meth:`resolve`."""
        one, other = self.resolve(a), self.resolve(b)
        with self._reaching():
            here, there = self._tensors(one), self._tensors(other)
        return ModelDiff(
            one,
            other,
            fields=_differences(one, other),
            changed=[name for name in here if name in there and here[name] != there[name]],
            only_a=[name for name in here if name not in there],
            only_b=[name for name in there if name not in here],
            same=sum(name in there and here[name] == there[name] for name in here),
        )

    def lineage(self, reference: str) -> Sequence[Link]:
        """Return the version, what its weights come from, what those come from, and so on to the root.

        Where an ancestor is in this registry its own record says how it goes on; of one that is not, or no longer, the
        names and digests that its descendant carries go on. Errors as :meth:`resolve`, and CorruptCheckpointError if
        any record of the registry cannot be read.
        """
        head = self.resolve(reference)
        known = {version.digest: version for version in self.list()}
        links = [Link(head.reference, head.digest, head)]
        seen = {head.digest}
        ahead = list(head.ancestry)
        while ahead:
            ancestor = ahead.pop(0)
            if ancestor.digest in seen:
                continue
            version = None if ancestor.digest is None else known.get(ancestor.digest)
            links.append(Link(version.reference if version else ancestor.source, ancestor.digest, version))
            if ancestor.digest is not None:
                seen.add(ancestor.digest)
            if version is not None and version.ancestry:
                ahead = list(version.ancestry)
        return links

    # -- publishing --------------------------------------------------------------------------------------------------

    def _told(self, manifest: Manifest, given: dict[str, Any]) -> dict[str, Any]:
        """Return a record's fields from what the checkpoint says, and what is given, which counts for more."""
        metrics = {**manifest.metrics, **_numbers(given.pop("metrics", {}))}
        ancestry = ancestry_of(manifest)
        parent = given.pop("parent", None)
        if parent is not None:
            version = self.resolve(parent)
            ancestry = (Ancestor(version.reference, version.digest), *version.ancestry)
        own = {key: value for key, value in manifest.metadata.items() if key not in _OURS}
        told = described({"author": _user(), **own, **given})
        return {
            **told,
            "metrics": metrics,
            "ancestry": ancestry,
            "parent": ancestry[0].digest if ancestry else None,
            "writer": dict(manifest.writer),
            "progress": manifest.progress,
        }

    def _publish(
        self,
        checkpoint: Checkpoint,
        name: str,
        version: int | None,
        told: dict[str, Any],
        rank_by: KeepBest | None,
    ) -> ModelVersion:
        ranking = None if rank_by is None else {"metric": rank_by.metric, "mode": rank_by.mode}
        number = 0
        while True:
            number = version or max((number, *self._numbers(name))) + 1
            record = ModelVersion(
                name=name,
                version=number,
                digest=checkpoint.digest,
                size=checkpoint.manifest.size,
                push_id=uuid.uuid4().hex,
                created=_now(),
                rank_by=ranking,
                **told,
            )
            if self._writer.create(self._version_path(name, number), record.to_bytes()):
                return record
            if version is not None:
                raise RegistryError(
                    "that version is there already, and versions do not change",
                    where=self.root,
                    received=f"{name}@{version}",
                    expected="a number that nobody has pushed",
                    remedy="push without version= for the next one",
                )

    def _tensors(self, version: ModelVersion) -> dict[str, tuple[Any, ...]]:
        """Return what the list of tensors says of each, read without the tensors."""
        data = self._files.cat_file(f"{self._path}/{CHECKPOINTS}/{version.digest}/{TENSORS}")
        return {
            f"{tensor.file}/{tensor.name}": (tensor.shape, tensor.dtype, tensor.digest)
            for tensor in tensors_from_bytes(data)
        }


@contextlib.contextmanager
def _checkpoint_of(given: Checkpoint | str | Path) -> Iterator[Checkpoint]:
    """Yield the checkpoint that was given; of plain weights, one that was made of them and is gone afterwards."""
    if isinstance(given, Checkpoint):
        yield given
        return
    source = open_source(given)
    if source.checkpoint is not None:
        yield source.checkpoint
        return
    with tempfile.TemporaryDirectory(prefix="paddle-warm-") as directory:
        yield CheckpointStore(directory).commit(
            CheckpointContents(
                model=source.tensors,
                model_names={},
                metadata={"ancestry": source.ancestry},
                parent=source.digest,
            )
        )


def _differences(one: ModelVersion, other: ModelVersion) -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {}
    for name in _COMPARED:
        before, after = getattr(one, name), getattr(other, name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            for key in dict.fromkeys((*before, *after)):
                found[f"{name}.{key}"] = before.get(key), after.get(key)
        else:
            found[name] = before, after
    return {name: pair for name, pair in found.items() if repr(pair[0]) != repr(pair[1])}


def _numbers(metrics: Any) -> dict[str, float]:
    try:
        return {str(name): float(value) for name, value in dict(metrics).items()}
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(
            "metadata says metrics that are none",
            where="metadata['metrics']",
            received=repr(metrics),
            expected="a mapping from name to number",
        ) from error


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user that no file knows
        return "unknown"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
