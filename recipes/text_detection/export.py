"""How PaddleX is told to use a trained text detector: the content of its ``inference.yml``."""

from __future__ import annotations

from typing import Any


def inference_settings(arch: str, size: int) -> dict[str, Any]:
    """Return what ``TextDetection(model_dir=…)`` wants to know.

    Args:
        arch: The model's name as PaddleX knows it.
        size: Of the images' longer side in training, in pixels.
    """
    return {
        "Global": {"model_name": arch},
        "PreProcess": {
            "transform_ops": [
                {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}},
                {"DetResizeForTest": {"resize_long": size}},
                {
                    "NormalizeImage": {
                        "mean": [0.485, 0.456, 0.406],
                        "order": "hwc",
                        "scale": "1./255.",
                        "std": [0.229, 0.224, 0.225],
                    }
                },
                {"ToCHWImage": None},
                {"KeepKeys": {"keep_keys": ["image", "shape"]}},
            ]
        },
        "PostProcess": {
            "name": "DBPostProcess",
            "thresh": 0.3,
            "box_thresh": 0.6,
            "max_candidates": 1000,
            "unclip_ratio": 1.5,
        },
    }
