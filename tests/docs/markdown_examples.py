"""Code blocks of Markdown files, and which of them a reader can run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(?P<language>[\w-]*)[^\n]*\n(?P<code>.*?)^```\s*$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!--\s*not run:\s*(?P<reason>\S.*?)\s*-->\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class CodeBlock:
    """One fenced block.

    Attributes:
        path: The Markdown file.
        line: Line of the opening fence, from 1.
        language: What stands behind the fence; may be empty.
        code: The text between the fences.
        not_run: The reason in a ``<!-- not run: reason -->`` comment right above the fence, else empty.
    """

    path: Path
    line: int
    language: str
    code: str
    not_run: str


def code_blocks(path: Path) -> Iterator[CodeBlock]:
    """Yield the fenced code blocks of a Markdown file, in order."""
    text = path.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        reason = _NOT_RUN.search(text[: match.start()])
        yield CodeBlock(
            path=path,
            line=text.count("\n", 0, match.start()) + 1,
            language=match["language"],
            code=match["code"],
            not_run=reason["reason"] if reason else "",
        )
