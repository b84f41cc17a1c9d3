"""The head-swap recipe from its command line: killed and run again, from an official file, and its whole default."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image

from recipes.resnet50_head_swap import train
from tests.recipes.commands import Command, curve, newest

SMALL = [
    "model.arch=resnet18",
    "data.limit=6",
    "data.old_classes=4",
    "train.batch_size=8",
    "train.old_epochs=1",
    "train.epochs=3",
    "compare_cold=false",
]
RECIPE = Command(train.__file__, deadline=100)


def trained(run_dir: Path) -> dict[str, bytes]:
    checkpoint = newest(run_dir)
    assert checkpoint.progress.epoch == 3
    return {name: array.tobytes() for name, array in checkpoint.read_model().items()}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_stopped_and_run_again_it_ends_as_if_nothing_had_happened(tmp_path: Path, by: signal.Signals) -> None:
    control, stopped = tmp_path / "control", tmp_path / "stopped"
    printed = RECIPE.run(*SMALL, f"output={control}")
    assert "100 tensors loaded, 2 transplanted, 0 not, of 102; more than 99.9% of parameters" in printed
    said = RECIPE.stopped(stopped / "new", by, *SMALL, f"output={stopped}")
    if by is signal.SIGINT:
        assert "the same command goes on" in said
    assert "resumed" in RECIPE.run(*SMALL, f"output={stopped}")

    assert trained(stopped / "new") == trained(control / "new")
    for tag in ("train/loss", "eval/acc", "eval/old_acc", "stage/index"):
        assert curve(stopped / "vdl" / "new", tag) == curve(control / "vdl" / "new", tag), tag
    assert [stage for _, stage in curve(control / "vdl" / "new", "stage/index")] == [0, 1, 1, 2]


def photographs(root: Path) -> tuple[str, str]:
    """Return overrides that point at two folders of two classes of noise, twelve and four images each."""
    draw = np.random.default_rng(0)
    for part, count in (("train", 12), ("val", 4)):
        for name in ("scratch", "dent"):
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = draw.integers(0, 255, (40, 40, 3), dtype="uint8")
                Image.fromarray(pixels).save(root / part / name / f"{index}.jpg")
    return f"data.train={root / 'train'}", f"data.val={root / 'val'}"


def test_an_imagenet_file_of_paddles_layout_loses_its_head_and_nothing_else(tmp_path: Path) -> None:
    imagenet = paddle.vision.models.resnet50(num_classes=1000)
    given = {name: tensor.numpy() for name, tensor in imagenet.state_dict().items()}
    assert given["fc.weight"].shape == (2048, 1000)
    paddle.save(imagenet.state_dict(), str(tmp_path / "resnet50.pdparams"))

    folders = photographs(tmp_path / "data")
    arguments = [f"output={tmp_path / 'run'}", f"checkpoint={tmp_path / 'resnet50.pdparams'}", *folders]
    printed = RECIPE.run(*arguments, "data.size=32", "train.epochs=1", "compare_cold=false")
    assert "265 tensors loaded, 0 transplanted, 2 not, of 267; more than 99.9% of parameters" in printed
    assert "shape differs: (2048, 1000) in the source, (2048, 2) here (1): fc.weight" in printed

    checkpoint = newest(tmp_path / "run" / "new")
    # One epoch of stage 0: only the head was trained, so the backbone is still the file's, its statistics too.
    for name, array in checkpoint.read_model().items():
        assert name.startswith("fc.") or array.tobytes() == given[name].tobytes(), name
    assert checkpoint.manifest.metadata["labels"] == ["dent", "scratch"]


def test_the_model_it_trained_is_warm_start_for_the_next_with_its_labels(tmp_path: Path) -> None:
    data = photographs(tmp_path / "data")
    small = [*data, "model.arch=resnet18", "data.size=32", "train.epochs=1", "compare_cold=false"]
    RECIPE.run(*small, "data.old_classes=1", "train.old_epochs=1", f"output={tmp_path / 'first'}")
    for part in ("train", "val"):
        (tmp_path / "data" / part / "bend").symlink_to(tmp_path / "data" / part / "dent")
    first = str(tmp_path / "first" / "new")
    printed = RECIPE.run(*small, f"checkpoint={first}", f"output={tmp_path / 'second'}")
    assert "transplanted by label (2): fc.weight, fc.bias" in printed
    assert "warm, old classes" in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train.epoch=3"], "did you mean train.epochs=…?"),
        (["data.train=here"], "data.train=here, data.val=None"),
        (["data.train=nowhere", "data.val=nowhere"], "no such folder"),
        (["model.arch=resnet5"], "resnet50"),
        (["data.old_classes=0"], "at least 1"),
        (["train.unfreeze=slowly"], "staged"),
        (["checkpoint=old.pdparams", "old_labels=nowhere.txt"], "one label a line"),
    ],
)
def test_a_mistake_is_one_message_and_no_traceback(tmp_path: Path, arguments: list[str], said: str) -> None:
    assert said in RECIPE.refused(*arguments, f"output={tmp_path}")


@pytest.mark.recipes
@pytest.mark.timeout(1800)
def test_the_default_ends_with_a_warm_start_ahead_of_the_cold_one(tmp_path: Path) -> None:
    RECIPE.run(f"output={tmp_path}", timeout=1700)
    warm, cold = (dict(curve(tmp_path / "vdl" / part, "eval/acc")) for part in ("new", "cold"))
    assert len(warm) == len(cold) == 5
    assert max(warm.values()) > max(cold.values())
    assert all(warm[step] > cold[step] for step in warm)
