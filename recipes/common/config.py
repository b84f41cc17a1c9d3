"""A recipe's configuration: typed defaults, then its YAML file, then ``key=value`` arguments; checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from paddle_warm_callbacks.arguments import require_choice, require_int, require_number
from paddle_warm_callbacks.config.loading import load
from paddle_warm_callbacks.errors import InvalidArgumentError

Schema = TypeVar("Schema")


def load_config(schema: type[Schema], file: Path, arguments: Sequence[str]) -> Schema:
    """Return ``schema`` filled from ``file`` and then from ``arguments``.

    Args:
        schema: A dataclass; its fields give keys, types and defaults.
        file: The recipe's YAML file.
        arguments: Each ``key=value``, with dots between nested keys.

    Raises:
        SourceError: There is no such file.
        InvalidArgumentError: An unknown key, with the nearest known one, or a value of another type.
    """
    return load(schema, file, arguments).values


def require_counts(config: Any, *keys: str) -> None:
    """Raise InvalidArgumentError unless the value of each key is at least 1, or None."""
    for key in keys:
        count = attrgetter(key)(config)
        if count is not None:
            require_int(count, key, at_least=1)


def require_training(config: Any, strategies: Iterable[str]) -> None:
    """Raise InvalidArgumentError unless the keys under ``train`` that recipes share are something to train with.

    Args:
        config: A recipe's.
        strategies: What its ``train.unfreeze`` may be.
    """
    train = config.train
    require_choice(train.unfreeze, "train.unfreeze", choices=tuple(strategies))
    require_counts(config, "train.epochs", "train.old_epochs", "train.batch_size")
    require_number(train.lr, "train.lr", above=0)
    require_number(train.warm_factor, "train.warm_factor", above=0)


def require_together(config: Any, *keys: str, what: str, expected: str) -> None:
    """Raise InvalidArgumentError if some of the keys have a value and others have none.

    Args:
        config: With the keys, dots between nested ones.
        keys: At least two.
        what: The error's first words.
        expected: What is right.
    """
    values = {key: attrgetter(key)(config) for key in keys}
    if len({value is None for value in values.values()}) > 1:
        raise InvalidArgumentError(
            what,
            where=", ".join(keys),
            received=", ".join(f"{key}={value}" for key, value in values.items()),
            expected=expected,
        )
