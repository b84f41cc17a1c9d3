"""From COCO's 80 classes to a user's, in files of the layout that PaddleDetection's own have: each family of heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks.checkpoint.source import open_source
from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.hapi.warm_start import warm_start
from paddle_warm_callbacks.plan.labels import labels_from_lines
from recipes.detection import heads
from recipes.detection.heads import LAYOUT_OF_HEAD, head_transplant

COCO = labels_from_lines(
    Path(heads.__file__).with_name("coco_80.txt").read_text(encoding="utf-8"),
)
# Another order than COCO's, one class under a new name, and one that COCO does not have, between the others.
OURS = ("cup", "dent", "flask", "person")
RENAME = {"bottle": "flask"}
FROM = {"cup": "cup", "flask": "bottle", "person": "person"}

Size = Callable[[int], int]
Slots = Callable[[int, int], Sequence[int]]


@dataclass(frozen=True)
class Family:
    """A head as PaddleDetection builds it, stated without the package's own table.

    Attributes:
        kind: Class of the head.
        key: Where it is in the network.
        tensors: Name to (axis of classes, its size for C classes, the indices of class c of C).
        attributes: Of the head.
    """

    kind: str
    key: str
    tensors: Mapping[str, tuple[int, Size, Slots]]
    attributes: Mapping[str, Any] = field(default_factory=dict)


def conv(names: Sequence[str], size: Size, slots: Slots) -> dict[str, tuple[int, Size, Slots]]:
    return {f"{name}.{kind}": (0, size, slots) for name in names for kind in ("weight", "bias")}


def linear(names: Sequence[str], size: Size, slots: Slots) -> dict[str, tuple[int, Size, Slots]]:
    return {
        f"{name}.{kind}": (axis, size, slots) for name in names for kind, axis in (("weight", 1), ("bias", 0))
    }


def plain(c: int, of: int) -> list[int]:
    return [c]


FAMILIES = {
    "PicoDet": Family(
        "PicoHeadV2",
        "head",
        conv(["head_cls0", "head_cls3", "head_cls_list.0", "head_cls_list.3"], lambda n: n, plain),
    ),
    "legacy PicoDet": Family("PicoHead", "head", conv(["head_cls0"], lambda n: n + 4 * 8, plain)),
    "PP-YOLOE": Family("PPYOLOEHead", "yolo_head", conv(["pred_cls.0", "pred_cls.2"], lambda n: n, plain)),
    "YOLOv3": Family(
        "YOLOv3Head",
        "yolo_head",
        conv(["yolo_output.0"], lambda n: 3 * (5 + n), lambda c, n: [a * (5 + n) + 5 + c for a in range(3)]),
        {"iou_aware": False},
    ),
    "PP-YOLO": Family(
        "YOLOv3Head",
        "yolo_head",
        conv(
            ["yolo_output.0"], lambda n: 3 * (6 + n), lambda c, n: [3 + a * (5 + n) + 5 + c for a in range(3)]
        ),
        {"iou_aware": True},
    ),
    "Faster R-CNN": Family(
        "BBoxHead",
        "bbox_head",
        {
            **linear(["bbox_score"], lambda n: n + 1, plain),
            **linear(["bbox_delta"], lambda n: 4 * n, lambda c, n: range(4 * c, 4 * c + 4)),
        },
    ),
    "Cascade R-CNN": Family(
        "CascadeHead", "bbox_head", linear([f"bbox_score_stage{s}" for s in range(3)], lambda n: n + 1, plain)
    ),
    "SSD": Family(
        "SSDHead",
        "ssd_head",
        conv(["scores0"], lambda n: 4 * (n + 1), lambda c, n: [a * (n + 1) + c for a in range(4)]),
    ),
    "GFL": Family("GFLHead", "head", conv(["gfl_head_cls"], lambda n: n, plain)),
    "FCOS": Family("FCOSHead", "fcos_head", conv(["fcos_head_cls"], lambda n: n, plain)),
    "TOOD": Family("TOODHead", "head", conv(["tood_cls"], lambda n: n, plain)),
    "RetinaNet": Family(
        "RetinaHead",
        "head",
        conv(["retina_cls"], lambda n: 9 * n, lambda c, n: [a * n + c for a in range(9)]),
    ),
    "YOLOX": Family("YOLOXHead", "yolo_head", conv(["conv_cls.0.2", "conv_cls.2.2"], lambda n: n, plain)),
    "DETR": Family("DETRHead", "detr_head", linear(["score_head"], lambda n: n + 1, plain)),
    "RT-DETR": Family(
        "RTDETRTransformer",
        "transformer",
        {
            **linear(["enc_score_head", "dec_score_head.0"], lambda n: n, plain),
            "denoising_class_embed.weight": (0, lambda n: n, plain),
        },
    ),
    "CenterNet": Family("CenterNetHead", "head", conv(["heatmap.2.conv"], lambda n: n, plain)),
    "SOLOv2": Family("SOLOv2Head", "head", conv(["solo_cate"], lambda n: n, plain)),
}


def network(family: Family, classes: int) -> Any:
    """Return a Layer with the family's tensors under their official names, and a backbone beside them."""

    def part(kind: str) -> Any:
        return type(kind, (paddle.nn.Layer,), {})()

    root = part("Network")
    root.add_sublayer("backbone", paddle.nn.Linear(8, 8))
    head = part(family.kind)
    vars(head).update(family.attributes)
    root.add_sublayer(family.key, head)
    for name, (axis, size, _) in family.tensors.items():
        *path, last = name.split(".")
        owner = head
        for step in path:
            if step not in owner._sub_layers:
                owner.add_sublayer(step, part("Part"))
            owner = owner._sub_layers[step]
        shape = [size(classes)] if last == "bias" else [3, 3]
        shape[axis] = size(classes)
        owner.add_parameter(last, owner.create_parameter(shape))
    return root


def numbered(tensor: Any, axis: int) -> Any:
    """Return an array whose every row along ``axis`` holds that row's number, from 1."""
    shape = [1] * len(tensor.shape)
    shape[axis] = -1
    rows = np.arange(1, tensor.shape[axis] + 1, dtype="float32").reshape(shape)
    return np.broadcast_to(rows, tensor.shape).copy()


def test_the_80_names_are_cocos() -> None:
    assert (len(COCO), COCO[0], COCO[39], COCO[-1]) == (80, "person", "bottle", "toothbrush")
    assert len(set(COCO)) == 80


def test_every_head_the_recipe_knows_is_tried_here() -> None:
    assert {family.kind for family in FAMILIES.values()} == set(LAYOUT_OF_HEAD)


@pytest.mark.parametrize("name", FAMILIES)
def test_each_kept_class_takes_its_rows_with_it(tmp_path: Path, name: str) -> None:
    family = FAMILIES[name]
    official = network(family, len(COCO))
    for key, (axis, _, _) in family.tensors.items():
        tensor = official.state_dict()[f"{family.key}.{key}"]
        tensor.set_value(numbered(tensor, axis))
    paddle.save(official.state_dict(), str(tmp_path / "official.pdparams"))

    ours = network(family, len(OURS))
    before = {key: np.full(tensor.shape, -1, "float32") for key, tensor in ours.state_dict().items()}
    for key, tensor in ours.state_dict().items():
        tensor.set_value(before[key])
    head = head_transplant(ours, COCO, OURS, RENAME)
    source = open_source(str(tmp_path / "official.pdparams"))
    report = warm_start(ours, source.tensors, description="official", head=head)

    assert report.skipped == ()
    assert sorted(report.transplanted) == sorted(f"{family.key}.{key}" for key in family.tensors)
    assert np.array_equal(ours.state_dict()["backbone.weight"], official.state_dict()["backbone.weight"])
    for key, (axis, size, slots) in family.tensors.items():
        rows = np.moveaxis(ours.state_dict()[f"{family.key}.{key}"].numpy(), axis, 0)
        left = set(range(size(len(OURS))))
        for label in OURS:
            own = list(slots(OURS.index(label), len(OURS)))
            left -= set(own)
            if label not in FROM:
                assert (rows[own] == -1).all()
                continue
            origins = slots(COCO.index(FROM[label]), len(COCO))
            for row, origin in zip(own, origins):
                assert (rows[row] == origin + 1).all(), (key, label)
        # Background, objectness and boxes belong to no class: they are the source's too.
        assert (rows[sorted(left)] > 0).all()


def test_a_head_of_no_known_layout_is_refused() -> None:
    unknown = network(Family("NewHead", "head", conv(["cls"], lambda n: n, plain)), 3)
    with pytest.raises(InvalidArgumentError, match=r"(?s)received: NewHead.*PicoHeadV2"):
        head_transplant(unknown, COCO, OURS)
