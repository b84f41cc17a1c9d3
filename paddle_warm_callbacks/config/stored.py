"""A configuration as it is stored and shown: resolved, but for what comes from the environment, which may be secret."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from paddle_warm_callbacks.secrets import redacted

_ENVIRONMENT = re.compile(r"\boc\.env\b")
# Marks are made of characters of the private use area, which no configuration is written in.
_OPEN, _CLOSE = "\ue000", "\ue001"
_MARK = re.compile(f"{_OPEN}(\\d+){_CLOSE}")


def stored(config: DictConfig) -> dict[str, Any]:
    """Return plain values: interpolations resolved, except that ``${oc.env:…}`` stays as it is written.

    Also where another setting takes its value from there: ``${user.token}`` becomes ``${oc.env:TOKEN}``. Credentials
    in URLs become ``***``.
    """
    asking = _Asking([])
    without = OmegaConf.create(asking.taken_out(OmegaConf.to_container(config, resolve=False)))
    assert isinstance(without, DictConfig)
    found = asking.put_back(_resolved(without))
    assert isinstance(found, dict)
    return found


@dataclass
class _Asking:
    """The interpolations that ask the environment, each with a mark that no resolver takes for anything but text.

    Attributes:
        texts: The interpolations as they are written; the mark of each has its number.
    """

    texts: list[str]

    def taken_out(self, value: Any) -> Any:
        """Return raw values with marks in the place of such interpolations."""
        if isinstance(value, dict):
            return {key: self.taken_out(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.taken_out(item) for item in value]
        if not isinstance(value, str) or not _ENVIRONMENT.search(value):
            return value
        pieces, at = [], 0
        while (begin := value.find("${", at)) >= 0:
            end = _closed(value, begin)
            inside = value[begin:end]
            if _ENVIRONMENT.search(inside):
                self.texts.append(inside)
                inside = f"{_OPEN}{len(self.texts) - 1}{_CLOSE}"
            pieces += [value[at:begin], inside]
            at = end
        return "".join((*pieces, value[at:]))

    def put_back(self, value: Any) -> Any:
        """Return resolved values as they are stored."""
        if isinstance(value, dict):
            return {str(key): self.put_back(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.put_back(item) for item in value]
        if not isinstance(value, str):
            return value
        return _MARK.sub(lambda mark: self.texts[int(mark[1])], redacted(value))


def _closed(text: str, begin: int) -> int:
    """Return the index behind the brace that closes the one of ``${`` at ``begin``."""
    depth = 0
    for index in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0 and text[index] == "}":
            return index + 1
    return len(text)


def _resolved(container: DictConfig | ListConfig) -> Any:
    """Return plain values resolved; one that cannot be, because it needs the environment's, as it is written."""
    raw: Any = OmegaConf.to_container(container, resolve=False)
    keys = list(container) if isinstance(container, DictConfig) else range(len(container))
    values = []
    for key in keys:
        try:
            value = container[key]
        except OmegaConfBaseException:
            value = raw[key]
        values.append(_resolved(value) if isinstance(value, (DictConfig, ListConfig)) else value)
    return dict(zip(keys, values)) if isinstance(container, DictConfig) else values
