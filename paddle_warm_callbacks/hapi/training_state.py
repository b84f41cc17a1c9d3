"""The whole state of a training run: captured between two steps, and put back onto live objects.

What must be in it for the continued run to equal the uninterrupted one to the bit is listed, each item with a test that
fails without it, in tests/exact_resume.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, reduce
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from paddle_warm_callbacks.checkpoint.revision import code_revision
from paddle_warm_callbacks.errors import CorruptCheckpointError
from paddle_warm_callbacks.hapi import attributes, callback_state, optimizer_state, rng
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.hapi.shares import Shares
from paddle_warm_callbacks.hapi.staging import Copying, StagingBuffers, borrowed
from paddle_warm_callbacks.hapi.tensor_layout import TensorLayout
from paddle_warm_callbacks.hapi.trained import Trained
from paddle_warm_callbacks.version import __version__

Arrays = dict[str, "np.ndarray[Any, Any]"]

# No structured name has this sign.
_KEPT = "kept@"
_GRADIENT = "gradient@"


@dataclass(frozen=True)
class TensorState:
    """Copies of a run's tensors.

    Attributes:
        model: By structured name, as ``network.state_dict()``: parameters and persistable buffers.
        model_names: Structured name to Paddle's generated name.
        optimizer: Content of a ``.pdopt``, keyed as Paddle keys it.
        extra: Non-persistable buffers and the loss's tensors by structured name; gradients that the next step adds to,
            under ``gradient@<name>``; what ``loop.kept_arrays`` held, under ``kept@<name>``.
        mine: What this rank has copied, by the names that ranks know tensors by. What it has not, where all ranks
            write, is an ``Elsewhere`` with that name in the others.
    """

    model: Arrays
    model_names: dict[str, str]
    optimizer: dict[str, Any]
    extra: Arrays
    mine: Arrays = field(default_factory=dict)


def layout(loop: FitLoop, *, glance: bool = False) -> TensorLayout:
    """Return where the run's tensors are now; with ``glance``, see :meth:`TensorLayout.of`."""
    loop.layout = TensorLayout.of(loop.network, loop.optimizer, loop.trained, loop.layout, glance=glance)
    return loop.layout


def capture_tensors(
    loop: FitLoop, where: TensorLayout, buffers: StagingBuffers, shares: Shares | None = None
) -> TensorState:
    """Copy parameters, buffers and optimizer state into ``buffers``; blocks for the copy, touches no disk.

    Args:
        loop: Between two steps.
        where: From :func:`layout`, now.
        buffers: Whose last copies nobody reads any more.
        shares: Where all ranks write: only what is this rank's is copied, and for the rest an ``Elsewhere`` stands.
    """
    return _arranged(loop, where, buffers.copy(_mine(where, shares), where.volatile))


def capture_tensors_behind(
    loop: FitLoop,
    where: TensorLayout,
    buffers: StagingBuffers,
    shares: Shares | None = None,
    *,
    glance: bool = False,
) -> tuple[TensorState, Copying]:
    """Copy what a forward pass may change, and leave the rest to a thread that runs the :class:`Copying` returned.

    Until that is over, parameters, accumulators and master weights must not change.

    Args:
        loop: Between two steps.
        where: From :func:`layout`, now.
        buffers: Whose last copies nobody reads any more.
        shares: See :func:`capture_tensors`.
        glance: Leave it to that thread, too, to find out whether the tensors are where they were at the last save.
    """
    check = where.holds if glance else None
    copied, copying = buffers.copy_behind(_mine(where, shares), where.volatile, check_later=check)
    return _arranged(loop, where, copied), copying


def _mine(where: TensorLayout, shares: Shares | None) -> Mapping[str, Any]:
    """Return the tensors that this rank copies."""
    return where.named if shares is None else shares.mine(where.named, where.same_on_ranks)


def _arranged(loop: FitLoop, where: TensorLayout, copied: Arrays) -> TensorState:
    parts = where.arranged(copied)
    # The next backward pass adds to these in place.
    added_to = {name: np.array(borrowed(gradient)) for name, gradient in _gradients(where.in_loss).items()}
    return TensorState(
        model=parts.model,
        model_names=where.generated_names,
        optimizer={**parts.optimizer, **optimizer_state.native_schedule(loop.optimizer)},
        extra={**parts.extra, **added_to, **kept(loop)},
        mine=copied,
    )


def gradients(loop: FitLoop) -> dict[str, Any]:
    """Return the gradients that the next step adds to, under ``gradient@<name>``."""
    return _gradients(loop.trained.parameters_of_loss())


def _gradients(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {_GRADIENT + name: p.grad for name, p in parameters.items() if p._grad_ivar() is not None}


def kept(loop: FitLoop) -> Arrays:
    """Return what callbacks keep in ``loop.kept_arrays``, under ``kept@<name>``."""
    return {_KEPT + name: array for name, array in loop.kept_arrays.items()}


def restore_kept(loop: FitLoop, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Give callbacks back what they kept, of arrays that may be others besides."""
    loop.kept_arrays = {name[len(_KEPT) :]: a for name, a in arrays.items() if name.startswith(_KEPT)}


def capture_counted(loop: FitLoop, callbacks: Sequence[Any]) -> dict[str, Any]:
    """Return what a user's callback may change: the learning rate, running metrics, logs, and ``callbacks``."""
    return {
        "learning_rate": optimizer_state.capture_learning_rate(loop.optimizer),
        "metrics": [attributes.capture(metric) for metric in loop.model._metrics],
        "metric_kinds": _metric_kinds(loop),
        "logs": attributes.capture_mapping(loop.logs),
        "callbacks": callback_state.capture(callbacks),
    }


def capture_counters(loop: FitLoop) -> dict[str, Any]:
    """Return everything else, as plain values and arrays that alias nothing; about half a millisecond."""
    return take_counters(loop, layout(loop))()


def take_counters(loop: FitLoop, where: TensorLayout) -> Callable[[], dict[str, Any]]:
    """Take everything else, for :func:`capture_counters`' answer to be made of it later, on any thread.

    Args:
        loop: Between two steps. What happens in it afterwards does not change what was taken.
        where: From :func:`layout`, now.
    """
    model = loop.model
    scaler = getattr(model, "_scaler", None)
    step = loop.progress.step_in_epoch
    loader = loop.position.take(step, step > 0 and step == loop.steps_per_epoch)
    # An optimizer moves a parameter that has a gradient, be it zero, and passes over one that has none.
    with_gradient = where.take_with_gradient()
    taken = {
        **capture_counted(loop, loop.callbacks),
        "evaluation": loop.evaluation.capture(),
        "optimizer_keys": where.key_table,
        "scaler": _plain(scaler.state_dict()) if scaler is not None else None,
        "reseed_from": loop.reseed_from,
        "stopped": bool(model.stop_training) and not loop.stopping and loop.iters_done != loop.num_iters,
        "iters_done": loop.iters_done,
        "script": _script_facts(loop, where),
    }
    return lambda: {**taken, "loader": loader(), "with_gradient": with_gradient()}


def restore(
    loop: FitLoop, tensors: TensorState, counters: Mapping[str, Any]
) -> tuple[list[str], list[tuple[str, str]], list[str]]:
    """Put a captured state back; ``loop.progress`` must be the position it was captured at.

    Returns:
        Parameters whose optimizer state was restored; (parameter, reason) of those reset; notes.
    """
    restore_model(loop.network, {**tensors.model, **tensors.extra}, loop.trained)
    restore_kept(loop, tensors.extra)
    restored, reset = restore_optimizer(loop, tensors.optimizer, counters)
    return restored, reset, restore_counters(loop, counters, tensors.extra)


def restore_counters(
    loop: FitLoop, counters: Mapping[str, Any], extra: Mapping[str, np.ndarray[Any, Any]]
) -> list[str]:
    """Put back what :func:`capture_counters` returned, and the gradients in ``extra``; return notes."""
    for name, parameter in loop.trained.named_parameters():
        if name in counters["with_gradient"]:
            gradient = extra.get(_GRADIENT + name)
            zeros = gradient is None
            parameter.grad = paddle.zeros_like(parameter) if zeros else paddle.to_tensor(gradient)
        elif parameter._grad_ivar() is not None:
            parameter.clear_gradient(False)
    _restore_scaler(loop.model, counters["scaler"])
    notes = restore_counted(loop, counters, loop.callbacks)
    loop.position.restore(counters["loader"], loop.progress.step_in_epoch)
    if "evaluation" in counters:  # not in checkpoints of before
        loop.evaluation.restore(counters["evaluation"])
    loop.iters_before = counters["iters_done"]
    _restore_seed(loop, counters["reseed_from"])
    return notes


def _restore_seed(loop: FitLoop, saved: int | None) -> None:
    """Take the run's seed over, where Paddle's generator is seeded at each step; across Paddles, make one up."""
    here = loop.reseed_from is not None
    if saved is None and here:
        loop.reseed_from = loop.progress.global_step
    elif saved is not None and not here:
        rng.reseed(saved, loop.progress.global_step)
    elif here:
        loop.reseed_from = saved


def restore_optimizer(
    loop: FitLoop, native: Mapping[str, Any], counters: Mapping[str, Any]
) -> tuple[list[str], list[tuple[str, str]]]:
    """Put accumulators and master weights back by structured name; see :func:`optimizer_state.restore`."""
    return optimizer_state.restore(loop.trained, loop.optimizer, saved_accumulators(native, counters))


def saved_accumulators(
    native: Mapping[str, Any], counters: Mapping[str, Any]
) -> dict[tuple[str, str], np.ndarray[Any, Any]]:
    """Return a checkpoint's accumulators and master weights by (structured name, kind)."""
    table = [(str(key), str(name), str(kind)) for key, name, kind in counters["optimizer_keys"]]
    return optimizer_state.by_structured_name(native, table)


def restore_learning_rate(loop: FitLoop, counters: Mapping[str, Any]) -> None:
    """Put the learning rate back, scheduler or float."""
    optimizer_state.restore_learning_rate(loop.optimizer, counters["learning_rate"])


def restore_counted(loop: FitLoop, counters: Mapping[str, Any], callbacks: Sequence[Any]) -> list[str]:
    """Put back what :func:`capture_counted` returned; return notes on callbacks that came or went."""
    restore_learning_rate(loop, counters)
    kinds = counters.get("metric_kinds", _metric_kinds(loop))  # not in checkpoints of before
    for metric, kind, state in zip(loop.model._metrics, kinds, counters["metrics"]):
        if kind == attributes.kind_name(metric):
            attributes.restore(metric, state)
    loop.logs.clear()
    attributes.restore_mapping(loop.logs, counters["logs"])
    return callback_state.restore(callbacks, counters["callbacks"])


def restore_model(
    network: Any, arrays: Mapping[str, np.ndarray[Any, Any]], trained: Trained | None = None
) -> None:
    """Set parameters and buffers by structured name, of ``trained`` too; names that are not there are passed over.

    Raises:
        CorruptCheckpointError: A shape differs; nothing has been set then.
    """
    beside = dict(network.named_buffers()) if trained is None else trained.beside_the_model()
    live = {**beside, **network.state_dict()}
    for name, array in arrays.items():
        if name not in live or not live[name]._is_initialized():
            continue  # a buffer that its first use makes has no shape before
        if tuple(live[name].shape) != tuple(array.shape):
            raise CorruptCheckpointError(
                "a tensor of the checkpoint does not fit the network",
                where=name,
                received=f"shape {tuple(array.shape)}",
                expected=f"shape {tuple(live[name].shape)}",
                remedy="build the network as it was when the checkpoint was written, or start warm from it: source=…",
            )
    for name, array in arrays.items():
        if name not in live:
            continue
        if live[name]._is_initialized():
            live[name].set_value(array)
        elif array.size:
            *path, last = name.split(".")
            reduce(getattr, path, network)._buffers[last] = paddle.to_tensor(array)


def script_facts(loop: FitLoop) -> dict[str, Any]:
    """Return what an exact resume takes for granted about the script, for comparison with the script as rerun."""
    return _script_facts(loop, layout(loop))


def _script_facts(loop: FitLoop, where: TensorLayout) -> dict[str, Any]:
    loader = loop.train_loader
    sampler = loop.position.batch_sampler
    rate = loop.optimizer._learning_rate
    return {
        "network": where.digest,
        "optimizer": type(loop.optimizer).__name__,
        "learning_rate": "float" if isinstance(rate, float) else attributes.kind_name(rate),
        "accumulate_grad_batches": loop.accumulate,
        "batch_size": getattr(sampler, "batch_size", None),
        "steps_per_epoch": loop.steps_per_epoch,
        "dataset_length": _length(getattr(loader, "dataset", None)),
        "sampler": None if sampler is None else attributes.kind_name(sampler),
        "order": type(getattr(sampler, "sampler", None)).__name__,
        "shuffle": getattr(sampler, "shuffle", None),
        "metrics": _metric_kinds(loop),
        "seed_samples": loop.position.sample_seed,
        "num_workers": getattr(loader, "num_workers", 0),
        "epochs": loop.epochs,
        "world_size": paddle.distributed.get_world_size(),
        "paddle": paddle.__version__,
        **loop.settings,
    }


def _metric_kinds(loop: FitLoop) -> list[str]:
    return [attributes.kind_name(metric) for metric in loop.model._metrics]


@cache
def versions() -> Mapping[str, str]:
    """Return the versions that write a checkpoint, by package."""
    return {
        "paddle": paddle.__version__,
        "paddle_warm_callbacks": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def provenance() -> dict[str, str]:
    """Return where a checkpoint comes from, as far as it can be told: the device, and the script's git commit."""
    revision = code_revision(Path(sys.argv[0] or ".").parent)
    found = {"device": paddle.device.get_device(), "code_revision": revision}
    return {name: value for name, value in found.items() if value is not None}


def _length(dataset: Any) -> int | None:
    try:
        return len(dataset)
    except (TypeError, RuntimeError):  # none at all; an IterableDataset
        return None


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v.numpy() if isinstance(v, paddle.Tensor) else v for k, v in state.items()}


def _restore_scaler(model: Any, state: Mapping[str, Any] | None) -> None:
    if not state:
        return
    if model._scaler is None:
        # hapi makes the scaler in its first train_batch: a state loaded before that would be dropped.
        model._scaler = paddle.amp.GradScaler(**model._adapter._amp_configs)
    model._scaler.load_state_dict(dict(state))
