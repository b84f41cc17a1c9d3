"""The digits a recipe writes for itself: once, and whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from paddle_warm_callbacks.hapi.image_folder import class_names
from recipes.common.digits import write_digits
from tests.hapi.test_image_folder import folder


def test_the_digits_are_written_once_as_a_folder_per_class(tmp_path: Path) -> None:
    train, val = write_digits(tmp_path / "digits")
    assert class_names(train) == class_names(val) == [str(digit) for digit in range(10)]
    files = sorted(tmp_path.rglob("*.png"))
    assert len(files) == 1797
    assert len(list(val.rglob("*.png"))) / 1797 == pytest.approx(0.2, abs=0.01)
    with Image.open(files[0]) as first:
        assert first.size == (8, 8)
    written = files[0].stat().st_mtime_ns
    assert write_digits(tmp_path / "digits") == (train, val)
    assert files[0].stat().st_mtime_ns == written
    assert [entry.name for entry in tmp_path.iterdir()] == ["digits"]


def test_what_an_interrupted_writing_left_is_not_taken_for_the_digits(tmp_path: Path) -> None:
    folder(tmp_path / ".digits-being-written" / "train", seven=1)
    train, _ = write_digits(tmp_path / "digits")
    assert class_names(train) == [str(digit) for digit in range(10)]
