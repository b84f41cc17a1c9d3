"""PaddleOCR's recognisers as the paddlex package carries them, made trainable: a thin layer over their own classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import paddle

from recipes.common.paddlex import network_class
from recipes.ocr_recognition.reading import CTCLoss

SHRINK = 8  # pixels of width for one place of the output


@dataclass(frozen=True)
class Recogniser:
    """Where a recogniser is, and what of it we must know.

    Attributes:
        module: Its module in paddlex.
        layer: Its class.
        head: Structured name of the linear layer with a column per character.
        settings: What its configuration takes beside the number of characters.
    """

    module: str
    layer: str
    head: str
    settings: Mapping[str, Any] = field(default_factory=dict)


# PP-LCNetV3 with the strides of a recogniser; paddlex's defaults are those of a classifier. As in PaddleOCR:
# kernel, channels in, channels out, stride, squeeze and excitation.
_LCNETV3 = {
    "model_type": "pp_lcnet_v3",
    "scale": 0.95,
    "divisor": 16,
    "block_configs": [
        [[3, 16, 32, 1, False]],
        [[3, 32, 64, 1, False], [3, 64, 64, 1, False]],
        [[3, 64, 128, [2, 1], False], [3, 128, 128, 1, False]],
        [[3, 128, 256, [1, 2], False], *[[5, 256, 256, 1, False]] * 4],
        [
            [5, 256, 512, [2, 1], True],
            [5, 512, 512, 1, True],
            [5, 512, 512, [2, 1], False],
            [5, 512, 512, 1, False],
        ],
    ],
}

# By the names that paddlex and PaddleOCR know the models by.
RECOGNISERS: Mapping[str, Recogniser] = {
    "PP-OCRv6_tiny_rec": Recogniser("pp_ocrv6_tiny_rec", "PPOCRV6TinyRec", "head.fc2"),
    "PP-OCRv5_mobile_rec": Recogniser(
        "pp_ocrv5_mobile_rec", "PPOCRV5MobileRec", "head.head", {"backbone_config": _LCNETV3}
    ),
    "PP-OCRv5_server_rec": Recogniser("pp_ocrv5_server_rec", "PPOCRV5ServerRec", "head.head"),
}


@dataclass(frozen=True)
class Packaged:
    """A recogniser of the paddlex package, for one dictionary.

    Args:
        arch: One of `RECOGNISERS`.
        characters: Number of characters in the dictionary.
    """

    arch: str
    characters: int
    layout = "ctc"
    keys: tuple[str, ...] = ()

    @property
    def head(self) -> str:
        """Structured name of the layer that holds the characters."""
        return RECOGNISERS[self.arch].head

    def network(self) -> Any:
        """Return it with new weights: a Layer from float32 [batch, 3, 48, width] to probabilities.

        Its output is float32 [batch, width / 8, 1 + characters], place 0 being CTC's blank. The names of its tensors
        are paddlex's own: ``model.backbone.…``, ``head.…``.

        Raises:
            InvalidArgumentError: paddlex is not installed.
        """
        recogniser = RECOGNISERS[self.arch]
        theirs = network_class("text_recognition", recogniser.module, recogniser.layer, self.arch)
        config = theirs.config_class(head_out_channels=self.characters + 1, **recogniser.settings)
        return type(recogniser.layer, (theirs,), {"forward": _probabilities})(config)

    def model(self) -> paddle.Model:
        """Return it as a Model from images to probabilities."""
        return paddle.Model(self.network())

    def loss(self) -> Any:
        """Return the loss of probabilities, label and used."""
        return CTCLoss()

    def encoder(self) -> None:
        """Return what makes further targets of a text: there are none."""


def _probabilities(self: Any, image: Any) -> Any:
    """Return what their own forward makes a NumPy array of."""
    return self.head(self.model(image))
