"""Prove on a user's own script that a killed and resumed run equals the uninterrupted one, or say where it does not."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from paddle_warm_callbacks.checkpoint.store import Checkpoint, CheckpointStore
from paddle_warm_callbacks.errors import WarmCallbacksError
from paddle_warm_callbacks.hapi import proof

logger = logging.getLogger("paddle_warm_callbacks")


class ScriptFailedError(WarmCallbacksError):
    """The script itself failed, or does not use our callbacks; nothing can be said of its resumes."""


@dataclass(frozen=True)
class ProofResult:
    """What became of the comparison.

    Attributes:
        identical: Whether losses, metrics, parameters, optimizer and state of the killed run equal the uninterrupted
            one's.
        steps: Steps of the uninterrupted run, of all its fits.
        killed_at: How many of them were done each time the run was killed.
        first_difference: What differed first, in words; empty if nothing did.
        likely_cause: What usually causes that; empty if nothing differed.
    """

    identical: bool
    steps: int
    killed_at: tuple[int, ...]
    first_difference: str = ""
    likely_cause: str = ""

    def to_text(self) -> str:
        """Return the result in a few lines."""
        kills = f"{self.steps} steps; killed with SIGKILL after step {', '.join(map(str, self.killed_at))}, and resumed"
        if self.identical:
            return (
                f"identical to the bit: losses, metrics, evaluations, parameters, optimizer, state\n{kills}"
            )
        return f"NOT identical: {self.first_difference}\n{kills}\nusual cause: {self.likely_cause}"


def prove(
    script: Sequence[str],
    *,
    kills: int = 3,
    seed: int = 0,
    directory: str | None = None,
    timeout: float = 3600.0,
) -> ProofResult:
    """Run a training script uninterrupted, and again killed at random steps and resumed; compare bit by bit.

    The script runs unchanged, as a subprocess of this Python, with its run directories redirected to a scratch one. It
    must pass ``WarmStartCallback(run_dir=…, resume_from="latest")`` and ``PeriodicCheckpoint`` to ``fit``.

    Args:
        script: The script's path and its arguments.
        kills: How many times the second run is killed, at least 1.
        seed: Chooses the steps it is killed at.
        directory: Where to keep both runs for a closer look; None: a temporary directory that is removed.
        timeout: Seconds that one process of the script may take.

    Returns:
        The result. The script is also run twice uninterrupted: one that differs from itself cannot be resumed exactly
        by anything, and the result says so.

    Raises:
        ScriptFailedError: The script ends with an error, trains nothing that our callbacks see, or saves nothing before
            its last step.
    """
    if not Path(script[0]).is_file():
        raise ScriptFailedError(
            "there is no such script",
            where=script[0],
            received="a directory" if Path(script[0]).is_dir() else "nothing",
            expected="the path of a training script, and its arguments behind it",
            remedy=f"relative paths begin at {Path.cwd()}",
        )
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(directory or scratch)
        control, again, killed = (root / name for name in ("uninterrupted", "uninterrupted-again", "killed"))
        _run(script, control, timeout)
        steps = len(_steps(control))
        if not steps:
            raise ScriptFailedError(
                "the script trained no step that PeriodicCheckpoint saw",
                where=" ".join(script),
                expected='model.fit(…, callbacks=[WarmStartCallback(run_dir=d, resume_from="latest"), '
                "PeriodicCheckpoint(d, …)])",
            )
        _run(script, again, timeout)
        difference = _difference(control, again)
        if difference:
            return ProofResult(
                False,
                steps,
                (),
                f"two uninterrupted runs, {difference}",
                "the script differs from itself: an operator or a data source that is not deterministic, such as a "
                "dataset that draws paddle.rand beside dropout, a seed taken from the time, or a race between threads",
            )
        killed_at = _run_killed(script, killed, kills, random.Random(seed), steps, timeout)
        difference = _difference(control, killed)
        return ProofResult(not difference, steps, killed_at, difference, _cause(difference))


def _run_killed(
    script: Sequence[str], directory: Path, kills: int, chance: random.Random, steps: int, timeout: float
) -> tuple[int, ...]:
    """Run, kill and resume until the script ends by itself; return the steps it was killed after.

    A kill that leaves nothing to resume does not count: it would only show that the script can begin again.
    """
    killed_at: list[int] = []
    at_least = 1
    while len(killed_at) < kills:
        # At least one step further than last time, and never so far that the script ends by itself.
        done = len(_steps(directory)) if killed_at else 0
        kill_at = chance.randint(at_least, max(at_least, (steps - done) // 2))
        if _run(script, directory, timeout, kill_at=kill_at):
            break
        if _resumable(directory):
            killed_at.append(len(_steps(directory)))
            at_least = 1
        elif kill_at >= steps - 1:
            raise ScriptFailedError(
                "the script leaves nothing to resume",
                where=" ".join(script),
                received=f"no checkpoint when killed after step {kill_at} of {steps}",
                expected="a checkpoint before the last step",
                remedy="save more often, for example save=EveryNEpochs(1) | EveryNSteps(5), or train more epochs",
            )
        else:
            at_least = min(2 * kill_at, steps - 1)
    else:
        _run(script, directory, timeout)
    return tuple(killed_at)


def _resumable(directory: Path) -> bool:
    runs = directory / "runs"
    return runs.is_dir() and any(CheckpointStore(str(run)).latest_verified() for run in runs.iterdir())


def _run(script: Sequence[str], directory: Path, timeout: float, kill_at: int | None = None) -> bool:
    """Run the script once; return whether it ended by itself rather than by the kill."""
    directory.mkdir(parents=True, exist_ok=True)
    watch = proof.Watch(str(directory), kill_at)
    done = subprocess.run(  # noqa: S603  # the user's own script
        [sys.executable, "-m", "paddle_warm_callbacks.hapi.seeded_script", *script],
        env={**os.environ, **watch.to_environment()},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if kill_at is not None and done.returncode == -signal.SIGKILL:
        return False
    if done.returncode != 0:
        raise ScriptFailedError(
            f"the script ended with exit code {done.returncode}",
            where=" ".join(script),
            received=done.stderr[-2000:],
            remedy="make it run to its end by itself first",
        )
    return True


class _Moment(NamedTuple):
    """What was logged: in which fit of the script, a ``"step"`` or an ``"evaluation"``, and of which step or epoch."""

    fit: int
    kind: str
    number: int

    def to_text(self, several: bool) -> str:
        what = f"step {self.number}" if self.kind == "step" else f"the evaluation after epoch {self.number}"
        return f"{what} of fit {self.fit}" if several else what


def _logged(directory: Path) -> dict[_Moment, dict[str, list[str]]]:
    """Return what each step and evaluation logged, name to values in bits; of one done twice, what it did later."""
    trace = proof.trace_file(str(directory))
    if not trace.exists():
        return {}
    lines = (json.loads(line) for line in trace.read_text(encoding="utf-8").splitlines())
    return {_Moment(line["fit"], line["kind"], line["number"]): line["values"] for line in lines}


def _steps(directory: Path) -> list[_Moment]:
    return [moment for moment in _logged(directory) if moment.kind == "step"]


def _difference(one: Path, other: Path) -> str:
    """Return what differs first between two runs, in words; empty if nothing does."""
    logged, others = _logged(one), _logged(other)
    several = len({moment.fit for moment in logged}) > 1
    for moment in dict.fromkeys((*logged, *others)):
        values, other_values = logged.get(moment, {}), others.get(moment, {})
        for name in dict.fromkeys((*values, *other_values)):
            if values.get(name) != other_values.get(name):
                shown = f"{_shown(values.get(name))} against {_shown(other_values.get(name))}"
                return f"{name} of {moment.to_text(several)}: {shown}"
    for run in sorted((one / "runs").iterdir()):
        difference = _newest_differ(run, other / "runs" / run.name)
        if difference:
            return difference
    return ""


def _newest_differ(one: Path, other: Path) -> str:
    newest, others = (CheckpointStore(str(run)).latest_verified() for run in (one, other))
    if newest is None or others is None:
        return "" if newest is others else "one run left no checkpoint"
    if newest.name != others.name:
        return f"the last checkpoint is {newest.name} against {others.name}"
    tensors, other_tensors = _digests(newest), _digests(others)
    for name in sorted(tensors.keys() | other_tensors.keys()):
        if tensors.get(name) != other_tensors.get(name):
            return f"tensor {name} of {newest.name}"
    state, other_state = newest.read_state(), others.read_state()
    for key in sorted(state):
        if repr(state[key]) != repr(other_state.get(key)):
            return f"state {key!r} of {newest.name}"
    return ""


def _digests(checkpoint: Checkpoint) -> dict[str, str]:
    # By structured names: what Paddle generates differs between processes.
    return {f"{entry.file}/{entry.name}": entry.digest for entry in checkpoint.read_tensors()}


def _shown(values: list[str] | None) -> str:
    return "none" if values is None else ", ".join(f"{float.fromhex(value):.9g}" for value in values)


def _cause(difference: str) -> str:
    if not difference:
        return ""
    if difference.startswith("state"):
        return "a callback's or sampler's state that depends on when the process started"
    if difference.startswith("tensor"):
        return "an operator that is not deterministic on this device, after the last loss that was compared"
    if " of the evaluation after " in difference:
        return (
            "evaluation data that is drawn from a generator of its own, or a metric or callback that keeps something "
            "from one evaluation to the next where no checkpoint sees it"
        )
    if " of step " in difference:
        return (
            "something random that is not part of the saved state: a dataset or transform with a generator of its own "
            "(give it to the batch sampler, or seed it from the index), or a callback without state_dict"
        )
    return "a callback that ends training, or a policy that saves, by something that is not part of the saved state"
