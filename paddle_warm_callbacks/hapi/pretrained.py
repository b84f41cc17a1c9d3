"""The pretrained files of ``paddle.vision``, where Paddle keeps them."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import paddle
from paddle.utils import download

from paddle_warm_callbacks.errors import SourceError

PREFIX = "paddle.vision:"


def find(source: str) -> Path:
    """Return the file of ``"paddle.vision:<name>"``, such as ``resnet50``: from Paddle's cache, else downloaded there.

    Blocks while it downloads, which Paddle does with a progress bar; a file in the cache is compared with its md5.

    Raises:
        SourceError: ``paddle.vision`` has no pretrained file of that name, or it could not be downloaded.
    """
    url, md5 = _known(source)
    try:
        return Path(download.get_weights_path_from_url(url, md5))
    # Paddle raises RuntimeError, requests its own.
    except Exception as error:
        raise SourceError(
            "the pretrained file is not in Paddle's cache and could not be downloaded",
            where=url,
            received=f"{type(error).__name__}: {error}",
            expected=f"{_in_cache(url)} with md5 {md5}",
            remedy="put the file there, or give its path as the source",
        ) from error


def is_cached(source: str) -> bool:
    """Return whether Paddle's cache has the file; its md5 is not looked at.

    Raises:
        SourceError: ``paddle.vision`` has no pretrained file of that name.
    """
    return _in_cache(_known(source)[0]).is_file()


def _in_cache(url: str) -> Path:
    return Path(download.WEIGHTS_HOME) / url.rsplit("/", 1)[1]


def _known(source: str) -> tuple[str, str]:
    """Return URL and md5."""
    name = source[len(PREFIX) :]
    known: dict[str, tuple[str, str]] = {}
    for module in vars(paddle.vision.models).values():
        if isinstance(module, ModuleType):
            known.update(getattr(module, "model_urls", {}))
    if name not in known:
        raise SourceError(
            "paddle.vision has no pretrained file of that name",
            where=source,
            received=repr(name),
            expected="one of " + ", ".join(sorted(known)),
        )
    return known[name]
