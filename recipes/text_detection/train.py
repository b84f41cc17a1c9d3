"""Teach a DB text detector another kind of page: it starts from what it knows, and the backbone thaws in stages."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import paddle

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddle_warm_callbacks import InvalidArgumentError, Stage, StagedUnfreeze, WarmLRScaler
from paddle_warm_callbacks.arguments import require_choice
from paddle_warm_callbacks.hapi.building import seed_all
from recipes.common import command_line
from recipes.common.comparison import show
from recipes.common.config import require_counts, require_together, require_training
from recipes.common.fitting import EvaluationAtStart, SparseProgress
from recipes.common.inference import write_inference
from recipes.common.runs import Runs, Start
from recipes.text_detection import drawing
from recipes.text_detection.boxes import Hmean
from recipes.text_detection.detectors import DETECTORS, detector
from recipes.text_detection.drawing import DOCUMENTS, LABELS, write_pages
from recipes.text_detection.export import inference_settings
from recipes.text_detection.loss import ProbabilityMapLoss
from recipes.text_detection.text_pages import TextPages

STRATEGIES = {
    "staged": [Stage(0, r"^head\."), Stage(1, ".*", rewarm_steps=10)],
    "head": [Stage(0, r"^head\.")],
    "all": [Stage(0, ".*")],
}
DRAWN = {
    "old_train": (DOCUMENTS, 96),
    "old_val": (DOCUMENTS, 24),
    "train": (LABELS, 48),
    "val": (LABELS, 24),
}
SIZE = 640  # of a user's pages
MULTIPLE = 32  # what the network's shrinking needs of height and width
TARGET = 0.9
WARMUP_SHARE = 0.1


@dataclass
class DataConfig:
    """Pages."""

    train: Optional[str] = None
    val: Optional[str] = None
    root: Optional[str] = None
    size: Optional[int] = None
    limit: Optional[int] = None


@dataclass
class ModelConfig:
    """Network."""

    arch: str = "PP-OCRv6_small_det"


@dataclass
class TrainConfig:
    """Training."""

    epochs: int = 6
    old_epochs: int = 10
    batch_size: int = 4
    seed: int = 0
    lr: float = 0.003
    warm_factor: float = 0.5
    unfreeze: str = "staged"


@dataclass
class RecipeConfig:
    """The whole recipe; see config.yaml."""

    output: str = "runs/text_detection"
    checkpoint: Optional[str] = None
    compare_cold: bool = True
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


class Recipe:
    """Up to three runs, each in a run directory of its own, each resumed if it was interrupted, none done twice."""

    def __init__(self, config: RecipeConfig) -> None:
        self.config = config
        self.output = Path(config.output)
        self.runs = Runs(self.output, config)
        self._check(config)
        data = config.data
        self.root = None if data.root is None else Path(data.root)
        self.old_set: tuple[Path, Path] | None = None
        if data.train is not None and data.val is not None:
            self.new_set = Path(data.train), Path(data.val)
            self.size = data.size or SIZE
        else:
            files = write_pages(self.output / "pages", DRAWN)
            self.old_set = files["old_train"], files["old_val"]
            self.new_set = files["train"], files["val"]
            self.size = data.size or drawing.SIZE

    def run(self) -> None:
        """Train the old model if none is given, then the new one from it, then a cold one; export the new one."""
        config, checkpoint = self.config, self.config.checkpoint
        if checkpoint is None and self.old_set is not None:
            print("\n== The old model, from scratch: documents")
            checkpoint = str(self.fit("old", self.old_set, config.train.old_epochs))
        arms = {}
        if checkpoint is not None:
            print(f"\n== The new model, warm from {checkpoint}")
            arms["warm"] = self.fit("new", self.new_set, config.train.epochs, checkpoint)
        if config.compare_cold or checkpoint is None:
            print("\n== The same from a cold start" + (", for comparison" if arms else ""))
            arms["cold"] = self.fit("cold", self.new_set, config.train.epochs)
        curves = {arm: self.runs.curve(run_dir.name, "eval/hmean") for arm, run_dir in arms.items()}
        starts = {arm: self.runs.curve(run_dir.name, "start/hmean")[0] for arm, run_dir in arms.items()}
        show("texts found (hmean at half overlap), after each epoch", curves, TARGET, starts)
        arch = config.model.arch
        newest = self.runs.newest("new" if checkpoint is not None else "cold")
        write_inference(
            newest, detector(arch), self.output / "inference", inference_settings(arch, self.size)
        )
        print(f"checkpoint: {newest.path}")
        print(
            f"inference:  {self.output / 'inference'}  (model_dir of PaddleOCR's and PaddleX's TextDetection)"
        )
        print(f"logs:       {self.runs.viewer}")

    def fit(self, part: str, files: tuple[Path, Path], epochs: int, source: str | None = None) -> Path:
        """Train one of the runs, or what is left of it; return its run directory."""
        config = self.config
        seed_all(config.train.seed)
        train = TextPages(files[0], self.size, root=self.root, limit=config.data.limit, augment=True)
        val = TextPages(files[1], self.size, root=self.root)
        model = paddle.Model(detector(config.model.arch))
        steps = epochs * -(-len(train) // config.train.batch_size)
        warmup = max(1, int(WARMUP_SHARE * steps))
        cosine = paddle.optimizer.lr.CosineAnnealingDecay(config.train.lr, max(1, steps - warmup))
        rate = paddle.optimizer.lr.LinearWarmup(cosine, warmup, 0.0, config.train.lr)
        optimizer = paddle.optimizer.AdamW(rate, parameters=model.parameters(), weight_decay=1e-2)
        model.prepare(optimizer, ProbabilityMapLoss(), Hmean(val))
        warm: list[Any] = []
        if source is not None:
            warm = [
                WarmLRScaler(config.train.warm_factor),
                StagedUnfreeze(STRATEGIES[config.train.unfreeze]),
            ]
        return self.runs.fit(
            part,
            model,
            (train, val),
            epochs=epochs,
            labels=[],
            trained_on=files[0],
            # PaddleX writes its safetensors as torch would.
            start=Start(source, convert="torch" if str(source).endswith(".safetensors") else None),
            callbacks=[SparseProgress(), *warm, EvaluationAtStart(val)],
            batch_size=config.train.batch_size,
            best="hmean",
        )

    @staticmethod
    def _check(config: RecipeConfig) -> None:
        require_together(
            config,
            "data.train",
            "data.val",
            what="one label file is missing",
            expected="both, or neither for the drawn pages",
        )
        require_choice(config.model.arch, "model.arch", choices=tuple(DETECTORS))
        require_counts(config, "data.size", "data.limit")
        require_training(config, STRATEGIES)
        if config.data.size is not None and config.data.size % MULTIPLE:
            raise InvalidArgumentError(
                "the network cannot shrink an image of this size",
                where="data.size",
                received=str(config.data.size),
                expected=f"a multiple of {MULTIPLE}",
            )


def main() -> None:
    """Run the recipe with the command line's overrides."""
    command_line.run(
        RecipeConfig, Path(__file__).with_name("config.yaml"), lambda config: Recipe(config).run()
    )


if __name__ == "__main__":
    main()
