"""A configuration read and checked: typed defaults, then the YAML, then ``key=value`` overrides."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    InterpolationKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from paddle_warm_callbacks.checkpoint import nearby
from paddle_warm_callbacks.config.bounds import form_text, require_within
from paddle_warm_callbacks.config.keys import require_known, require_override
from paddle_warm_callbacks.config.origin import Origin, lines_of
from paddle_warm_callbacks.config.stored import stored
from paddle_warm_callbacks.config.structure import SECTION, Node, find, parts_of, structure_of
from paddle_warm_callbacks.errors import InvalidArgumentError, SourceError

Schema = TypeVar("Schema")
Given = Any  # a path, a mapping, or a DictConfig


@dataclass(frozen=True)
class Loaded(Generic[Schema]):
    """A configuration whose keys, types and bounds are right.

    Attributes:
        values: The schema's dataclass, filled and resolved.
        plain: The same as plain values, to be stored and shown: without secrets, see `stored`.
        file: The YAML file, or None if it was given otherwise.
        origin: Where each setting was written.
    """

    values: Schema
    plain: dict[str, Any]
    file: Path | None
    origin: Origin


def load(schema: type[Schema], given: Given, overrides: Sequence[str] = ()) -> Loaded[Schema]:
    """Fill ``schema`` from YAML and then from overrides.

    Args:
        schema: A dataclass; its fields give keys, types and defaults.
        given: Path of a YAML file; a mapping; or a DictConfig, as OmegaConf and Hydra make them.
        overrides: Each ``key=value``, with dots between nested keys and YAML for the value.

    Raises:
        SourceError: There is no such file.
        InvalidArgumentError: It is no YAML; a key does not exist, with the nearest that does; a value is of another
            type or out of its bounds; an interpolation cannot be resolved. The error says in which line.
    """
    root = structure_of(schema)
    config, file, origin = _read(given)
    require_known(OmegaConf.to_container(config, resolve=False), root, root, origin)
    with _translated(origin, root):
        merged = OmegaConf.merge(OmegaConf.structured(schema), config)
        assert isinstance(merged, DictConfig)
        for override in overrides:
            merged = _overridden(merged, override, root, origin)
        plain = stored(merged)
        origin.know_environment(plain)
        values: Any = OmegaConf.to_object(merged)
    require_within(values, root, origin)
    return Loaded(values, plain, file, origin)


def _overridden(config: DictConfig, override: str, root: Node, origin: Origin) -> DictConfig:
    key, node = require_override(override, root)
    parts = parts_of(key)
    origin.overrides[tuple(parts)] = override
    value = override.partition("=")[2]
    try:
        written = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]))
    except yaml.YAMLError as error:
        raise InvalidArgumentError(
            "the value of an override is not YAML",
            where=origin.where(key),
            received=value,
            expected=f"a value, such as 3, true, text, [a, b] or {{a: 1}}: {getattr(error, 'problem', '')}",
        ) from error
    assert isinstance(written, dict)
    require_known(written["value"], node, root, origin, key)
    for end in range(1, len(parts)):
        section = ".".join(parts[:end])
        found = find(root, section)
        if found is not None and found.kind == SECTION and OmegaConf.select(config, section) is None:
            # A section that is null so far: merging opens it with its defaults, which setting a key in it does not.
            config = cast(DictConfig, OmegaConf.merge(config, OmegaConf.from_dotlist([f"{section}={{}}"])))
    config.merge_with_dotlist([override])
    return config


def _read(given: Given) -> tuple[DictConfig, Path | None, Origin]:
    if isinstance(given, (str, os.PathLike)):
        return _read_file(Path(given).expanduser())
    if isinstance(given, DictConfig):
        return given, None, Origin("the configuration given")
    if isinstance(given, Mapping):
        return OmegaConf.create(dict(given)), None, Origin("the configuration given")
    raise InvalidArgumentError(
        "not a configuration",
        where="from_config(config)",
        received=type(given).__name__,
        expected="the path of a YAML file, a mapping, or a DictConfig",
    )


def _read_file(path: Path) -> tuple[DictConfig, Path, Origin]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(
            "the configuration cannot be read",
            where=str(path),
            received=getattr(error, "strerror", None) or str(error),
            expected="a YAML file in UTF-8",
            remedy=nearby.meant(path),
        ) from error
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        # OmegaConf takes a text that is a single word for a key without a value.
        config = cast(DictConfig, OmegaConf.create(text if isinstance(root, yaml.MappingNode) else ""))
    # Of a date that is none, YAML's own parser raises a ValueError.
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        raise InvalidArgumentError(
            "the configuration is not YAML",
            where=f"{path}, line {mark.line + 1}" if mark is not None else str(path),
            received=getattr(error, "problem", None) or str(error).splitlines()[0],
            expected="key: value, each key once, sections indented by spaces",
        ) from error
    if not isinstance(root, (yaml.MappingNode, type(None))):
        raise InvalidArgumentError(
            "the configuration is not a mapping",
            where=str(path),
            received=f"{text.strip()[:60]!r}",
            expected="sections: key: value",
        )
    return config, path, Origin(str(path), {} if root is None else lines_of(root))


@contextmanager
def _translated(origin: Origin, root: Node) -> Iterator[None]:
    """Give what OmegaConf raises our form: which setting, in which line, and what would have been right."""
    try:
        yield
    except OmegaConfBaseException as error:
        key = str(getattr(error, "full_key", None) or "")
        what, remedy = "the configuration does not fit", ""
        said = str(error).splitlines()[0]
        node = find(root, key)
        expected = "the form it has in the documentation" if node is None else form_text(node)
        if isinstance(error, MissingMandatoryValue):
            what = "a setting without a default is missing"
        elif isinstance(error, (InterpolationKeyError, InterpolationResolutionError)):
            what, expected = (
                "an interpolation cannot be resolved",
                "a key of the configuration, or ${oc.env:NAME}",
            )
            remedy = "set the environment variable, or give a default: ${oc.env:NAME,default}"
        raise InvalidArgumentError(
            what,
            where=origin.where(key),
            received=said if "Environment variable" in said else origin.shown(key, said),
            expected=expected,
            remedy=remedy,
        ) from error
