"""Settings that contradict each other, or would have no effect, are refused before anything is built."""

from __future__ import annotations

from typing import Any

import pytest

from paddle_warm_callbacks.config.checks import require_consistent
from paddle_warm_callbacks.config.loading import load
from paddle_warm_callbacks.config.schema import Config
from paddle_warm_callbacks.errors import InvalidArgumentError

STAGE = {"trainable": "fc", "from_epoch": 0}
HEAD = {"key": "fc", "new_labels": ["a", "b"], "old_labels": ["b"]}
SOURCE = {"model": {"arch": "resnet18", "checkpoint": "old.pdparams"}}
ARCH: dict[str, Any] = {"arch": "resnet18"}


def check(config: dict[str, Any], *, has_network: bool = False) -> None:
    loaded = load(Config, config)
    require_consistent(loaded.values, loaded.origin, has_network=has_network)


# What is wrong, where, what is said, and what is changed to make it right.
CASES: list[tuple[dict[str, Any], str, str, dict[str, Any]]] = [
    (
        {"model": {"pretrained": True}},
        "model.pretrained",
        "of which network?",
        {"model": {**ARCH, "pretrained": True}},
    ),
    ({"head": HEAD}, "head", "there are none to load", SOURCE),
    ({"warm_start": {"exclude": "fc"}}, "warm_start", "there are none to load", SOURCE),
    (
        {"model": {"num_classes": 3}},
        "model.num_classes",
        "not built here",
        {"model": {**ARCH, "num_classes": 3}},
    ),
    (
        {"model": {"arguments": {"a": 1}}},
        "model.arguments",
        "not built here",
        {"model": {**ARCH, "arguments": {}}},
    ),
    ({"optimizer": {}}, "optimizer", "network=", {"model": ARCH}),
    ({"unfreeze": {"from_depth": {}}}, "unfreeze", "network=", {"model": ARCH}),
    (
        {"head": {**HEAD, "old_labels": None}, "model": {**ARCH, "pretrained": True}},
        "head.old_labels",
        "do not say their labels",
        SOURCE,
    ),
    (
        {"head": HEAD, "model": {**ARCH, "checkpoint": "a", "num_classes": 3}},
        "model.num_classes",
        "3, and 2 head.new_labels",
        {"model": {**ARCH, "checkpoint": "a", "num_classes": 2}},
    ),
    ({"unfreeze": {}}, "unfreeze", "none of them", {"unfreeze": {"stages": [STAGE]}}),
    (
        {"unfreeze": {"stages": [STAGE], "from_depth": {}}, "model": ARCH},
        "unfreeze",
        "stages and from_depth",
        {"unfreeze": {"from_depth": {}}},
    ),
    (
        {"unfreeze": {"fine_tune": {}}, "model": ARCH, "lr": {"groups": {"fc": 1}}},
        "lr.groups",
        "makes the groups of the learning rate itself",
        {"lr": {"factor": 1}},
    ),
    (
        {"unfreeze": {"stages": [STAGE, {"trainable": "a", "from_epoch": 3}]}, "training": {"epochs": 3}},
        "unfreeze.stages[1].from_epoch",
        "3, and training.epochs is 3",
        {"training": {"epochs": 4}},
    ),
    (
        {"checkpoints": {"save": {"every_epochs": None}}},
        "checkpoints.save",
        "no occasion",
        {"checkpoints": {"save": {"every_epochs": None, "on_exception": True}}},
    ),
    (
        {"training": {"resume_from": "best"}},
        "training.resume_from",
        "by which metric?",
        {"checkpoints": {"keep": {"best": "acc"}}},
    ),
    (
        {"mirror": {"url": "memory://a"}, "checkpoints": None},
        "mirror",
        "no checkpoints to copy",
        {"checkpoints": {}},
    ),
    (
        {"checkpoints": {"signals": ["SIGUSR2"], "save_on_signal": False}},
        "checkpoints.signals",
        "none is listened to",
        {"checkpoints": {"signals": ["SIGUSR2"]}},
    ),
    (
        {"training": {"run_dir": "s3://bucket/run"}, "visualdl": {}},
        "visualdl.log_dir",
        "training.run_dir is s3://bucket/run",
        {"visualdl": {"log_dir": "logs"}},
    ),
]


@pytest.mark.parametrize(("wrong", "where", "says", "mended"), CASES)
def test_each_contradiction_is_named_and_its_control_is_fine(
    wrong: dict[str, Any], where: str, says: str, mended: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        check(wrong)
    assert raised.value.where == f"{where} in the configuration given"
    assert says in str(raised.value)
    check({**wrong, **mended})


def test_a_network_of_the_scripts_own_is_enough() -> None:
    check({"optimizer": {}, "unfreeze": {"fine_tune": {}}}, has_network=True)
    check({"checkpoints": None, "training": {"resume_from": "best"}})
