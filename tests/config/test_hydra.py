"""Hydra composes the configuration from groups, and ``from_config`` takes what it made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from paddle_warm_callbacks import InvalidArgumentError, from_config
from paddle_warm_callbacks.config.schema import Config
from tests.docs.markdown_examples import code_blocks

hydra = pytest.importorskip("hydra", reason="Hydra is not installed")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of the documentation's example; its script lies beside."""
    for block in code_blocks(ROOT / "docs" / "configuration.md"):
        name, _, rest = block.code.partition("\n")
        if name.startswith(("# conf/", "# train.py")):
            path = tmp_path / name[2:]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(rest, encoding="utf-8")
    (tmp_path / "conf" / "unfreeze" / "depth.yaml").write_text("from_depth: {n: 2}\n", encoding="utf-8")
    return tmp_path / "conf"


def composed(folder: Path, *overrides: str) -> Any:
    with hydra.initialize_config_dir(str(folder), version_base="1.3"):
        return hydra.compose("config", overrides=list(overrides))


def test_groups_and_overrides_are_composed(folder: Path) -> None:
    setup = from_config(composed(folder))
    assert (setup.config.model.arch, setup.config.training.run_dir) == ("resnet18", "runs/defects")
    other = from_config(
        composed(folder, "model=mobilenet", "unfreeze=depth", "user.name=x", "+lr.factor=0.5")
    )
    assert other.config.model.arguments == {"scale": 0.25}
    assert other.config.training.run_dir == "runs/x"
    assert other.config.unfreeze is not None
    assert other.config.unfreeze.stages is None
    assert [type(callback).__name__ for callback in other.callbacks[2:4]] == [
        "WarmLRScaler",
        "StagedUnfreeze",
    ]


def test_the_script_of_the_documentation_runs(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "train.py", "model=mobilenet", "user.name=x", "+lr.factor=0.5"],
        cwd=folder.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names = ["WarmStartCallback", "ConfigRecord", "WarmLRScaler", "StagedUnfreeze", "PeriodicCheckpoint"]
    assert done.stdout.splitlines()[-1] == f"mobilenet_v2 runs/x {names}"


def test_a_slip_in_a_group_is_told_as_in_one_file(folder: Path) -> None:
    (folder / "model" / "resnet18.yaml").write_text("archi: resnet18\n", encoding="utf-8")
    with pytest.raises(InvalidArgumentError, match=r"did you mean model\.arch\?"):
        from_config(composed(folder))


def test_our_dataclasses_are_a_schema_for_hydras_store(folder: Path) -> None:
    from hydra.core.config_store import ConfigStore
    from hydra.errors import ConfigCompositionException

    ConfigStore.instance().store(name="warm_callbacks", node=Config)
    main = folder / "config.yaml"
    main.write_text(
        main.read_text(encoding="utf-8").replace("defaults:", "defaults:\n  - warm_callbacks"),
        encoding="utf-8",
    )
    config = composed(folder, "checkpoints.keep.latest=7")
    assert config.checkpoints.save.every_epochs == 1
    assert from_config(config).config.checkpoints.keep.latest == 7  # type: ignore[union-attr]
    with pytest.raises(ConfigCompositionException, match="latst"):
        composed(folder, "checkpoints.keep.latst=7")
