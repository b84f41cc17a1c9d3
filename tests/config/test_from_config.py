"""``from_config``: what the YAML asks for is what trains, is stored with checkpoints, and is compared at a resume."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from omegaconf import OmegaConf
from PIL import Image

from paddle_warm_callbacks import (
    CheckpointStore,
    EveryNEpochs,
    EveryNSeconds,
    EveryNSteps,
    HeadTransplant,
    InvalidArgumentError,
    KeepBest,
    KeepEvery,
    KeepLatest,
    Mirror,
    OnException,
    OnNewBest,
    PatternError,
    SourceError,
    Stage,
    from_config,
)
from paddle_warm_callbacks.config.building import Setup
from paddle_warm_callbacks.config.record import ConfigRecord
from tests.callbacks.runs import Points, model
from tests.config.written import write

pytestmark = pytest.mark.usefixtures("inside")

SEED = """
model: {arch: resnet50, pretrained: true, checkpoint: s3://models/v3/best.pdparams}
training: {resume_from: latest}
"""
SOURCE = "model: {checkpoint: old.pdparams}\n"


def kinds(setup: Setup) -> list[str]:
    return [type(callback).__name__ for callback in setup.callbacks]


class _MemoryS3(MemoryFileSystem):  # type: ignore[misc]  # fsspec is untyped
    """S3's URLs, in this process's memory."""

    protocol = "s3"
    store: dict[str, Any] = {}  # noqa: RUF012  # as in its parent

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.split("://")[-1].strip("/")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> _MemoryS3:
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "s3", _MemoryS3)
    return _MemoryS3()


class Pictures(paddle.io.Dataset):  # type: ignore[misc]  # Paddle is untyped
    """Two pictures of noise."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return np.full((3, 32, 32), index, "float32"), np.array([index], "int64")


def test_the_yaml_of_the_seed_works_as_it_stands(
    s3: _MemoryS3, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PADDLE_WARM_CALLBACKS_CACHE", str(tmp_path / "cache"))
    caplog.set_level(logging.INFO, "paddle_warm_callbacks")
    paddle.seed(3)
    best = paddle.vision.models.resnet50()
    paddle.save(best.state_dict(), "best.pdparams")
    s3.put("best.pdparams", "s3://models/v3/best.pdparams")
    loaded: list[bytes] = []

    class AtBegin(paddle.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
            if not loaded:
                loaded.append(self.model.network.state_dict()["fc.weight"].numpy().tobytes())

    for _ in range(2):
        setup = from_config(write(SEED, "defects.yaml"))
        assert kinds(setup) == ["WarmStartCallback", "ConfigRecord", "PeriodicCheckpoint"]
        made = paddle.Model(setup.network)
        made.prepare(
            paddle.optimizer.SGD(0.1, parameters=setup.network.parameters()), paddle.nn.CrossEntropyLoss()
        )
        made.fit(Pictures(), batch_size=2, epochs=1, verbose=0, callbacks=[*setup.callbacks, AtBegin()])
    assert loaded == [best.state_dict()["fc.weight"].numpy().tobytes()]
    assert (
        "start: warm, from s3://models/v3/best.pdparams\n  not resumed: runs/defects has no checkpoint yet"
        in caplog.text
    )
    assert "not pretrained (paddle.vision:resnet50): the checkpoint given goes before it" in caplog.text
    assert "start: resumed, latest: " in caplog.text
    assert (
        "not warm from s3://models/v3/best.pdparams: this run's own checkpoint goes before it" in caplog.text
    )
    assert CheckpointStore("runs/defects").latest_verified() is not None


def test_every_section_reaches_its_callback() -> None:
    yaml = """
model: {arch: resnet18, checkpoint: old.pdparams}
training: {run_dir: runs/a, on_change: adapt, seed_samples: 3, epochs: 9, seed: 1}
optimizer: {name: Momentum, learning_rate: 0.5, schedule: {name: StepDecay, arguments: {step_size: 2}}}
warm_start: {exclude: conv1, rename: {"^a": b}, convert: torch, part: ema, min_loaded: 0.25}
head: {key: fc, old_labels: [x], new_labels: [y, x], new_rows: zero, rename: {}}
unfreeze: {stages: [{from_epoch: 0, trainable: fc, rewarm_steps: 3}, {from_epoch: 2, trainable: [layer4, fc]}]}
lr: {factor: 0.2, warmup_steps: 7, groups: {layer4: 0.1}, on_resume: rewarm}
checkpoints:
  save: {every_steps: 5, every_seconds: 60, new_best: acc, on_exception: true}
  keep: {latest: 2, best: loss, mode: min, best_n: 4, every_epochs: 3}
  metadata: {note: second try}
  save_on_signal: false
  on_error: warn
  layout: shards
mirror: {url: memory://bucket/a, keep: {latest: 9}, max_bytes_per_second: 1000}
visualdl: {log_freq: 3, gradient_norm: true, rank_throughput: true, hparams: {augmentation: flips}}
"""
    setup = from_config(write(yaml))
    start, record, scaler, unfreeze, checkpoints, board = setup.callbacks
    assert (start._source, start._pretrained, start._resume_from) == ("old.pdparams", None, "latest")
    assert (start._on_change, start._seed_samples, start._min_loaded) == ("adapt", 3, 0.25)
    assert (start._exclude, start._rename, start._convert, start._part) == (
        ("conv1",),
        {"^a": "b"},
        "torch",
        "ema",
    )
    assert start._head == HeadTransplant("fc", ["x"], ["y", "x"], new_rows="zero")
    assert isinstance(record, ConfigRecord)
    assert (scaler._written.factor, scaler._written.warmup_steps, scaler._on_resume) == (0.2, 7, "rewarm")
    assert scaler._written.groups == (("layer4", 0.1),)
    stages = Stage(0, "fc", rewarm_steps=3), Stage(2, ["layer4", "fc"])
    assert unfreeze._plan.stages == stages
    due = EveryNEpochs(1) | EveryNSteps(5) | EveryNSeconds(60) | OnNewBest("acc") | OnException()
    assert checkpoints._save == due
    assert checkpoints._keep == KeepLatest(2) | KeepBest("loss", "min", 4) | KeepEvery(3)
    assert checkpoints._mirror == Mirror("memory://bucket/a", keep=KeepLatest(9), max_bytes_per_second=1000)
    assert (checkpoints._signal, checkpoints._raises) == (None, False)
    assert checkpoints._store._layout == "shards"
    assert checkpoints._metadata == {"labels": ["y", "x"], "note": "second try", "config": setup.plain}
    assert (str(board._directory), board._log_freq, board._wants_norm) == ("runs/a/vdl", 3, True)
    assert board._hparams == {"augmentation": "flips"}
    assert board._of_each_rank
    assert setup.network.fc.weight.shape == [512, 2]  # as many as labels
    assert type(setup.optimizer).__name__ == "Momentum"
    assert setup.optimizer.get_lr() == 0.5
    assert len(setup.optimizer._parameter_list) == len(setup.network.parameters())
    assert setup.config.training.epochs == 9


def test_pretrained_is_taken_where_no_checkpoint_is_given() -> None:
    start = from_config({"model": {"arch": "resnet18", "pretrained": True}}).callbacks[0]
    assert (start._source, start._pretrained) == (None, "paddle.vision:resnet18")


def test_names_of_the_registry_get_its_root() -> None:
    def source(checkpoint: str, root: str | None = "s3://models/registry") -> str:
        config = {"model": {"checkpoint": checkpoint}, "registry": {"root": root}}
        return str(from_config(config).callbacks[0]._source)

    assert source("registry://defects@3") == "registry://defects@3?root=s3://models/registry"
    assert source("registry://defects@3?root=/a") == "registry://defects@3?root=/a"
    assert source("registry://defects@3", None) == "registry://defects@3"
    assert source("old.pdparams") == "old.pdparams"


def test_without_a_model_section_the_scripts_network_is_used() -> None:
    network = model().network
    config = {"unfreeze": {"from_depth": {"n": 2, "epochs_per_stage": 2}}, "optimizer": {"name": "SGD"}}
    setup = from_config(config, network=network)
    assert setup.network is network
    assert [s.trainable for s in setup.callbacks[2]._plan.stages] == [(r"^fc(\.|$)",), (".*",)]
    assert len(setup.optimizer._parameter_list) == 4
    alone = from_config({"lr": {"factor": 0.5}, "checkpoints": None})
    assert (alone.network, alone.optimizer, kinds(alone)) == (
        None,
        None,
        ["WarmStartCallback", "ConfigRecord", "WarmLRScaler"],
    )
    assert alone.config.training.run_dir == "runs/default"


def test_fine_tune_brings_the_groups_of_the_learning_rate() -> None:
    network = model().network
    setup = from_config({"unfreeze": {"fine_tune": {"n": 2, "lr_mult": 10}}}, network=network)
    scaler, unfreeze = setup.callbacks[2:4]
    assert dict(scaler._written.groups) == {r"^fc(\.|$)": 1.0, r"^body(\.|$)": 0.1}
    assert (scaler._written.factor, len(unfreeze._plan.stages)) == (1.0, 2)
    assert (
        from_config({"unfreeze": {"fine_tune": {"n": 2}}, "lr": {"factor": 0.5}}, network=network)
        .callbacks[2]
        ._written.factor
        == 0.5
    )


def test_a_seed_makes_the_network_the_same() -> None:
    def weights(seed: int) -> bytes:
        network = from_config({"model": {"arch": "resnet18"}, "training": {"seed": seed}}).network
        found: bytes = network.state_dict()["conv1.weight"].numpy().tobytes()
        return found

    assert weights(1) == weights(1) != weights(2)


def test_labels_come_from_files() -> None:
    Path("new.txt").write_text("cat\ndog\n", encoding="utf-8")
    head = {"key": "fc", "new_labels": "new.txt", "old_labels": ["dog"]}
    setup = from_config({"model": {"arch": "resnet18", "checkpoint": "a.pdparams"}, "head": head})
    assert setup.callbacks[0]._head.new_labels == ("cat", "dog")
    with pytest.raises(SourceError, match=r"head\.new_labels in the configuration given"):
        from_config({"model": {"checkpoint": "a"}, "head": {**head, "new_labels": "gone.txt"}})


@pytest.mark.parametrize(
    ("yaml", "where"),
    [
        ("unfreeze:\n  stages:\n  - {trainable: fc}", "unfreeze.stages[0] in config.yaml, line 3 (Stage("),
        (
            "unfreeze:\n  stages:\n  - {trainable: fc, from_epoch: 2}",
            "unfreeze in config.yaml, line 1 (stages)",
        ),
        ("lr: {on_resume: rewarm}", "lr in config.yaml, line 1 (WarmLRScaler("),
        (
            "model: {checkpoint: a}\nhead: {key: fc, new_labels: [a, a]}",
            "head in config.yaml, line 2 (HeadTransplant(",
        ),
        ("model: {arch: resnet51}", "model.arch in config.yaml, line 1"),
        (
            "model: {arch: resnet18}\noptimizer: {name: Adan}",
            "optimizer.name in config.yaml, line 2",
        ),
    ],
)
def test_what_a_callback_refuses_is_told_with_the_line_of_the_yaml(yaml: str, where: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        from_config(write(yaml))
    assert raised.value.where.startswith(where)


def test_overrides_and_dictconfigs_are_taken_as_hydra_gives_them() -> None:
    config = OmegaConf.create(
        {"model": {"arch": "resnet18", "num_classes": "${user.classes}"}, "user": {"classes": 3}}
    )
    OmegaConf.set_struct(config, True)
    assert from_config(config, ["user.classes=5"]).network.fc.weight.shape == [512, 5]
    assert config.user.classes == 3
    assert len(Points()) > 0


@pytest.mark.parametrize("text", ["", "# training: {epochs: 3}\n"])
def test_an_empty_file_is_a_slip_and_nothing_given_on_purpose_is_none(text: str) -> None:
    path = write(text)
    with pytest.raises(InvalidArgumentError, match="the configuration is empty") as caught:
        from_config(path)
    assert "training: {run_dir: runs/defects, epochs: 30}" in caught.value.remedy
    assert from_config(path, ["training.epochs=3"]).config.training.epochs == 3
    assert from_config({}).config.training.epochs is None


@pytest.mark.parametrize(
    ("yaml", "where", "remedy"),
    [
        (
            "unfreeze:\n  stages:\n  - {from_epoch: 0, trainable: fcc}",
            "unfreeze.stages[0].trainable in {}, line 3",
            "'fc",
        ),
        ("lr:\n  groups:\n    bdoy: 0.1", "lr.groups in {}, line 2", "'body"),
        (f"{SOURCE}warm_start:\n  exclude: fcc", "warm_start.exclude in {}, line 3", "'fc"),
        (
            f"{SOURCE}head:\n  key: head\n  old_labels: [a]\n  new_labels: [a]",
            "head.key in {}, line 3",
            "HeadTransplant('fc', …)",
        ),
    ],
)
def test_a_pattern_that_names_nothing_of_the_network_is_told_with_its_line(
    yaml: str, where: str, remedy: str
) -> None:
    path = write(yaml)
    with pytest.raises(PatternError) as caught:
        from_config(path, network=model(2).network)
    assert where.format(path) in caught.value.where
    assert remedy in caught.value.remedy
    from_config(path)  # without a network there is nothing to compare with


DATA = """
model: {arch: squeezenet1_1}
data: {train: images, val: images, image_size: 32}
training: {epochs: 2, batch_size: 2, seed: 0, run_dir: runs/images}
optimizer: {name: SGD, learning_rate: 0.01}
"""


def images(root: str = "images", **classes: int) -> None:
    for number, (name, count) in enumerate((classes or {"dent": 3, "scratch": 2}).items()):
        Path(root, name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (9, 7), color=(60 * number, 9 * index, 0)).save(Path(root, name, f"{index}.png"))


def test_a_whole_training_from_yaml_alone_and_its_labels_for_the_next() -> None:
    images()
    setup = from_config(write(DATA))
    assert setup.classes == ["dent", "scratch"]
    arguments = setup.fit_arguments
    assert {name: arguments[name] for name in ("epochs", "batch_size", "num_workers")} == {
        "epochs": 2, "batch_size": 2, "num_workers": 0,
    }  # fmt: skip
    of = paddle.Model(setup.network)
    of.prepare(setup.optimizer, paddle.nn.CrossEntropyLoss(), paddle.metric.Accuracy())
    of.fit(**arguments, verbose=0)
    saved = CheckpointStore("runs/images").latest_verified()
    assert saved is not None
    assert (saved.progress.epoch, saved.progress.global_step) == (2, 6)
    assert "acc" in saved.manifest.metrics  # it was evaluated
    assert saved.manifest.metadata["labels"] == ["dent", "scratch"]
    images("more", dent=1, rust=1, scratch=1)
    head = "head: {key: _conv9, new_labels: [scratch, dent, rust], layout: conv}\n"
    more = f"model: {{arch: squeezenet1_1, checkpoint: runs/images}}\ndata: {{train: more, image_size: 32}}\n{head}"
    next_one = from_config(write(more))
    assert next_one.classes == ("scratch", "dent", "rust")
    assert [int(label[0]) for _, label in (next_one.train_data[n] for n in range(3))] == [1, 2, 0]
    assert "eval_data" not in next_one.fit_arguments
    of = paddle.Model(next_one.network)
    of.prepare(paddle.optimizer.SGD(0.0, parameters=of.parameters()), paddle.nn.CrossEntropyLoss())
    of.fit(**next_one.fit_arguments, verbose=0)
    old = saved.read_model()["_conv9.bias"]
    assert np.array_equal(next_one.network.state_dict()["_conv9.bias"].numpy()[:2], old[[1, 0]])


def test_without_data_fit_is_told_only_what_the_yaml_says() -> None:
    assert list(from_config({}).fit_arguments) == ["callbacks"]
    assert list(from_config({"training": {"epochs": 3}}).fit_arguments) == ["epochs", "callbacks"]


@pytest.mark.parametrize(
    ("yaml", "says"),
    [
        ("data: {train: image}", "no such folder"),
        ("data: {train: images, val: gone}", "no such folder"),
        ("data: {train: images, classes: [dent, rust]}", "no folder for rust"),
        ("data: {train: images, size: 3}", "did you mean data.image_size?"),
        ("data: {val: images}", "a setting without a default is missing"),
        ("model: {arch: resnet18, num_classes: 3}\ndata: {train: images}", "3, and 2 classes: dent, scratch"),
        (
            f"{SOURCE}head: {{key: fc, new_labels: [a, b]}}\ndata: {{train: images, classes: [b, a]}}",
            "leave data.classes out",
        ),
        ("data: images", "write it so: data: {train: images/train, val: images/val}"),
    ],
)
def test_data_that_cannot_be_is_told(yaml: str, says: str) -> None:
    images()
    assert from_config({"data": {"train": "images", "classes": ["scratch"]}}).classes == ["scratch"]
    with pytest.raises((SourceError, InvalidArgumentError), match=re.escape(says)):
        from_config(write(yaml))
