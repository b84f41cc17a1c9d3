"""What the documentation must name, it names."""

from __future__ import annotations

import re
from pathlib import Path

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
