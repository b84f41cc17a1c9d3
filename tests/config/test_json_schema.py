"""The JSON Schema: in step with the code, and of one mind with the loader; every YAML of the repository is valid."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from omegaconf import OmegaConf

from paddle_warm_callbacks.config import json_schema
from paddle_warm_callbacks.config.loading import load
from paddle_warm_callbacks.config.schema import Config
from paddle_warm_callbacks.config.structure import SECTION, VALUE, find, paths, structure_of
from paddle_warm_callbacks.errors import InvalidArgumentError
from tests.docs.markdown_examples import code_blocks

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (
    "python -m paddle_warm_callbacks.config.json_schema > paddle_warm_callbacks/config/config.schema.json"
)


def test_the_file_is_what_the_code_says() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "paddle_warm_callbacks.config.json_schema"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert json_schema.FILE.read_text(encoding="utf-8") == printed, f"out of step: {COMMAND}"
    jsonschema.Draft202012Validator.check_schema(json.loads(printed))


def valid(config: Any) -> bool:
    found: bool = jsonschema.Draft202012Validator(json_schema.json_schema()).is_valid(config)
    return found


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"model": {"arch": "resnet50", "pretrained": True, "checkpoint": "s3://models/v3/best.pdparams"}},
        {"training": {"epochs": "${oc.env:EPOCHS}"}, "lr": None, "user": {"any": [{"thing": 1}]}},
        {"lr": {"groups": {"fc": 1, "body": 0.5}}, "head": {"key": "fc", "new_labels": "labels.txt"}},
        {
            "unfreeze": {
                "stages": [{"trainable": "fc", "from_epoch": 0}, {"trainable": ["a"], "from_epoch": 1}]
            }
        },
    ],
)
def test_what_the_loader_takes_is_valid(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPOCHS", "3")
    load(Config, config)
    assert valid(config)


@pytest.mark.parametrize(
    "config",
    [
        {"trainig": {}},
        {"training": {"epochs": 0}},
        {"training": {"epochs": "many"}},
        {"lr": {"factor": 0}},
        {"lr": {"on_resume": "kep"}},
        {"lr": {"groups": {"fc": -1}}},
        {"warm_start": {"min_loaded": 2}},
        {"head": {"key": "fc"}},
        {"head": {"key": "fc", "new_labels": [1]}},
        {"unfreeze": {"stages": [{"trainble": "fc"}]}},
        {"checkpoints": {"keep": None}},
        {"user": []},
    ],
)
def test_what_the_loader_refuses_is_not(config: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        load(Config, config)
    assert not valid(config)


def test_every_setting_says_what_it_is_for_and_what_a_change_of_it_means_at_a_resume() -> None:
    for path, node in paths(structure_of(Config), sections=True):
        assert node.metadata["about"].endswith((".", "null.")), path
        assert node.kind == SECTION or node.metadata["on_resume"], path
        assert find(structure_of(Config), path.replace("[]", "[0]")) == node


def test_the_defaults_are_within_their_own_bounds() -> None:
    required = {
        "head": ["head.key=fc", "head.new_labels=[a]"],
        "data": ["data.train=images"],
        "optimizer": ["optimizer.schedule.name=StepDecay"],
        "mirror": ["mirror.url=memory://a"],
    }
    for path, node in paths(structure_of(Config)):
        if node.kind == VALUE and node.default not in (None, "???") and "[]" not in path:
            load(Config, {}, [*required.get(path.partition(".")[0], []), f"{path}={node.default}"])


# Where no test of this file has to look: other tools' files, and what runs leave behind.
_OTHERS = ("recipes/detection/detectors/",)


def _yaml_files() -> list[str]:
    found = sorted({*ROOT.glob("*.y*ml"), *ROOT.glob("[!.]*/**/*.y*ml")})
    names = [path.relative_to(ROOT).as_posix() for path in found]
    return [
        name
        for name in names
        if not name.startswith(_OTHERS)
        and not any(part[0] in "._" or part == "runs" for part in name.split("/"))
    ]


def test_every_yaml_file_of_the_repository_is_a_recipes() -> None:
    files = _yaml_files()
    assert "recipes/resnet50_head_swap/config.yaml" in files
    assert [name for name in files if not name.startswith("recipes/")] == []


@pytest.mark.parametrize("name", _yaml_files())
def test_a_recipes_yaml_is_valid(name: str) -> None:
    train = pytest.importorskip(
        f"recipes.{name.split('/')[1]}.train",
        reason="the recipe's extra is not installed",
        exc_type=ImportError,
    )
    load(train.RecipeConfig, ROOT / name)


def test_every_yaml_in_the_documentation_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNS", "runs")
    blocks = [
        block
        for page in sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")})
        for block in code_blocks(page)
        if block.language == "yaml" and not block.not_run
    ]
    assert sum(block.path.name == "configuration.md" for block in blocks) >= 2
    for block in blocks:
        path = tmp_path / "config.yaml"
        path.write_text(block.code, encoding="utf-8")
        try:
            load(Config, path)
        except InvalidArgumentError as error:
            raise AssertionError(f"{block.path.name}:{block.line}: {error}") from error
        assert valid(OmegaConf.to_container(OmegaConf.create(block.code))), f"{block.path.name}:{block.line}"
