"""``from_config``: the callbacks, the network and the optimizer that a configuration asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddle_warm_callbacks.callbacks.periodic_checkpoint import PeriodicCheckpoint
from paddle_warm_callbacks.callbacks.staged_unfreeze import StagedUnfreeze
from paddle_warm_callbacks.callbacks.warm_lr_scaler import WarmLRScaler
from paddle_warm_callbacks.callbacks.warm_start import WarmStartCallback
from paddle_warm_callbacks.callbacks.warm_visualdl import WarmVisualDL
from paddle_warm_callbacks.checkpoint.label_files import read_labels
from paddle_warm_callbacks.checkpoint.mirror_writer import Mirror
from paddle_warm_callbacks.checkpoint.registry.references import ROOT_OPTION, SCHEME
from paddle_warm_callbacks.config.checks import require_consistent
from paddle_warm_callbacks.config.loading import Given, Loaded, load
from paddle_warm_callbacks.config.naming import require_names
from paddle_warm_callbacks.config.origin import Origin, located
from paddle_warm_callbacks.config.outputs import MirrorConfig
from paddle_warm_callbacks.config.policies import retention_policy, save_policy
from paddle_warm_callbacks.config.record import METADATA, ConfigRecord
from paddle_warm_callbacks.config.schema import Config, HeadConfig, UnfreezeConfig
from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.hapi.building import build_network, build_optimizer, build_schedule, seed_all
from paddle_warm_callbacks.hapi.depth import fine_tune, stages_from_depth
from paddle_warm_callbacks.hapi.pretrained import PREFIX
from paddle_warm_callbacks.plan.lr import ScalerSettings
from paddle_warm_callbacks.plan.stages import FineTune, Stage, StagePlan
from paddle_warm_callbacks.plan.transplant import HeadTransplant


@dataclass(frozen=True)
class Setup:
    """What a configuration asks for.

    Attributes:
        config: Its settings, typed and resolved.
        callbacks: For ``fit(callbacks=…)``.
        network: Of ``model.arch``, or the one that was given; None if there is neither.
        optimizer: Of the section ``optimizer``, over all parameters of the network; None without that section.
        train_data: The dataset of ``data.train``; None without the section ``data``.
        eval_data: That of ``data.val``, or None.
        classes: Names of the data's classes, in the order of its labels; None without data.
        plain: The settings as plain values, as each checkpoint's metadata has them: what comes from the environment is
            in them as ``${oc.env:…}``.
        stages: Those of ``StagedUnfreeze``; one that trains everything where there are none.
        scaling: What ``WarmLRScaler`` does; nothing where there is none.
    """

    config: Config
    callbacks: list[Any]
    network: Any
    optimizer: Any
    train_data: Any
    eval_data: Any
    classes: Sequence[str] | None
    plain: dict[str, Any]
    stages: StagePlan
    scaling: ScalerSettings

    @property
    def fit_arguments(self) -> dict[str, Any]:
        """What the configuration says for ``model.fit(**setup.fit_arguments)``; what it leaves open is not there."""
        training, data = self.config.training, self.config.data
        said = {
            "train_data": self.train_data,
            "eval_data": self.eval_data,
            "epochs": training.epochs,
            "batch_size": training.batch_size,
            "num_workers": None if data is None else data.workers,
        }
        given = {name: value for name, value in said.items() if value is not None}
        return {**given, "callbacks": self.callbacks}


def from_config(config: Given, overrides: Sequence[str] = (), *, network: Any = None) -> Setup:
    """Build what a configuration asks for; the settings are listed in docs/configuration.md.

    Nothing is read or written but the YAML, files of labels and the names of images; weights are loaded when ``fit``
    begins.

    Example:
        >>> setup = from_config({"model": {"arch": "resnet18", "num_classes": 4}, "lr": {"factor": 0.2}})
        >>> [type(callback).__name__ for callback in setup.callbacks]
        ['WarmStartCallback', 'ConfigRecord', 'WarmLRScaler', 'PeriodicCheckpoint']
        >>> setup.config.training.run_dir
        'runs/resnet18'

    Args:
        config: Path of a YAML file; a mapping; or a DictConfig, as OmegaConf and Hydra make them.
        overrides: Each ``key=value``, with dots between nested keys, such as ``"training.epochs=3"``.
        network: The script's own Layer, for what is made from a network; none is built then.

    Raises:
        SourceError: The YAML file, one of labels or a folder of images is not there.
        InvalidArgumentError: A key that does not exist, with the nearest that does; a wrong type; a value out of its
            bounds; settings that contradict each other; a file without any. The error says in which line.
        PatternError: Of a network that is built or given: a pattern finds none of its names, or the head is not there.
    """
    loaded = load(Config, config, overrides)
    values, origin = loaded.values, loaded.origin
    if loaded.file is not None and not origin.lines and not origin.overrides:
        raise InvalidArgumentError(
            "the configuration is empty",
            where=str(loaded.file),
            received="no setting",
            expected="at least one section",
            remedy="begin with what the run is called and starts from: "
            "training: {run_dir: runs/defects, epochs: 30} and model: {checkpoint: old.pdparams}",
        )
    require_consistent(values, origin, has_network=network is not None)
    training = values.training
    training.run_dir = training.run_dir or f"runs/{_run_name(loaded)}"
    head = None if values.head is None else _head(values.head, origin)
    if training.seed is not None:
        seed_all(training.seed)
    datasets, classes = _data(values, head, origin)
    if network is None:
        network = _network(values, head, classes, origin)
    if network is not None:
        require_names(values, network, head, origin)
    optimizer = _optimizer(values, network, origin)
    stages, groups = _stages(values.unfreeze, network, origin)
    plain = {**loaded.plain, "training": {**loaded.plain["training"], "run_dir": training.run_dir}}
    callbacks: list[Any] = [_start(values, head, origin), ConfigRecord(plain)]
    scaling = ScalerSettings()
    if values.lr is not None or groups:
        scaling = _scaling(values, groups, origin)
        callbacks.append(_scaler(values, scaling, origin))
    if values.unfreeze is not None:
        callbacks.append(_unfreeze(values.unfreeze, stages, origin))
    if values.checkpoints is not None:
        callbacks.append(_checkpoints(values, classes if head is None else head.new_labels, plain, origin))
    if values.visualdl is not None:
        callbacks.append(_visualdl(values, plain, origin))
    plan = StagePlan(stages or [Stage(0, ".*")])
    return Setup(values, callbacks, network, optimizer, *datasets, classes, plain, plan, scaling)


def _run_name(loaded: Loaded[Config]) -> str:
    name = loaded.file.stem if loaded.file is not None else loaded.values.model.arch
    return name or "default"


def _start(config: Config, head: HeadTransplant | None, origin: Origin) -> WarmStartCallback:
    model, training, warm = config.model, config.training, config.warm_start
    with located(origin, "training, warm_start"):
        return WarmStartCallback(
            _source(config),
            pretrained=f"{PREFIX}{model.arch}" if model.pretrained else None,
            run_dir=training.run_dir,
            resume_from=training.resume_from,
            head=head,
            include=warm.include,
            exclude=warm.exclude,
            rename=warm.rename or None,
            convert=warm.convert,
            part=warm.part,
            min_loaded=warm.min_loaded,
            on_change=training.on_change,
            seed_samples=training.seed_samples,
        )


def _source(config: Config) -> str | None:
    given, root = config.model.checkpoint, config.registry.root
    if given is None or root is None or not given.startswith(SCHEME) or ROOT_OPTION in given:
        return given
    return f"{given}{ROOT_OPTION}{root}"


def _head(head: HeadConfig, origin: Origin) -> HeadTransplant:
    def labels(given: Any, key: str) -> Sequence[str]:
        if isinstance(given, str):
            return read_labels(
                given, head.label_files, use_space_char=head.use_space_char, where=origin.where(key)
            )
        return list(given)

    old = None if head.old_labels is None else labels(head.old_labels, "head.old_labels")
    new = labels(head.new_labels, "head.new_labels")
    with located(origin, "head"):
        return HeadTransplant(
            head.key,
            old,
            new,
            layout=head.layout,
            rename=head.rename or None,
            new_rows=head.new_rows,
            moments=head.moments,
        )


def _data(
    config: Config, head: HeadTransplant | None, origin: Origin
) -> tuple[tuple[Any, Any], Sequence[str] | None]:
    """Return the datasets, and their classes."""
    data = config.data
    if data is None:
        return (None, None), None
    from paddle_warm_callbacks.hapi.image_folder import (  # Pillow, which only images need
        ImageFolder,
        class_names,
    )

    classes: Sequence[str]
    if isinstance(data.classes, str):
        classes = read_labels(data.classes, "lines", where=origin.where("data.classes"))
    else:
        classes = data.classes or (head.new_labels if head is not None else class_names(Path(data.train)))
    if head is not None and tuple(classes) != head.new_labels:
        raise InvalidArgumentError(
            "the data and the head have other labels, or another order of them",
            where=f"{origin.where('data.classes')}; {origin.where('head.new_labels')}",
            received=f"{', '.join(classes[:5])}; {', '.join(head.new_labels[:5])}",
            expected="the same labels in the same order",
            remedy="leave data.classes out: those of the head are taken",
        )
    train = ImageFolder(Path(data.train), classes, data.image_size, limit=data.limit, augment=data.augment)
    val = (
        None if data.val is None else ImageFolder(Path(data.val), classes, data.image_size, limit=data.limit)
    )
    return (train, val), classes


def _network(
    config: Config, head: HeadTransplant | None, of_data: Sequence[str] | None, origin: Origin
) -> Any:
    model = config.model
    if model.arch is None:
        return None
    classes = model.num_classes
    if classes is None and head is not None and head.layout in ("linear", "conv"):
        classes = len(head.new_labels)
    if classes is None and of_data is not None:
        classes = len(of_data)
    if of_data is not None and head is None and classes != len(of_data):
        raise InvalidArgumentError(
            "the network has another number of outputs than the data has classes",
            where=origin.where("model.num_classes"),
            received=f"{classes}, and {len(of_data)} classes: {', '.join(of_data[:5])}",
            expected=f"{len(of_data)}, or leave it out",
        )
    with located(origin, "model"):
        return build_network(model.arch, classes, model.arguments)


def _optimizer(config: Config, network: Any, origin: Origin) -> Any:
    given = config.optimizer
    if given is None:
        return None
    with located(origin, "optimizer"):
        rate: Any = given.learning_rate
        if given.schedule is not None:
            rate = build_schedule(given.schedule.name, rate, given.schedule.arguments)
        return build_optimizer(
            given.name,
            network.parameters(),
            rate,
            weight_decay=given.weight_decay,
            clip_norm=given.clip_norm,
            arguments=given.arguments,
        )


def _stages(
    unfreeze: UnfreezeConfig | None, network: Any, origin: Origin
) -> tuple[list[Stage], Mapping[str, float]]:
    """Return the stages, and the groups of the learning rate that come with them."""
    if unfreeze is None:
        return [], {}
    stages = []
    for number, stage in enumerate(unfreeze.stages or ()):
        with located(origin, f"unfreeze.stages[{number}]"):
            stages.append(
                Stage(
                    stage.from_epoch,
                    stage.trainable,
                    lr_factor=stage.lr_factor,
                    rewarm_steps=stage.rewarm_steps,
                    freeze_norm=stage.freeze_norm,
                    from_step=stage.from_step,
                )
            )
    made = FineTune(stages, {})
    if unfreeze.from_depth is not None:
        with located(origin, "unfreeze.from_depth"):
            made = FineTune(stages_from_depth(network, **vars(unfreeze.from_depth)), {})
    if unfreeze.fine_tune is not None:
        with located(origin, "unfreeze.fine_tune"):
            made = fine_tune(network, **vars(unfreeze.fine_tune))
    return made.stages, made.groups


def _unfreeze(unfreeze: UnfreezeConfig, stages: Sequence[Stage], origin: Origin) -> StagedUnfreeze:
    with located(origin, "unfreeze"):
        return StagedUnfreeze(
            stages,
            restore_best_between_stages=unfreeze.restore_best_between_stages,
            monitor=unfreeze.monitor,
            mode=unfreeze.mode,
        )


def _scaling(config: Config, groups: Mapping[str, float], origin: Origin) -> ScalerSettings:
    with located(origin, "lr"):
        if config.lr is None:  # fine_tune alone: its groups, at the optimizer's own rate
            return ScalerSettings(groups=tuple(groups.items()))
        own = groups or config.lr.groups
        return ScalerSettings(config.lr.factor, config.lr.warmup_steps, groups=tuple(own.items()))


def _scaler(config: Config, scaling: ScalerSettings, origin: Origin) -> WarmLRScaler:
    with located(origin, "lr"):
        return WarmLRScaler(
            scaling.factor,
            warmup_steps=scaling.warmup_steps,
            groups=dict(scaling.groups) or None,
            on_resume="keep" if config.lr is None else config.lr.on_resume,
        )


def _checkpoints(
    config: Config, classes: Sequence[str] | None, plain: dict[str, Any], origin: Origin
) -> PeriodicCheckpoint:
    checkpoints = config.checkpoints
    assert checkpoints is not None
    assert config.training.run_dir is not None
    labels = {} if classes is None else {"labels": list(classes)}
    with located(origin, "checkpoints"):
        return PeriodicCheckpoint(
            config.training.run_dir,
            save=save_policy(checkpoints.save),
            keep=retention_policy(checkpoints.keep),
            mirror=None if config.mirror is None else _mirror(config.mirror, origin),
            metadata={**labels, **plain["checkpoints"]["metadata"], METADATA: plain},
            save_on_signal=checkpoints.save_on_signal and (checkpoints.signals or True),
            layout=checkpoints.layout,
            on_error=checkpoints.on_error,
        )


def _mirror(mirror: MirrorConfig, origin: Origin) -> Mirror:
    with located(origin, "mirror"):
        return Mirror(
            mirror.url,
            keep=None if mirror.keep is None else retention_policy(mirror.keep),
            max_bytes_per_second=mirror.max_bytes_per_second,
        )


def _visualdl(config: Config, plain: dict[str, Any], origin: Origin) -> WarmVisualDL:
    visualdl = config.visualdl
    assert visualdl is not None
    with located(origin, "visualdl"):
        return WarmVisualDL(
            visualdl.log_dir or str(Path(str(config.training.run_dir)) / "vdl"),
            log_freq=visualdl.log_freq,
            histograms=visualdl.histograms,
            gradient_norm=visualdl.gradient_norm,
            rank_throughput=visualdl.rank_throughput,
            hparams=plain["visualdl"]["hparams"],
        )
