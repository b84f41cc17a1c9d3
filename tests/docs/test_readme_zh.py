"""The Chinese README says what the English one does: the same code, commands, links, and rows of tables."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.markdown_examples import code_blocks

ROOT = Path(__file__).resolve().parents[2]
ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README_zh.md"


def _code(path: Path) -> list[tuple[str, list[str]]]:
    return [
        (block.language, [line for line in block.code.splitlines() if not line.startswith("#")])
        for block in code_blocks(path)
    ]


def _links(path: Path) -> list[str]:
    found = re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
    return sorted(link for link in found if not link.startswith("README"))


def _shape(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line[: line.index(" ")] for line in lines if line.startswith(("# ", "## ", "| ", "|-"))
            and " " in line]  # fmt: skip


def test_the_code_and_the_commands_are_the_same() -> None:
    assert _code(CHINESE) == _code(ENGLISH)


def test_the_links_are_the_same_and_lead_somewhere() -> None:
    assert _links(CHINESE) == _links(ENGLISH)
    assert [link for link in _links(ENGLISH) if not (ROOT / link.partition("#")[0]).exists()] == []


def test_the_headings_and_tables_are_the_same() -> None:
    assert _shape(CHINESE) == _shape(ENGLISH)
