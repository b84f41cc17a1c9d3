"""SIGKILL at a chosen moment of a training run."""

from __future__ import annotations

import os
import signal
import time
import zlib
from pathlib import Path
from typing import Any, NoReturn

import paddle

from tests.exact_resume.cells import Cell


def die() -> NoReturn:
    """End this process as a power cut would: no handler, no ``finally``, no flush."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


class Killer(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
    """Kill the process in the second epoch (or evaluation, or after the very first step), as the cell says."""

    def __init__(self, cell: Cell, run_dir: Path) -> None:
        super().__init__()
        self._cell = cell
        self._run_dir = run_dir
        self._epoch = 0
        self._evaluations = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        self._die_if("after the first step", self._epoch == 0 and step == 1)

    def on_train_batch_end(self, step: int, logs: Any = None) -> None:
        self._die_if("mid-epoch", self._epoch == 1 and step == 3)
        self._die_if("last step", self._epoch == 1 and step == self._cell.steps_per_epoch - 1)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._die_if("epoch end", epoch == 1)

    def on_eval_begin(self, logs: Any = None) -> None:
        self._evaluations += 1

    def on_eval_batch_begin(self, step: int, logs: Any = None) -> None:
        self._die_if("evaluation", self._evaluations == 2 and step == 1)

    def _die_if(self, kill: str, now: bool) -> None:
        if now and kill == self._cell.kill:
            _wait_for_writes(self._run_dir / "checkpoints")
            die()


def die_in_a_write(cell: Cell) -> None:
    """Kill the process at the fsync that the cell names ("write 12"), or at one of its own among the early ones."""
    number = cell.kill.partition(" ")[2]
    die_at_fsync(int(number) if number else 8 + zlib.crc32(cell.to_json().encode()) % 8)


def die_at_fsync(number: int) -> None:
    """Kill the process when it calls ``os.fsync`` for the ``number``-th time, from 1, before anything is synced."""
    fsync, calls = os.fsync, 0

    def counting(descriptor: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            die()
        fsync(descriptor)

    os.fsync = counting  # type: ignore[assignment]  # a stand-in takes what its callers pass


def _wait_for_writes(checkpoints: Path) -> None:
    """Return once nothing in the folder has changed for a moment: each kill finds the same checkpoints."""
    seen: list[str] = []
    unchanged_since = time.monotonic()
    deadline = unchanged_since + 20
    while time.monotonic() < min(deadline, unchanged_since + 0.15) or any(
        ".staging" in name for name in seen
    ):
        if time.monotonic() > deadline:
            raise TimeoutError(f"still being written after 20 s: {seen}")
        now = sorted(path.name for path in checkpoints.glob("*"))
        if now != seen:
            seen, unchanged_since = now, time.monotonic()
        time.sleep(0.01)
