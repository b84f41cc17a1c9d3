"""What the registry says of one version of a model: a record that is written once and never changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from paddle_warm_callbacks.checkpoint import jsonvalue
from paddle_warm_callbacks.checkpoint.manifest import Manifest
from paddle_warm_callbacks.errors import CorruptCheckpointError, InvalidArgumentError
from paddle_warm_callbacks.progress import Progress
from paddle_warm_callbacks.secrets import redacted_values

SCHEMA_VERSION = 1
# What `metadata=` may say of a model by these names; under any other it goes to `extra`.
FIELDS = ("author", "code_revision", "config", "data_source", "device", "input_spec", "labels", "notes")
_TEXTS = ("author", "code_revision", "data_source", "device", "notes")


@dataclass(frozen=True)
class Ancestor:
    """One model that another one's weights come from.

    Attributes:
        source: What and where it was, as the run that started from it was told.
        digest: Digest of its manifest, or of its file where it is no checkpoint; None if it was neither.
    """

    source: str
    digest: str | None = None


@dataclass(frozen=True)
class ModelVersion:
    """One version of a model, as it was pushed.

    Attributes:
        name: The model's name.
        version: Its number, from 1.
        digest: Digest of the checkpoint's manifest, and so of all it holds; its place in the registry.
        size: Bytes of the checkpoint's files.
        push_id: Of this push, and of no other.
        created: When it was pushed: UTC, ISO 8601. For people; nothing is decided by it.
        progress: The position of the run it was taken at.
        author: Who pushed it.
        data_source: What it was trained on.
        notes: In words.
        metrics: Metric name to value.
        rank_by: ``{"metric": …, "mode": "max" | "min"}``: what the model's ``best`` is decided by; None: not said.
        parent: Digest of what the weights come from: the first of ``ancestry``, or None.
        ancestry: What it was started from, what that was started from, and so on; the nearest first.
        code_revision: Of the code that trained it.
        config: Its configuration: text, or plain values.
        config_digest: SHA-256 of ``config``, or None.
        writer: Package name to version: Paddle, this package, Python, NumPy.
        device: What it was trained on.
        labels: The head's labels, in its order.
        input_spec: Shape and dtype of what the network takes, in plain values.
        extra: The user's own fields.
        schema_version: Of this record.
    """

    name: str
    version: int
    digest: str
    size: int
    push_id: str
    created: str
    progress: Progress = field(default_factory=Progress)
    author: str | None = None
    data_source: str | None = None
    notes: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    rank_by: Mapping[str, str] | None = None
    parent: str | None = None
    ancestry: Sequence[Ancestor] = ()
    code_revision: str | None = None
    config: Any = None
    config_digest: str | None = None
    writer: Mapping[str, str] = field(default_factory=dict)
    device: str | None = None
    labels: Sequence[Any] | None = None
    input_spec: Any = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def reference(self) -> str:
        """The reference that stands for this version and no other, such as ``defects@3``."""
        return f"{self.name}@{self.version}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as the published JSON Schema describes them."""
        record = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        record["progress"] = self.progress.to_json()
        record["ancestry"] = [asdict(ancestor) for ancestor in self.ancestry]
        record["writer"] = dict(self.writer)
        record["rank_by"] = None if self.rank_by is None else dict(self.rank_by)
        for name in ("metrics", "extra"):
            record[name] = jsonvalue.encode(dict(record[name]))
        for name in ("config", "labels", "input_spec"):
            record[name] = jsonvalue.encode(record[name])
        return record

    def to_bytes(self) -> bytes:
        """Return the record file's bytes."""
        return json.dumps(self.to_json(), indent=1, allow_nan=False).encode("ascii") + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> ModelVersion:
        """Read :meth:`to_bytes`'s bytes.

        Raises:
            CorruptCheckpointError: They are no record, or one of a newer schema.
        """
        try:
            record = json.loads(data)
            if record["schema_version"] > SCHEMA_VERSION:
                raise CorruptCheckpointError(
                    "the model was pushed by a newer version of this package", where=where,
                    received=f"schema {record['schema_version']}", expected=f"schema {SCHEMA_VERSION} or less",
                    remedy="pip install --upgrade paddle-warm-callbacks",
                )  # fmt: skip
            known = {entry.name for entry in fields(cls)}
            record = {name: value for name, value in record.items() if name in known}
            record["progress"] = Progress.from_json(record["progress"])
            record["ancestry"] = tuple(Ancestor(**ancestor) for ancestor in record["ancestry"])
            for name in ("metrics", "extra", "config", "labels", "input_spec"):
                record[name] = jsonvalue.decode(record[name])
            return cls(**record)
        except (ValueError, TypeError, KeyError, AttributeError, InvalidArgumentError) as error:
            raise CorruptCheckpointError(
                "this is no record of a model", where=where,
                received=f"{type(error).__name__}: {error}", expected=f"JSON of schema {SCHEMA_VERSION}",
                remedy="it was edited, or not written by this package; the versions beside it are not concerned",
            ) from error  # fmt: skip


def described(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's fields from what a user says of a model: those with a name of their own, the rest as ``extra``.

    Raises:
        InvalidArgumentError: One of them is of the wrong type, or cannot be stored.
    """
    found: dict[str, Any] = {name: told[name] for name in FIELDS if told.get(name) is not None}
    for name in _TEXTS:
        if not isinstance(found.get(name, ""), str):
            raise _wrong(name, found[name], "text")
    labels = found.get("labels", [])
    if not isinstance(labels, (list, tuple)):
        raise _wrong("labels", labels, "a list, in the head's order")
    if "labels" in found:
        found["labels"] = list(labels)
    if "config" in found:
        found["config_digest"] = _config_digest(found["config"])
    extra = {name: value for name, value in told.items() if name not in FIELDS}
    found, extra = redacted_values(found), redacted_values(extra)
    jsonvalue.encode([found, extra])  # refuses what cannot be stored before anything is sent
    return {**found, "extra": extra}


def ancestry_of(manifest: Manifest) -> tuple[Ancestor, ...]:
    """Return what a checkpoint's weights come from, the nearest first; runs carry it in their manifests' metadata."""
    carried = manifest.metadata.get("ancestry", ())
    return tuple(Ancestor(str(entry["source"]), entry["digest"]) for entry in carried)


def _config_digest(config: Any) -> str:
    text = config if isinstance(config, str) else json.dumps(jsonvalue.encode(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _wrong(name: str, value: Any, expected: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"metadata says a {name} that cannot be one",
        where=f"metadata[{name!r}]",
        received=repr(value),
        expected=expected,
    )
