"""A small training script of the kind a user has, with the choices of one cell.

The package enters it at one place, the callbacks that ``--with ours`` adds, and where a cell has stages, for those
belong to the training; all else is plain Paddle. Run again with the same arguments it resumes. ``--with naive`` is the
resume that Paddle itself offers: Model.save at each epoch's end, Model.load, and the epochs that remain.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.callbacks import EarlyStopping, LRScheduler, ReduceLROnPlateau
from paddle.io import BatchSampler, DataLoader, Dataset, IterableDataset, get_worker_info

from tests.exact_resume.cells import BATCH_SIZE, EPOCHS, TRAIN_SAMPLES, Cell
from tests.exact_resume.kills import Killer, die_in_a_write
from tests.exact_resume.leave_out import ITEMS, leave_out
from tests.exact_resume.recording import Recorder, final_state

FEATURES, CLASSES = 8, 3


def sample(index: int, augmented: bool) -> tuple[Any, Any]:
    """Return ``(features: float32 [8], label: int64 [1])``; augmentation draws from NumPy's and Python's generators."""
    rng = np.random.RandomState(index)
    label = index % CLASSES
    features = rng.normal(size=FEATURES) + label
    if augmented:
        features = features * (1 + 0.2 * np.random.normal()) + 0.1 * random.random()
    return features.astype("float32"), np.array([label], dtype="int64")


class Samples(Dataset):  # type: ignore[misc]  # Paddle is untyped
    """A map-style dataset."""

    def __init__(self, length: int, augmented: bool) -> None:
        self._length = length
        self._augmented = augmented

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return sample(index, self._augmented)


class Stream(IterableDataset):  # type: ignore[misc]  # Paddle is untyped
    """The same samples as a stream in a new random order each time, shared out among the workers."""

    def __init__(self, length: int, augmented: bool) -> None:
        self._length = length
        self._augmented = augmented

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        worker = get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        for index in np.random.permutation(range(first, self._length, stride)):
            yield sample(int(index), self._augmented)


class OwnSampler(BatchSampler):  # type: ignore[misc]  # Paddle is untyped
    """A user's batch sampler: its own generator, drawn from for each epoch and again for each batch."""

    def __init__(self, length: int, batch_size: int) -> None:
        self._length = length
        self._batch_size = batch_size
        self._rng = np.random.default_rng(5)

    def __len__(self) -> int:
        return -(-self._length // self._batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = self._rng.permutation(self._length).tolist()
        for start in range(0, self._length, self._batch_size):
            batch = order[start : start + self._batch_size]
            yield batch if self._rng.random() < 0.5 else batch[::-1]


class Beginner(nn.Layer):  # type: ignore[misc]  # Paddle is untyped
    """A layer whose state no state dict tells: a buffer that is not persistable, and a branch used at first only.

    An optimizer goes on moving the branch by momentum and decay, for hapi leaves it a gradient of zeros.
    """

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Linear(FEATURES, FEATURES)
        self.register_buffer("passes", paddle.zeros([1]), persistable=False)

    def forward(self, features: Any) -> Any:
        if self.training:
            self.passes.set_value(self.passes + 1)
        grown = features * (1 + 0.01 * self.passes)
        return grown + self.branch(features) if float(self.passes[0]) <= 5 else grown


class StepOnEvaluation(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
    """Step a ReduceOnPlateau scheduler, which Paddle's own callback cannot: it wants the metric."""

    def on_eval_end(self, logs: Any = None) -> None:
        self.model._optimizer._learning_rate.step(float(np.asarray(logs["loss"][0]).reshape(())))


class SaveEachEpoch(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
    """Save as a careful user of plain Paddle does."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.done = 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.done += 1
        self.model.save(str(self.folder / str(self.done)))


def build(cell: Cell) -> tuple[Any, list[Any], dict[str, Any]]:
    """Return the prepared model, the user's callbacks and the arguments of fit."""
    augmented = cell.loading != "plain"
    workers = 2 if "workers" in cell.loading else 0
    norm = nn.BatchNorm1D(16) if cell.layer == "batch norm" else nn.Dropout(0.4)
    network = nn.Sequential(Beginner(), nn.Linear(FEATURES, 16), norm, nn.ReLU(), nn.Linear(16, CLASSES))

    callbacks: list[Any] = []
    lr: Any = 0.05
    if cell.lr == "per step":
        lr = paddle.optimizer.lr.LinearWarmup(
            paddle.optimizer.lr.CosineAnnealingDecay(0.05, T_max=20),
            warmup_steps=5,
            start_lr=0.01,
            end_lr=0.05,
        )
    elif cell.lr == "per epoch":
        lr = paddle.optimizer.lr.ExponentialDecay(0.05, gamma=0.7)
        callbacks.append(LRScheduler(by_step=False, by_epoch=True))
    elif cell.lr == "ReduceOnPlateau":
        lr = paddle.optimizer.lr.ReduceOnPlateau(0.05, factor=0.5, patience=1, threshold=10.0)
        callbacks += [LRScheduler(by_step=False, by_epoch=False), StepOnEvaluation()]
    if cell.extra == "EarlyStopping":  # a baseline never reached: it stops at the third evaluation
        callbacks.append(
            EarlyStopping("loss", patience=3, baseline=0.0, mode="min", verbose=0, save_best_model=False)
        )
    elif cell.extra == "ReduceLROnPlateau":
        callbacks.append(
            ReduceLROnPlateau("loss", patience=1, factor=0.5, mode="min", verbose=0, min_delta=10.0)
        )

    if cell.stages != "none":
        callbacks.append(staged())

    model = paddle.Model(network)
    optimizer = getattr(paddle.optimizer, cell.optimizer)
    arguments = {"lamb_weight_decay": 0.01} if cell.optimizer == "Lamb" else {"weight_decay": 0.01}
    model.prepare(
        optimizer(learning_rate=lr, parameters=network.parameters(), **arguments),
        nn.CrossEntropyLoss(),
        paddle.metric.Accuracy(),
        amp_configs="O1" if cell.amp == "O1" else None,
    )

    evaluation = Samples(10, augmented=False)
    fit: dict[str, Any] = {
        "epochs": EPOCHS,
        "eval_freq": 2 if cell.extra == "eval_freq=2" else 1,
        "num_iters": cell.num_iters,
        "accumulate_grad_batches": cell.accumulate,
        "verbose": 0,
    }
    if cell.data == "dataset":
        fit.update(train_data=Samples(TRAIN_SAMPLES, augmented), eval_data=evaluation)
        fit.update(batch_size=BATCH_SIZE, shuffle=True, num_workers=workers)
    else:
        fit["train_data"] = _loader(cell, augmented, workers)
        fit["eval_data"] = DataLoader(evaluation, batch_size=BATCH_SIZE)
    return model, callbacks, fit


def staged() -> Any:
    """Return the callback of ours that belongs to the training itself: the head, then two layers, then everything."""
    from paddle_warm_callbacks import Stage, StagedUnfreeze

    return StagedUnfreeze(
        [
            Stage(None, "^4", from_step=0),
            Stage(None, "^[14]", from_step=5, lr_factor=0.5),
            Stage(None, ".*", from_step=12, rewarm_steps=4),
        ]
    )


def _loader(cell: Cell, augmented: bool, workers: int) -> Any:
    if cell.data == "iterable":
        stream = Stream(TRAIN_SAMPLES, augmented)
        return DataLoader(stream, batch_size=BATCH_SIZE, num_workers=workers, drop_last=True)
    samples = Samples(TRAIN_SAMPLES, augmented)
    if cell.data == "own sampler":
        return DataLoader(samples, batch_sampler=OwnSampler(TRAIN_SAMPLES, BATCH_SIZE), num_workers=workers)
    return DataLoader(samples, batch_size=BATCH_SIZE, shuffle=True, num_workers=workers)


def ours(cell: Cell, run_dir: str) -> list[Any]:
    """Return the two callbacks that make a script resume."""
    from paddle_warm_callbacks import EveryNEpochs, EveryNSteps, PeriodicCheckpoint, WarmStartCallback

    save = {
        "each step": EveryNSteps(1),
        "every 3 steps": EveryNSteps(3) | EveryNEpochs(1),
        "each epoch": EveryNEpochs(1),
    }[cell.save]
    return [WarmStartCallback(run_dir=run_dir, resume_from="latest"), PeriodicCheckpoint(run_dir, save=save)]


def naive(model: Any, fit: dict[str, Any], folder: Path) -> list[Any]:
    """Load what :class:`SaveEachEpoch` saved last, and leave fit the epochs that remain."""
    saver = SaveEachEpoch(folder)
    saver.done = len(list(folder.glob("*.pdparams")))
    if saver.done:
        model.load(str(folder / str(saver.done)))
        fit["epochs"] -= saver.done
    return [saver]


def main(arguments: list[str]) -> None:
    """Train one cell in ``--out``; write its steps as it goes and its final state when it is done."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cell", type=Cell.from_json, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", required=True, help="name of the file of steps in --out")
    parser.add_argument("--with", dest="added", choices=["nothing", "ours", "naive"], required=True)
    parser.add_argument("--kill", action="store_true", help="die at the cell's moment")
    parser.add_argument("--leave-out", choices=ITEMS, help="do not restore this item of the state")
    chosen = parser.parse_args(arguments)
    cell: Cell = chosen.cell
    out: Path = chosen.out

    random.seed(1)
    np.random.seed(2)
    paddle.seed(3)
    model, callbacks, fit = build(cell)
    added: list[Any] = []
    if chosen.added == "ours":
        added = ours(cell, str(out / "run"))
    elif chosen.added == "naive":
        added = naive(model, fit, out / "naive")
    if chosen.leave_out:
        leave_out(chosen.leave_out)
    watching: list[Any] = [Recorder(out / chosen.steps)]
    if chosen.kill and cell.kill.startswith("write"):
        die_in_a_write(cell)
    elif chosen.kill:
        watching.append(Killer(cell, out / "run"))

    model.fit(**fit, callbacks=[*callbacks, *watching, *added])

    np.savez(out / "final.npz", **final_state(model, callbacks))
    if chosen.added == "ours":
        report = added[0].report
        (out / "report.json").write_text(json.dumps({"kind": report.kind, "notes": list(report.notes)}))


if __name__ == "__main__":
    main(sys.argv[1:])
