"""The JSON Schema: in step with the code, and of one mind with the loader; every YAML of the repository is valid."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
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
        "optimizer": ["optimizer.schedule.name=StepDecay"],
    }
    for path, node in paths(structure_of(Config)):
        if node.kind == VALUE and node.default not in (None, "???") and "[]" not in path:
            load(Config, {}, [*required.get(path.partition(".")[0], []), f"{path}={node.default}"])


@dataclass(frozen=True)
class Example:
    """One YAML that readers will copy."""

    name: str
    text: str
    schema: type


def _recipe_schema(path: Path) -> type | None:
    """Return the dataclass that the recipe's ``train.py`` loads ``path`` by; None if it is loaded otherwise."""
    train = importlib.import_module(f"recipes.{path.relative_to(ROOT / 'recipes').parts[0]}.train")
    found: type | None = getattr(train, "RecipeConfig", None)
    return found if is_dataclass(found) and path.name.startswith("config") else None


def _examples() -> Iterator[Example]:
    for path in sorted({*ROOT.glob("*.yaml"), *ROOT.glob("[!.]*/**/*.yaml"), *ROOT.glob("[!.]*/**/*.yml")}):
        parts = path.relative_to(ROOT).parts
        if any(part.startswith((".", "_")) or part == "runs" for part in parts):
            continue
        if parts[0] == "recipes":
            schema = _recipe_schema(path)
            if schema is not None:
                yield Example(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"), schema)
        elif parts[0] == "docs":
            yield Example(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"), Config)
    for page in sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")}):
        for block in code_blocks(page):
            if block.language == "yaml" and not block.not_run:
                yield Example(f"{page.relative_to(ROOT)}:{block.line}", block.code, Config)


def test_every_yaml_of_the_repository_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNS", "runs")
    monkeypatch.setenv("BUCKET", "s3://bucket")
    found = list(_examples())
    names = [example.name for example in found]
    assert "recipes/resnet50_head_swap/config.yaml" in names
    assert sum(name.startswith("docs/configuration.md") for name in names) >= 2
    for example in found:
        path = tmp_path / "config.yaml"
        path.write_text(example.text, encoding="utf-8")
        try:
            load(example.schema, path)
        except InvalidArgumentError as error:
            raise AssertionError(f"{example.name}: {error}") from error
        if example.schema is Config:
            assert valid(OmegaConf.to_container(OmegaConf.create(example.text))), example.name
