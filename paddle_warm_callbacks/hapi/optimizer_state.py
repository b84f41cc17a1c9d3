"""Optimizer state by structured names: moments, master weights and learning rate, captured and put back.

Paddle keys its optimizer state by generated names (``linear_0.w_0_moment1_0``), which differ between two processes as
soon as one more layer was built first; loaded by those names, one layer silently gets another's moments. Here every
accumulator is known by its parameter's structured name and its own kind (``fc.weight``, ``moment1``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from paddle.base import framework
from paddle.base.layer_helper import LayerHelper
from paddle.optimizer import Optimizer
from paddle.optimizer.lr import LRScheduler, ReduceOnPlateau

from paddle_warm_callbacks.errors import UnsupportedFitError
from paddle_warm_callbacks.hapi import attributes

MASTER = "master_weight"


class Slot(NamedTuple):
    """One tensor of an optimizer.

    Attributes:
        parameter: Structured name of the parameter it belongs to.
        kind: ``"moment1"``, ``"velocity"``, … without the optimizer's own name; or :data:`MASTER`.
        key: The name Paddle files it under in ``.pdopt``.
        tensor: The live tensor.
    """

    parameter: str
    kind: str
    key: str
    tensor: Any


def slots(network: Any, optimizer: Any) -> Iterator[Slot]:
    """Yield every accumulator and master weight that ``optimizer`` holds for parameters of ``network``."""
    parameters = {parameter.name: name for name, parameter in network.named_parameters()}
    owners = dict(parameters)
    for generated, master in masters(optimizer).items():
        if generated in parameters:
            owners[master.name] = parameters[generated]
            yield Slot(parameters[generated], MASTER, generated, master)
    for kind, by_owner in optimizer._accumulators.items():
        for owner, tensor in by_owner.items():
            if owner in owners:
                yield Slot(owners[owner], _plain_kind(optimizer, kind), tensor.name, tensor)


def refuse_unknown(optimizer: Any) -> None:
    """Raise if ``optimizer`` keeps state where :func:`slots` does not find it.

    Raises:
        UnsupportedFitError: It works through another optimizer, as LookAhead does.
    """
    inner = [type(value).__name__ for value in vars(optimizer).values() if isinstance(value, Optimizer)]
    if inner:
        raise UnsupportedFitError(
            "an optimizer within another is not saved, and a resume would begin it anew",
            where="the model's optimizer",
            received=f"{type(optimizer).__name__}({', '.join(inner)})",
            expected="one of paddle.optimizer, or a subclass",
            remedy=f"train with {inner[0]} alone",
        )


def native_arrays(held: Iterable[Slot], arrays: Mapping[tuple[str, str], Any]) -> dict[str, Any]:
    """Arrange ``arrays``, by (parameter, kind), as Paddle's own ``optimizer.state_dict()`` does."""
    native: dict[str, Any] = {}
    masters: dict[str, Any] = {}
    for slot in held:
        array = arrays[slot.parameter, slot.kind]
        if slot.kind == MASTER:
            # Paddle takes masters as they are loaded, and finds their moments by the name that comes with them.
            masters[slot.key] = (slot.tensor.name, array)
        else:
            native[slot.key] = array
    if masters:
        native["master_weights"] = masters
    return native


def native_schedule(optimizer: Any) -> dict[str, Any]:
    """Return what Paddle's own ``optimizer.state_dict()`` holds beside arrays: its scheduler, if it has one."""
    if not isinstance(optimizer._learning_rate, LRScheduler):
        return {}
    numbers = optimizer._learning_rate.state_dict().items()
    return {"LR_Scheduler": {key: value for key, value in numbers if not callable(value)}}


def key_table(held: Iterable[Slot]) -> list[tuple[str, str, str]]:
    """Return (key in ``.pdopt``, parameter, kind) of every slot, which makes a native file readable by name."""
    return [(slot.key, slot.parameter, slot.kind) for slot in held]


def by_structured_name(
    native: Mapping[str, Any], table: list[tuple[str, str, str]]
) -> dict[tuple[str, str], np.ndarray]:
    """Look a ``.pdopt``'s content, its names taken off, up through its :func:`key_table`."""
    masters = native.get("master_weights", {})
    return {(parameter, kind): (masters if kind == MASTER else native)[key] for key, parameter, kind in table}


def restore(
    network: Any, optimizer: Any, arrays: Mapping[tuple[str, str], np.ndarray]
) -> tuple[list[str], list[tuple[str, str]]]:
    """Put accumulators and master weights back, by structured name, into a fresh or a live optimizer.

    Args:
        network: The Layer whose parameters the optimizer updates.
        optimizer: Its accumulators for other parameters are dropped: they start fresh, as they did in the saved run.
        arrays: By (parameter, kind).

    Returns:
        Names of parameters restored; (name, reason) of the others that are trained: those start fresh.
    """
    live = dict(network.named_parameters())
    saved: dict[str, dict[str, np.ndarray]] = {}
    for (name, kind), array in arrays.items():
        saved.setdefault(name, {})[kind] = array
    reset: list[tuple[str, str]] = []
    for name in list(saved):
        if name not in live:
            reset.append((name, "no such parameter in the network"))
            del saved[name]
    forget(network, optimizer, [name for name in live if name not in saved])
    optimizer._accumulators_holder = {}
    create(optimizer, [live[name] for name in saved])
    held: dict[str, dict[str, Any]] = {}
    for slot in slots(network, optimizer):
        held.setdefault(slot.parameter, {})[slot.kind] = slot.tensor
    restored = []
    for name, kinds in saved.items():
        problem = _mismatch(kinds, held.get(name, {}))
        if problem:
            reset.append((name, problem))
            continue
        for kind, array in kinds.items():
            held[name][kind].set_value(array.reshape(held[name][kind].shape))
        restored.append(name)
    forget(network, optimizer, [name for name, _ in reset if name in live])
    if saved or reset:  # not where the optimizer keeps nothing, as SGD
        reset += [
            (name, "nothing was saved for it: it was frozen, or had not had a step")
            for name, parameter in live.items()
            if name not in saved and not parameter.stop_gradient and (name not in dict(reset))
        ]
    return restored, reset


def create(optimizer: Any, parameters: list[Any]) -> None:
    """Create the accumulators of ``parameters`` now, as their first step would; existing ones are left as they are."""
    if not parameters:
        return
    _ensure_helper(optimizer)
    block = framework.default_main_program().global_block()
    optimizer._create_accumulators(block, parameters)


def forget(network: Any, optimizer: Any, names: list[str]) -> None:
    """Drop accumulators and master weights of the parameters in ``names``: their next step starts from fresh ones."""
    regroup(optimizer)
    dropped = set(names)
    live = {name: parameter.name for name, parameter in network.named_parameters()}
    gone = {slot.tensor.name for slot in slots(network, optimizer) if slot.parameter in dropped}
    if not gone:
        return
    for by_owner in optimizer._accumulators.values():
        for owner in [owner for owner, tensor in by_owner.items() if tensor.name in gone]:
            del by_owner[owner]
    spelt = "_already_create_accumulator"
    if not hasattr(optimizer, spelt):
        spelt = "_already_create_accumulater"  # in Paddle 2.6
    created: set[str] = getattr(optimizer, spelt)
    for name in dropped & live.keys():
        masters(optimizer).pop(live[name], None)
        created.discard(live[name])


def regroup(optimizer: Any) -> None:
    """Have an optimizer with ``use_multi_tensor=True`` look anew, at its next step, which parameters it updates.

    It lists them, and their accumulators, at its first step; where others are trained later, it fails, or moves the old
    ones by the gradients of the new.
    """
    if not getattr(optimizer, "_use_multi_tensor", None):
        return
    for lists in vars(optimizer).values():
        # {"FP32_DenseTensor": [[tensors of a group], …], "FP16_DenseTensor": …}; "LODTensor" in Paddle 2.6.
        if isinstance(lists, dict) and lists and all(str(kind)[:5] in ("FP32_", "FP16_") for kind in lists):
            lists.update({kind: [[] for _ in groups] for kind, groups in lists.items() if groups is not None})


def capture_learning_rate(optimizer: Any) -> dict[str, Any]:
    """Return the state of the learning rate: a scheduler's numbers, nested ones included, or float and tensor.

    ``state_dict()`` of a scheduler is not enough: it lacks what CosineAnnealingWarmRestarts counts, for one. The tensor
    is kept beside the float because they can differ: the ReduceLROnPlateau callback assigns the one without the other.
    """
    rate = optimizer._learning_rate
    state: dict[str, Any] = {"class": type(rate).__name__}
    if isinstance(rate, LRScheduler):
        state["scheduler"] = {"values": attributes.capture(rate, attributes.GENERATED)}
    else:
        state["float"] = float(rate)
        tensor = optimizer._global_learning_rate()
        state["tensor"] = None if tensor is None else float(np.asarray(tensor.numpy()).reshape(()))
    return state


def restore_learning_rate(optimizer: Any, state: Mapping[str, Any]) -> None:
    """Put back what :func:`capture_learning_rate` returned; the kind of learning rate must be the same."""
    rate = optimizer._learning_rate
    if isinstance(rate, LRScheduler):
        attributes.restore(rate, state["scheduler"]["values"])
        return
    optimizer.set_lr(state["float"] if state["tensor"] is None else state["tensor"])
    if state["tensor"] is not None:
        # Made now rather than in the first step: a callback may assign another float before that, which must not count.
        _ensure_helper(optimizer)
        optimizer._create_global_learning_rate()
        optimizer._learning_rate = state["float"]


def move_learning_rate(optimizer: Any, as_built: Mapping[str, Any]) -> None:
    """Take the numbers a script built its learning rate with, at the position the optimizer's scheduler stands at.

    Args:
        optimizer: Its scheduler has been restored to that position.
        as_built: From :func:`capture_learning_rate`, before anything was restored.
    """
    rate = optimizer._learning_rate
    if not isinstance(rate, LRScheduler):
        optimizer.set_lr(as_built["float"])
    elif not isinstance(rate, ReduceOnPlateau):  # which follows a metric, and has no position of its own
        position = rate.last_epoch
        attributes.restore(rate, as_built["scheduler"]["values"])
        while rate.last_epoch < position:
            rate.step()  # one by one, for schedulers whose rate follows from the one before


def _ensure_helper(optimizer: Any) -> None:
    if optimizer.helper is None:  # in Paddle 2.6, until the first step
        optimizer.helper = LayerHelper(type(optimizer).__name__)


def masters(optimizer: Any) -> dict[str, Any]:
    """Return the live master weights, by the generated name of their parameter."""
    held = getattr(optimizer, "_master_weights", None)
    return held if held else {}


def _plain_kind(optimizer: Any, kind: str) -> str:
    prefix = f"{optimizer._name}_" if optimizer._name is not None else ""
    return kind[len(prefix) :] if prefix and kind.startswith(prefix) else kind


def _mismatch(saved: Mapping[str, np.ndarray], held: Mapping[str, Any]) -> str:
    for kind, array in saved.items():
        if kind not in held:
            return f"this optimizer keeps no {kind}"
        if int(np.prod(array.shape)) != int(np.prod(held[kind].shape)):
            return f"{kind} has shape {tuple(array.shape)} in the checkpoint, {tuple(held[kind].shape)} here"
    missing = sorted(set(held) - set(saved))
    return f"the checkpoint has no {', '.join(missing)}" if missing else ""
