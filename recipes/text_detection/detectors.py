"""PaddleOCR's DB text detectors as the paddlex package carries them, made trainable: a layer over their own classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recipes.common.paddlex import network_class

# By the names that paddlex and PaddleOCR know the models by: the module in paddlex and its class.
DETECTORS: Mapping[str, tuple[str, str]] = {
    "PP-OCRv5_mobile_det": ("pp_ocrv5_mobile_det", "PPOCRV5MobileDet"),
    "PP-OCRv5_server_det": ("pp_ocrv5_server_det", "PPOCRV5ServerDet"),
    "PP-OCRv6_small_det": ("pp_ocrv6_small_det", "PPOCRV6SmallDet"),
    "PP-OCRv6_medium_det": ("pp_ocrv6_medium_det", "PPOCRV6MediumDet"),
}


def detector(arch: str) -> Any:
    """Return a detector with new weights: a Layer from float32 [batch, 3, height, width] to [batch, 1, height, width].

    Height and width are multiples of 32. What comes out is the probability that a pixel is inside the shrunk outline
    of a text. The names of its tensors are paddlex's own: ``model.backbone.…``, ``model.neck.…``, ``head.…``.

    Args:
        arch: One of `DETECTORS`.

    Raises:
        InvalidArgumentError: paddlex is not installed.
    """
    name, layer = DETECTORS[arch]
    theirs = network_class("text_detection", name, layer, arch)
    return type(layer, (theirs,), {"forward": _probabilities})(theirs.config_class())


def _probabilities(self: Any, image: Any) -> Any:
    """Return what their own forward makes a NumPy array of."""
    return self.head(self.model(image))
