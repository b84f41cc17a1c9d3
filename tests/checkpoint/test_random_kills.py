"""SIGKILL at random instants of a process that saves without a pause: nothing that was reported is ever lost."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from paddle_warm_callbacks.checkpoint.contents import CheckpointContents
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.checkpoint.writer import BackgroundWriter
from paddle_warm_callbacks.plan.retention import KeepBest, KeepLatest
from tests.checkpoint.samples import contents, step_in

# 2,000 in the nightly run.
KILLS = int(os.environ.get("PADDLE_WARM_KILLS", "200"))
KEEP = KeepLatest(2) | KeepBest("acc")


def _contents(step: int) -> CheckpointContents:
    made = contents(step, metrics={"acc": step % 7}, size=5000)
    return replace(made, optimizer={**made.optimizer, "frozen": np.arange(20_000)})


def _save_for_ever(run_dir: Path, layout: str, report: int) -> NoReturn:
    """Resume, then save at every step; write the step of each commit to ``report``."""
    try:
        store = CheckpointStore(run_dir, layout=layout)
        store.lock()
        latest = store.latest_verified()
        store.begin(None if latest is None else latest.name)
        step = 0 if latest is None else step_in(latest)
        writer = BackgroundWriter(
            store,
            keep=KEEP,
            on_commit=lambda event: _say(report, int(event.name[5:13])),
        )
        while True:
            step += 1
            writer.submit(_contents(step))
    finally:
        os._exit(1)


def _say(report: int, step: int) -> None:
    os.write(report, f"{step}\n".encode())


@pytest.mark.crash
@pytest.mark.timeout(KILLS)
@pytest.mark.parametrize("layout", ["native", "shards"])
def test_what_was_reported_is_there_whenever_it_dies(tmp_path: Path, layout: str) -> None:
    rng = random.Random(layout)
    reported = commits = 0
    for _ in range(KILLS // 2):
        reading, report = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _save_for_ever(tmp_path, layout, report)
        os.close(report)
        with os.fdopen(reading) as lines:
            # Some die while they start, the others in the midst of saving.
            said = [int(lines.readline())] if rng.random() < 0.8 else []
            time.sleep(rng.uniform(0, 0.04))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
            said += [int(line) for line in lines if line.endswith("\n")]  # the last may be cut off
        commits += len(said)
        reported = max([reported, *said])
        store = CheckpointStore(tmp_path, layout=layout)
        latest = store.latest_verified()
        assert latest is not None or reported == 0
        if latest is not None:
            assert step_in(latest) >= reported
        for checkpoint in store.list():
            checkpoint.verify()
    store.retain(KEEP)
    assert len(store.list()) <= 3
    assert commits > KILLS / 4, "it was saving all the time"
