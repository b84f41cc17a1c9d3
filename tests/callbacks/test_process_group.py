"""A signal to the whole process group, as a batch system sends it: a committed checkpoint, and a clean exit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paddle_warm_callbacks import CheckpointStore

SCRIPT = """
import sys, time
sys.path.insert(0, {root!r})
import paddle
from paddle_warm_callbacks import EveryNEpochs, PeriodicCheckpoint, WarmStartCallback
from tests.callbacks.runs import Losses, Points, model

class Slow(Points):
    def __getitem__(self, index):
        time.sleep(0.05)
        return super().__getitem__(index)

class Saying(Losses):
    def on_train_batch_end(self, step, logs=None):
        print("step", flush=True)

checkpoints = PeriodicCheckpoint({run_dir!r}, save=EveryNEpochs(99))
loader = paddle.io.DataLoader(Slow(), batch_size=4, num_workers=2, shuffle=True)
warm = WarmStartCallback(run_dir={run_dir!r}, resume_from="latest")
model().fit(loader, epochs={epochs}, callbacks=[warm, checkpoints, Saying()], verbose=0)
print("preempted by", checkpoints.preempted_by, flush=True)
sys.exit(75 if checkpoints.preempted_by else 0)
"""


def started(run_dir: Path, epochs: int) -> subprocess.Popen[str]:
    script = SCRIPT.format(root=str(Path(__file__).parents[2]), run_dir=str(run_dir), epochs=epochs)
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_workers_outlive_it_and_the_exit_code_says_so(tmp_path: Path, number: signal.Signals) -> None:
    process = started(tmp_path, epochs=1000)
    try:
        assert process.stdout is not None
        for _ in range(4):
            assert process.stdout.readline() == "step\n"
        os.killpg(process.pid, number)
        said, _ = process.communicate(timeout=60)
        assert said.splitlines()[-1] == f"preempted by {number.name}"
        assert process.returncode == 75
        deadline = time.monotonic() + 10
        while _group_lives(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _group_lives(process.pid), "a worker is left"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    latest = CheckpointStore(str(tmp_path)).latest_verified()
    assert latest is not None
    steps = latest.progress.global_step
    assert steps >= 4
    again = started(tmp_path, epochs=latest.progress.epoch + 1)
    said, _ = again.communicate(timeout=60)
    assert again.returncode == 0
    assert said.count("step") == 3 * (latest.progress.epoch + 1) - steps


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
