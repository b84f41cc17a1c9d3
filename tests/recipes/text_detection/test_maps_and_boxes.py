"""From outlines to the maps that DB learns, and back from maps to outlines that are matched with the true ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

pytest.importorskip("pyclipper", reason="needs the ocr extra")
pytest.importorskip("shapely", reason="needs the ocr extra")

from recipes.text_detection.boxes import Hmean, matched
from recipes.text_detection.drawing import LABELS, SIZE, write_pages
from recipes.text_detection.maps import shrunk, text_maps
from recipes.text_detection.text_pages import TextPages


def box(left: float, top: float, width: float, height: float) -> np.ndarray[Any, Any]:
    right, bottom = left + width, top + height
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype="float32")


def test_an_outline_shrinks_by_the_rule_of_the_paper() -> None:
    inner = shrunk(box(10, 20, 100, 40))
    assert inner is not None
    by = 100 * 40 * (1 - 0.4**2) / (2 * (100 + 40))
    assert [*inner.min(0), *inner.max(0)] == pytest.approx([10 + by, 20 + by, 110 - by, 60 - by], abs=1)


def test_nothing_is_left_of_an_outline_without_an_area() -> None:
    assert shrunk(np.array([[0, 0], [10, 0], [20, 0], [5, 0]], dtype="float32")) is None


def test_neighbours_do_not_touch_and_what_is_illegible_or_tiny_does_not_count() -> None:
    outlines = [box(4, 4, 40, 12), box(4, 17, 40, 12), box(4, 40, 40, 12), box(50, 4, 10, 2)]
    text, counts = text_maps(outlines, [False, False, True, False], (64, 64))
    assert text.shape == counts.shape == (1, 64, 64)
    assert text[0, 10, 20] == text[0, 23, 20] == 1
    assert not text[0, 16].any()  # between the two
    assert not text[0, 40:].any()
    assert not counts[0, 41:52, 5:44].any()
    assert not counts[0, 5, 51:59].any()
    assert counts[0, :40, :48].all()


@pytest.mark.parametrize(
    ("found", "true", "ignored", "counted"),
    [
        ([box(0, 0, 20, 10)], [box(0, 0, 20, 10)], [False], (1, 1, 1)),
        ([box(0, 0, 20, 10)], [box(0, 0, 20, 4)], [False], (0, 1, 1)),  # overlap 0.4
        ([box(0, 0, 20, 10)] * 2, [box(0, 0, 20, 10)], [False], (1, 2, 1)),  # a text is hit once
        ([box(0, 0, 20, 10)], [box(0, 0, 40, 40)], [True], (0, 0, 0)),  # on what nobody can read
        ([], [box(0, 0, 20, 10)], [False], (0, 0, 1)),
        ([box(0, 0, 20, 10)], [], [], (0, 1, 0)),
    ],
)
def test_what_hits(
    found: list[Any], true: list[Any], ignored: list[bool], counted: tuple[int, int, int]
) -> None:
    assert matched(found, true, ignored) == counted


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> TextPages:
    pytest.importorskip("paddlex", reason="needs the ocr extra")
    folder = tmp_path_factory.mktemp("pages") / "pages"
    return TextPages(write_pages(folder, {"labels": (LABELS, 8)})["labels"], SIZE)


def judged(pages: TextPages, moved: int) -> dict[str, float]:
    """Return what the metric says of the true maps, moved to the right."""
    metric = Hmean(pages)
    for index in range(len(pages)):
        _, text, counts, number = (paddle.to_tensor(part[None]) for part in pages[index])
        said = metric.compute(text.roll(moved, axis=3), text, counts, number)
        metric.update(*(part.numpy() for part in said))
    return dict(zip(metric.name(), metric.accumulate()))


def test_the_true_maps_give_the_true_outlines_back(pages: TextPages) -> None:
    assert judged(pages, moved=0) == {"precision": 1.0, "recall": 1.0, "hmean": pytest.approx(1.0)}
    control = judged(pages, moved=SIZE // 2)
    assert max(control.values()) < 0.3


def test_batches_of_training_are_not_judged(pages: TextPages) -> None:
    metric = Hmean(pages)
    probability = paddle.full([2, 1, SIZE, SIZE], 0.7)
    probability.stop_gradient = False
    parts = metric.compute(probability * 1, probability, probability, paddle.to_tensor([[0], [1]]))
    assert [len(part) for part in parts] == [0, 0]
    assert metric.update(*(part.numpy() for part in parts)) == [0.0, 0.0, 0.0]


def test_the_pages_are_drawn_once_and_the_same_for_a_seed(tmp_path: Path) -> None:
    def draw(name: str, seed: int) -> list[bytes]:
        write_pages(tmp_path / name, {"train": (LABELS, 2)}, seed=seed)
        return [file.read_bytes() for file in sorted((tmp_path / name).rglob("*")) if file.is_file()]

    assert draw("one", 0) == draw("again", 0)
    assert draw("one", 1) == draw("again", 0)  # it is there already
    assert draw("other", 1) != draw("again", 0)
