"""How PaddleX is told to use a trained recogniser: the content of its ``inference.yml``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def inference_settings(arch: str, characters: Sequence[str], size: tuple[int, int]) -> dict[str, Any]:
    """Return what ``TextRecognition(model_dir=…)`` wants to know.

    Args:
        arch: The model's name as PaddleX knows it.
        characters: The dictionary.
        size: Height and width the network was trained at, in pixels.
    """
    return {
        "Global": {"model_name": arch},
        "PreProcess": {
            "transform_ops": [
                {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}},
                {"RecResizeImg": {"image_shape": [3, *size]}},
            ]
        },
        "PostProcess": {"name": "CTCLabelDecode", "character_dict": list(characters)},
    }
