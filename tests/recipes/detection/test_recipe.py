"""The detection recipe from its command line: killed and run again, its exports in ppdet's hands, and its default."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recipes.detection.coco_map import CocoMap
from recipes.detection.detector import Detector, detector_file
from recipes.detection.loading import loader
from recipes.detection.plates import CLASSES, OLD_CLASSES, write_plates
from tests.recipes.commands import Command, curve, newest

pytest.importorskip("ppdet")
import paddle

SMALL = [
    "data.limit=6",
    "train.batch_size=2",
    "train.old_epochs=1",
    "train.epochs=3",
    "compare_dropped=false",
    "compare_cold=false",
]
DEADLINE = 200.0
RECIPE = Command(str(Path(detector_file("picodet_s")).parents[1] / "train.py"), DEADLINE)


def tensors(run_dir: Path) -> dict[str, bytes]:
    """Return every tensor of a finished run's last checkpoint: weights, the average's and the optimizer's."""
    checkpoint = newest(run_dir)
    assert checkpoint.progress.epoch == 3
    optimizer = {k: v for k, v in checkpoint.read_optimizer().items() if isinstance(v, np.ndarray)}
    arrays = {**checkpoint.read_model(), **checkpoint.read_extra(), **optimizer}
    return {name: array.tobytes() for name, array in arrays.items()}


@pytest.mark.timeout(900)
def test_killed_and_run_again_it_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    control, killed = tmp_path / "control", tmp_path / "killed"
    printed = RECIPE.run(*SMALL, f"output={control}")
    assert "447 tensors loaded, 16 transplanted, 0 not, of 463;" in printed
    # From the second epoch on the backbone learns too.
    assert "stage 0: 193 tensors, 49.5% trainable" in printed
    assert "stage 1: 282 tensors, 100.0% trainable" in printed
    RECIPE.stopped(killed / "new", signal.SIGKILL, *SMALL, f"output={killed}")
    assert "resumed" in RECIPE.run(*SMALL, f"output={killed}")

    whole = tensors(control / "new")
    assert tensors(killed / "new") == whole
    assert sum(name.startswith("kept@ema@") for name in whole) == 463
    for tag in ("train/loss", "eval/mAP", "eval/mAP_old", "eval/mAP_new", "start/mAP_old"):
        found = curve(killed / "vdl" / "new", tag)
        assert found == curve(control / "vdl" / "new", tag), tag
        assert found, tag
    exports = [(folder / "export" / "new" / "model_final.pdparams") for folder in (control, killed)]
    weights = [{name: t.numpy().tobytes() for name, t in paddle.load(str(file)).items()} for file in exports]
    assert weights[0] == weights[1]

    visualdl = pytest.importorskip("visualdl")
    reader = visualdl.LogReader(file_path=str(killed / "vdl" / "new" / "vdlrecords.run.log"))
    assert [picture.id for picture in reader.get_data("image", "eval/sample_0")] == [3, 6, 9]


PPDET = """
import sys
from ppdet.core.workspace import load_config
from ppdet.engine import Trainer

mode, config, weights, out = sys.argv[1:]
cfg = load_config(config)
cfg["output_eval"] = out
# paddledet 2.6.0 can build its NMS into a program under older Paddles only.
cfg["export"] = {"post_process": True, "nms": False, "benchmark": False}
trainer = Trainer(cfg, mode=mode)
trainer.load_weights(weights)
if mode == "eval":
    trainer.evaluate()
else:
    trainer.export(out)
"""


def by_ppdet(mode: str, exported: Path, out: Path) -> None:
    """Do what ``tools/eval.py`` or ``tools/export_model.py`` does, with the part of it that is in the package."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            PPDET,
            mode,
            str(exported / "model.yml"),
            str(exported / "model_final"),
            str(out),
        ],
        cwd=out.parent,
        # Trainer.export asks for the whole program, which newer Paddles build only when told to.
        env={**os.environ, "ENABLE_FALL_BACK": "False"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    assert "not be loaded" not in done.stdout + done.stderr


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ppdet")
def test_ppdets_own_trainer_evaluates_and_exports_what_was_exported(tmp_path: Path) -> None:
    RECIPE.run(*SMALL, "train.epochs=1", f"output={tmp_path}")
    exported = tmp_path / "export" / "new"
    assert (exported / "label_list.txt").read_text(encoding="utf-8").split() == list(CLASSES)
    by_ppdet("eval", exported, tmp_path / "ppdet")
    by_ppdet("test", exported, tmp_path / "ppdet")
    theirs = json.loads((tmp_path / "ppdet" / "bbox.json").read_text(encoding="utf-8"))
    assert len(theirs) > 100

    file = tmp_path / "plates" / "new_val.json"
    network = Detector.build(detector_file("picodet_s"), len(CLASSES))
    network.set_state_dict(paddle.load(str(exported / "model_final.pdparams")))
    data, inputs = loader(
        detector_file("picodet_s"), file, file.parent, len(CLASSES), training=False, batch_size=2
    )
    metric = CocoMap(file, CLASSES)
    model = paddle.Model(network, inputs=network.takes(inputs, inputs))
    model.prepare(metrics=metric)
    model.evaluate(data, verbose=0)
    assert metric.last is not None
    ours = [
        (image, int(kind) + 1, [x1, y1, x2 - x1, y2 - y1], score)
        for image, boxes in metric.last.by_image.items()
        for kind, score, x1, y1, x2, y2 in boxes.tolist()
    ]
    assert [(box["image_id"], box["category_id"]) for box in theirs] == [box[:2] for box in ours]
    assert np.allclose([box["bbox"] for box in theirs], [box[2] for box in ours], atol=1e-3)
    assert np.allclose([box["score"] for box in theirs], [box[3] for box in ours], atol=1e-6)
    # What tools/export_model.py makes: a program with its weights, which finds what the network finds.
    deployed = paddle.jit.load(str(tmp_path / "ppdet" / "model" / "model"))
    image, _, _, scale = next(iter(data))  # boxes before the NMS are not scaled: the program has one input
    (ppdets,) = network._ppdet
    ppdets.training, ppdets.export_nms = False, False
    expected = ppdets({"image": image[:1], "scale_factor": scale[:1]})
    for found, name in zip(deployed(image[:1]), ("bbox", "scores")):
        assert np.allclose(found.numpy(), expected[name].numpy(), rtol=1e-4, atol=1e-4), name
    # The weights that were trained are beside the average, as PaddleDetection keeps them.
    raw = paddle.load(str(exported / "model_final.pdema"))
    trained = newest(tmp_path / "new")
    assert {name: t.numpy().tobytes() for name, t in raw.items()} == {
        name: array.tobytes() for name, array in trained.read_model().items()
    }


def test_the_model_it_exported_is_warm_start_for_the_next_with_a_class_renamed(tmp_path: Path) -> None:
    RECIPE.run(*SMALL, "train.epochs=1", f"output={tmp_path / 'first'}")
    old = tmp_path / "first" / "export" / "old"
    labels = (old / "label_list.txt").read_text(encoding="utf-8").replace("dent", "bump")
    (tmp_path / "labels.txt").write_text(labels, encoding="utf-8")
    assert sorted(labels.split()) == sorted({"bump", *OLD_CLASSES} - {"dent"})
    arguments = [
        f"checkpoint={old / 'model_final.pdparams'}",
        f"old_labels={tmp_path / 'labels.txt'}",
        "rename=[bump=dent]",
        f"output={tmp_path / 'second'}",
    ]
    RECIPE.run(*SMALL, "train.epochs=1", *arguments)
    files = [tmp_path / name / "export" / "new" / "model_final.pdparams" for name in ("first", "second")]
    first, second = ({n: t.numpy().tobytes() for n, t in paddle.load(str(file)).items()} for file in files)
    assert first == second


@pytest.mark.timeout(1000)
def test_the_benchmark_compares_the_four_ways_over_seeds_from_one_old_model(tmp_path: Path) -> None:
    script = Path(__file__).parents[3] / "benchmarks" / "detection_strategies.py"
    given = ["data.limit=6", "train.batch_size=2", "train.old_epochs=1", "train.epochs=1"]
    done = subprocess.run(
        [sys.executable, str(script), "--seeds", "2", "--dir", str(tmp_path), *given],
        capture_output=True,
        text=True,
        timeout=4 * DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    found, _, table = done.stdout.partition("\n\n")
    before, after = found.removeprefix("Old classes: mAP ").split(" in the old model, ")
    assert after == f"{before}, {before} right after the transplant."
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert rows[0] == ["", "start", "epoch 1"]
    names = [row[0] for row in rows[2:]]
    assert [name.partition(":")[0] for name in names] == ["old classes"] * 4 + ["new classes"] * 4
    assert [name.partition(": ")[2].partition(",")[0] for name in names] == [
        *("by class name", "by class name", "head dropped", "cold start") * 2
    ]
    assert not (tmp_path / "seed-1" / "old").exists()


def spoilt(folder: Path) -> str:
    """Write plates of which the third has a box that reaches out; return its annotation file."""
    file = write_plates(folder / "plates", {"train": (CLASSES, 4)})["train"]
    content = json.loads(file.read_text(encoding="utf-8"))
    next(a for a in content["annotations"] if a["image_id"] == 3)["bbox"] = [90, 90, 30, 4]
    file.write_text(json.dumps(content), encoding="utf-8")
    return str(file)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train.epoch=3"], "did you mean train.epochs=…?"),
        (["data.train=here.json"], "data.train=here.json, data.val=None"),
        (["data.train=nowhere.json", "data.val=nowhere.json"], "cannot be read"),
        (["data.train=SPOILT", "data.val=SPOILT"], "of image 3: [90, 90, 30, 4]"),
        (["model.detector=picodet"], "picodet_s, ppyoloe_s, yolov3_mobilenet_v1"),
        (["rename=[bottle]"], "old=new"),
        (["train.unfreeze=slowly"], "staged"),
    ],
)
def test_a_mistake_is_one_message_and_no_traceback(tmp_path: Path, arguments: list[str], said: str) -> None:
    file = spoilt(tmp_path)
    given = [argument.replace("SPOILT", file) for argument in arguments]
    printed = RECIPE.refused(*given, f"output={tmp_path / 'run'}")
    assert said in printed
    assert "Epoch" not in printed


@pytest.mark.recipes
@pytest.mark.timeout(7200)
def test_the_default_keeps_old_classes_learns_new_ones_and_is_ahead_of_a_cold_start(tmp_path: Path) -> None:
    printed = RECIPE.run(f"output={tmp_path}", timeout=7000)
    before, _, after = printed.partition("old classes: mAP ")[2].partition(" in the old model, ")
    assert before == after.split()[0] != "0.0000"
    curves = {
        (name, tag): [value for _, value in curve(tmp_path / "vdl" / name, f"eval/{tag}")]
        for name in ("new", "dropped", "cold")
        for tag in ("mAP", "mAP_old", "mAP_new")
    }
    assert {len(values) for values in curves.values()} == {8}
    kept, lost = (curve(tmp_path / "vdl" / name, "start/mAP_old")[0][1] for name in ("new", "dropped"))
    assert f"{kept:.4f}" == before
    assert kept > 0.25
    assert lost < 0.5 * kept
    assert curves["new", "mAP_old"][0] > curves["dropped", "mAP_old"][0]
    # Old classes are not forgotten, new ones are learned, and a cold start does not get anywhere near.
    assert curves["new", "mAP_old"][-1] > 0.9 * kept
    assert curves["new", "mAP_new"][-1] > 0.2
    assert curves["new", "mAP"][-1] > 2 * curves["cold", "mAP"][-1]
