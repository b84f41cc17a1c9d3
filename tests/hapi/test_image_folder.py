"""Images in one folder per class: what a sample is, and what is said of folders that are not so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paddle_warm_callbacks.errors import SourceError
from paddle_warm_callbacks.hapi.image_folder import ImageFolder, class_names


def folder(root: Path, **images: int) -> Path:
    """Return a folder of plain images: so many of each class, all of one shade by class."""
    for number, (name, count) in enumerate(images.items()):
        (root / name).mkdir(parents=True)
        for index in range(count):
            Image.new("L", (8, 8), color=100 * number).save(root / name / f"{index}.png")
    return root


def test_an_image_is_three_planes_about_zero_and_its_label_the_place_of_its_class(tmp_path: Path) -> None:
    images = ImageFolder(folder(tmp_path, dark=2, light=1), ["light", "dark"], 6)
    assert len(images) == 3
    for index, (label, value) in enumerate([(1, -1.0), (1, -1.0), (0, 100 / 127.5 - 1)]):
        pixels, number = images[index]
        assert (pixels.shape, pixels.dtype) == ((3, 6, 6), np.float32)
        assert np.allclose(pixels, value)
        assert (number.tolist(), number.dtype) == ([label], np.int64)


def test_only_the_classes_asked_for_and_so_many_of_each(tmp_path: Path) -> None:
    images = ImageFolder(folder(tmp_path, a=5, b=2, c=5), ["a", "b"], 4, limit=3)
    assert [int(label[0]) for _, label in (images[index] for index in range(len(images)))] == [0, 0, 0, 1, 1]


def test_augmented_images_are_shifted(tmp_path: Path) -> None:
    Image.fromarray(np.arange(256, dtype="uint8").reshape(16, 16)).save(folder(tmp_path, a=0) / "a" / "0.png")
    plain, augmented = (ImageFolder(tmp_path, ["a"], 16, augment=augment) for augment in (False, True))
    seen = {augmented[0][0].tobytes() for _ in range(40)}
    assert len(seen) > 5
    assert len({plain[0][0].tobytes() for _ in range(5)}) == 1
    assert np.array_equal(np.sort(augmented[0][0], axis=None), np.sort(plain[0][0], axis=None))


def test_a_folder_that_is_not_there_and_one_without_classes_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"(?s)no such folder.*folder/cat/1\.png"):
        class_names(tmp_path / "typo")
    with pytest.raises(SourceError, match="a folder without folders"):
        class_names(tmp_path)


def test_a_class_without_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"(?s)no folder for dent.*same classes"):
        ImageFolder(folder(tmp_path, scratch=1), ["scratch", "dent"], 4)


def test_a_label_spelt_almost_as_a_folder_is_asked_about(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        ImageFolder(folder(tmp_path, scratch=1, dent=1), ["dent", "scrach"], 4)
    assert caught.value.remedy == "is scrach the folder scratch? Write both alike"
    assert "there are dent, scratch" in caught.value.received
