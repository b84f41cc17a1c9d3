"""The recipe from its command line: from official files, killed and run again, exported, and its default."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

pytest.importorskip("paddlex", reason="needs the ocr extra")

import cv2
from safetensors.numpy import save_file

from recipes.text_detection import drawing, train
from recipes.text_detection.boxes import matched
from recipes.text_detection.detectors import DETECTORS, detector
from recipes.text_detection.drawing import DOCUMENTS, write_pages
from recipes.text_detection.loss import ProbabilityMapLoss
from recipes.text_detection.text_pages import TextPages
from tests.recipes.commands import Command, curve, newest

pytestmark = [pytest.mark.recipes, pytest.mark.timeout(600)]

RECIPE = Command(train.__file__, deadline=250.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    sets = {"train": (DOCUMENTS, 4), "val": (DOCUMENTS, 3)}
    return write_pages(tmp_path_factory.mktemp("data") / "pages", sets, seed=3)


def small(files: dict[str, Path], *more: str) -> list[str]:
    """Return overrides for two steps an epoch on a few pages, as if they were a user's."""
    data = [f"data.{name}={file}" for name, file in files.items()]
    return [*data, "data.size=128", "train.batch_size=2", "train.epochs=1", "compare_cold=false", *more]


@pytest.mark.parametrize("layout", ["bare", "safetensors"])
def test_a_file_of_the_official_layout_fills_all_of_the_network(
    tmp_path: Path, files: dict[str, Path], layout: str
) -> None:
    network = detector("PP-OCRv6_small_det")
    given = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    file = tmp_path / f"official.{'safetensors' if layout == 'safetensors' else 'pdparams'}"
    if layout == "safetensors":
        # A network of convolutions: nothing that torch would turn.
        arrays = {name: tensor.numpy() for name, tensor in network.get_hf_state_dict().items()}
        assert any(name.endswith("running_mean") for name in arrays)
        assert all(array.ndim != 2 for array in arrays.values())
        save_file(arrays, str(file))
    else:
        paddle.save(network.state_dict(), str(file))
    printed = RECIPE.run(*small(files), f"checkpoint={file}", f"output={tmp_path / 'run'}")
    count = len(given)
    assert f"{count} tensors loaded, 0 transplanted, 0 not, of {count}; 100.0% of parameters" in printed
    # One epoch of stage 0: the head alone was trained, so backbone and neck are still the file's, to the bit.
    moved = 0
    for name, array in newest(tmp_path / "run" / "new").read_model().items():
        same = array.tobytes() == given[name].tobytes()
        assert same or name.startswith("head."), name
        moved += not same
    assert moved > 0


def test_killed_and_run_again_it_ends_as_if_nothing_had_happened(
    tmp_path: Path, files: dict[str, Path]
) -> None:
    arguments = [*small(files, "train.epochs=3", "train.unfreeze=all"), "checkpoint="]
    paddle.seed(1)
    paddle.save(detector("PP-OCRv6_small_det").state_dict(), str(tmp_path / "official.pdparams"))
    arguments[-1] += str(tmp_path / "official.pdparams")
    control, stopped = tmp_path / "control", tmp_path / "stopped"
    RECIPE.run(*arguments, f"output={control}")
    RECIPE.stopped(stopped / "new", signal.SIGKILL, *arguments, f"output={stopped}")
    assert "resumed" in RECIPE.run(*arguments, f"output={stopped}")
    ends = [newest(folder / "new").read_model() for folder in (control, stopped)]
    assert {name: a.tobytes() for name, a in ends[0].items()} == {
        name: a.tobytes() for name, a in ends[1].items()
    }
    for tag in ("start/hmean", "train/loss", "eval/hmean", "eval/loss"):
        assert curve(stopped / "vdl" / "new", tag) == curve(control / "vdl" / "new", tag), tag


@pytest.mark.parametrize("arch", sorted(DETECTORS))
def test_each_detector_gives_a_map_of_its_image_and_learns(arch: str) -> None:
    paddle.seed(0)
    network, loss = detector(arch), ProbabilityMapLoss()
    optimizer = paddle.optimizer.Adam(0.003, parameters=network.parameters())
    text = paddle.zeros([2, 1, 64, 64])
    text[:, :, 20:40, 10:50] = 1.0
    image = text.expand([2, 3, 64, 64]) + paddle.randn([2, 3, 64, 64]) / 10
    losses = []
    for _ in range(10):
        found = network(image)
        assert found.shape == [2, 1, 64, 64]
        losses.append(loss(found, text, paddle.ones_like(text)))
        losses[-1].backward()
        optimizer.step()
        optimizer.clear_grad()
    assert float(losses[-1]) < 0.8 * float(losses[0])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train.epoch=3"], "did you mean train.epochs=…?"),
        (["data.train=here"], "data.train=here, data.val=None"),
        (["data.train=a", "data.val=b", "checkpoint=c"], "the label file cannot be read"),
        (["model.arch=PP-OCRv9"], "PP-OCRv6_small_det"),
        (["data.size=100"], "a multiple of 32"),
        (["train.lr=0"], "train.lr"),
    ],
)
def test_a_mistake_is_one_message_and_no_traceback(tmp_path: Path, arguments: list[str], said: str) -> None:
    assert said in RECIPE.refused(*arguments, f"output={tmp_path}")


def found_by_paddlex(folder: Path, image: str) -> list[Any]:
    from paddlex import create_predictor

    # By its default it uses oneDNN, which in Paddle 3.3.1 does not know the scale of this network's interpolation.
    predictor = create_predictor(
        model_name="PP-OCRv6_small_det",
        model_dir=str(folder),
        device="cpu",
        engine_config={"run_mode": "paddle"},
    )
    (result,) = predictor.predict(image)
    return [np.array(outline, dtype="float32") for outline in result["dt_polys"]]


@pytest.mark.timeout(2400)
def test_the_default_is_ahead_of_the_cold_start_and_paddlex_finds_the_same_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RECIPE.run(f"output={tmp_path}", timeout=2300)
    logs = tmp_path / "vdl"
    warm, cold = ([value for _, value in curve(logs / part, "eval/hmean")] for part in ("new", "cold"))
    assert curve(logs / "old", "eval/hmean")[-1][1] > 0.8
    assert all(ahead > behind for ahead, behind in zip(warm, cold))
    ((_, at_start),) = curve(logs / "new", "start/hmean")
    assert warm[-1] > at_start

    monkeypatch.setenv("PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK", "True")
    val = tmp_path / "pages" / "val.txt"
    pages, totals = TextPages(val, drawing.SIZE), np.zeros(3)
    for index, line in enumerate(val.read_text(encoding="utf-8").splitlines()):
        image = str(val.parent / line.split("\t")[0])
        assert cv2.imread(image).shape == (
            drawing.SIZE,
            drawing.SIZE,
            3,
        )  # so that both look at the same pixels
        totals += matched(found_by_paddlex(tmp_path / "inference", image), *pages.texts(index))
    hit, found, there = totals
    assert 2 * hit / (found + there) == pytest.approx(warm[-1], abs=0.03)
