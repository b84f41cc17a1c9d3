"""A recipe's configuration: defaults, file, command line, and what a slip of the pen is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import pytest
from omegaconf import OmegaConf

from paddle_warm_callbacks.errors import InvalidArgumentError
from recipes.common import config
from recipes.common.config import load_config, require_counts, require_together, require_training

RECIPES = Path(config.__file__).parents[1]
NAMES = sorted(file.parent.name for file in RECIPES.glob("*/config.yaml"))


@dataclass
class Inner:
    """A group of keys."""

    epochs: int = 5
    path: Optional[str] = None  # noqa: UP045 - OmegaConf reads it on Python 3.9 too


@dataclass
class Outer:
    """A recipe's schema in small."""

    output: str = "runs"
    train: Inner = field(default_factory=Inner)


def load(tmp_path: Path, yaml: str, *arguments: str) -> Outer:
    file = tmp_path / "config.yaml"
    file.write_text(yaml, encoding="utf-8")
    return load_config(Outer, file, arguments)


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, "output: here\ntrain: {epochs: 7}", "train.epochs=9", "train.path=a=b")
    assert config == Outer(output="here", train=Inner(epochs=9, path="a=b"))
    assert load(tmp_path, "output: here") == Outer(output="here")


@pytest.mark.parametrize("argument", ["train.epoch=3", "epochs=3", "train.epochs", "=3"])
def test_an_unknown_key_is_told_the_known_ones(tmp_path: Path, argument: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"output, train\.epochs, train\.path") as raised:
        load(tmp_path, "output: here", argument)
    assert argument in str(raised.value)
    assert argument != "train.epoch=3" or "did you mean train.epochs=…?" in str(raised.value)


@pytest.mark.parametrize("argument", ["train=3", "train.epochs=many"])
def test_an_override_that_does_not_fit_is_named(tmp_path: Path, argument: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"by the override '{argument}'"):
        load(tmp_path, "output: here", argument)


@pytest.mark.parametrize("yaml", ["train: {epoch: 3}", "train: {epochs: null}", "train: {epochs: many}"])
def test_a_wrong_type_or_key_names_the_file_the_line_and_the_key(tmp_path: Path, yaml: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"train\.epochs? in .*config\.yaml, line 2"):
        load(tmp_path, f"output: here\n{yaml}")


@pytest.mark.parametrize("recipe", NAMES)
def test_the_file_of_a_recipe_spells_out_every_key_at_its_default(recipe: str) -> None:
    reason = "the recipe's extra is not installed"
    train = pytest.importorskip(f"recipes.{recipe}.train", reason=reason, exc_type=ImportError)
    assert OmegaConf.load(RECIPES / recipe / "config.yaml") == OmegaConf.structured(train.RecipeConfig)


@pytest.mark.parametrize("recipe", NAMES)
def test_the_keys_that_all_recipes_share_are_there(recipe: str) -> None:
    shared = ["output", "checkpoint", "data.train", "data.val", "train.epochs", "train.batch_size"]
    given = OmegaConf.load(RECIPES / recipe / "config.yaml")
    missing = object()
    for key in [*shared, "train.seed", "compare_cold"]:
        assert OmegaConf.select(given, key, default=missing) is not missing, key


def test_a_count_below_one_is_named_and_one_that_is_not_given_is_right() -> None:
    require_counts(Outer(), "train.epochs", "train.path")
    with pytest.raises(InvalidArgumentError, match=r"(?s)train\.epochs.*received: 0.*at least 1"):
        require_counts(Outer(train=Inner(epochs=0)), "train.epochs")


@pytest.mark.parametrize(
    ("key", "value"),
    [("unfreeze", "slowly"), ("old_epochs", 0), ("batch_size", 0), ("lr", 0.0), ("warm_factor", -0.5)],
)
def test_what_nothing_can_be_trained_with_is_named(key: str, value: Any) -> None:
    good = {"unfreeze": "all", "epochs": 1, "old_epochs": 1, "batch_size": 1, "lr": 0.1, "warm_factor": 1.0}
    require_training(SimpleNamespace(train=SimpleNamespace(**good)), {"all": []})
    with pytest.raises(InvalidArgumentError, match=rf"(?s)train\.{key}.*{value}"):
        require_training(SimpleNamespace(train=SimpleNamespace(**{**good, key: value})), {"all": []})


def test_keys_that_belong_together_are_given_together_or_not_at_all() -> None:
    def check(*paths: str | None) -> None:
        first, second = (Inner(path=path) for path in paths)
        config = {"first": first, "second": second}
        require_together(SimpleNamespace(**config), "first.path", "second.path", what="half", expected="both")

    check(None, None)
    check("a", "b")
    with pytest.raises(InvalidArgumentError, match=r"(?s)half.*first\.path=a, second\.path=None.*both"):
        check("a", None)
