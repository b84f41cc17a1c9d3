"""PaddleOCR's networks as the paddlex package carries them."""

from __future__ import annotations

import importlib
from typing import Any

from paddle_warm_callbacks.errors import InvalidArgumentError


def network_class(task: str, module: str, name: str, arch: str) -> Any:
    """Return the class of a network.

    Args:
        task: The package in ``paddlex.inference.models``, such as "text_detection".
        module: The module in its ``modeling``.
        name: Of the class.
        arch: What the user calls it; for the error.

    Raises:
        InvalidArgumentError: paddlex is not installed.
    """
    try:
        found = importlib.import_module(f"paddlex.inference.models.{task}.modeling.{module}")
    except ModuleNotFoundError as missing:
        raise InvalidArgumentError(
            f"{arch} is not to be had",
            where="model.arch",
            received=str(missing),
            expected="paddlex 3.7.2, which carries PaddleOCR's networks",
            remedy='pip install "paddle-warm-callbacks[ocr]"',
        ) from missing
    return getattr(found, name)
