"""Run a cell uninterrupted, and again killed and rerun; compare everything in bits."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tests.exact_resume.cells import Cell

ROOT = Path(__file__).resolve().parents[2]
JOB_SECONDS = 60.0
Position = tuple[int, int]


class TrainingServer:
    """Processes to train in, each a fork of one that has imported Paddle; a context manager."""

    def __enter__(self) -> TrainingServer:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.exact_resume.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        try:
            assert self._answer() == "ready"
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the server; its jobs have ended before."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it is dead already
            # Said, because closing alone may not be heard: a process forked meanwhile holds the pipe open too.
            self._process.stdin.write("[]\n")
            self._process.stdin.flush()
        self._process.stdin.close()
        self._process.wait(JOB_SECONDS)
        self._process.stdout.close()

    def run(self, *jobs: Job) -> list[int]:
        """Run the jobs side by side; return how each ended: its exit status, or minus the signal that killed it."""
        assert self._process.stdin is not None
        request = [
            {
                "module": job.module,
                "arguments": job.arguments,
                "log": str(job.log),
                "timeout": JOB_SECONDS,
            }
            for job in jobs
        ]
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        results = json.loads(self._answer())
        for job, result in zip(jobs, results):
            assert not result["timed_out"], (
                f"{job.name} was still running after {JOB_SECONDS:.0f} s\n{job.output()}"
            )
        return [result["returncode"] for result in results]

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the training server died with status {self._process.wait()}")
        return line.strip()


class FreshInterpreters:
    """The same as :class:`TrainingServer`, without any sharing: each job is a new ``python training_script.py``."""

    def run(self, *jobs: Job) -> list[int]:
        """Run the jobs one after the other; return how each ended."""
        return [self._run(job) for job in jobs]

    def _run(self, job: Job) -> int:
        script = Path(__file__).with_name("training_script.py")
        with job.log.open("ab") as log:
            return subprocess.run(
                [sys.executable, str(script), *job.arguments],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                timeout=JOB_SECONDS,
                check=False,
            ).returncode


@dataclass(frozen=True)
class Job:
    """One run of the training script.

    Attributes:
        cell: What it trains.
        out: The folder of the run; made here.
        name: Of the run: its steps go to ``<name>.txt``, what it prints to ``<name>.log``.
        added: "nothing", "ours" or "naive".
        kill: Whether it dies at the cell's moment.
        leave_out: An item of the state that it does not restore; see :mod:`tests.exact_resume.leave_out`.
        module: Which script.
    """

    cell: Cell
    out: Path
    name: str
    added: str
    kill: bool = False
    leave_out: str = ""
    module: str = "training_script"

    def __post_init__(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)

    @property
    def log(self) -> Path:
        """What the run printed."""
        return self.out / f"{self.name}.log"

    @property
    def arguments(self) -> list[str]:
        """The script's command line."""
        line = ["--cell", self.cell.to_json(), "--out", str(self.out), "--steps", f"{self.name}.txt"]
        line += ["--with", self.added, *(["--kill"] if self.kill else [])]
        return [*line, *(["--leave-out", self.leave_out] if self.leave_out else [])]

    def output(self) -> str:
        """Return what it printed, for a failure's message."""
        return self.log.read_text(errors="replace") if self.log.exists() else "(no output)"

    def steps(self) -> dict[str, str]:
        """Return what it recorded, by "train epoch step" or "eval epoch -", in order; a step twice is an error."""
        steps: dict[str, str] = {}
        path = self.out / f"{self.name}.txt"
        for line in path.read_text(encoding="ascii").splitlines() if path.exists() else ():
            kind, epoch, step, values = line.split(" ", 3)
            key = f"{kind} {epoch} {step}"
            assert key not in steps, f"{self.name} did {key} twice"
            steps[key] = values
        return steps

    def final(self) -> dict[str, Any]:
        """Return the arrays it ended in."""
        with np.load(self.out / "final.npz") as arrays:
            return dict(arrays)


@dataclass
class Comparison:
    """What an interrupted run did otherwise than the uninterrupted one; ``differences`` is empty if nothing.

    Attributes:
        resumed_at: (epoch, step) of the rerun's first training step; None if it trained no step.
        differences: One sentence each, the earliest first.
    """

    resumed_at: Position | None
    differences: list[str] = field(default_factory=list)


def run_control(runner: Any, cell: Cell, out: Path, added: str = "nothing") -> Job:
    """Train the cell uninterrupted and return the finished job."""
    job = Job(cell, out, "control", added)
    (status,) = runner.run(job)
    assert status == 0, f"the control failed with status {status}\n{job.output()}"
    return job


def run_killed(runner: Any, cell: Cell, out: Path, added: str) -> Job:
    """Train the cell up to its kill; a run that ends in any other way is an error."""
    job = Job(cell, out, "killed", added, kill=True)
    (status,) = runner.run(job)
    assert status == -signal.SIGKILL, f"the kill never happened (status {status})\n{job.output()}"
    return job


def rerun(runner: Any, killed: Job, leave_out: str = "") -> Job:
    """Run the killed job's script again in its folder, to the end."""
    job = Job(killed.cell, killed.out, "rerun", killed.added, leave_out=leave_out)
    (status,) = runner.run(job)
    assert status == 0, f"the rerun failed with status {status}\n{job.output()}"
    return job


def compare(control: Job, killed: Job, again: Job) -> Comparison:
    """Compare every recorded step and evaluation, and the final state, with the uninterrupted run's."""
    expected, before, after = control.steps(), killed.steps(), again.steps()
    trained = [key for key in after if key.startswith("train")]
    resumed_at = (int(trained[0].split()[1]), int(trained[0].split()[2])) if trained else None
    found = Comparison(resumed_at)
    for key, values in expected.items():
        for job, steps in ((killed, before), (again, after)):
            if key in steps and steps[key] != values:
                found.differences.append(f"{key}: {job.name} {steps[key]}, control {values}")
        if key not in before and key not in after:
            found.differences.append(f"{key}: never done")
    found.differences += [f"{key}: not in the control" for key in {**before, **after} if key not in expected]
    found.differences += differing_arrays(_settled(again), _settled(control))
    return found


def _settled(job: Job) -> dict[str, Any]:
    """Return the final state without what no two runs have in common.

    A thread that loads, and draws for it, reads ahead; where fit ends inside an epoch, how far it has come is chance on
    Paddle 2.6.
    """
    ends_inside = job.cell.extra == "num_iters=23" and job.cell.loading == "augmented"
    chance = ends_inside and version("paddlepaddle").startswith("2.6")
    left_out = ("next draws numpy", "next draws python") if chance else ()
    return {name: array for name, array in job.final().items() if name not in left_out}


def differing_arrays(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Return a sentence for each array that is missing, too many, or not the same in shape, dtype and bits."""
    differences = [f"final {name}: missing" for name in expected if name not in found]
    differences += [f"final {name}: not in the control" for name in found if name not in expected]
    for name in expected.keys() & found.keys():
        one, other = found[name], expected[name]
        if (one.dtype, one.shape, one.tobytes()) != (other.dtype, other.shape, other.tobytes()):
            differences.append(f"final {name}: {one.ravel()[:3]}, control {other.ravel()[:3]}")
    return differences
