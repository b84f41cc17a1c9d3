"""Labels from files: three kinds, and what is said of a file that is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from paddle_warm_callbacks.checkpoint.label_files import read_labels
from paddle_warm_callbacks.errors import InvalidArgumentError, SourceError, WarmCallbacksError


def test_each_kind_is_read_as_its_own(tmp_path: Path) -> None:
    file = tmp_path / "labels"
    file.write_text("background\nscratch\n\ndent\n", encoding="utf-8")
    assert read_labels(file) == ("scratch", "dent")
    assert read_labels(str(file), "dictionary") == ("background", "scratch", "", "dent")
    assert read_labels(file, "dictionary", use_space_char=True)[-1] == " "
    file.write_text('{"categories": [{"id": 2, "name": "b"}, {"id": 1, "name": "a"}]}', encoding="utf-8")
    assert read_labels(file, "coco") == ("b", "a")


@pytest.mark.parametrize(
    ("content", "kind", "error"),
    [
        (None, "lines", SourceError),
        (b"\xff\xfe\x00", "lines", SourceError),
        (b"", "lines", InvalidArgumentError),
        (b"{", "coco", InvalidArgumentError),
        (b"[]", "coco", InvalidArgumentError),
        (b"a", "words", InvalidArgumentError),
    ],
)
def test_a_file_that_is_none_is_an_error_that_names_it(
    tmp_path: Path, content: bytes | None, kind: str, error: type[WarmCallbacksError]
) -> None:
    file = tmp_path / "labels.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(error) as raised:
        read_labels(file, kind, where="head.new_labels")
    assert kind == "words" or error is InvalidArgumentError or "labels.txt" in raised.value.received
