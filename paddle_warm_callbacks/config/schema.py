"""Every setting there is: sections as dataclasses, with defaults, bounds, and what a change means at a resume.

The checks, the JSON Schema, the table in the documentation and what a resume says of a change are all read off here.
The sections of what a run leaves behind are in :mod:`~paddle_warm_callbacks.config.outputs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from omegaconf import MISSING

from paddle_warm_callbacks.checkpoint.label_files import KINDS as LABEL_KINDS
from paddle_warm_callbacks.config.fields import BETTER, LABELS, PATTERNS, section, setting
from paddle_warm_callbacks.config.outputs import CheckpointsConfig, MirrorConfig, VisualDLConfig
from paddle_warm_callbacks.plan.config_changes import (
    ANOTHER_RUN,
    BY_LR_ON_RESUME,
    FOLLOWED,
    HARMLESS,
    INSIDE_EPOCH,
    NOT_OURS,
    REFUSED,
)
from paddle_warm_callbacks.plan.conversions import CONVERSIONS
from paddle_warm_callbacks.plan.lr import ON_RESUME
from paddle_warm_callbacks.plan.transplant import LAYOUTS
from paddle_warm_callbacks.plan.transplant.head import NEW_ROWS


@dataclass
class ModelConfig:
    """The network, and the weights it starts from."""

    arch: Optional[str] = setting(
        None,
        "A network of paddle.vision.models, such as resnet50; null: the script has its own.",
        on_resume=REFUSED,
    )
    num_classes: Optional[int] = setting(
        None,
        "Its outputs; null: as many as head.new_labels or the data's classes, or else Paddle's default.",
        at_least=1,
        on_resume=REFUSED,
    )
    arguments: dict[str, Any] = setting(
        {}, "Further arguments of the network's constructor.", example="{with_pool: true}", on_resume=REFUSED
    )
    checkpoint: Optional[str] = setting(
        None,
        "Weights to start warm from: path or URL of a file, a checkpoint or a run; registry://name@tag.",
        on_resume=FOLLOWED,
    )
    pretrained: bool = setting(
        False, "Without a checkpoint, start from paddle.vision's pretrained file of arch.", on_resume=FOLLOWED
    )


@dataclass
class TrainingConfig:
    """The run."""

    run_dir: Optional[str] = setting(
        None,
        "Directory or URL of the run; null: runs/ and the name of the YAML file, or else of arch.",
        on_resume=HARMLESS,
    )
    resume_from: Optional[str] = setting(
        "latest", "latest, best, or the path or URL of a checkpoint; null never resumes.", on_resume=HARMLESS
    )
    on_change: str = setting(
        "raise",
        "What a resume does when the script has changed so that it cannot be exact; strict: or not quite.",
        choices=("raise", "adapt", "strict"),
        on_resume=HARMLESS,
    )
    epochs: Optional[int] = setting(None, "For the script: epochs of fit.", at_least=1, on_resume=HARMLESS)
    batch_size: Optional[int] = setting(
        None, "For the script: samples of a batch.", at_least=1, on_resume=INSIDE_EPOCH
    )
    seed: Optional[int] = setting(
        None, "Seeds Python, NumPy and Paddle before the network is built.", at_least=0, on_resume=FOLLOWED
    )
    seed_samples: Optional[int] = setting(
        None, "Seeds each sample's augmentation by epoch and index.", at_least=0, on_resume=REFUSED
    )


@dataclass
class DataConfig:
    """Images in one folder per class."""

    train: str = setting(
        MISSING, "Folder to train on, with one folder of images per class.", on_resume=ANOTHER_RUN
    )
    val: Optional[str] = setting(
        None, "Such a folder to evaluate on; null: nothing is evaluated.", on_resume=ANOTHER_RUN
    )
    classes: Any = setting(
        None,
        "Names of the class folders, in the order of the head; null: head.new_labels, or all in alphabetical order.",
        form=LABELS,
        example="[scratch, dent]",
        on_resume=ANOTHER_RUN,
    )
    image_size: int = setting(
        224, "Height and width that images are resized to, in pixels.", at_least=1, on_resume=ANOTHER_RUN
    )
    augment: bool = setting(
        False, "Shift training images by up to an eighth of their size.", on_resume=ANOTHER_RUN
    )
    limit: Optional[int] = setting(
        None, "At most so many images of each class.", at_least=1, on_resume=ANOTHER_RUN
    )
    workers: int = setting(0, "Processes that load images.", at_least=0, on_resume=INSIDE_EPOCH)


@dataclass
class ScheduleConfig:
    """A learning-rate schedule."""

    name: str = setting(
        MISSING, "A class of paddle.optimizer.lr, such as CosineAnnealingDecay.", on_resume=REFUSED
    )
    arguments: dict[str, Any] = setting(
        {}, "Its arguments, but for learning_rate.", example="{T_max: 3000}", on_resume=BY_LR_ON_RESUME
    )


@dataclass
class OptimizerConfig:
    """The optimizer, over all parameters of the network."""

    name: str = setting("AdamW", "A class of paddle.optimizer.", on_resume=REFUSED)
    learning_rate: float = setting(
        0.001, "Of a cold start; lr.factor and stages multiply it.", above=0, on_resume=BY_LR_ON_RESUME
    )
    schedule: Optional[ScheduleConfig] = section(
        None,
        "How the learning rate goes on; null: constant.",
        example="{name: CosineAnnealingDecay, arguments: {T_max: 3000}}",
    )
    weight_decay: Optional[float] = setting(None, "Its coefficient; null: the optimizer's own.", at_least=0)
    clip_norm: Optional[float] = setting(None, "Gradients are scaled down to this global norm.", above=0)
    arguments: dict[str, Any] = setting({}, "Further arguments of its constructor.", example="{beta1: 0.8}")


@dataclass
class WarmStartConfig:
    """What is loaded of the source, and under which names."""

    include: Any = setting(
        None, "Load only tensors of the network with such names.", example="[layer4, fc]", form=PATTERNS
    )
    exclude: Any = setting(
        None, "Do not load tensors of the network with such names.", example='"^fc[.]"', form=PATTERNS
    )
    rename: dict[str, str] = setting(
        {},
        "Regular expression to replacement, in the source's names.",
        example='{"^encoder[.]": "backbone."}',
    )
    convert: Optional[str] = setting(
        None, "Whose names and matrices the source has; null: Paddle's.", choices=tuple(CONVERSIONS)
    )
    part: Optional[str] = setting(
        None, "Of a nested file: keys of the part with the weights, joined by dots."
    )
    min_loaded: float = setting(
        0.5, "The least share of the network's elements to be loaded.", at_least=0, at_most=1
    )


@dataclass
class HeadConfig:
    """How the rows of the head move by label."""

    key: str = setting(MISSING, "Structured name of the head, such as fc.")
    new_labels: Any = setting(
        MISSING, "The labels of this network, in its order.", example="[scratch, dent]", form=LABELS
    )
    old_labels: Any = setting(
        None, "Those of the source; null: as its metadata has them.", example="labels.txt", form=LABELS
    )
    label_files: str = setting(
        "lines",
        "What files of labels are: one label a line, a dictionary of PaddleOCR, or COCO annotations.",
        choices=LABEL_KINDS,
    )
    use_space_char: bool = setting(
        False, "Of dictionaries: a space is appended, as in the model's configuration."
    )
    layout: str = setting("linear", "The kind of head.", choices=tuple(LAYOUTS))
    rename: dict[str, str] = setting(
        {}, "Old label to the new name of the same thing.", example="{scratch: surface_scratch}"
    )
    new_rows: str = setting("init", "What rows of new labels hold at first.", choices=NEW_ROWS)
    moments: bool = setting(False, "Take over the head's optimizer state too.")


@dataclass
class StageConfig:
    """What is trainable from an epoch, or from a global step, onwards."""

    trainable: Any = setting(
        MISSING, "Parameters with such names are trained.", example="[layer4, fc]", form=PATTERNS
    )
    from_epoch: Optional[int] = setting(None, "First epoch of the stage, from 0.", at_least=0)
    from_step: Optional[int] = setting(None, "First global step of the stage, from 0, instead.", at_least=0)
    lr_factor: float = setting(1.0, "Multiplies the learning rate while the stage lasts.", above=0)
    rewarm_steps: int = setting(0, "Steps over which that factor rises when the stage begins.", at_least=0)
    freeze_norm: bool = setting(True, "Frozen norm layers keep their running statistics.")


@dataclass
class DepthConfig:
    """Stages made from the depth of the network's layers."""

    n: int = setting(3, "Number of stages.", at_least=2)
    epochs_per_stage: int = setting(1, "Epochs of each.", at_least=1)
    lr_decay: float = setting(1.0, "Factor of the learning rate from stage to stage.", above=0)
    head: Optional[str] = setting(None, "Structured name of the head; null: the last layer.")


@dataclass
class FineTuneConfig:
    """What fastai's fine_tune does: the head alone, then everything, shallow layers at a lower rate."""

    freeze_epochs: int = setting(1, "Epochs of the head alone.", at_least=1)
    lr_mult: float = setting(100.0, "The head's rate by that of the shallowest part.", at_least=1)
    n: int = setting(3, "Parts with a rate of their own.", at_least=2)
    head: Optional[str] = setting(None, "Structured name of the head; null: the last layer.")


@dataclass
class UnfreezeConfig:
    """Stages: one of stages, from_depth and fine_tune."""

    stages: Optional[list[StageConfig]] = setting(
        None,
        "The stages, one by one, the first from 0.",
        example='[{from_epoch: 0, trainable: fc}, {from_epoch: 3, trainable: ".*"}]',
    )
    from_depth: Optional[DepthConfig] = section(
        None, "Stages made from the network's depth, instead.", example="{n: 3, epochs_per_stage: 2}"
    )
    fine_tune: Optional[FineTuneConfig] = section(
        None, "Stages and rates as fastai's, instead.", example="{freeze_epochs: 1}"
    )
    restore_best_between_stages: bool = setting(
        False, "Begin each later stage from the best epoch of the one before."
    )
    monitor: str = setting("acc", "Metric of the evaluation by which the best is known.")
    mode: str = setting("max", "Which end of it is better.", choices=BETTER)


@dataclass
class LRConfig:
    """The learning rate of a warm start."""

    factor: float = setting(0.1, "Multiplies the optimizer's rate.", above=0, on_resume=BY_LR_ON_RESUME)
    warmup_steps: int = setting(
        0, "Global steps over which the rate rises linearly.", at_least=0, on_resume=BY_LR_ON_RESUME
    )
    groups: dict[str, float] = setting(
        {},
        "Regular expression to a further factor; the first found counts.",
        example="{layer4: 0.1}",
        at_least=0,
        on_resume=BY_LR_ON_RESUME,
    )
    on_resume: str = setting(
        "keep", "Which settings a resumed run follows.", choices=ON_RESUME, on_resume=HARMLESS
    )


@dataclass
class RegistryConfig:
    """The registry of models."""

    root: Optional[str] = setting(
        None,
        "Path or URL of the registry that registry:// names are of; null: as the environment variable says.",
    )


@dataclass
class Config:
    """The whole configuration."""

    model: ModelConfig = section(
        ModelConfig,
        "The network, and the weights it starts from.",
        example="{arch: resnet50, checkpoint: runs/production}",
    )
    training: TrainingConfig = section(
        TrainingConfig, "The run.", example="{epochs: 30, resume_from: latest}"
    )
    data: Optional[DataConfig] = section(
        None,
        "Images in one folder per class; null: the script has its own data.",
        example="{train: images/train, val: images/val}",
    )
    optimizer: Optional[OptimizerConfig] = section(
        None,
        "The optimizer; null: the script has its own.",
        example="{name: AdamW, learning_rate: 0.001}",
        on_resume=ANOTHER_RUN,
    )
    warm_start: WarmStartConfig = section(
        WarmStartConfig,
        "What is loaded of the source, and under which names.",
        example="{min_loaded: 0.9}",
        on_resume=FOLLOWED,
    )
    head: Optional[HeadConfig] = section(
        None,
        "How the rows of the head move by label; null: they are loaded as all else.",
        example="{key: fc, new_labels: labels.txt}",
        on_resume=FOLLOWED,
    )
    unfreeze: Optional[UnfreezeConfig] = section(
        None,
        "Stages; null: everything is trained from the start.",
        example='{stages: [{from_epoch: 0, trainable: fc}, {from_epoch: 3, trainable: ".*"}]}',
        on_resume=ANOTHER_RUN,
    )
    lr: Optional[LRConfig] = section(
        None,
        "The learning rate of a warm start; null: the optimizer's.",
        example="{factor: 0.1, warmup_steps: 200}",
    )
    checkpoints: Optional[CheckpointsConfig] = section(
        CheckpointsConfig,
        "Checkpoints of this run; null: none are saved.",
        example="{save: {every_steps: 500}, keep: {latest: 3}}",
        on_resume=HARMLESS,
    )
    mirror: Optional[MirrorConfig] = section(
        None,
        "Copies of the checkpoints, made behind training; null: none.",
        example='{url: "s3://models/defects"}',
        on_resume=HARMLESS,
    )
    visualdl: Optional[VisualDLConfig] = section(
        None, "Logs for VisualDL; null: none.", example="{log_freq: 50}", on_resume=HARMLESS
    )
    registry: RegistryConfig = section(
        RegistryConfig,
        "The registry of models.",
        example='{root: "s3://models/registry"}',
        on_resume=FOLLOWED,
    )
    user: dict[str, Any] = setting(
        {}, "The script's own settings, of any form.", example="{name: defects}", on_resume=NOT_OURS
    )
