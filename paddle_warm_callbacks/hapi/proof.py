"""The witness inside a run that ``prove`` watches: where it writes, what each step and evaluation came to, its end.

``prove`` runs a user's script several times, unchanged, in processes of its own. What differs between these runs is
told to our callbacks by one environment variable, which nobody else sets.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from paddle_warm_callbacks.checkpoint import cache, urls
from paddle_warm_callbacks.hapi.callback import FitCallback
from paddle_warm_callbacks.hapi.fit_loop import FitLoop

_Mirror = TypeVar("_Mirror")

VARIABLE = "PADDLE_WARM_CALLBACKS_PROOF"


@dataclass(frozen=True)
class Watch:
    """What a watched run is told.

    Attributes:
        directory: Run directories and the trace of this run go there, whatever the script says.
        kill_at: The process kills itself with SIGKILL once so many steps, of all its fits, are done; None never.
    """

    directory: str
    kill_at: int | None = None

    def to_environment(self) -> dict[str, str]:
        """Return the environment variable that :func:`watch` reads back."""
        return {VARIABLE: json.dumps(asdict(self))}


def watch() -> Watch | None:
    """Return what this process was told by ``prove``; None in any ordinary run."""
    told = os.environ.get(VARIABLE)
    return None if told is None else Watch(**json.loads(told))


def local_directory(given: Any, where: str) -> Path:
    """Return where a run told to write to ``given`` writes: there, or, if it is watched, to a directory of its own.

    Raises:
        InvalidArgumentError: ``given`` is no local path.
    """
    path = urls.local_directory(given, where)
    told = watch()
    if told is None:
        return path
    return Path(told.directory) / "runs" / path.resolve().relative_to("/").as_posix().replace("/", "_")


def run_place(given: Any, where: str) -> tuple[Path, str | None]:
    """Return where a run told to write to ``given`` writes, and the URL it copies its checkpoints to, or None.

    A run at a URL works in a directory of the cache, and its checkpoints are copied to the URL. A watched run copies
    nothing anywhere.

    Raises:
        InvalidArgumentError: ``given`` is neither a path nor a URL.
    """
    if isinstance(given, str) and urls.is_url(given):
        place = local_directory(cache.run_directory(given), where)
        return place, mirror_of(given)
    return local_directory(given, where), None


def mirror_of(given: _Mirror) -> _Mirror | None:
    """Return the mirror that a run told to copy to one has: none if it is watched."""
    return given if watch() is None else None


def trace_file(directory: str) -> Path:
    """Return the file of a watched run that holds a line for each step and evaluation."""
    return Path(directory) / "trace.jsonl"


class Witness(FitCallback):
    """Write down what each step and evaluation logs, in bits, and kill the process at the step it is told to."""

    order = 1000

    # Of this process.
    _steps = 0
    _fits = 0

    def __init__(self, told: Watch) -> None:
        super().__init__()
        self._told = told
        self._fit = 0

    def fit_opened(self, loop: FitLoop) -> None:
        """Number this fit: a script that is run again makes the same fits in the same order."""
        Witness._fits += 1
        self._fit = Witness._fits

    @classmethod
    def join_if_asked(cls, loop: FitLoop | None) -> None:
        """Join the fit of ``loop`` once, if this is a watched run."""
        told = watch()
        if told is not None and loop is not None:
            loop.join_once(cls(told))

    def step_ended(self, loop: FitLoop, logs: dict[str, Any]) -> None:
        """Append the step to the trace, durable against the kill that may follow."""
        self._append("step", loop.progress.global_step, logs)
        Witness._steps += 1
        if Witness._steps == self._told.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def epoch_completed(self, loop: FitLoop, logs: dict[str, Any], eval_logs: dict[str, Any] | None) -> None:
        """Append the epoch's evaluation to the trace."""
        if eval_logs is not None:
            self._append("evaluation", loop.progress.epoch, eval_logs)

    def _append(self, kind: str, number: int, logs: dict[str, Any]) -> None:
        values = {name: [float(v).hex() for v in np.ravel(value)] for name, value in logs.items()}
        line = {"fit": self._fit, "kind": kind, "number": number, "values": values}
        with trace_file(self._told.directory).open("a", encoding="utf-8") as trace:
            trace.write(json.dumps(line) + "\n")
