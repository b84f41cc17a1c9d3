"""The moving average of weights that a checkpoint or a file keeps beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paddle_warm_callbacks.checkpoint import jsonvalue
from paddle_warm_callbacks.checkpoint.numbers import Array, dtype_of, exact, is_float, rounded
from paddle_warm_callbacks.checkpoint.source import open_source
from paddle_warm_callbacks.checkpoint.store import Checkpoint
from paddle_warm_callbacks.errors import SourceError

# Among a checkpoint's further arrays, and the callback whose state has the counts, as recipes/detection writes them.
_KEPT, _CALLBACK = "kept@ema@", "EmaWeights"
# What trainers call the part of a file.
_PARTS = ("ema", "ema_state_dict", "state_dict_ema", "model_ema")


def open_average(source: str, *, which: str = "latest") -> tuple[str, dict[str, Array]]:
    """Return what the moving average of a source is, in words, and its tensors, ready to evaluate with.

    Args:
        source: A checkpoint or run that keeps the average of PaddleDetection's ``ModelEMA``; or a nested file with a
            part called ``ema``. URLs too.
        which: Of a run: ``"latest"`` or ``"best"``.

    Raises:
        SourceError: There is no such source, or no average in it.
        CorruptCheckpointError: The checkpoint is damaged.
    """
    tried = []
    for part in _PARTS:
        try:
            found = open_source(source, which=which, part=part)
        except SourceError as error:
            if error.what != "the source has no such part":
                raise
            tried.append(part)
            continue
        if found.checkpoint is None:
            return f"the average in {found.description}, part {part!r},", found.tensors
        return f"the average in {found.description}", _kept(found.checkpoint)
    raise SourceError(
        "there is no moving average in the file",
        where=source,
        received=f"no part called {', '.join(tried)}",
        expected="a nested file with such a part, or a checkpoint that keeps an average",
        remedy="name its part with --part; a .pdparams with a .pdema beside it is PaddleDetection's average itself",
    )


def _kept(checkpoint: Checkpoint) -> dict[str, Array]:
    arrays = {name[len(_KEPT) :]: a for name, a in checkpoint.read_extra().items() if name.startswith(_KEPT)}
    callbacks = checkpoint.read_state().get("callbacks", {})
    if not arrays or _CALLBACK not in callbacks:
        raise SourceError(
            "the checkpoint keeps no moving average",
            where=checkpoint.path,
            received="weights alone",
            expected=f"the arrays that a callback {_CALLBACK} keeps",
            remedy="train with an average, as recipes/detection does; or leave out --ema",
        )
    return corrected(arrays, jsonvalue.decode(callbacks[_CALLBACK]))


def corrected(arrays: Mapping[str, Array], counts: Mapping[str, Any]) -> dict[str, Array]:
    """Return a ``ModelEMA``'s arrays without the share of zero that they began with.

    As ppdet has it: divided by ``1 - decay ** step``, with the decay of the last update; not where ``decay_type`` is
    "exponential".

    Args:
        arrays: By structured name.
        counts: ``step``, ``last_decay`` and ``decay_type``.
    """
    step, decay = int(counts["step"]), counts["last_decay"]
    if counts["decay_type"] == "exponential" or step == 0 or decay is None:
        return dict(arrays)
    share = 1.0 - float(decay) ** step
    return {
        name: rounded(exact(array) / share, dtype_of(array)) if is_float(array) else array
        for name, array in arrays.items()
    }
