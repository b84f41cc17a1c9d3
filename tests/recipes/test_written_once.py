"""A folder of a recipe's own data: whole, or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes.common.written_once import write_once


def test_a_folder_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    folder = tmp_path / "deeper" / "data"
    written: list[Path] = []

    def write(into: Path) -> None:
        written.append(into)
        (into / "one").touch()

    write_once(folder, write)
    write_once(folder, write)
    assert len(written) == 1
    assert written != [folder]
    assert [path.name for path in folder.parent.rglob("*")] == ["data", "one"]


def test_an_interrupted_writing_is_no_folder_and_is_begun_anew(tmp_path: Path) -> None:
    folder = tmp_path / "data"

    def fail(into: Path) -> None:
        (into / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_once(folder, fail)
    assert not folder.exists()
    write_once(folder, lambda into: (into / "whole").touch())
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["data", "whole"]
