"""A trained network as PaddleOCR and PaddleX deploy it: an inference model and the ``inference.yml`` beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import paddle
import yaml

from paddle_warm_callbacks.checkpoint.store import Checkpoint


def write_inference(
    checkpoint: Checkpoint,
    network: Any,
    directory: Path,
    settings: Mapping[str, Any],
    height: int | None = None,
) -> None:
    """Write ``inference.json``, ``.pdiparams`` and ``.yml``: what ``create_predictor(model_dir=…)`` takes.

    Args:
        checkpoint: The weights.
        network: A Layer of the same architecture, of one image; gets them, and is left in evaluation mode.
        directory: Where to; made if it is not there.
        settings: The content of ``inference.yml``.
        height: Of the images, in pixels; None: any.
    """
    network.set_state_dict({name: paddle.to_tensor(array) for name, array in checkpoint.read_model().items()})
    network.eval()
    directory.mkdir(parents=True, exist_ok=True)
    image = paddle.static.InputSpec([None, 3, height, None], "float32", "x")
    paddle.jit.save(network, str(directory / "inference"), input_spec=[image])
    with (directory / "inference.yml").open("w", encoding="utf-8") as file:
        yaml.safe_dump(dict(settings), file, allow_unicode=True, sort_keys=False)
