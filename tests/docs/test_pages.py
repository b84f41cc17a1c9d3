"""What the documentation must name, it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import paddle_warm_callbacks
from paddle_warm_callbacks import errors

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_every_error_has_its_row_and_every_row_its_error() -> None:
    rows = re.findall(r"^\| `(\w+Error)` \|", (DOCS / "errors.md").read_text(encoding="utf-8"), re.MULTILINE)
    ours = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type)
        and issubclass(value, errors.WarmCallbacksError)
        and value is not errors.WarmCallbacksError
    ]
    assert sorted(rows) == sorted(ours)


def test_the_guides_name_only_what_is_there() -> None:
    for page in DOCS.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for name in re.findall(
            r"`((?:Warm|Staged|Periodic|Keep|Every|On|Checkpoint|Head|Restore)[A-Z]\w+)", text
        ):
            known = name in paddle_warm_callbacks.__all__ or name in ("OnExceptionCheckpoint",)
            assert known, f"{page.name}: {name}"


@pytest.mark.parametrize("readme", ["README.md", "README_zh.md"])
def test_each_claim_beside_others_is_linked_to_a_test_that_is_there(readme: str) -> None:
    text = (DOCS.parent / readme).read_text(encoding="utf-8")
    heading = text.index("| Lightning |")
    table = text[text.rindex("\n", 0, heading) :].strip().split("\n\n")[0].splitlines()[2:]
    assert len(table) > 15
    for row in table:
        claim, ours, *_ = (cell.strip() for cell in row.strip("|").split("|"))
        link = re.fullmatch(r"\[\S+\]\((tests/\S+)\)", ours)
        assert link is not None, claim
        linked = DOCS.parent / link[1]
        files = [linked] if linked.is_file() else sorted(linked.glob("test_*.py"))
        assert any("\ndef test_" in file.read_text(encoding="utf-8") for file in files), claim


def test_every_page_is_in_the_index_and_every_link_leads_somewhere() -> None:
    listed = set(re.findall(r"^(\w+)$", (DOCS / "index.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert listed == {page.stem for page in DOCS.glob("*.md")} - {"index"}
    for page in (*DOCS.glob("*.md"), DOCS.parent / "CONTRIBUTING.md"):
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            assert "://" in link or (page.parent / link).exists(), f"{page.name}: {link}"
