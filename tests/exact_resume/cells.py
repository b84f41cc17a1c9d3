"""The cells of the exact-resume matrix: what a training script may use, and when it is killed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.exact_resume.pairwise import all_pairs

EPOCHS = 4
BATCH_SIZE = 4
TRAIN_SAMPLES = 26  # six batches of four and one of two

FACTORS: Mapping[str, Sequence[Any]] = {
    "optimizer": ("SGD", "Momentum", "Adam", "AdamW", "Lamb"),
    "lr": ("float", "per step", "per epoch", "ReduceOnPlateau"),
    "data": ("dataset", "loader", "own sampler", "iterable"),
    "loading": ("plain", "augmented", "augmented in 2 workers"),
    "layer": ("dropout", "batch norm"),
    "accumulate": (1, 3),
    "amp": ("off", "O1"),
    "extra": ("EarlyStopping", "ReduceLROnPlateau", "num_iters=23", "eval_freq=2"),
    "stages": ("none", "three, by step"),
    "save": ("each step", "every 3 steps", "each epoch"),
    "kill": ("after the first step", "mid-epoch", "last step", "epoch end", "evaluation", "write"),
}

FORBIDDEN: Sequence[Mapping[str, Any]] = (
    {"data": "iterable", "accumulate": 3},  # Model.fit refuses it: it needs the number of steps
    # The ReduceLROnPlateau callback warns and does nothing beside a scheduler.
    *({"extra": "ReduceLROnPlateau", "lr": lr} for lr in FACTORS["lr"] if lr != "float"),
)


@dataclass(frozen=True)
class Cell:
    """One training script, and the moment it is killed at. The fields' values are those of ``FACTORS``."""

    optimizer: str = "Adam"
    lr: str = "float"
    data: str = "dataset"
    loading: str = "plain"
    layer: str = "dropout"
    accumulate: int = 1
    amp: str = "off"
    extra: str = "eval_freq=2"
    stages: str = "none"
    save: str = "every 3 steps"
    kill: str = "mid-epoch"

    @property
    def steps_per_epoch(self) -> int:
        """Training steps of one epoch; the iterable drops the odd batch."""
        return TRAIN_SAMPLES // BATCH_SIZE + (self.data != "iterable")

    @property
    def num_iters(self) -> int | None:
        """Argument of fit. It counts the batches of evaluations too: 23 end inside the third epoch."""
        name, _, number = self.extra.partition("=")
        return int(number) if name == "num_iters" else None

    @property
    def name(self) -> str:
        """A test id: the values alone, in the order of the fields."""
        return ", ".join(str(value) for value in asdict(self).values())

    def to_json(self) -> str:
        """Return text that :meth:`from_json` reads back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Cell:
        """Build from :meth:`to_json`'s text."""
        return cls(**json.loads(text))


MATRIX = tuple(Cell(**row) for row in all_pairs(FACTORS, FORBIDDEN))

# Run by default and on every Paddle: each kill, each kind of data, each optimizer, and what was hardest to get right.
CORE = (
    Cell(
        kill="after the first step",
        save="each step",
        lr="per step",
        extra="EarlyStopping",
        stages="three, by step",
    ),
    Cell(kill="mid-epoch", data="loader", loading="augmented", lr="per epoch", extra="num_iters=23"),
    Cell(kill="mid-epoch", loading="augmented in 2 workers", optimizer="Momentum", lr="per step", amp="O1"),
    Cell(
        kill="mid-epoch",
        data="iterable",
        optimizer="AdamW",
        layer="batch norm",
        extra="ReduceLROnPlateau",
        stages="three, by step",
    ),
    Cell(kill="last step", data="own sampler", optimizer="Lamb", accumulate=3, layer="batch norm"),
    Cell(
        kill="epoch end",
        save="each step",
        lr="ReduceOnPlateau",
        extra="EarlyStopping",
        data="loader",
        stages="three, by step",
    ),
    Cell(kill="evaluation", save="each epoch", optimizer="SGD", lr="per step", extra="EarlyStopping"),
    Cell(kill="write", save="each step", data="own sampler", loading="augmented", lr="per epoch"),
)
