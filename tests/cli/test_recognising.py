"""A stranger's file: whose head it has, by its keys, and of which network of paddle.vision it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_warm_callbacks.cli.recognising import Head, architectures_of, heads_of
from tests.cli.typed import typed, typed_json, write_weights
from tests.conftest import HAS_PADDLE

Shapes = dict[str, tuple[int, ...]]
BODY: Shapes = {"backbone.conv.weight": (8, 3, 3, 3), "neck.conv.weight": (8, 8, 1, 1)}


@pytest.mark.parametrize(
    ("tensors", "heads"),
    [
        (
            {"head.head_cls0.weight": (4, 96, 1, 1), "head.head_cls1.weight": (4, 96, 1, 1)},
            [("head", "picodet", (4,)), ("head", "picodet_shared", (4, 3, 2, 1))],
        ),
        ({"yolo_head.pred_cls.0.weight": (3, 8, 3, 3)}, [("yolo_head", "ppyoloe", (3,))]),
        (
            # 3 anchors, or 1 or 2: the file does not say.
            {"yolo_head.yolo_output.0.weight": (24, 8, 1, 1)},
            [("yolo_head", "yolov3", (19, 7, 3, 1)), ("yolo_head", "yolov3_iou_aware", (18, 6, 2))],
        ),
        (
            {"bbox_head.bbox_score.weight": (8, 5), "bbox_head.bbox_delta.weight": (8, 16)},
            [("bbox_head", "faster_rcnn", (4,))],
        ),
        ({"fcos_head.fcos_head_cls.weight": (6, 8, 3, 3)}, [("fcos_head", "fcos", (6,))]),
        (
            {"head.ctc_head.fc.weight": (8, 98), "head.sar_head.decoder.embedding.weight": (100, 8)},
            [("head", "ppocr_multihead", (97,))],
        ),
        ({"neck.encoder.lstm.weight": (8, 8), "head.fc.weight": (8, 11)}, [("head.fc", "ctc", (10,))]),
        # Controls: a classifier of one's own, and box scores that do not go with the boxes.
        ({"head.fc.weight": (8, 11)}, []),
        ({"bbox_head.bbox_score.weight": (8, 5), "bbox_head.bbox_delta.weight": (8, 20)}, []),
    ],
)
def test_heads_are_told_by_keys_and_sizes(tensors: Shapes, heads: list[tuple[str, str, Any]]) -> None:
    found = heads_of({**BODY, **tensors})
    assert [(head.key, head.layout, head.labels) for head in found] == heads
    for head in found:
        assert head.suite == ("PaddleOCR" if head.layout in ("ctc", "ppocr_multihead") else "PaddleDetection")


def test_a_dictionary_of_many_characters_takes_no_time_worth_speaking_of() -> None:
    shapes = {**BODY, "head.ctc_head.fc.weight": (120, 18386), "head.ctc_head.fc.bias": (18386,)}
    assert [head.labels for head in heads_of(shapes)] == [(18385,)]


def test_the_sentence_has_the_line_to_paste() -> None:
    assert Head("yolo_head", "ppyoloe", "PaddleDetection", (3,)).to_text() == (
        "its names are those of PaddleDetection, with a head for 3 labels (PP-YOLOE(+)): its rows move by label with "
        "head=HeadTransplant('yolo_head', […], […], layout='ppyoloe')"
    )


@pytest.mark.skipif(not HAS_PADDLE, reason="networks are built")
def test_prefixes_and_pytorchs_names_are_seen_through() -> None:
    import paddle

    shapes = {
        name: tuple(t.shape) for name, t in paddle.vision.models.resnet18(num_classes=5).state_dict().items()
    }
    assert architectures_of({f"module.model.{name}": of for name, of in shapes.items()}, None) == [
        ("resnet18", 5)
    ]
    of_torch = {
        name.replace("_mean", "running_mean").replace("_variance", "running_var"): of[::-1]
        if len(of) == 2
        else of
        for name, of in shapes.items()
    }
    assert architectures_of(of_torch, None) == []
    assert architectures_of(of_torch, "torch") == [("resnet18", 5)]


def test_doctor_says_it(tmp_path: Path) -> None:
    path = tmp_path / "det.pdparams"
    write_weights(path, **{name: np.ones(shape, np.float32) for name, shape in BODY.items()})
    before = typed("doctor", path).stdout
    assert "PaddleDetection" not in before
    assert f"next:     `paddle-warm doctor {path} --identify` compares it with every network" in before
    tensors: dict[str, Any] = {**BODY, "yolo_head.pred_cls.0.weight": (3, 8, 3, 3)}
    write_weights(path, **{name: np.ones(shape, np.float32) for name, shape in tensors.items()})
    after = typed("doctor", path).stdout
    assert "next:     its names are those of PaddleDetection, with a head for 3 labels (PP-YOLOE(+))" in after
    assert "--identify" not in after


@pytest.mark.skipif(not HAS_PADDLE, reason="networks are built")
def test_doctor_identifies_a_network_when_it_is_asked_to(tmp_path: Path) -> None:
    import paddle

    path = tmp_path / "squeeze.pdparams"
    paddle.save(paddle.vision.models.squeezenet1_1(num_classes=4).state_dict(), str(path))
    assert "squeezenet" not in typed("doctor", path).stdout.replace(str(path), "")
    said = typed("doctor", path, "--identify").stdout
    assert f"`paddle-warm match {path} --arch squeezenet1_1 --classes 4` shows what would be loaded" in said
    assert typed_json("match", path, "--arch", "squeezenet1_1", "--classes", "4")["skipped"] == []
    other = write_weights(tmp_path / "other.pdparams", w=np.ones(3))
    assert (
        "no network of paddle.vision has its names and shapes" in typed("doctor", other, "--identify").stdout
    )


def test_paddle_is_imported_only_when_it_is_asked_for(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "w.pdparams", w=np.ones(3))
    code = (
        "import sys; from paddle_warm_callbacks.cli.main import main\n"
        f"main(['doctor', {str(path)!r}], standalone_mode=False)\n"
        "assert 'paddle' not in sys.modules"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
