"""PaddleOCR's label files as a data set, and the one that the recipe draws."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2", reason="needs the ocr extra")
pytest.importorskip("matplotlib", reason="needs its fonts")

import cv2

from paddle_warm_callbacks.errors import InvalidArgumentError, SourceError
from recipes.ocr_recognition.dictionary import read_dictionary
from recipes.ocr_recognition.rendering import Lines, write_text_lines
from recipes.ocr_recognition.text_lines import TextLines, padded, read_label_file

FEW = Lines(old=6, kept=4, new=8, val=3)


def labelled(folder: Path, *texts: str) -> Path:
    """Return a label file of plain images, each of a shade of its own."""
    lines = []
    for number, text in enumerate(texts):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((10, 20, 3), 20 * number, "uint8"))
        lines.append(f"{number}.png\t{text}\n")
    file = folder / "labels.txt"
    file.write_text("".join(lines), encoding="utf-8")
    return file


def test_a_line_is_an_image_and_its_characters_places_from_one(tmp_path: Path) -> None:
    lines = TextLines(labelled(tmp_path, "ab", "c"), ["a", "b", "c"], (8, 24), max_length=4)
    image, label, used = lines[0]
    assert (image.shape, image.dtype, label.dtype, used.dtype) == ((3, 8, 24), np.float32, np.int64, np.int64)
    assert (label.tolist(), used.tolist()) == ([1, 2, 0, 0], [2])
    assert (lines[1][1].tolist(), lines[1][2].tolist()) == ([3, 0, 0, 0], [1])
    assert np.allclose(lines[1][0][:, :, :16], 20 / 127.5 - 1)
    assert not lines[1][0][:, :, 16:].any()


def test_of_a_character_that_stands_twice_the_last_place_counts(tmp_path: Path) -> None:
    lines = TextLines(labelled(tmp_path, "a"), ["a", "b", "a"], (8, 24))
    assert lines[0][1][0] == 3


def test_lines_that_do_not_fit_are_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = labelled(tmp_path, "ab", "aß", "aaa", "b")
    with caplog.at_level(logging.WARNING, "paddle_warm_callbacks"):
        lines = TextLines(file, ["a", "b"], (8, 24), max_length=2)
    assert [lines[index][2].item() for index in range(len(lines))] == [2, 1]
    assert "2 of 4 lines left out" in caplog.text
    assert "ß" in caplog.text
    caplog.clear()
    TextLines(file, ["a", "b", "ß"], (8, 24))
    assert not caplog.text


def test_no_line_left_and_no_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"(?s)1 lines; characters not in the dictionary: 'ab'"):
        TextLines(labelled(tmp_path, "ab"), ["c"], (8, 24))
    with pytest.raises(SourceError, match="cannot be read"):
        TextLines(tmp_path / "typo.txt", ["c"], (8, 24))
    (tmp_path / "spaces.txt").write_text("0.png a\n", encoding="utf-8")
    with pytest.raises(SourceError, match=r"(?s)spaces\.txt, line 1.*path<TAB>text"):
        read_label_file(tmp_path / "spaces.txt")


def test_further_targets_come_between_and_the_labels_twice(tmp_path: Path) -> None:
    def encode(text: str, filled: float) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
        return [np.array([len(text), filled])]

    lines = TextLines(labelled(tmp_path, "ab"), ["a", "b"], (8, 32), encode=encode)
    image, targets, *labels = lines[0]
    assert image.shape == (3, 8, 32)
    assert targets.tolist() == [2, 0.5]
    assert [label.tolist() for label in labels[:2]] == [label.tolist() for label in labels[2:]]


def test_a_limit_is_spread_over_the_file(tmp_path: Path) -> None:
    lines = TextLines(labelled(tmp_path, *"abcdef"), list("abcdef"), (8, 24), limit=3)
    assert [int(lines[index][1][0]) for index in range(len(lines))] == [1, 3, 5]


def test_too_wide_an_image_is_squeezed(tmp_path: Path) -> None:
    image, filled = padded(np.full((10, 100, 3), 255, "uint8"), (20, 60))
    assert filled == 1.0
    assert image.shape == (3, 20, 60)
    assert np.allclose(image, 1.0)


def test_augmented_images_differ_and_others_do_not(tmp_path: Path) -> None:
    file = labelled(tmp_path, "a", "a")
    plain, augmented = (TextLines(file, ["a"], (8, 24), augment=augment) for augment in (False, True))
    assert len({augmented[1][0].tobytes() for _ in range(30)}) > 10
    assert len({plain[1][0].tobytes() for _ in range(3)}) == 1


def test_the_drawn_lines_are_a_paddleocr_data_set_written_once(tmp_path: Path) -> None:
    old, new = write_text_lines(tmp_path / "lines", known="AB1", new="ab", lines=FEW)
    assert read_dictionary(old.dictionary) == ["A", "B", "1"]
    characters = read_dictionary(new.dictionary)
    assert sorted(characters) == sorted("AB1ab")
    texts = {
        name: [text for _, text in read_label_file(file)]
        for name, file in vars(new).items()
        if name != "dictionary"
    }
    assert [len(texts[name]) for name in ("train", "val")] == [12, 6]
    for name, kept in (("train", 4), ("val", 3)):
        assert all(set(text) <= set("AB1") for text in texts[name][:kept])
        assert all(set(text) & set("ab") for text in texts[name][kept:])
    assert [text for _, text in read_label_file(old.val)] == texts["val"][:3]
    for file in (old.train, old.val, new.train, new.val):
        for path, _ in read_label_file(file):
            assert cv2.imread(str(file.parent / path)).shape[0] == 48
    written = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    write_text_lines(tmp_path / "lines", known="AB1", new="ab", lines=FEW, seed=1)
    with pytest.raises(InvalidArgumentError, match=r"(?s)other characters are drawn already.*AB1!"):
        write_text_lines(tmp_path / "lines", known="AB1", new="!", lines=FEW)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == written
    assert [entry.name for entry in tmp_path.iterdir()] == ["lines"]


def test_the_same_seed_draws_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        write_text_lines(tmp_path / name, lines=FEW, seed=seed)
    one, again, other = (
        [file.read_bytes() for file in sorted((tmp_path / name).rglob("*")) if file.is_file()]
        for name in ("one", "again", "other")
    )
    assert one == again
    assert one != other


def test_a_dictionary_keeps_what_looks_like_white_space(tmp_path: Path) -> None:
    (tmp_path / "dictionary.txt").write_bytes("a\n \n\u3000\nb\r\n".encode())
    assert read_dictionary(tmp_path / "dictionary.txt", True) == ["a", " ", "\u3000", "b", " "]
    with pytest.raises(InvalidArgumentError, match="one character a line"):
        read_dictionary(tmp_path / "typo.txt")
