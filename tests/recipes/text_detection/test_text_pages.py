"""PaddleOCR's label files for detection as a data set; outlines move with the image."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2", reason="needs the ocr extra")
pytest.importorskip("pyclipper", reason="needs the ocr extra")
pytest.importorskip("shapely", reason="needs the ocr extra")

import cv2

from paddle_warm_callbacks.errors import SourceError
from recipes.text_detection.text_pages import TextPages, read_label_file

POINTS = [[40, 60], [160, 60], [160, 90], [40, 90]]


def labelled(folder: Path, *words: str) -> Path:
    """Return a label file of pages 200 wide and 100 high, each with one white text on black."""
    lines = []
    for number, word in enumerate(words):
        image = np.zeros((100, 200, 3), "uint8")
        cv2.fillPoly(image, [np.array(POINTS)], (255, 255, 255))
        cv2.imwrite(str(folder / f"{number}.png"), image)
        lines.append(f"{number}.png\t{json.dumps([{'transcription': word, 'points': POINTS}])}\n")
    file = folder / "labels.txt"
    file.write_text("".join(lines), encoding="utf-8")
    return file


def test_a_page_is_scaled_padded_and_its_outlines_with_it(tmp_path: Path) -> None:
    pages = TextPages(labelled(tmp_path, "word", "###"), 64)
    image, text, counts, number = pages[0]
    assert (image.shape, text.shape, counts.shape) == ((3, 64, 64), (1, 64, 64), (1, 64, 64))
    assert {array.dtype.name for array in (image, text, counts)} == {"float32"}
    assert (number.tolist(), number.dtype) == ([0], np.int64)
    outlines, ignored = pages.texts(0)
    assert np.allclose(outlines[0], np.array(POINTS) * 0.32)
    assert ignored == [False]
    assert pages.texts(1)[1] == [True]
    assert text.any()
    assert counts.all()
    assert not pages[1][1].any()
    assert not pages[1][2].all()
    white, black = (1 - 0.485) / 0.229, -0.485 / 0.229
    assert image[0, 24, 30] == pytest.approx(white, abs=1e-3)
    assert image[0, 60, 30] == pytest.approx(black, abs=1e-3)


def test_what_is_turned_scaled_and_shifted_is_the_outline_too(tmp_path: Path) -> None:
    random.seed(0)
    pages = TextPages(labelled(tmp_path, "word"), 128, augment=True)
    plain = TextPages(labelled(tmp_path, "word"), 128)[0]
    drawn = [pages[0] for _ in range(30)]
    assert len({text.tobytes() for _, text, _, _ in drawn}) == 30
    for image, text, _, _ in drawn:
        if text.any():  # else it is shifted out of the page
            assert image[0][text[0] == 1].min() > image[0].max() - 0.05
    # A control: the outline where it was is not the text's any more.
    still = plain[1][0] == 1
    assert sum(image[0][still].min() < image[0].max() - 0.05 for image, *_ in drawn) > 10


def test_a_limit_is_spread_over_the_file(tmp_path: Path) -> None:
    pages = TextPages(labelled(tmp_path, "a", "###", "b", "###"), 64, limit=2)
    assert [pages.texts(index)[1] for index in range(len(pages))] == [[False], [False]]


@pytest.mark.parametrize(
    "line",
    [
        "0.png word",
        "0.png\t{}[",
        '0.png\t[{"transcription": "a"}]',
        '0.png\t[{"transcription": "a", "points": [[1, 2], [3, 4]]}]',
        '0.png\t[{"transcription": 7, "points": [[1, 2], [3, 4], [5, 6], [7, 8]]}]',
        '0.png\t[{"transcription": "a", "points": [1, 2, 3, 4]}]',
    ],
)
def test_a_line_of_another_form_is_named(tmp_path: Path, line: str) -> None:
    good = labelled(tmp_path, "a").read_text(encoding="utf-8")
    (tmp_path / "labels.txt").write_text(f"{good}{line}\n", encoding="utf-8")
    with pytest.raises(SourceError, match=r"(?s)labels\.txt, line 2.*path<TAB>\["):
        read_label_file(tmp_path / "labels.txt")


def test_no_file_no_page_and_no_image_are_errors(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        TextPages(tmp_path / "typo.txt", 64)
    (tmp_path / "empty.txt").write_text("", encoding="utf-8")
    with pytest.raises(SourceError, match="no page to train on"):
        TextPages(tmp_path / "empty.txt", 64)
    (tmp_path / "labels.txt").write_text("none.png\t[]\n", encoding="utf-8")
    with pytest.raises(SourceError, match=r"(?s)not an image.*none\.png"):
        TextPages(tmp_path / "labels.txt", 64)[0]
