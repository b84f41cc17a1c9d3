"""Run the training script on several ranks with Paddle's own launcher, and look at what each rank has left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("training_script.py")
# A run takes about ten; a dead rank's end is noticed by the launcher after up to sixteen.
_SECONDS = 90.0


@dataclass(frozen=True)
class Run:
    """One run of the script, ended.

    Attributes:
        out: Its folder.
        name: What its files begin with.
        ranks: How many there were.
        status: The launcher's exit status, or minus the signal that killed it.
    """

    out: Path
    name: str
    ranks: int
    status: int

    def told(self, rank: int) -> dict[str, Any]:
        """Return what a rank wrote when its fit was over, by return or exception."""
        told: dict[str, Any] = json.loads((self.out / f"{self.name}.{rank}.json").read_text())
        return told

    def steps(self, rank: int) -> dict[str, str]:
        """Return a rank's recorded steps and evaluations, in bits; a step twice is an error."""
        steps: dict[str, str] = {}
        for line in (self.out / f"{self.name}.{rank}.txt").read_text(encoding="ascii").splitlines():
            kind, epoch, step, values = line.split(" ", 3)
            assert f"{kind} {epoch} {step}" not in steps
            steps[f"{kind} {epoch} {step}"] = values
        return steps

    def digests(self, rank: int) -> list[dict[str, str]]:
        """Return the digests of a rank's parameters, after each epoch."""
        lines = (self.out / f"{self.name}.{rank}.digests").read_text(encoding="ascii").splitlines()
        return [json.loads(line) for line in lines]

    def start(self, rank: int) -> dict[str, Any]:
        """Return the tensors that a rank's training started from."""
        with np.load(self.out / f"{self.name}.{rank}.start.npz") as arrays:
            return dict(arrays)

    def samples(self, rank: int) -> list[list[str]]:
        """Return what identifies each sample of each batch that a rank has trained on."""
        lines = (self.out / f"{self.name}.{rank}.samples").read_text(encoding="ascii").splitlines()
        return [json.loads(line) for line in lines]

    def final(self, rank: int) -> dict[str, Any]:
        """Return the arrays that a rank ended in."""
        with np.load(self.out / f"{self.name}.{rank}.npz") as arrays:
            return dict(arrays)

    def checkpoints(self) -> list[str]:
        """Return the names of what is committed, oldest first."""
        return sorted(path.name for path in (self.out / "run" / "checkpoints").glob("step-*"))

    def output(self) -> str:
        """Return what launchers and ranks have printed."""
        logs = [
            self.out / f"{self.name}.launcher.log",
            *sorted((self.out / f"{self.name}.logs").glob("workerlog.*")),
        ]
        return "\n".join(
            f"== {log.name}\n{log.read_text(errors='replace')[-6000:]}" for log in logs if log.exists()
        )


def launch(
    out: Path, *arguments: str, name: str = "run", ranks: int = 2, seconds: float | None = None
) -> Run:
    """Run the script on ``ranks`` ranks until launcher and ranks have all ended.

    Args:
        out: The run's folder.
        arguments: Of the script.
        name: What the run's files begin with.
        ranks: How many; 1 is without the launcher.
        seconds: Time limit for a rank to wait for another, where the default is too long for a test.
    """
    out.mkdir(parents=True, exist_ok=True)
    for file in out.glob("*.pid"):
        file.unlink()
    launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node", str(ranks), "--backend", "gloo"]
    launcher += ["--log_dir", str(out / f"{name}.logs")]
    command = [sys.executable, *(launcher if ranks > 1 else []), str(SCRIPT)]
    command += ["--out", str(out), "--name", name, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOG_minloglevel": "2"}
    if seconds is not None:
        environment["PADDLE_WARM_CALLBACKS_RANK_SECONDS"] = str(seconds)
    with (out / f"{name}.launcher.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=out, env=environment
        )
    deadline = time.monotonic() + _SECONDS
    try:
        process.wait(_SECONDS)
        while _living(out):  # ranks whose launcher was killed end by themselves
            assert time.monotonic() < deadline, (
                "ranks go on without their launcher\n" + Run(out, name, ranks, 0).output()
            )
            time.sleep(0.05)
    finally:
        for pid in [process.pid, *_living(out)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
    return Run(out, name, ranks, process.returncode)


@contextlib.contextmanager
def nodes(
    out: Path, *arguments: str, name: str, options: Sequence[Sequence[str]]
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start one launcher for each node, of one rank each, on this machine; none is left when the block is left.

    Args:
        out: The run's folder.
        arguments: Of the script.
        name: What the run's files begin with.
        options: For each node, those of its launcher.
    """
    out.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
        "GLOG_minloglevel": "2",
        "PADDLE_DISTRI_BACKEND": "gloo",
        "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",  # etcd3's generated code is older than protobuf's runtime
    }
    started = []
    try:
        for number, own in enumerate(options):
            command = [
                sys.executable,
                "-m",
                "paddle.distributed.launch",
                "--nnodes",
                "2",
                "--nproc_per_node",
                "1",
                *own,
            ]
            command += ["--log_dir", str(out / f"{name}.logs-{number}"), str(SCRIPT), "--out", str(out)]
            with (out / f"{name}.launcher-{number}.log").open("wb") as log:
                started.append(
                    subprocess.Popen(
                        [*command, "--name", name, *arguments],
                        stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=out, env=environment,
                    )
                )  # fmt: skip
        yield started
    finally:
        for pid in [*(process.pid for process in started), *_living(out)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in started:
            process.wait()


def kill_a_node(out: Path, name: str, launcher: subprocess.Popen[bytes], *, rank: int, step: int) -> None:
    """Kill the launcher and the one rank of a node, as a machine dies, once that rank has recorded so many steps."""
    record = out / f"{name}.{rank}.txt"
    deadline = time.monotonic() + _SECONDS
    while not record.exists() or record.read_bytes().count(b"\n") < step:
        if time.monotonic() > deadline:
            raise TimeoutError(f"rank {rank} has not come to step {step}")
        time.sleep(0.02)
    launcher.kill()
    os.kill(int((out / f"{rank}.pid").read_text()), signal.SIGKILL)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _living(out: Path) -> list[int]:
    """Return the processes of the ranks that have not ended; the launcher gives each a process group of its own."""
    pids = [int(file.read_text()) for file in out.glob("*.pid")]
    return [pid for pid in pids if str(out) in _command_line(pid)]


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def differences(control: Run, *interrupted: Run) -> list[str]:
    """Return, a sentence each, what interrupted runs of one command did otherwise than the control, in bits."""
    found = []
    for rank in range(control.ranks):
        expected = control.steps(rank)
        done: dict[str, str] = {}
        for run in interrupted:
            for key, values in run.steps(rank).items():
                done[key] = values
                if expected.get(key) != values:
                    found.append(f"rank {rank}, {run.name}, {key}: {values}, control {expected.get(key)}")
        found += [f"rank {rank}, {key}: never done" for key in expected if key not in done]
        one, other = interrupted[-1].final(rank), control.final(rank)
        assert set(one) == set(other)
        found += [
            f"rank {rank}, final {name}" for name in one if one[name].tobytes() != other[name].tobytes()
        ]
    return found
