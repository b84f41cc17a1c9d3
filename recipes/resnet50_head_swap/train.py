"""Teach a ResNet more classes than it knows: the head grows, the backbone thaws in stages."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np
import paddle

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddle_warm_callbacks import HeadTransplant, Stage, StagedUnfreeze, WarmLRScaler
from paddle_warm_callbacks.arguments import require_choice
from paddle_warm_callbacks.hapi.building import seed_all
from paddle_warm_callbacks.hapi.image_folder import ImageFolder, class_names
from recipes.common import command_line
from recipes.common.comparison import show
from recipes.common.config import require_counts, require_together, require_training
from recipes.common.digits import write_digits
from recipes.common.old_labels import old_labels
from recipes.common.runs import Runs, Start

ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
# A new head alone may learn at the cold rate: nothing it knows can be lost yet.
STRATEGIES = {
    "staged": [
        Stage(0, r"^fc\.", lr_factor=5.0),
        Stage(1, r"^layer4\.|^fc\."),
        Stage(2, ".*", rewarm_steps=5),
    ],
    "head": [Stage(0, r"^fc\.", lr_factor=5.0)],
    "all": [Stage(0, ".*")],
}
TARGET = 0.9
DIGITS_SIZE, DIGITS_LIMIT = 32, 60  # what two cores train a ResNet50 on in minutes
IMAGENET_SIZE = 224


@dataclass
class DataConfig:
    """Images."""

    train: Optional[str] = None
    val: Optional[str] = None
    size: Optional[int] = None
    limit: Optional[int] = None
    old_classes: int = 7


@dataclass
class ModelConfig:
    """Network."""

    arch: str = "resnet50"


@dataclass
class TrainConfig:
    """Training."""

    epochs: int = 5
    old_epochs: int = 8
    batch_size: int = 16
    seed: int = 0
    lr: float = 0.001
    warm_factor: float = 0.2
    unfreeze: str = "staged"


@dataclass
class RecipeConfig:
    """The whole recipe; see config.yaml."""

    output: str = "runs/resnet50_head_swap"
    checkpoint: Optional[str] = None
    old_labels: Optional[str] = None
    compare_cold: bool = True
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


class OldClassAccuracy(paddle.metric.Metric):  # type: ignore[misc]  # Paddle is untyped
    """Accuracy on the samples of the classes that the old model knew."""

    def __init__(self, old: list[int]) -> None:
        super().__init__()
        self._old = old
        self.reset()

    def update(self, correct: Any, counted: Any) -> float:
        self.right += float(np.sum(correct))
        self.seen += float(np.sum(counted))
        return self.accumulate()

    def compute(self, scores: Any, label: Any) -> Any:
        label = label.reshape([-1])
        counted = sum((label == number).astype("float32") for number in self._old)
        return (scores.argmax(-1) == label).astype("float32") * counted, counted

    def accumulate(self) -> float:
        return self.right / max(self.seen, 1.0)

    def reset(self) -> None:
        self.right = self.seen = 0.0

    def name(self) -> str:
        return "old_acc"


class Recipe:
    """Three runs, each in a run directory of its own, each resumed if it was interrupted, none done twice."""

    def __init__(self, config: RecipeConfig) -> None:
        self.config = config
        self.runs = Runs(Path(config.output), config)
        require_together(
            config,
            "data.train",
            "data.val",
            what="one folder of images is missing",
            expected="both, or neither for the embedded digits",
        )
        require_choice(config.model.arch, "model.arch", choices=ARCHITECTURES)
        require_counts(config, "data.size", "data.limit", "data.old_classes")
        require_training(config, STRATEGIES)
        train, val = config.data.train, config.data.val
        limit: int | None
        if train is None or val is None:
            self.folders, size, limit = write_digits(self.runs.output / "digits"), DIGITS_SIZE, DIGITS_LIMIT
        else:
            self.folders, size, limit = (Path(train), Path(val)), IMAGENET_SIZE, None
        self.size = config.data.size or size
        self.limit = config.data.limit or limit
        self.classes = class_names(self.folders[0])

    def run(self) -> None:
        """Train the old model if none is given, then the new one from it, then the cold one to compare with."""
        config, checkpoint = self.config, self.config.checkpoint
        if checkpoint is None:
            old = self.classes[: config.data.old_classes]
            print(f"\n== The old model: {len(old)} classes ({', '.join(old)}), from scratch")
            self.fit("old", old, config.train.old_epochs, old, [])
            checkpoint = str(self.runs.output / "old")
        else:
            old = old_labels(checkpoint, config.old_labels) or []
        print(f"\n== The new model: {len(self.classes)} classes, warm from {checkpoint}")
        warm = [
            WarmLRScaler(config.train.warm_factor, warmup_steps=5),
            StagedUnfreeze(STRATEGIES[config.train.unfreeze]),
        ]
        self.fit("new", self.classes, config.train.epochs, old, warm, source=checkpoint)
        columns = {"warm": self.runs.curve("new", "eval/acc")}
        if old:
            columns["warm, old classes"] = self.runs.curve("new", "eval/old_acc")
        if config.compare_cold:
            print("\n== The same from a cold start, for comparison")
            self.fit("cold", self.classes, config.train.epochs, old, [])
            columns["cold"] = self.runs.curve("cold", "eval/acc")
        show("accuracy after each epoch", columns, TARGET)
        newest = self.runs.newest("new").path
        print(f"checkpoint: {newest}  (paddle.load, or paddle.Model.load('{newest}/model'))")
        print(f"logs:       {self.runs.viewer}")

    def fit(
        self,
        part: str,
        classes: list[str],
        epochs: int,
        old: list[str],
        more: list[Any],
        source: str | None = None,
    ) -> None:
        """Train one of the runs, or what is left of it."""
        config = self.config
        seed_all(config.train.seed)
        network = getattr(paddle.vision.models, config.model.arch)(num_classes=len(classes))
        model = paddle.Model(network)
        optimizer = paddle.optimizer.AdamW(
            config.train.lr, parameters=network.parameters(), weight_decay=1e-2
        )
        known = [classes.index(name) for name in old if name in classes]
        metrics = [paddle.metric.Accuracy(), *([OldClassAccuracy(known)] if known else [])]
        model.prepare(optimizer, paddle.nn.CrossEntropyLoss(), metrics)
        train, val = (
            ImageFolder(folder, classes, self.size, limit=self.limit, augment=number == 0)
            for number, folder in enumerate(self.folders)
        )
        self.runs.fit(
            part,
            model,
            (train, val),
            epochs=epochs,
            labels=classes,
            trained_on=self.folders[0],
            start=Start(source, self._head(classes, old) if source else None),
            callbacks=more,
            batch_size=config.train.batch_size,
        )

    def _head(self, classes: list[str], old: list[str]) -> HeadTransplant | None:
        """Move rows by label where the old labels are known; a head of other classes is left as it was initialised."""
        return HeadTransplant("fc", old, classes) if old else None


def main() -> None:
    """Run the recipe with the command line's overrides."""
    command_line.run(
        RecipeConfig, Path(__file__).with_name("config.yaml"), lambda config: Recipe(config).run()
    )


if __name__ == "__main__":
    main()
