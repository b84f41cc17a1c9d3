"""A trained recogniser as PaddleOCR deploys it: an inference model and the ``inference.yml`` that goes with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import paddle
import yaml

from paddle_warm_callbacks.checkpoint.store import Checkpoint


def write(
    checkpoint: Checkpoint,
    network: Any,
    directory: Path,
    arch: str,
    characters: Sequence[str],
    size: tuple[int, int],
) -> None:
    """Write ``inference.json``, ``.pdiparams`` and ``.yml``: what ``TextRecognition(model_dir=…)`` takes.

    Args:
        checkpoint: The weights.
        network: A Layer of the same architecture; gets them, and is left in evaluation mode.
        directory: Where to; made if it is not there.
        arch: The model's name as PaddleX knows it.
        characters: The dictionary.
        size: Height and width the network was trained at, in pixels.
    """
    network.set_state_dict({name: paddle.to_tensor(array) for name, array in checkpoint.read_model().items()})
    network.eval()
    directory.mkdir(parents=True, exist_ok=True)
    image = paddle.static.InputSpec([None, 3, size[0], None], "float32", "x")
    paddle.jit.save(network, str(directory / "inference"), input_spec=[image])
    settings = {
        "Global": {"model_name": arch},
        "PreProcess": {
            "transform_ops": [
                {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}},
                {"RecResizeImg": {"image_shape": [3, *size]}},
            ]
        },
        "PostProcess": {"name": "CTCLabelDecode", "character_dict": list(characters)},
    }
    with (directory / "inference.yml").open("w", encoding="utf-8") as file:
        yaml.safe_dump(settings, file, allow_unicode=True, sort_keys=False)
