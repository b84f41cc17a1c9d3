"""A small distributed training script of the kind a user has, run by ``python -m paddle.distributed.launch``.

It writes each step's loss in bits to ``<out>/<name>.<rank>.txt``, the digests of its parameters after each epoch to
``<name>.<rank>.digests``, and, when it is done, its final state. Run again with the same arguments it resumes.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import os
import random
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from paddle_warm_callbacks import (
    EveryNEpochs,
    EveryNSeconds,
    EveryNSteps,
    KeepLatest,
    PeriodicCheckpoint,
    Stage,
    StagedUnfreeze,
    WarmStartCallback,
    WarmVisualDL,
)
from paddle_warm_callbacks.checkpoint import shards
from paddle_warm_callbacks.hapi import rng
from tests.exact_resume.recording import Recorder, final_state
from tests.exact_resume.training_script import CLASSES, FEATURES, Samples

RANK = int(os.environ.get("PADDLE_TRAINER_ID", "0"))
SAVE_EVERY = 3


class Network(nn.Layer):  # type: ignore[misc]  # Paddle is untyped
    """A backbone with statistics of its own on each rank, dropout, a branch for a while, and a head."""

    def __init__(self, branch: bool, samples: Path) -> None:
        super().__init__()
        self._samples = samples
        self.backbone = nn.Linear(FEATURES, 16)
        self.norm = nn.BatchNorm1D(16)
        self.branch = nn.Linear(16, 16)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(16, CLASSES)
        self._uses_branch = branch
        self.scale: Any = None

    def forward(self, features: Any) -> Any:
        if self.training:
            seen = [float(row[0]).hex() for row in features.numpy()]
            with self._samples.open("a", encoding="ascii") as file:
                file.write(json.dumps(seen) + "\n")
        hidden = nn.functional.relu(self.norm(self.backbone(features)))
        if self._uses_branch:
            hidden = hidden + self.branch(hidden)
        scores = self.head(self.dropout(hidden))
        return scores if self.scale is None else scores * self.scale


class SlowSamples(Samples):
    """Samples that take ten milliseconds each to load."""

    def __getitem__(self, index: int) -> Any:
        time.sleep(0.01)
        return super().__getitem__(index)


class Doing(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
    """Do on one rank, after one of its steps, what the test asks for; take so long for each step."""

    def __init__(self, what: str, rank: int, step: int, pause: float, out: Path) -> None:
        super().__init__()
        self._what, self._rank, self._at, self._pause, self._out = what, rank, step, pause, out
        self.steps = 0

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        if self._what == "touch" and self._at == self.steps:
            self._touch()

    def on_train_end(self, logs: Any = None) -> None:
        if self._what == "touch at the end":
            self._touch()

    def _touch(self) -> None:
        if self._rank == RANK:
            with paddle.no_grad():  # the same values, but nobody who copies meanwhile can know
                for parameter in self.model.network.head.parameters():
                    parameter.scale_(1.0)

    def _await_commit(self) -> None:
        """Wait until the save before this step, which is made behind training, is committed: it takes every rank."""
        newest = f"step-{(self.steps - 1) // SAVE_EVERY * SAVE_EVERY:08d}*"
        deadline = time.monotonic() + 60
        while not list((self._out / "run" / "checkpoints").glob(newest)):
            assert time.monotonic() < deadline, f"no {newest}"
            time.sleep(0.01)

    def on_train_batch_end(self, step: int, logs: Any = None) -> None:
        self.steps += 1
        if self._pause:
            time.sleep(self._pause)
        if self._rank != RANK or self._at != self.steps:
            return
        if self._what == "kill":
            self._await_commit()
            os.kill(os.getpid(), signal.SIGKILL)
        elif self._what == "term":
            os.kill(os.getpid(), signal.SIGTERM)
        elif self._what == "term all":  # Paddle's launcher gives each rank a process group of its own
            for pid in (os.getppid(), *(int(file.read_text()) for file in self._out.glob("*.pid"))):
                os.kill(pid, signal.SIGTERM)
        elif self._what == "term launcher":
            os.kill(os.getppid(), signal.SIGTERM)
        elif self._what == "kill launcher":
            os.kill(os.getppid(), signal.SIGKILL)
        elif self._what == "raise":
            raise RuntimeError("a callback of this rank alone")
        elif self._what == "nudge":  # what an unsynchronised change does, on this rank alone
            weight = self.model.network.head.weight
            weight.set_value(weight + 1e-6)
        elif self._what == "hang":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif self._what == "fill disk":
            os.fsync = _full  # type: ignore[assignment]  # what a full disk does to whoever flushes to it
        elif self._what in ("kill writing", "hang writing"):  # at the next save, with half a shard written
            number = signal.SIGKILL if self._what == "kill writing" else signal.SIGSTOP
            shards._write_shard = partial(_stopped, number)


def _full(descriptor: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def _stopped(number: int, path: Path, *_: Any) -> Any:
    path.write_bytes(b"half a shard")
    os.kill(os.getpid(), number)
    time.sleep(60)  # a stop of all threads may take a moment to come to this one


class Scaled(nn.Layer):  # type: ignore[misc]
    """A loss that learns its scale."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = self.create_parameter([1], default_initializer=nn.initializer.Constant(1.0))

    def forward(self, scores: Any, labels: Any) -> Any:
        return nn.functional.cross_entropy(scores * self.scale, labels)


class Slow:
    """NumPy, whose copies take 10 ms each on every thread but the main one."""

    def copyto(self, target: Any, source: Any) -> None:
        np.copyto(target, source)
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.01)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


class Digests(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
    """Write the tensors that training starts from, and after each epoch the digests of what may be trained."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        start = self._path.with_suffix(".start.npz")
        if not start.exists():
            generators = rng.capture()
            state = final_state(self.model, [])  # which draws from all of them
            rng.restore(generators)
            np.savez(start, **{n: a for n, a in state.items() if not n.startswith("next")})

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        digests = {
            name: hashlib.sha256(parameter.numpy().tobytes()).hexdigest()[:16]
            for name, parameter in self.model.network.named_parameters()
            if not name.startswith("norm._")
        }
        with self._path.open("a", encoding="ascii") as file:
            file.write(json.dumps({"epoch": epoch, **digests}) + "\n")


def main(arguments: list[str]) -> None:
    """Train, with what the arguments ask for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default="run")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--samples", type=int, default=26)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--save", default="steps", choices=["steps", "seconds", "none", "each"])
    parser.add_argument(
        "--slow-copies", action="store_true", help="copies behind training outlast the next backward pass"
    )
    parser.add_argument("--no-hold", action="store_true", help="do not hold the optimizer back meanwhile")
    parser.add_argument(
        "--loss", default="", help="a scale that is learnt: 'of its own', or 'in the network'"
    )
    parser.add_argument("--layout", default="native")
    parser.add_argument("--stages", default="", help="patterns of stages by epoch, with ; between them")
    parser.add_argument(
        "--no-averaging", action="store_true", help="leave DataParallel's reducer as it was made"
    )
    parser.add_argument("--no-comparison", action="store_true", help="do not compare the ranks' parameters")
    parser.add_argument(
        "--frozen-first", action="store_true", help="freeze all but the head before paddle.Model"
    )
    parser.add_argument("--forget-ranks", action="store_true", help="resume every rank from rank 0's state")
    parser.add_argument("--unused", action="store_true", help="a branch that no batch uses")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--augmented", action="store_true")
    parser.add_argument("--evaluate", action="store_true")
    parser.add_argument("--slow-data", type=int, default=-1, help="the rank whose samples load slowly")
    parser.add_argument("--do", default="", help="what, on which rank, after which step: kill@1@5")
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument(
        "--no-read", action="store_true", help="ranks above 0 have another run directory, and empty"
    )
    chosen = parser.parse_args(arguments)
    out: Path = chosen.out
    out.mkdir(parents=True, exist_ok=True)

    (out / f"{RANK}.pid").write_text(str(os.getpid()))
    random.seed(1 + RANK)
    np.random.seed(2 + RANK)
    paddle.seed(3 + RANK)
    network = Network(not chosen.unused, out / f"{chosen.name}.{RANK}.samples")
    loss = Scaled() if chosen.loss == "of its own" else nn.CrossEntropyLoss()
    if chosen.loss == "in the network":
        network.scale = network.create_parameter([1], default_initializer=nn.initializer.Constant(1.0))
    if chosen.frozen_first:
        for name, parameter in network.named_parameters():
            parameter.stop_gradient = not name.startswith("head")
    model = paddle.Model(network)
    if chosen.unused and paddle.distributed.get_world_size() > 1:
        model._adapter.ddp_model.find_unused_parameters = True
        model._adapter._before = model._adapter.ddp_model._reducer
        model._adapter.ddp_model.init_reducer()
    schedule = paddle.optimizer.lr.CosineAnnealingDecay(0.05, T_max=40)
    optimizer = paddle.optimizer.AdamW(
        schedule,
        parameters=[
            *network.parameters(),
            *loss.parameters(),
        ],
        weight_decay=0.01,
    )
    model.prepare(optimizer, loss, paddle.metric.Accuracy())

    run_dir = str(out / (f"other-{RANK}" if chosen.no_read and RANK else "run"))
    save = {
        "steps": EveryNSteps(SAVE_EVERY) | EveryNEpochs(1),
        "each": EveryNSteps(1),
        "seconds": EveryNSeconds(0.3),
        "none": EveryNEpochs(1000),
    }[chosen.save]
    checkpoints = PeriodicCheckpoint(
        run_dir, save=save, keep=KeepLatest(99 if chosen.save == "each" else 3), layout=chosen.layout
    )
    start = WarmStartCallback(run_dir=run_dir, resume_from="latest")
    board = WarmVisualDL(out / "vdl", log_freq=1, rank_throughput=chosen.slow_data >= 0)
    callbacks: list[Any] = [start, checkpoints, board]
    if chosen.stages:
        patterns = chosen.stages.split(";")
        callbacks.append(StagedUnfreeze([Stage(epoch, pattern) for epoch, pattern in enumerate(patterns)]))
    if chosen.no_averaging:
        from paddle_warm_callbacks.hapi import data_parallel

        data_parallel.GradientAveraging.follow = lambda self: None  # type: ignore[method-assign]
    if chosen.forget_ranks:
        from paddle_warm_callbacks.hapi import rank_state

        rank_state.RANKS = "no such entry"
    if chosen.slow_copies:
        from paddle_warm_callbacks.hapi import staging

        vars(staging)["np"] = Slow()
    if chosen.no_hold:
        from paddle_warm_callbacks.hapi.hold_back import HoldBack

        HoldBack.wait = lambda self: None  # type: ignore[method-assign]
    if chosen.no_comparison:
        from paddle_warm_callbacks.hapi import same_weights

        same_weights.require = lambda ranks, trained, when: None
        same_weights.Comparison.require = lambda *given, **options: None  # type: ignore[method-assign]
    what, rank, step = chosen.do.split("@") if chosen.do else ("", "-1", "-1")
    doing = Doing(what, int(rank), int(step), chosen.pause, out)
    digests = Digests(out / f"{chosen.name}.{RANK}.digests")
    recorder = Recorder(out / f"{chosen.name}.{RANK}.txt")

    problem = ""
    try:
        model.fit(
            (SlowSamples if chosen.slow_data == RANK else Samples)(chosen.samples, chosen.augmented),
            Samples(10, augmented=False) if chosen.evaluate else None,
            batch_size=chosen.batch,
            epochs=chosen.epochs,
            shuffle=True,
            num_workers=chosen.workers,
            verbose=0,
            callbacks=[recorder, doing, digests, *callbacks],
        )
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
        raise
    finally:
        progress = {
            "problem": problem,
            "preempted_by": checkpoints.preempted_by,
            "events": [event.name for event in checkpoints.events],
            "report": None if start.report is None else start.report.to_json(),
            "steps": doing.steps,
        }
        (out / f"{chosen.name}.{RANK}.json").write_text(json.dumps(progress))
    np.savez(out / f"{chosen.name}.{RANK}.npz", **final_state(model, []))


if __name__ == "__main__":
    main(sys.argv[1:])
