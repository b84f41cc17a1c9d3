"""What a recogniser's output says, and how right it is."""

from __future__ import annotations

import itertools
import math

import numpy as np
import paddle
import pytest

pytest.importorskip("rapidfuzz", reason="needs the ocr extra")

from recipes.ocr_recognition.reading import CTCLoss, LineAccuracy, decode


def collapsed(path: tuple[int, ...]) -> list[int]:
    """Return what a path says, written the other way round: repeats fall first, then blanks."""
    return [place for place, _ in itertools.groupby(path) if place != 0]


def test_greedy_decoding_agrees_with_the_definition_on_every_path_of_five() -> None:
    for path in itertools.product(range(3), repeat=5):
        assert decode(path) == collapsed(path)


@pytest.mark.parametrize(("label", "used"), [([1, 2], 2), ([2, 2], 2), ([1, 0], 1)])
def test_the_loss_is_the_sum_over_all_paths_that_say_the_label(label: list[int], used: int) -> None:
    chances = np.random.default_rng(0).dirichlet([1.0, 1.0, 1.0], size=4)
    said = sum(
        math.prod(chances[step, place] for step, place in enumerate(path))
        for path in itertools.product(range(3), repeat=4)
        if collapsed(path) == label[:used]
    )
    given = (paddle.to_tensor([value]) for value in (chances.astype("float32"), label, [used]))
    assert float(CTCLoss()(*given)) == pytest.approx(-math.log(said), rel=1e-4)


def test_exact_lines_and_edit_distance_of_old_and_of_new_characters() -> None:
    metric = LineAccuracy(old={1, 2})
    assert metric.name() == ["acc", "edit", "old_acc", "old_edit", "new_acc", "new_edit"]
    assert metric.accumulate() == [0.0] * 6
    # Read: 1 2 | 1 | 3; true: 1 2 | 1 2 | 3 2.
    best = np.array([[1, 1, 0, 2], [0, 1, 1, 0], [0, 0, 3, 3]])
    metric.update(best, np.array([[1, 2], [1, 2], [3, 2]]), np.array([[2], [2], [2]]))
    assert metric.accumulate() == pytest.approx([1 / 3, 2 / 3, 1 / 2, 3 / 4, 0.0, 1 / 2])
    metric.reset()
    assert metric.accumulate() == [0.0] * 6


def test_places_behind_the_text_do_not_count() -> None:
    metric = LineAccuracy()
    metric.update(np.array([[0, 3, 0]]), np.array([[3, 9, 9]]), np.array([[1]]))
    assert dict(zip(metric.name(), metric.accumulate())) == {"acc": 1.0, "edit": 1.0}
