"""Which head a detector has, and so where each class lives in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from paddle_warm_callbacks import HeadTransplant
from paddle_warm_callbacks.errors import InvalidArgumentError

# Class of a head in ppdet to the layout of ``paddle_warm_callbacks.plan.transplant.LAYOUTS``.
LAYOUT_OF_HEAD = {
    "BBoxHead": "faster_rcnn",
    "CascadeHead": "cascade_rcnn",
    "CenterNetHead": "centernet",
    "DETRHead": "detr",
    "FCOSHead": "fcos",
    "GFLHead": "gfl",
    "PicoHead": "picodet_shared",
    "PicoHeadV2": "picodet",
    "PPYOLOEHead": "ppyoloe",
    "RetinaHead": "retinanet",
    "RTDETRTransformer": "rtdetr",
    "SOLOv2Head": "solov2",
    "SSDHead": "ssd",
    "TOODHead": "tood",
    "YOLOv3Head": "yolov3",
    "YOLOXHead": "yolox",
}


def head_transplant(
    network: Any, old: Sequence[str], new: Sequence[str], rename: Mapping[str, str] | None = None
) -> HeadTransplant:
    """Return how the rows of the detector's head move when its classes become ``new``.

    Args:
        network: A detector, or any Layer with a head of ppdet among its parts.
        old: Classes of the source, in its order.
        new: Classes of ``network``, in its order.
        rename: Old class to the new name of the same thing.

    Raises:
        InvalidArgumentError: No part is a head whose layout is known.
    """
    kinds = {name: type(part).__name__ for name, part in network.named_sublayers()}
    found = next((name for name, kind in kinds.items() if kind in LAYOUT_OF_HEAD), None)
    if found is None:
        raise InvalidArgumentError(
            "no head of a known layout",
            where="model.detector",
            received=", ".join(sorted({kind for kind in kinds.values() if "Head" in kind}))
            or "no head at all",
            expected=", ".join(LAYOUT_OF_HEAD),
            remedy="give WarmStartCallback a HeadTransplant of your own, or start without: old_labels=null",
        )
    layout = LAYOUT_OF_HEAD[kinds[found]]
    if layout == "yolov3" and dict(network.named_sublayers())[found].iou_aware:
        layout = "yolov3_iou_aware"
    return HeadTransplant(found, old, new, layout=layout, rename=rename)
