"""Training scripts that try a resume: each draws, counts or iterates where a simpler one does not.

Each is what a user may well have. The package enters at one place, :class:`Fit`; all else is plain Paddle. Run again
with the same arguments a script resumes.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np
import paddle
from paddle import nn
from paddle.io import BatchSampler, DataLoader, DistributedBatchSampler, Subset

from tests.exact_resume.cells import BATCH_SIZE, EPOCHS, TRAIN_SAMPLES, Cell
from tests.exact_resume.kills import Killer
from tests.exact_resume.recording import Recorder, final_state
from tests.exact_resume.training_script import CLASSES, FEATURES, Samples, Stream, ours, sample


@dataclass
class Fit:
    """``Model.fit`` as a script calls it, recorded, with ours among its callbacks, or killed, as the run is to be.

    Attributes:
        cell: When it is killed, and when it saves.
        out: The folder of the run.
        steps: What each step was goes there.
        added: "nothing" or "ours".
        kill: Which of a script's calls dies, from 1; 0: none.
        done: The calls so far.
        callbacks: Of the last call, the user's.
    """

    cell: Cell
    out: Path
    steps: Path
    added: str
    kill: int
    done: int = 0
    callbacks: tuple[Any, ...] = ()

    def __call__(self, model: Any, train: Any, *callbacks: Any, epochs: int = EPOCHS, **options: Any) -> Any:
        """Fit, and return the model."""
        self.done += 1
        run_dir = self.out / f"run {self.done}"
        watching: list[Any] = [Recorder(self.steps, first_epoch=100 * (self.done - 1))]
        if self.kill == self.done:
            watching.append(Killer(self.cell, run_dir))
        if self.added == "ours":
            watching += ours(self.cell, str(run_dir))
        self.callbacks = callbacks
        model.fit(train, epochs=epochs, verbose=0, callbacks=[*callbacks, *watching], **options)
        return model


@dataclass(frozen=True)
class Script:
    """A script, and how it is tried.

    Attributes:
        run: Builds what it needs, fits, and returns the model.
        kills: Moments, those of ``FACTORS``, in its last fit.
        fits: How many it has.
        data: "iterable" where an epoch lacks the odd batch.
        like_without_ours: Whether, uninterrupted, it does what it does without our callbacks.
        slow: Whether it is tried at night only.
    """

    run: Callable[[Fit], Any]
    kills: Sequence[str] = ("mid-epoch", "last step", "evaluation")
    fits: int = 1
    data: str = "loader"
    like_without_ours: bool = True
    slow: bool = False


SCRIPTS: dict[str, Script] = {}


def script(name: str, **how: Any) -> Callable[[Callable[[Fit], Any]], Callable[[Fit], Any]]:
    """Add the decorated function to the scripts under a name."""

    def add(run: Callable[[Fit], Any]) -> Callable[[Fit], Any]:
        assert name not in SCRIPTS
        SCRIPTS[name] = Script(run, **how)
        return run

    return add


class Dropping(nn.Layer):  # type: ignore[misc]  # Paddle is untyped
    """A network whose dropout draws from NumPy's generator, where ``from_numpy`` says so, or else from Paddle's."""

    def __init__(self, *, from_numpy: bool = False) -> None:
        super().__init__()
        self.body, self.drop, self.fc = nn.Linear(FEATURES, 12), nn.Dropout(0.3), nn.Linear(12, CLASSES)
        self.from_numpy = from_numpy

    def forward(self, features: Any) -> Any:
        hidden = nn.functional.relu(self.body(features))
        if not self.from_numpy:
            return self.fc(self.drop(hidden))
        return self.fc(hidden * (np.random.random() + random.random()) if self.training else hidden)


def model(network: Any = None) -> Any:
    """Return a prepared model."""
    network = Dropping() if network is None else network
    made = paddle.Model(network)
    made.prepare(
        paddle.optimizer.Adam(0.05, parameters=network.parameters()),
        nn.CrossEntropyLoss(),
        paddle.metric.Accuracy(),
    )
    return made


def loader(augmented: bool = True, workers: int = 2, samples: int = TRAIN_SAMPLES, **options: Any) -> Any:
    """Return a shuffled loader."""
    data = Samples(samples, augmented)
    return DataLoader(data, batch_size=BATCH_SIZE, shuffle=True, num_workers=workers, **options)


def persistent(augmented: bool = True, samples: int = TRAIN_SAMPLES, **options: Any) -> Any:
    """Return one that keeps its workers."""
    return loader(augmented, samples=samples, persistent_workers=True, **options)


# -- evaluations ---------------------------------------------------------------------------------------------------


@script("evaluation in workers that persist")
def _(fit: Fit) -> Any:
    return fit(model(), persistent(), eval_data=persistent(samples=10))


@script("the same, training in none", slow=True)
def _(fit: Fit) -> Any:
    return fit(model(), loader(workers=0), eval_data=persistent(samples=10))


@script("evaluation of a stream in a worker that persists", slow=True)
def _(fit: Fit) -> Any:
    # One, for with two Paddle itself hangs by chance: it counts a stream's end as a batch that is still to come.
    stream = DataLoader(Stream(10, True), batch_size=BATCH_SIZE, num_workers=1, persistent_workers=True)
    return fit(model(), loader(), eval_data=stream)


@script("evaluation on the train loader, whose workers persist")
def _(fit: Fit) -> Any:
    data = persistent()
    return fit(model(), data, eval_data=data)


class Evaluates(paddle.callbacks.Callback):  # type: ignore[misc]
    """Evaluate on a loader at each epoch's end; the evaluation has the same callbacks, so not within itself."""

    def __init__(self, on: Any) -> None:
        super().__init__()
        self.on = on

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.evaluate(self.on, verbose=0)


@script("a callback evaluates on the train loader, whose workers persist", kills=["mid-epoch", "last step"])
def _(fit: Fit) -> Any:
    data = persistent()
    return fit(model(), data, Evaluates(data))


@script("a callback evaluates on the evaluation's loader, whose workers persist", slow=True)
def _(fit: Fit) -> Any:
    data = persistent(samples=10)
    return fit(model(), persistent(), Evaluates(data), eval_data=data)


class TwoOfThree(BatchSampler):  # type: ignore[misc]
    """Two batches of three each time, chosen by a generator of its own."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(4)
        self.batch_size = BATCH_SIZE

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[list[int]]:
        yield from self.rng.permutation(3 * BATCH_SIZE).reshape(3, -1)[:2].tolist()


@script("evaluation on a part that the sampler's own generator chooses")
def _(fit: Fit) -> Any:
    part = DataLoader(Samples(3 * BATCH_SIZE, False), batch_sampler=TwoOfThree())
    return fit(model(), loader(workers=0), eval_data=part)


@script("evaluation in an order that a distributed sampler counts epochs for", slow=True)
def _(fit: Fit) -> Any:
    data = Samples(10, False)
    sampler = DistributedBatchSampler(data, 3, num_replicas=1, rank=0, shuffle=True)
    return fit(model(), loader(workers=0), eval_data=DataLoader(data, batch_sampler=sampler))


# -- draws where others do not draw --------------------------------------------------------------------------------


class Draws(paddle.callbacks.Callback):  # type: ignore[misc]
    """Draw from every generator at every event."""

    def draw(self, *_: Any) -> None:
        self.drawn = np.random.random() + random.random() + float(paddle.rand([1]))

    on_train_begin = on_epoch_begin = on_train_batch_begin = on_train_batch_end = draw
    on_epoch_end = on_eval_begin = on_eval_batch_end = on_eval_end = draw


@script("a callback draws at every event")
def _(fit: Fit) -> Any:
    return fit(model(), loader(False, workers=0), Draws(), eval_data=loader(False, workers=0, samples=10))


@script("the same, beside augmentation in workers", slow=True)
def _(fit: Fit) -> Any:
    return fit(model(), loader(), Draws(), eval_data=loader(samples=10))


@script("the same, and workers persist", slow=True)
def _(fit: Fit) -> Any:
    return fit(model(), persistent(), Draws(), eval_data=persistent(samples=10))


@script("the same, beside a stream in workers", data="iterable")
def _(fit: Fit) -> Any:
    stream = DataLoader(Stream(TRAIN_SAMPLES, True), batch_size=BATCH_SIZE, num_workers=2, drop_last=True)
    return fit(model(), stream, Draws(), eval_data=loader(False, workers=0, samples=10))


class Seeds(paddle.callbacks.Callback):  # type: ignore[misc]
    """Seed every generator with each epoch's number, as a recipe for reproducible runs has it."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        np.random.seed(epoch)
        random.seed(epoch)
        paddle.seed(epoch)


@script("a callback seeds each epoch", slow=True)
def _(fit: Fit) -> Any:
    return fit(model(), loader(), Seeds(), eval_data=loader(samples=10))


def seed_worker(number: int) -> None:
    np.random.seed(42 + number)
    random.seed(7 + number)


@script("worker_init_fn seeds each worker", slow=True, kills=["mid-epoch", "last step"])
def _(fit: Fit) -> Any:
    return fit(model(), persistent(worker_init_fn=seed_worker))


def mixed(samples: list[Any]) -> list[Any]:
    """Mix each sample with another."""
    features, labels = (np.stack(part) for part in zip(*samples))
    share, others = np.random.beta(1, 1), np.random.permutation(len(features))
    return [(share * features + (1 - share) * features[others]).astype("float32"), labels]


@script("collate_fn mixes samples, in workers that persist", kills=["mid-epoch", "last step"])
def _(fit: Fit) -> Any:
    return fit(model(), persistent(collate_fn=mixed))


class DrawsEachBatch(BatchSampler):  # type: ignore[misc]
    """Batches drawn one by one from NumPy's global generator."""

    def __init__(self) -> None:
        self.batch_size = BATCH_SIZE

    def __len__(self) -> int:
        return 7

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(len(self)):
            yield np.random.randint(0, TRAIN_SAMPLES, BATCH_SIZE).tolist()


@script(
    "network and sampler draw from one generator, beside workers", slow=True, kills=["mid-epoch", "last step"]
)
def _(fit: Fit) -> Any:
    data = DataLoader(Samples(TRAIN_SAMPLES, True), batch_sampler=DrawsEachBatch(), num_workers=2)
    return fit(model(Dropping(from_numpy=True)), data)


class Made:
    """A loader of the user's: batches made as they are asked for."""

    def __len__(self) -> int:
        return 7

    def __iter__(self) -> Iterator[Any]:
        for _ in range(len(self)):
            made = [sample(int(index), True) for index in np.random.randint(0, TRAIN_SAMPLES, BATCH_SIZE)]
            yield [paddle.to_tensor(np.stack(part)) for part in zip(*made)]


@script("batches that are made when asked for, and a network that draws", kills=["mid-epoch", "last step"])
def _(fit: Fit) -> Any:
    return fit(model(Dropping(from_numpy=True)), Made())


# -- iteration that is not the loader's own, or not the first --------------------------------------------------------


class Dimming(DataLoader):  # type: ignore[misc]
    """A loader that does something with each batch, as a subclass does for mixing or for moving to a device."""

    def __iter__(self) -> Iterator[Any]:
        for features, labels in super().__iter__():
            yield features * float(np.random.uniform(0.5, 1)), labels


@script("a loader's subclass iterates by itself", kills=["mid-epoch", "last step"])
def _(fit: Fit) -> Any:
    return fit(
        model(), Dimming(Samples(TRAIN_SAMPLES, True), batch_size=BATCH_SIZE, shuffle=True, num_workers=2)
    )


@script("a loader's subclass, and workers persist", kills=["mid-epoch", "last step"])
def _(fit: Fit) -> Any:
    data = Samples(TRAIN_SAMPLES, True)
    return fit(
        model(),
        Dimming(data, batch_size=BATCH_SIZE, shuffle=True, num_workers=2, persistent_workers=True),
    )


class Both:
    """A loader of the user's around two of Paddle's, as training on labelled and other samples has it."""

    def __init__(self, *loaders: Any) -> None:
        self.loaders = loaders

    def __len__(self) -> int:
        return len(self.loaders[0])

    def __iter__(self) -> Iterator[Any]:
        for (features, labels), (others, _) in zip(*self.loaders):
            yield features + 0.1 * others.mean(0) * float(np.random.random()), labels


@script("two loaders within one of the user's, and workers persist", kills=["mid-epoch", "last step"])
def _(fit: Fit) -> Any:
    data = Samples(TRAIN_SAMPLES, False)
    sampler = DistributedBatchSampler(data, BATCH_SIZE, num_replicas=1, rank=0, shuffle=True)
    return fit(model(), Both(persistent(), DataLoader(data, batch_sampler=sampler)))


@script("a stream in a worker that persists", data="iterable")
def _(fit: Fit) -> Any:
    stream = DataLoader(
        Stream(TRAIN_SAMPLES, True),
        batch_size=BATCH_SIZE,
        num_workers=1,
        drop_last=True,
        persistent_workers=True,
    )
    return fit(model(), stream, eval_data=loader(False, workers=0, samples=10))


@script(
    "a batch is looked at before fit, and workers persist",
    kills=["mid-epoch", "last step"],
    like_without_ours=False,
)
def _(fit: Fit) -> Any:
    data = persistent()
    next(iter(data))
    return fit(model(), data)


@script("two fits on loaders whose workers persist", fits=2)
def _(fit: Fit) -> Any:
    train, evaluation, made = persistent(), persistent(samples=10), model()
    fit(made, train, eval_data=evaluation, epochs=2)
    return fit(made, train, eval_data=evaluation)


@script(
    "the folds of a cross-validation",
    slow=True,
    fits=3,
    kills=["after the first step", "mid-epoch", "evaluation"],
)
def _(fit: Fit) -> Any:
    folds = np.random.permutation(39).reshape(3, -1)
    for held_out in range(3):
        data = Samples(39, True)
        rest = np.concatenate([fold for number, fold in enumerate(folds) if number != held_out])
        made = fit(
            model(),
            Subset(data, rest.tolist()),
            eval_data=Subset(data, folds[held_out].tolist()),
            batch_size=BATCH_SIZE,
            epochs=2,
        )
    return made


def main(arguments: list[str]) -> None:
    """Run one script in ``--out``; write its steps as it goes and its final state when it is done."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--script", choices=SCRIPTS, required=True)
    parser.add_argument("--cell", type=Cell.from_json, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", required=True, help="name of the file of steps in --out")
    parser.add_argument("--with", dest="added", choices=["nothing", "ours"], required=True)
    parser.add_argument("--kill", action="store_true", help="die at the cell's moment, in the last fit")
    chosen = parser.parse_args(arguments)
    random.seed(1)
    np.random.seed(2)
    paddle.seed(3)
    chosen_script = SCRIPTS[chosen.script]
    fit = Fit(
        chosen.cell,
        chosen.out,
        chosen.out / chosen.steps,
        chosen.added,
        chosen_script.fits if chosen.kill else 0,
    )
    made = chosen_script.run(fit)
    np.savez(chosen.out / "final.npz", **final_state(made, list(fit.callbacks)))


if __name__ == "__main__":
    main(sys.argv[1:])
