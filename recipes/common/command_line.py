"""A recipe's command line: overrides in, one message and no traceback out."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any, Callable, TypeVar

from paddle_warm_callbacks.errors import WarmCallbacksError
from recipes.common.config import load_config
from recipes.common.runs import Stopped

Schema = TypeVar("Schema")


def run(schema: type[Schema], file: Path, recipe: Callable[[Schema], Any]) -> None:
    """Run a recipe with its YAML file and the overrides of ``sys.argv``; exit with a message if it cannot go on.

    Args:
        schema: The recipe's configuration, a dataclass.
        file: Its YAML file.
        recipe: Runs it all.
    """
    # What Paddle imports has set up a format of its own.
    logging.basicConfig(format="%(message)s", force=True)
    logging.getLogger("paddle_warm_callbacks").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", module=r"paddle\.")  # Paddle's own, about itself
    try:
        recipe(load_config(schema, file, sys.argv[1:]))
    except WarmCallbacksError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except (KeyboardInterrupt, Stopped):
        sys.exit("\ninterrupted: the same command goes on from the last checkpoint")
