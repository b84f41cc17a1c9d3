"""Samples are shown with what the network says of them, and training is what it is without that."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks import InvalidArgumentError, SamplePredictions, WarmVisualDL, class_caption
from paddle_warm_callbacks.callbacks.sample_predictions import captioned
from tests.callbacks.runs import STEPS, Losses, bits, fit, model

visualdl = pytest.importorskip("visualdl")
LABELS = ["round", "square", "neither"]


class Marks(paddle.io.Dataset):  # type: ignore[misc]  # Paddle is untyped
    """Pictures of three pixels, as noisy as the generators make them."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return np.random.rand(1, 1, 3).astype("float32"), np.array([index])


def flattening() -> paddle.Model:
    made = model()
    made.network.register_forward_pre_hook(lambda _, inputs: inputs[0].reshape([-1, 3]))
    return made


def pictures(directory: Path, tag: str) -> list[tuple[int, Any]]:
    from PIL import Image

    reader = visualdl.LogReader(file_path=str(directory / "vdlrecords.run.log"))
    return [
        (point.id, np.asarray(Image.open(io.BytesIO(point.image.encoded_image_string))))
        for point in reader.get_data("image", tag.replace("/", "%"))
    ]


def test_each_epoch_has_its_pictures_and_captions_of_the_networks_output(tmp_path: Path) -> None:
    said: list[tuple[Any, str]] = []

    def caption(output: Any, sample: Any) -> str:
        assert not trained.network.training
        said.append((output, class_caption(LABELS)(output, sample)))
        return said[-1][1]

    trained = flattening()
    fit(trained, SamplePredictions(Marks(), caption, count=2), WarmVisualDL(tmp_path), epochs=2)
    assert len(said) == 2 * 2
    assert not np.array_equal(said[0][0], said[2][0]), "the network has learned between"
    for number in range(2):
        found = pictures(tmp_path, f"eval/sample_{number}")
        assert [step for step, _ in found] == [STEPS, 2 * STEPS]
        assert all(picture.shape[2] == 3 for _, picture in found)


def test_training_is_the_same_to_the_bit_as_without(tmp_path: Path) -> None:
    traces = []
    for shown in ([], [SamplePredictions(Marks(), class_caption(LABELS))]):
        np.random.seed(1)
        trained, losses = flattening(), Losses()
        fit(trained, losses, *shown, WarmVisualDL(tmp_path / str(len(shown))))
        traces.append((losses.seen, bits(trained), trained.network.training))
    assert traces[0] == traces[1]


def test_a_caption_says_the_likeliest_class_and_the_true_one_where_it_is_another() -> None:
    caption = class_caption(LABELS)
    output = np.array([0.0, 2.0, 0.0])
    assert caption(output, (None, np.array([1]))) == "square 0.79"
    assert caption(output, (None, 2)) == "square 0.79, is neither"
    assert caption(output, None) == "square 0.79"


def test_another_caption_is_another_picture_and_the_picture_is_in_it() -> None:
    picture = np.arange(2 * 96 * 3, dtype="uint8").reshape(2, 96, 3)
    one, other = captioned(picture, "round"), captioned(picture, "square")
    assert one.shape == other.shape
    assert not np.array_equal(one, other)
    assert np.array_equal(one[:2, :96], picture)


def test_a_small_picture_is_enlarged_and_a_long_caption_has_room() -> None:
    tiny = np.zeros((3, 3, 3), "uint8")
    drawn = captioned(tiny, "a" * 60)
    assert drawn.shape[0] >= 96
    assert drawn.shape[1] > 96


def test_a_sample_that_is_no_picture_wants_a_function_that_makes_one(tmp_path: Path) -> None:
    class Rows(Marks):
        def __getitem__(self, index: int) -> tuple[Any, Any]:
            return np.zeros(3, "float32"), index

    with pytest.raises(InvalidArgumentError, match="picture="):
        fit(model(), SamplePredictions(Rows(), class_caption(LABELS)), epochs=1)
    drawn = SamplePredictions(
        Rows(), class_caption(LABELS), picture=lambda _: np.full((2, 2, 3), 7, dtype="uint8")
    )
    fit(model(), drawn, WarmVisualDL(tmp_path), epochs=1)
    ((_, shown),) = pictures(tmp_path, "eval/sample_2")
    assert (shown[:96, :96] == 7).all()


@pytest.mark.parametrize("wrong", [{"count": 0}, {"caption": "text"}])
def test_wrong_arguments_are_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        SamplePredictions(**{"dataset": Marks(), "caption": class_caption(LABELS), **wrong})
