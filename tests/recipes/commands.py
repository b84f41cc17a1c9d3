"""A recipe from its command line, as its user has it: run, stopped and run again, told a mistake; and what it left."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from paddle_warm_callbacks import CheckpointStore
from paddle_warm_callbacks.checkpoint.store import Checkpoint


class Command:
    """A recipe's ``train.py``.

    Args:
        script: The file.
        deadline: Seconds that one run may take, and the way to its first checkpoint.
    """

    def __init__(self, script: str, deadline: float) -> None:
        self._script = script
        self._deadline = deadline

    def run(self, *arguments: str, timeout: float | None = None) -> str:
        """Run it to its end; return what it printed."""
        with self._start(*arguments) as process:
            printed, _ = process.communicate(timeout=timeout or self._deadline)
        assert process.returncode == 0, printed
        return printed

    def stopped(self, run_dir: Path, by: signal.Signals, *arguments: str) -> str:
        """Start it, and send it a signal as soon as ``run_dir`` has a checkpoint; return what it printed."""
        deadline = time.monotonic() + self._deadline
        with self._start(*arguments) as process:
            while not list((run_dir / "checkpoints").glob("*/manifest.json")):
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(by)
            printed, _ = process.communicate(timeout=self._deadline)
        assert process.returncode == -by if by is signal.SIGKILL else process.returncode > 0, printed
        return printed

    def refused(self, *arguments: str) -> str:
        """Run it with a mistake in its arguments; return its message, which has no traceback."""
        with self._start(*arguments) as process:
            printed, _ = process.communicate(timeout=self._deadline)
        assert process.returncode == 1
        assert "Traceback" not in printed
        return printed

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, self._script, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A shell starts what it runs in the background with Ctrl-C ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


def newest(run_dir: Path) -> Checkpoint:
    checkpoint = CheckpointStore(run_dir).latest_verified()
    assert checkpoint is not None
    return checkpoint


def curve(log_dir: Path, tag: str) -> list[tuple[int, float]]:
    """Return steps and values of a tag."""
    lines = (log_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [(record["step"], record["value"]) for record in map(json.loads, lines) if record["tag"] == tag]
