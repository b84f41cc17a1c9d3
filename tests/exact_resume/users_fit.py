"""What the users' scripts share: a fit that is recorded, resumed and killed as a run is to be; a model; loaders."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np
import paddle
from paddle import nn
from paddle.io import DataLoader

from tests.exact_resume.cells import BATCH_SIZE, EPOCHS, TRAIN_SAMPLES, Cell
from tests.exact_resume.kills import Killer
from tests.exact_resume.recording import Recorder
from tests.exact_resume.training_script import CLASSES, FEATURES, Samples, ours


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
