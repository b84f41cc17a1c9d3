"""Commands as a user types them, and runs to type them at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from click.testing import CliRunner, Result

from paddle_warm_callbacks.checkpoint import mirror
from paddle_warm_callbacks.checkpoint.pdparams import write_pdparams
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.cli.main import main
from paddle_warm_callbacks.plan.retention import RetentionPolicy
from tests.checkpoint.samples import contents


def typed(*arguments: str | Path, exit_code: int = 0) -> Result:
    """Return what a command said; it ended with ``exit_code`` and never with a traceback."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == exit_code, result.output
    assert "Traceback" not in result.output
    return result


def typed_json(*arguments: str | Path, exit_code: int = 0) -> Any:
    """Return the JSON that a command printed."""
    return json.loads(typed(*arguments, "--json", exit_code=exit_code).stdout)


def make_run(path: Path, keep: RetentionPolicy | None = None) -> Path:
    """Make a run of three checkpoints: after epochs 1 and 2, the first the better one, and at step 5 within epoch 2."""
    store = CheckpointStore(path)
    store.commit(contents(2, epoch=1, metrics={"acc": 0.9}))
    store.commit(contents(4, epoch=2, metrics={"acc": 0.5}))
    store.commit(contents(5))
    if keep is not None:
        store.retain(keep)
    return path


def make_mirror(run: Path) -> str:
    """Copy a run to a file system in this process's memory; return its URL."""
    url = f"memory://{run}/mirror"
    for checkpoint in CheckpointStore(run).list():
        mirror.upload(checkpoint, url)
    return url


def flip_a_bit(path: Path | str, at: int = -20) -> None:
    """Damage a file, here or in this process's memory."""
    files = fsspec.filesystem("memory" if str(path).startswith("memory://") else "file")
    data = bytearray(files.cat_file(str(path)))
    data[at] ^= 1
    files.pipe_file(str(path), bytes(data))


def write_weights(path: Path, **tensors: Any) -> Path:
    """Write a ``.pdparams`` file of arrays, or of dictionaries of arrays."""
    with path.open("wb") as file:
        write_pdparams(file, tensors)
    return path


def lines_of(result: Result) -> Iterator[list[str]]:
    """Yield the words of each line that a command printed."""
    for line in result.stdout.splitlines():
        yield line.split()


def bfloat16(*values: float) -> np.ndarray[Any, Any]:
    """Return numbers as the uint16 that Paddle's files hold; those given are ones that bfloat16 holds exactly."""
    return (np.array(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)
