"""One process writing to one mirror: what it sends, what it need not send, what it deletes, and when it must stop."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import uuid
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from paddle_warm_callbacks.arguments import require_number
from paddle_warm_callbacks.checkpoint import mirror, pointers, urls
from paddle_warm_callbacks.checkpoint.manifest import MANIFEST, Manifest
from paddle_warm_callbacks.checkpoint.names import CHECKPOINTS, superseded
from paddle_warm_callbacks.checkpoint.sending import Sender
from paddle_warm_callbacks.checkpoint.store import Checkpoint
from paddle_warm_callbacks.checkpoint.store.records import record_of, record_of_name
from paddle_warm_callbacks.errors import CheckpointWriteError, CorruptCheckpointError, InvalidArgumentError
from paddle_warm_callbacks.plan.retention import KeepBest, RetentionPolicy
from paddle_warm_callbacks.secrets import redacted

logger = logging.getLogger("paddle_warm_callbacks")

OWNER = "owner.json"
# So many of the newest checkpoints at the mirror are looked into for files that a new one has too.
_LOOKED_INTO = 2


@dataclass(frozen=True)
class Mirror:
    """Where committed checkpoints are copied to, and what stays there.

    Example:
        >>> mirror = Mirror("memory://models/defects", max_bytes_per_second=20e6)

    Args:
        url: The mirror's root: any fsspec URL, or a path.
        keep: What to keep there: retention policies joined with ``|``; the newest stays whatever they say. None:
            everything.
        max_bytes_per_second: Limit for all uploads together; None: there is none.

    Raises:
        InvalidArgumentError: A wrong argument.
        SourceError: No such scheme, or the package it needs is not installed; the error says which.
    """

    url: str
    keep: RetentionPolicy | None = None
    max_bytes_per_second: float | None = None

    def __post_init__(self) -> None:
        url: object = self.url
        if not isinstance(url, str) or not url:
            raise InvalidArgumentError(
                "not a place to copy to",
                where="Mirror(url)",
                received=repr(self.url),
                expected='a URL, such as "s3://models/defects", or a path',
            )
        if self.keep is not None and not isinstance(self.keep, RetentionPolicy):
            raise InvalidArgumentError(
                "not a policy",
                where="Mirror(keep=)",
                received=repr(self.keep),
                expected="a RetentionPolicy, or None to keep everything",
                remedy='for example keep=KeepLatest(10) | KeepBest("acc")',
            )
        if self.max_bytes_per_second is not None:
            require_number(self.max_bytes_per_second, "Mirror(max_bytes_per_second=)", above=0)
        urls.require_scheme(self.url)

    def __repr__(self) -> str:
        return (
            f"Mirror({redacted(self.url)!r}, keep={self.keep!r}, "
            f"max_bytes_per_second={self.max_bytes_per_second!r})"
        )

    @classmethod
    def of(cls, given: Mirror | str | None) -> Mirror | None:
        """Return what a ``mirror=`` argument stands for: a URL alone keeps everything, at any rate."""
        return given if given is None or isinstance(given, Mirror) else cls(given)


class MirrorWriter:
    """Copy checkpoints to a mirror, one at a time.

    A mirror has one writer. Each writer puts its name there when it begins, and looks before each file and before the
    manifest whether it still is its own: of two machines that both go on with a run, the one that began later goes on
    copying, at once, for the other is dead as a rule. This is no lease: a file that the other is sending at that moment
    still arrives, and if it is of a checkpoint of the same name, that copy does not verify, and a resume takes another.

    Args:
        to: The mirror.
        ranking: By what the run's best checkpoint is found, for one that resumes from the mirror alone; None: by what
            the mirror's own policy ranks, if it does.
    """

    def __init__(self, to: Mirror, ranking: KeepBest | None = None) -> None:
        self._mirror = to
        self._ranking = pointers.ranking_in(to.keep) if ranking is None else ranking
        self._id: str | None = None
        self._files: Any = None
        self._root = ""
        self._sender: Sender | None = None
        self._manifests: dict[str, Manifest] = {}

    @property
    def bytes_sent(self) -> int:
        """Bytes of files that went over the line so far."""
        return 0 if self._sender is None else self._sender.bytes_sent

    def copy(self, checkpoint: Checkpoint) -> None:
        """Copy a checkpoint, and delete what the mirror's policy lets go.

        Raises:
            CheckpointWriteError: Another process has taken the mirror over, or another run's checkpoint is in the way.
            CorruptCheckpointError: The local files are not what its manifest says.
            OSError: The file system refused, or was not reached; also what its own library raises for that.
        """
        if self._sender is None:
            self._files, self._root = urls.opened(self._mirror.url)
            self._sender = Sender(self._files, self._mirror.max_bytes_per_second)
        self._require_own()
        mirror.put(checkpoint, self._sender, self._place(checkpoint.name), self._known(), self._require_own)
        self._manifests[checkpoint.name] = checkpoint.manifest
        mirror.point_at_latest(self._files, self._root, checkpoint.name)
        if self._ranking is not None:
            mirror.say_ranking(self._files, self._root, self._ranking)
            self._ranking = None  # said
        self._tidy(checkpoint.name)

    def close(self) -> None:
        """End the threads that send."""
        if self._sender is not None:
            self._sender.close()

    def _place(self, name: str) -> str:
        return f"{self._root}/{CHECKPOINTS}/{name}"

    def _require_own(self) -> None:
        """Put our name there if we have not yet; else see that no other has come since."""
        path = f"{self._root}/{OWNER}"
        found = urls.bytes_at(self._files, path)
        try:
            owner: dict[str, Any] = json.loads(found) if found else {}
        except ValueError:
            owner = {}
        if self._id is not None and owner.get("id") == self._id:
            return
        if self._id is not None and owner:
            raise CheckpointWriteError(
                "another process has taken this mirror over",
                where=self._mirror.url,
                received=f"process {owner.get('pid')} on {owner.get('host')}, since {owner.get('since')}",
                expected="one process that goes on with a run",
                remedy="end one of the two; what this one has committed is on its own disk",
            )
        if owner:
            logger.info(
                "process %s on %s wrote to the mirror: taken over", owner.get("pid"), owner.get("host")
            )
        own = self._id or uuid.uuid4().hex
        since = datetime.now(timezone.utc).isoformat(timespec="seconds")
        record = {"id": own, "pid": os.getpid(), "host": socket.gethostname(), "since": since}
        urls.make_directory(self._files, self._root)
        self._files.pipe_file(path, json.dumps(record).encode("ascii"))
        self._id = own

    def _known(self) -> dict[str, str]:
        """Return digest to path of the files of the newest checkpoints there."""
        if not self._manifests:
            for name in mirror.list_mirrored(self._mirror.url)[-_LOOKED_INTO:]:
                self._read_manifest(name)
        newest = list(self._manifests.items())[-_LOOKED_INTO:]
        return {
            entry.digest: f"{self._place(name)}/{file}"
            for name, manifest in newest
            for file, entry in manifest.files.items()
        }

    def _read_manifest(self, name: str) -> None:
        path = f"{self._place(name)}/{MANIFEST}"
        data = urls.bytes_at(self._files, path)
        if data is not None:
            with contextlib.suppress(CorruptCheckpointError):
                self._manifests[name] = Manifest.from_bytes(data, path)

    def _tidy(self, newest: str) -> None:
        """Delete what the policy lets go; the copy is there already, so a failure is only logged."""
        try:
            assert self._sender is not None
            self._sender.sweep(f"{self._root}/{CHECKPOINTS}")
            if self._mirror.keep is not None:
                self._retain(self._mirror.keep, newest)
        # Every storage library raises its own.
        except Exception as error:
            logger.warning("%s: what is no longer needed could not be deleted: %s", self._mirror.url, error)

    def _retain(self, policy: RetentionPolicy, newest: str) -> None:
        there = mirror.list_mirrored(self._mirror.url)
        if policy.metrics:
            for name in there:
                if name not in self._manifests:
                    self._read_manifest(name)
        records = [
            record_of(name, self._manifests[name]) if name in self._manifests else record_of_name(name)
            for name in there
        ]
        gone = superseded(there)
        keep = {*policy.keep([r for r in records if r.name not in gone]), newest, *there[-1:]}
        for name in (name for name in there if name not in keep):
            # The manifest first: what has none is no checkpoint.
            self._files.rm_file(f"{self._place(name)}/{MANIFEST}")
            self._files.rm(self._place(name), recursive=True)
            self._manifests.pop(name, None)
