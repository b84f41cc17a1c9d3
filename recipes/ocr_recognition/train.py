"""Teach a text recogniser new characters: the head is carried over by character, and learns faster than the rest."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import paddle

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddle_warm_callbacks import (
    EveryNEpochs,
    EveryNSteps,
    HeadTransplant,
    InvalidArgumentError,
    Stage,
    StagedUnfreeze,
    WarmLRScaler,
)
from paddle_warm_callbacks.arguments import require_choice, require_number
from paddle_warm_callbacks.hapi.building import seed_all
from recipes.common import command_line
from recipes.common.comparison import show
from recipes.common.config import require_counts, require_together, require_training
from recipes.common.fitting import EvaluationAtStart
from recipes.common.inference import write_inference
from recipes.common.runs import Runs, Start
from recipes.ocr_recognition import recognisers
from recipes.ocr_recognition.checkout import Checkout
from recipes.ocr_recognition.dictionary import old_characters, read_dictionary
from recipes.ocr_recognition.export import inference_settings
from recipes.ocr_recognition.reading import LineAccuracy
from recipes.ocr_recognition.recognisers import Packaged
from recipes.ocr_recognition.rendering import KNOWN, NEW, DataSet, write_text_lines
from recipes.ocr_recognition.text_lines import TextLines

STRATEGIES = ("staged", "head", "all")
TARGET = 0.9
HEIGHT = 48  # what PaddleOCR's recognisers are made for
DRAWN_WIDTH, DRAWN_LENGTH = 48, 3  # what two cores train on in minutes
WIDTH, LENGTH = 320, 25  # PaddleOCR's
WARMUP_SHARE = 0.1
SAVE_EVERY = 60  # steps: half a minute, on two cores


@dataclass
class DataConfig:
    """Text lines."""

    train: Optional[str] = None
    val: Optional[str] = None
    root: Optional[str] = None
    dictionary: Optional[str] = None
    use_space_char: bool = False
    height: Optional[int] = None
    width: Optional[int] = None
    max_length: Optional[int] = None
    limit: Optional[int] = None
    fonts: list[str] = field(default_factory=list)
    known: Optional[str] = None
    new: Optional[str] = None


@dataclass
class ModelConfig:
    """Network."""

    arch: str = "PP-OCRv6_tiny_rec"
    checkout: Optional[str] = None
    config: Optional[str] = None


@dataclass
class TrainConfig:
    """Training."""

    epochs: int = 5
    old_epochs: int = 5
    batch_size: int = 8
    seed: int = 0
    lr: float = 0.001
    warm_factor: float = 0.5
    head_factor: float = 5.0
    unfreeze: str = "all"


@dataclass
class RecipeConfig:
    """The whole recipe; see config.yaml."""

    output: str = "runs/ocr_recognition"
    checkpoint: Optional[str] = None
    old_labels: Optional[str] = None
    compare_cold: bool = True
    compare_dropped: bool = True
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


class Recipe:
    """Up to four runs, each in a run directory of its own, each resumed if it was interrupted, none done twice."""

    def __init__(self, config: RecipeConfig) -> None:
        self.config = config
        self.output = Path(config.output)
        self.runs = Runs(self.output, config)
        data = config.data
        require_together(
            config,
            "data.train",
            "data.val",
            "data.dictionary",
            what="your data is not complete",
            expected="all three, or none for the drawn lines",
        )
        require_choice(config.model.arch, "model.arch", choices=tuple(recognisers.RECOGNISERS))
        require_together(
            config,
            "model.checkout",
            "model.config",
            what="a checkout and a file of it belong together",
            expected="the folder of PaddleOCR, and a YAML file of its configs/rec; or neither",
        )
        require_counts(config, "data.height", "data.width", "data.max_length", "data.limit")
        require_training(config, STRATEGIES)
        require_number(config.train.head_factor, "train.head_factor", above=0)
        self.old_set: DataSet | None = None
        given = data.train is not None
        if data.train is not None and data.val is not None and data.dictionary is not None:
            self.new_set = DataSet(Path(data.train), Path(data.val), Path(data.dictionary))
            if config.checkpoint is None:
                raise InvalidArgumentError(
                    "there is no old model to start from",
                    where="checkpoint",
                    received="None",
                    expected="weights of a recogniser, for your data",
                    remedy="pass checkpoint=… and its dictionary as old_labels=…",
                )
        else:
            self.old_set, self.new_set = write_text_lines(
                self.output / "lines",
                known=data.known or KNOWN,
                new=data.new or NEW,
                fonts=[Path(font) for font in data.fonts],
            )
        self.size = data.height or HEIGHT, data.width or (WIDTH if given else DRAWN_WIDTH)
        self.max_length = data.max_length or (LENGTH if given else DRAWN_LENGTH)
        self.characters = read_dictionary(self.new_set.dictionary, data.use_space_char)
        places = self.size[1] // recognisers.SHRINK
        if config.model.checkout is None and self.max_length > places:
            raise InvalidArgumentError(
                "more characters than the network has places for",
                where="data.max_length, data.width",
                received=f"{self.max_length} characters, and {places} places in {self.size[1]} pixels",
                expected=f"at least {recognisers.SHRINK} pixels a character",
            )

    def run(self) -> None:
        """Train the old model if none is given, then the new one from it, then what it is compared with; export it."""
        config, checkpoint = self.config, self.config.checkpoint
        if checkpoint is None:
            assert self.old_set is not None
            old: list[str] = read_dictionary(self.old_set.dictionary, config.data.use_space_char)
            print(f"\n== The old model: {len(old)} characters, from scratch")
            self.fit("old", self.old_set, old, old, config.train.old_epochs)
            checkpoint = str(self.output / "old")
        else:
            old = old_characters(checkpoint, config.old_labels, config.data.use_space_char) or []
        print(f"\n== The new model: {len(self.characters)} characters, warm from {checkpoint}")
        arms = {"by character": "new"}
        self.fit("new", self.new_set, self.characters, old, config.train.epochs, checkpoint, bool(old))
        if config.compare_dropped and old:  # else it is what "new" is
            print("\n== The same with the head dropped, for comparison")
            arms["head dropped"] = "dropped"
            self.fit("dropped", self.new_set, self.characters, old, config.train.epochs, checkpoint)
        if config.compare_cold:
            print("\n== The same from a cold start, for comparison")
            arms["cold"] = "cold"
            self.fit("cold", self.new_set, self.characters, old, config.train.epochs)
        self.compare(arms, bool(old))
        newest = self.runs.newest("new")
        network = self.recogniser(self.new_set, self.characters).network()
        name = config.model.arch if config.model.config is None else Path(config.model.config).stem
        settings = inference_settings(name, self.characters, self.size)
        write_inference(newest, network, self.output / "inference", settings, height=self.size[0])
        print(f"checkpoint: {newest.path}  (paddle.load, or Global.pretrained_model of PaddleOCR's trainer)")
        print(
            f"inference:  {self.output / 'inference'}  (model_dir of PaddleOCR's and PaddleX's TextRecognition)"
        )
        print(f"logs:       {self.runs.viewer}")

    def recogniser(self, data: DataSet, characters: list[str]) -> Packaged | Checkout:
        """Return the recogniser for a dictionary: the package's, or one of the user's checkout."""
        model = self.config.model
        if model.checkout is None or model.config is None:
            return Packaged(model.arch, len(characters))
        return Checkout.open(
            Path(model.checkout),
            Path(model.config),
            data.dictionary,
            characters,
            use_space_char=self.config.data.use_space_char,
        )

    def fit(
        self,
        part: str,
        data: DataSet,
        characters: list[str],
        old: list[str],
        epochs: int,
        source: str | None = None,
        by_character: bool = False,
    ) -> None:
        """Train one of the runs, or what is left of it."""
        config = self.config
        seed_all(config.train.seed)
        recogniser = self.recogniser(data, characters)
        train, val = (
            TextLines(
                file,
                characters,
                self.size,
                root=None if config.data.root is None else Path(config.data.root),
                max_length=self.max_length,
                limit=config.data.limit if number == 0 else None,
                augment=number == 0,
                encode=recogniser.encoder(),
            )
            for number, file in enumerate((data.train, data.val))
        )
        model = recogniser.model()
        steps = epochs * -(-len(train) // config.train.batch_size)
        warmup = max(1, int(WARMUP_SHARE * steps))
        rate = paddle.optimizer.lr.LinearWarmup(
            paddle.optimizer.lr.CosineAnnealingDecay(config.train.lr, max(1, steps - warmup)),
            warmup,
            0.0,
            config.train.lr,
        )
        optimizer = paddle.optimizer.AdamW(rate, parameters=model.parameters(), weight_decay=1e-2)
        known = {place for place, character in enumerate(characters, 1) if character in old}
        model.prepare(optimizer, recogniser.loss(), LineAccuracy(() if part == "old" else known))
        head = None
        if by_character:
            head = HeadTransplant(recogniser.head, old, characters, layout=recogniser.layout, new_rows="zero")
        # PaddleX writes its safetensors as torch would.
        convert = "torch" if str(source).endswith(".safetensors") else None
        self.runs.fit(
            part,
            model,
            (train, val),
            epochs=epochs,
            labels=characters,
            trained_on=data.train,
            start=Start(source, head, convert),
            callbacks=[
                *(self._warm(recogniser.head) if source is not None else []),
                *([EvaluationAtStart(val)] if part != "old" else []),
            ],
            batch_size=config.train.batch_size,
            save=EveryNEpochs(1) | EveryNSteps(SAVE_EVERY),
        )

    def _warm(self, head: str) -> list[Any]:
        """Return the callbacks of a warm start: new characters are learnt faster than old ones may be forgotten."""
        last = rf"^{head}\."
        stages = {
            "staged": [Stage(0, last), Stage(1, ".*", rewarm_steps=10)],
            "head": [Stage(0, last)],
            "all": [Stage(0, ".*")],
        }
        train = self.config.train
        return [
            WarmLRScaler(train.warm_factor, groups={last: train.head_factor}),
            StagedUnfreeze(stages[train.unfreeze]),
        ]

    def compare(self, arms: dict[str, str], old_known: bool) -> None:
        """Print how the runs went, epoch by epoch."""
        kinds = {
            "acc": "all lines",
            "old_acc": "lines of old characters",
            "new_acc": "lines with new characters",
        }
        for metric, lines in kinds.items() if old_known else [("acc", "all lines")]:
            columns, starts = {}, {}
            for what, suffix in {"acc": "", "edit": " (1 - edit distance)"}.items():
                for arm, part in arms.items():
                    tag = metric.replace("acc", what)
                    columns[arm + suffix] = self.runs.curve(part, f"eval/{tag}")
                    (starts[arm + suffix],) = self.runs.curve(part, f"start/{tag}")
            show(f"{lines}: read exactly, after each epoch", columns, TARGET, starts)


def main() -> None:
    """Run the recipe with the command line's overrides."""
    command_line.run(
        RecipeConfig, Path(__file__).with_name("config.yaml"), lambda config: Recipe(config).run()
    )


if __name__ == "__main__":
    main()
