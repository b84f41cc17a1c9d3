"""Teach a detector of PaddleDetection more classes than it knows: its head grows by name, its backbone thaws."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import paddle

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddle_warm_callbacks import HeadTransplant, InvalidArgumentError, Stage, StagedUnfreeze, WarmLRScaler
from paddle_warm_callbacks.checkpoint.source import open_source
from paddle_warm_callbacks.hapi.building import seed_all
from paddle_warm_callbacks.hapi.warm_start import warm_start
from recipes.common import command_line
from recipes.common.comparison import show
from recipes.common.config import require_counts, require_together, require_training
from recipes.common.fitting import EvaluationAtStart, SparseProgress
from recipes.common.old_labels import old_labels
from recipes.common.runs import Runs, Start
from recipes.detection.annotations import check_annotations
from recipes.detection.coco_map import CocoMap
from recipes.detection.detector import Detector, detector_file, require_ppdet
from recipes.detection.ema import EmaWeights
from recipes.detection.fitting import EpochNumber
from recipes.detection.heads import head_transplant
from recipes.detection.layout import Evaluated, export
from recipes.detection.loading import loader
from recipes.detection.pictures import SampleDetections
from recipes.detection.plates import CLASSES, OLD_CLASSES, write_plates

# Neck and head may learn first: what the backbone sees is good for new defects too.
STRATEGIES = {
    "staged": [Stage(0, r"^(?!backbone\.)"), Stage(1, ".*", rewarm_steps=10)],
    "all": [Stage(0, ".*")],
}
TARGET = 0.3
PLATES = {"old_train": 240, "old_val": 40, "new_train": 160, "new_val": 60}


@dataclass
class DataConfig:
    """Images and their annotations."""

    train: Optional[str] = None
    val: Optional[str] = None
    images: Optional[str] = None
    size: Optional[int] = None
    limit: Optional[int] = None
    workers: int = 0


@dataclass
class ModelConfig:
    """Network."""

    detector: str = "picodet_s"


@dataclass
class TrainConfig:
    """Training."""

    epochs: int = 8
    old_epochs: int = 20
    batch_size: int = 8
    seed: int = 0
    old_seed: int = 0
    lr: float = 0.003
    warm_factor: float = 0.5
    unfreeze: str = "staged"
    ema: bool = True


@dataclass
class RecipeConfig:
    """The whole recipe; see config.yaml."""

    output: str = "runs/detection"
    checkpoint: Optional[str] = None
    old_labels: Optional[str] = None
    rename: list[str] = field(default_factory=list)
    compare_dropped: bool = True
    compare_cold: bool = True
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class Part:
    """One of the runs: its name, its data, and how it starts.

    Attributes:
        name: Of its run directory.
        train: Annotation file to train on.
        val: Annotation file to evaluate on.
        labels: Classes of the network, in its order.
        epochs: Of the whole run.
        seed: Of the run.
        source: What it starts warm from; None: cold.
        transplant: Whether the rows of the head move by class name.
        staged: Whether it follows ``train.unfreeze``.
    """

    name: str
    train: Path
    val: Path
    labels: tuple[str, ...]
    epochs: int
    seed: int
    source: str | None = None
    transplant: bool = False
    staged: bool = False


class Recipe:
    """Up to four runs, each in a run directory of its own, each resumed if it was interrupted, none done twice."""

    def __init__(self, config: RecipeConfig) -> None:
        self.config = config
        self.output = Path(config.output)
        self.runs = Runs(self.output, config)
        self._check(config)
        require_ppdet()
        self.detector = detector_file(config.model.detector)
        self.rename = _pairs(config.rename)
        train, val = config.data.train, config.data.val
        self.old_sets: tuple[Path, Path] | None = None
        if train is None or val is None:
            limit = config.data.limit or max(PLATES.values())
            counts = {name: min(limit, count) for name, count in PLATES.items()}
            classes = {name: OLD_CLASSES if name.startswith("old") else CLASSES for name in counts}
            files = write_plates(
                self.output / "plates", {name: (classes[name], count) for name, count in counts.items()}
            )
            self.old_sets = files["old_train"], files["old_val"]
            train, val = str(files["new_train"]), str(files["new_val"])
        self.train, self.val = Path(train), Path(val)
        self.labels = self._checked(self.train, self.val)

    def run(self) -> None:
        """Train the old model if none is given, then the new one from it, then those to compare with."""
        config, checkpoint = self.config, self.config.checkpoint
        old: list[str] = []
        if checkpoint is not None:
            old = old_labels(checkpoint, config.old_labels) or []
        elif self.old_sets is not None:
            labels = self._checked(*self.old_sets)
            old = list(labels)
            print(f"\n== The old model: {len(old)} classes ({', '.join(old)}), from scratch")
            train = config.train
            checkpoint = str(
                self.fit(Part("old", *self.old_sets, labels, train.old_epochs, train.old_seed), old)
            )
        parts = {"warm": ("new", True), "head dropped": ("dropped", False), "cold": ("cold", False)}
        if not config.compare_dropped or not old:  # without names it is what "warm" is
            del parts["head dropped"]
        if checkpoint is not None and not config.compare_cold:
            del parts["cold"]
        if checkpoint is None:
            del parts["warm"]
        columns: dict[str, list[float]] = {}
        starts: dict[str, float] = {}
        for title, (name, transplant) in parts.items():
            source = checkpoint if name != "cold" else None
            print(f"\n== {title}: {len(self.labels)} classes" + (f", from {source}" if source else ""))
            self.fit(
                Part(
                    name,
                    self.train,
                    self.val,
                    self.labels,
                    config.train.epochs,
                    config.train.seed,
                    source,
                    transplant=transplant and bool(old),
                    staged=transplant,
                ),
                old,
            )
            for tag in [*self._groups(self.labels, old)] or ["mAP"]:
                columns[f"{title}, {tag}"] = self.runs.curve(name, f"eval/{tag}")
                (starts[f"{title}, {tag}"],) = self.runs.curve(name, f"start/{tag}")
        show("COCO mAP after each epoch", columns, TARGET, starts)
        self._tell_the_end("new" if "warm" in parts else "cold", checkpoint, old)

    def fit(self, part: Part, old: list[str]) -> Path:
        """Train one of the runs, or what is left of it, and export it; return the exported weights."""
        config = self.config.train
        seed_all(part.seed)
        network = Detector.build(self.detector, len(part.labels))
        train, to_train = self._loader(part.train, part.labels, training=True)
        val, to_evaluate = self._loader(part.val, part.labels, training=False)
        model = paddle.Model(network, inputs=network.takes(to_train, to_evaluate))
        schedule = paddle.optimizer.lr.CosineAnnealingDecay(config.lr, T_max=part.epochs * len(train))
        optimizer = paddle.optimizer.AdamW(schedule, parameters=network.parameters(), weight_decay=0.01)
        metric = CocoMap(part.val, part.labels, self._groups(part.labels, old))
        model.prepare(optimizer, network.losses, metric)
        head: HeadTransplant | None = None
        if part.transplant:
            head = head_transplant(network, old, part.labels, self.rename)
        callbacks = [
            SparseProgress(),
            EpochNumber(),
            *([] if part.name == "old" else [EvaluationAtStart(val)]),
            *([WarmLRScaler(config.warm_factor, warmup_steps=10)] if part.source else []),
            *([StagedUnfreeze(STRATEGIES[config.unfreeze])] if part.staged else []),
            *([EmaWeights()] if config.ema else []),
            SampleDetections(metric, part.val, self._images(part.val), part.labels),
        ]
        run_dir = self.runs.fit(
            part.name,
            model,
            (train, val),
            epochs=part.epochs,
            labels=part.labels,
            trained_on=part.train,
            start=Start(part.source, head),
            callbacks=callbacks,
            best="mAP",
        )
        data = Evaluated(part.val, self._images(part.val), self.config.data.size, config.batch_size)
        return export(run_dir, self.output / "export" / part.name, self.detector, part.labels, data)

    def source_map(self, checkpoint: str, old: Sequence[str]) -> float:
        """Return the old model's own mAP of its classes, on the new validation set."""
        labels = tuple(self.rename.get(name, name) for name in old)
        network = Detector.build(self.detector, len(labels))
        source = open_source(checkpoint)
        warm_start(network, source.tensors, description=source.description)
        val, inputs = self._loader(self.val, labels, training=False)
        model = paddle.Model(network, inputs=network.takes((), inputs))
        model.prepare(metrics=CocoMap(self.val, labels, self._groups(self.labels, old)))
        return float(model.evaluate(val, verbose=0)["mAP_old"])

    def _tell_the_end(self, part: str, checkpoint: str | None, old: list[str]) -> None:
        if checkpoint is not None and "mAP_old" in self._groups(self.labels, old):
            (start,) = self.runs.curve("new", "start/mAP_old")
            print(
                f"old classes: mAP {self.source_map(checkpoint, old):.4f} in the old model, "
                f"{start:.4f} right after the transplant"
            )
        exported = self.output / "export" / part
        print(f"checkpoint: {self.runs.newest(part).path}")
        print(
            f"PaddleDetection: tools/eval.py -c {exported}/model.yml -o weights={exported}/model_final.pdparams"
        )
        print(f"logs:       {self.runs.viewer}")

    def _groups(self, labels: Sequence[str], old: Sequence[str]) -> Mapping[str, list[str]]:
        """Return the classes that the old model knew and those that are new, where there are both."""
        known = {self.rename.get(name, name) for name in old}
        groups = {
            "mAP_old": [name for name in labels if name in known],
            "mAP_new": [name for name in labels if name not in known],
        }
        return groups if all(groups.values()) else {}

    def _loader(self, file: Path, labels: Sequence[str], *, training: bool) -> tuple[Any, list[str]]:
        data = self.config.data
        return loader(
            self.detector,
            file,
            self._images(file),
            len(labels),
            training=training,
            batch_size=self.config.train.batch_size,
            size=data.size,
            limit=data.limit if training else None,
            workers=data.workers,
        )

    def _images(self, annotations: Path) -> Path:
        """Return the folder that an annotation file's names are relative to."""
        own = self.config.data.images
        return Path(own) if own is not None and self.config.data.train is not None else annotations.parent

    def _checked(self, train: Path, val: Path) -> tuple[str, ...]:
        labels = check_annotations(train, self._images(train))
        check_annotations(val, self._images(val), labels=labels)
        return labels

    @staticmethod
    def _check(config: RecipeConfig) -> None:
        require_together(
            config,
            "data.train",
            "data.val",
            what="one annotation file is missing",
            expected="both, or neither for the embedded plates",
        )
        require_counts(config, "data.size", "data.limit")
        require_training(config, STRATEGIES)


def _pairs(entries: Sequence[str]) -> dict[str, str]:
    """Return ``["bottle=flask"]`` as a mapping from old to new."""
    wrong = [entry for entry in entries if not all(entry.partition("="))]
    if wrong:
        raise InvalidArgumentError(
            "not a renamed class",
            where="rename",
            received=wrong[0],
            expected="old=new: rename=[bottle=flask]",
        )
    return {old: new for old, _, new in (entry.partition("=") for entry in entries)}


def main() -> None:
    """Run the recipe with the command line's overrides."""
    logging.getLogger("ppdet").setLevel(logging.WARNING)
    command_line.run(
        RecipeConfig, Path(__file__).with_name("config.yaml"), lambda config: Recipe(config).run()
    )


if __name__ == "__main__":
    main()
