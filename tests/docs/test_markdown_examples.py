"""Run every Python block of the README and the other Markdown files, each alone, in an empty directory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import HAS_PADDLE
from tests.docs.markdown_examples import CodeBlock, code_blocks

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("recipes/**/*.md")})
BLOCKS = [block for path in FILES for block in code_blocks(path) if block.language == "python"]


def _name(block: CodeBlock) -> str:
    return f"{block.path.relative_to(ROOT)}:{block.line}"


@pytest.mark.skipif(not HAS_PADDLE, reason="the examples train")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("block", [block for block in BLOCKS if not block.not_run], ids=_name)
def test_a_block_runs_as_it_stands(block: CodeBlock, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(block.code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", script.name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{_name(block)}\n{done.stdout}\n{done.stderr}"


def test_the_readme_has_a_quick_start_that_is_run() -> None:
    assert [block for block in BLOCKS if block.path == ROOT / "README.md" and not block.not_run]


def _readme_commands() -> list[str]:
    blocks = [
        block for block in code_blocks(ROOT / "README.md") if block.language in ("bash", "console", "sh")
    ]
    lines = "".join(block.code for block in blocks).splitlines()
    return [line.lstrip("$ ").strip() for line in lines if "python3 -m venv" in line]


def test_the_readme_has_two_commands_from_nothing_and_ci_runs_the_one_that_tests() -> None:
    main_job, tests = _readme_commands()
    assert "recipes/resnet50_head_swap/train.py" in main_job
    assert tests.endswith("/tox")
    assert tests in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_extras_and_scripts_that_the_commands_name_exist() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = pyproject[pyproject.index("[project.optional-dependencies]") :]
    for command in _readme_commands():
        for names in re.findall(r"\.\[([\w,]+)\]", command):
            for name in names.split(","):
                assert re.search(rf"^{name} = \[", extras, re.MULTILINE), name
        for script in re.findall(r"\S+\.py\b", command):
            assert (ROOT / script).is_file(), script


def test_a_block_is_found_with_its_line_and_its_reason(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n\n```python\nprint(1)\n```\n\n<!-- not run: needs a bucket -->\n```python\nprint(2)\n```\n",
        encoding="utf-8",
    )
    first, second = code_blocks(page)
    assert (first.line, first.code, first.not_run) == (3, "print(1)\n", "")
    assert (second.line, second.code, second.not_run) == (8, "print(2)\n", "needs a bucket")
