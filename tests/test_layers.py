"""The import graph keeps to its layers; each rule is shown to fail where it is broken."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from docs.import_graph import PACKAGE, draw, main
from docs.import_layers import Module, cycles, problems, read_package

# A small house that stands: every kind of import that is allowed.
GOOD = {
    "__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.callbacks.warm import Warm\n",
    "__main__.py": "from house.cli.main import main\n",
    "cli/main.py": "from house.callbacks import warm\n",
    "errors.py": "import math\n",
    "progress.py": "from house.errors import Failure\n",
    "plan/__init__.py": "",
    "plan/stages.py": "import re\nfrom house.progress import Progress\nfrom house import errors\n",
    "plan/lr.py": "from house import errors\n",
    "plan/transplant/__init__.py": "from house.plan.transplant.rows import row_map\n",
    "plan/transplant/rows.py": "from house.plan.transplant.rules import Rule\n",
    "plan/transplant/rules.py": "",
    "checkpoint/store.py": "import os, numpy\nfrom house.plan import retention\nimport house.checkpoint.manifest\n",
    "checkpoint/manifest.py": "import json\n",
    "plan/retention.py": "",
    "hapi/freezing.py": "import paddle\nfrom house.checkpoint.store import Store\noptimizer._accumulators\n",
    "callbacks/warm.py": "import paddle\nfrom house.hapi import freezing\nfrom house.plan.lr import LR\n",
}


def build(folder: Path, **changes: str) -> dict[str, Module]:
    house = folder / "house"
    for name, text in {**GOOD, **changes}.items():
        path = house / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return read_package(house)


def test_this_package_keeps_to_its_layers() -> None:
    assert problems(read_package(PACKAGE)) == []


def test_every_file_of_this_package_was_read() -> None:
    modules = read_package(PACKAGE)
    assert len(modules) == len(list(PACKAGE.rglob("*.py")))
    assert "errors" in modules["plan.matching"].imports
    assert "paddle" in modules["hapi.fit_loop"].foreign


def test_a_house_that_stands_has_no_problem(tmp_path: Path) -> None:
    modules = build(tmp_path)
    assert problems(modules) == []
    assert modules["hapi.freezing"].imports == {"checkpoint.store"}
    assert modules["plan.stages"].imports == {"progress", "errors"}
    assert modules["__init__"].imports == {"callbacks.warm"}


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("plan/lr.py", "from house.checkpoint.store import Store", "upward: plan.lr -> checkpoint.store"),
        ("plan/lr.py", "def f():\n    import house.hapi.freezing", "upward: plan.lr -> hapi.freezing"),
        ("errors.py", "from house.plan import lr", "upward: errors -> plan.lr"),
        ("hapi/freezing.py", "from house import Warm", "upward: hapi.freezing -> __init__"),
        ("plan/lr.py", "from house.plan.stages import Stage", "sideways: plan.lr -> plan.stages"),
        ("plan/lr.py", "from house.plan.transplant.rules import Rule", "sideways: plan.lr -> plan.transplant.rules"),
        ("cli/main.py", "from house.config import load", "cli.main imports config, which is not there"),
        ("config/load.py", "from house.cli.main import main", "upward: config.load -> cli.main"),
        ("logs/jsonl.py", "from house.checkpoint import store", "sideways: logs.jsonl -> checkpoint.store"),
        ("plan/transplant/rules.py", "from house.plan.transplant import rows", "a cycle: plan.transplant.r"),
        ("checkpoint/manifest.py", "import house.checkpoint.store", "a cycle: checkpoint.manifest -> checkpoint.store"),
        ("checkpoint/store.py", "import paddle.nn", "checkpoint.store imports paddle"),
        ("plan/lr.py", "from paddle import nn", "plan.lr imports paddle"),
        ("callbacks/warm.py", "optimizer._accumulators", "knows Paddle's private _accumulators"),
        ("callbacks/warm.py", "getattr(p, 'optimize_attr')", "knows Paddle's private optimize_attr"),
        ("plan/lr.py", "import os", "plan.lr imports os: plan is pure"),
        ("plan/lr.py", "from time import monotonic", "plan.lr imports time: plan is pure"),
        ("plan/transplant/rules.py", "import numpy as np", "imports numpy: plan is pure"),
        ("errors.py", "import logging", "errors imports logging: ground is pure"),
        ("plan/lr.py", "text = open('x').read()", "plan.lr calls open(): plan is pure"),
        ("plan/lr.py", "from .stages import Stage", "plan.lr imports by a relative name"),
        ("hapi/freezing.py", "from recipes.resnet import train", "imports recipes"),
        ("helpers/misc.py", "", "'helpers' is in no layer"),
        ("hapi/freezing.py", "from house.plan.gone import x", "imports plan.gone, which is not there"),
    ],
)  # fmt: skip
def test_each_rule_fails_where_it_is_broken(tmp_path: Path, file: str, text: str, says: str) -> None:
    found = problems(build(tmp_path, **{file: text}))
    assert len(found) >= 1
    assert any(says in line for line in found), found


def test_a_long_cycle_is_told_in_order() -> None:
    ring = {"plan.a": "plan.b", "plan.b": "plan.c", "plan.c": "plan.a", "plan.d": "plan.a"}
    empty: frozenset[str] = frozenset()
    modules = {name: Module(name, frozenset({other}), empty, empty, empty) for name, other in ring.items()}
    assert cycles(modules) == [["plan.a", "plan.b", "plan.c"]]


def test_the_command_exits_1_on_a_broken_graph_and_0_on_a_good_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(tmp_path)
    assert main(["--check", "--package", str(tmp_path / "house")]) == 0
    assert "the layers hold" in capsys.readouterr().out
    build(tmp_path, **{"plan/lr.py": "import house.hapi.freezing"})
    assert main(["--check", "--package", str(tmp_path / "house")]) == 1
    assert "upward: plan.lr -> hapi.freezing" in capsys.readouterr().out


def test_the_picture_shows_every_module_and_paints_only_wrong_arrows_red(tmp_path: Path) -> None:
    good = build(tmp_path)
    picture = tmp_path / "graph.svg"
    script = PACKAGE.parent / "docs" / "import_graph.py"
    command = [sys.executable, str(script), "--package", str(tmp_path / "house"), "--output", str(picture)]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    text = picture.read_text(encoding="utf-8")
    shown = {
        (title.text or "").splitlines()[0]
        for title in ET.fromstring(text).iter("{http://www.w3.org/2000/svg}title")
    }
    assert set(good) - {"plan"} <= shown  # an empty __init__ is not drawn
    assert "hapi.freezing -> checkpoint.store" in shown
    assert text.count("url(#bad)") == 0
    wrong = build(
        tmp_path, **{"plan/lr.py": "import house.hapi.freezing", "errors.py": "import house.progress"}
    )
    assert draw(wrong).count("url(#bad)") == 2
