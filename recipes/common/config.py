"""A recipe's configuration: typed defaults, then its YAML file, then ``key=value`` arguments."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from paddle_warm_callbacks.errors import InvalidArgumentError

Schema = TypeVar("Schema")


def load_config(schema: type[Schema], file: Path, arguments: Sequence[str]) -> Schema:
    """Return ``schema`` filled from ``file`` and then from ``arguments``.

    Args:
        schema: A dataclass; its fields give keys, types and defaults.
        file: The recipe's YAML file.
        arguments: Each ``key=value``, with dots between nested keys.

    Raises:
        InvalidArgumentError: An unknown key, with the nearest known one, or a value of another type.
    """
    config = OmegaConf.structured(schema)
    known = list(_keys(config))
    for argument in arguments:
        key, equals, _ = argument.partition("=")
        if not equals or key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            raise InvalidArgumentError(
                "not an override",
                where="command line",
                received=argument,
                expected="key=value with one of: " + ", ".join(known),
                remedy=f"did you mean {near[0]}=…?" if near else "",
            )
    try:
        merged = OmegaConf.merge(config, OmegaConf.load(file), OmegaConf.from_dotlist(list(arguments)))
        filled: Any = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise InvalidArgumentError(
            "the configuration does not fit",
            where=f"{error.full_key or '(top level)'} in {file} or on the command line",
            received=str(error).splitlines()[0],
            expected=f"the types of {schema.__name__}",
        ) from error
    result: Schema = filled
    return result


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, config):
        value = config._get_node(key)
        if isinstance(value, DictConfig):
            yield from _keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
