"""Sessions in docs/command_line.md, typed again: the commands say what the page says they do."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.typed import typed, write_weights
from tests.conftest import HAS_PADDLE
from tests.docs.markdown_examples import code_blocks
from tests.docs.test_markdown_examples import ROOT

# Those whose output depends on nothing but the files made here; the others show a run's losses and ages.
COMMANDS = ("match", "transplant", "plan")
SESSIONS = [
    block
    for block in code_blocks(ROOT / "docs" / "command_line.md")
    if block.language == "console"
    and (block.code.split()[2] in COMMANDS or "--repair" in block.code.partition("\n")[0])
]
NETWORK = """
import paddle

def make_classifier():
    return paddle.nn.Sequential(("body", paddle.nn.Linear(3, 5)), ("fc", paddle.nn.Linear(5, 3)))
"""
CONFIG = """
model: {arch: resnet18, num_classes: 4}
training: {epochs: 6}
optimizer: {name: AdamW, learning_rate: 0.001, schedule: {name: CosineAnnealingDecay, arguments: {T_max: 60}}}
lr: {factor: 0.5, warmup_steps: 5, groups: {layer4: 0.1}}
unfreeze:
  stages:
    - {from_epoch: 0, trainable: fc}
    - {from_epoch: 2, trainable: "layer4|fc", rewarm_steps: 3}
    - {from_epoch: 4, trainable: ".*", lr_factor: 0.1}
"""


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("nets.py").write_text(NETWORK, encoding="utf-8")
    Path("defects.yaml").write_text(CONFIG, encoding="utf-8")
    Path("old.txt").write_text("scratch\ndent\n", encoding="utf-8")
    Path("new.txt").write_text("dent\nspot\nscratch\n", encoding="utf-8")
    shapes = {"body.weight": (3, 5), "body.bias": (5,), "fc.weight": (5, 2), "fc.bias": (2,)}
    weights: dict[str, Any] = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    write_weights(Path("old.pdparams"), **weights)
    Path("export").mkdir()
    nested = {f"module.{name}": array for name, array in weights.items()}
    write_weights(Path("export/nested.pdparams"), state_dict=nested, epoch=np.zeros(1))
    yield
    sys.modules.pop("nets", None)


@pytest.mark.skipif(not HAS_PADDLE, reason="networks are built")
@pytest.mark.parametrize("block", SESSIONS, ids=lambda block: block.code.split()[2])
def test_a_session_is_as_on_the_page(block: Any) -> None:
    first, _, shown = block.code.partition("\n")
    said = typed(*shlex.split(first)[2:]).stdout
    assert _without_sizes(said) == _without_sizes(shown)


def _without_sizes(text: str) -> list[str]:
    # How many bytes a file has depends on the version of the pickle's writer.
    return [line.rpartition(",")[0] if line.endswith(" B") else line for line in text.splitlines()]


def test_each_of_the_commands_is_shown() -> None:
    assert {block.code.split()[2] for block in SESSIONS} == {*COMMANDS, "doctor"}
