"""What each rank of a run has of its own: gathered into rank 0's checkpoint, and what a start gives to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable

import numpy as np
import paddle

from paddle_warm_callbacks.checkpoint import jsonvalue
from paddle_warm_callbacks.checkpoint.digests import digest_of
from paddle_warm_callbacks.checkpoint.store import Checkpoint
from paddle_warm_callbacks.errors import RankError
from paddle_warm_callbacks.hapi import freezing, optimizer_state, redealing, rng, same_weights, training_state
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.hapi.rank_channel import named
from paddle_warm_callbacks.hapi.staging import borrowed
from paddle_warm_callbacks.plan.report import RestoreReport
from paddle_warm_callbacks.progress import Progress

State = dict[str, Any]
Arrays = dict[str, "np.ndarray[Any, Any]"]
# Where a tensor belongs: ("model", structured name, ""), ("optimizer", structured name, kind) or ("kept", name, "").
Tensors = dict[tuple[str, str, str], "np.ndarray[Any, Any]"]

# In a checkpoint's state: a list of what ranks 1, 2, ... have otherwise than rank 0.
RANKS = "ranks"

# A script that has these otherwise on one rank than on another cannot train with it.
_SAME_EVERYWHERE = (
    "network", "optimizer", "learning_rate", "accumulate_grad_batches", "batch_size", "steps_per_epoch",
    "dataset_length", "sampler", "seed_samples", "epochs",
)  # fmt: skip


def gathered(loop: FitLoop, counters: State) -> State:
    """Return ``counters`` with what every other rank has otherwise, for the checkpoint that rank 0 writes.

    Random state, loader position, running metrics and statistics are each rank's own.

    Args:
        loop: At the same boundary on every rank.
        counters: This rank's, from :func:`training_state.capture_counters`.

    Raises:
        RankError: A rank has failed or is missing.
    """
    when = f"at the save of step {loop.progress.global_step}"
    arrays = _own_arrays(loop)
    digests = {name: digest_of(same_weights.bytes_of(array)) for name, array in arrays.items()}
    otherwise = loop.ranks.agree("what each rank has of its own " + when, digests, _otherwise, each=True)
    part = {"counters": counters, "arrays": {name: arrays[name] for name in otherwise}}
    others = loop.ranks.agree("the state of each rank " + when, part, without_repetition, each=True)
    return counters if loop.ranks.rank else {**counters, RANKS: others}


def started_together(loop: FitLoop, start: Callable[[], RestoreReport]) -> RestoreReport:
    """Let rank 0 restore what there is, and put every other rank where rank 0 is, each with its own part.

    Only rank 0 looks for checkpoints and sources, and reads them: other ranks may see other files, older ones, or none.

    Args:
        loop: A fit whose callbacks have had their ``on_train_begin``.
        start: Restores onto ``loop``; on rank 0, and on a run's only one.

    Raises:
        RankError: Rank 0 could not start, or the ranks run different scripts.
        Exception: On rank 0: what ``start`` raises.
    """
    if not loop.ranks.many:
        return start()
    report = start() if loop.ranks.rank == 0 else None
    facts = {name: training_state.script_facts(loop)[name] for name in _SAME_EVERYWHERE}
    tensors = {} if report is None or report.kind == "cold" else _restored(loop)

    def decide(parts: Sequence[State]) -> list[State]:
        assert report is not None
        _require_same_script(parts)
        return _plans(loop, report, tensors)

    plan = loop.ranks.agree("the start", facts, decide, each=True)
    tensors = _broadcast(plan["tensors"], tensors)
    return report or _follow(loop, plan, tensors)


# -- gathering, on rank 0 ------------------------------------------------------------------------------------


def _own_arrays(loop: FitLoop) -> Arrays:
    """Return what no average makes equal: statistics, buffers, the loss's tensors, and what callbacks keep."""
    movable = freezing.trainable_sizes(loop.network)
    own = {name: borrowed(t) for name, t in _tensors(loop).items() if name not in movable}
    return {**own, **training_state.kept(loop)}


def _tensors(loop: FitLoop) -> dict[str, Any]:
    """Return what network and loss hold, by name, and the gradients that the next step adds to."""
    held = {**loop.trained.beside_the_model(), **loop.network.state_dict(), **training_state.gradients(loop)}
    return {name: tensor for name, tensor in held.items() if tensor._is_initialized()}


def _otherwise(parts: Sequence[Mapping[str, str]]) -> list[list[str]]:
    """Return for each rank the names whose digests are not rank 0's."""
    return [[name for name, digest in own.items() if parts[0].get(name) != digest] for own in parts]


def without_repetition(parts: Sequence[State]) -> list[Any]:
    """Return, as rank 0's outcome, what ranks 1, 2, ... have otherwise; the others need none.

    Args:
        parts: By rank: "counters", and "arrays" as they are.
    """
    common = {name: jsonvalue.encode(value) for name, value in parts[0]["counters"].items()}
    others = [
        {
            "counters": {n: v for n, v in own["counters"].items() if jsonvalue.encode(v) != common.get(n)},
            "arrays": own["arrays"],
        }
        for own in parts[1:]
    ]
    return [others, *(None for _ in others)]


# -- the start -----------------------------------------------------------------------------------------------


def _require_same_script(facts: Sequence[Mapping[str, Any]]) -> None:
    for name, expected in facts[0].items():
        others = {rank: own[name] for rank, own in enumerate(facts) if own[name] != expected}
        if others:
            raise RankError(
                f"the script of {named(others)} is not that of rank 0",
                where=name,
                received="; ".join(f"{value} on rank {rank}" for rank, value in others.items()),
                expected=f"{expected}, as on rank 0",
                remedy="run the same script, with the same arguments and data, on every rank",
            )


def _restored(loop: FitLoop) -> Tensors:
    """Return rank 0's tensors as its start has left them."""
    return {
        **{("model", name, ""): borrowed(tensor) for name, tensor in _tensors(loop).items()},
        **{
            ("optimizer", slot.parameter, slot.kind): borrowed(slot.tensor)
            for slot in optimizer_state.slots(loop.trained, loop.optimizer)
        },
        **{("kept", name, ""): array for name, array in training_state.kept(loop).items()},
    }


def _plans(loop: FitLoop, report: RestoreReport, tensors: Tensors) -> list[State]:
    """Return for each rank what it starts from."""
    common: State = {
        "report": report.to_json(),
        "progress": loop.progress.to_json(),
        "parent": loop.parent,
        "ancestry": loop.ancestry,
        "finished": loop.finished,
        "checkpoint": None if loop.resumed_from is None else loop.resumed_from.path,
        "learning_rate": optimizer_state.capture_learning_rate(loop.optimizer),
        "tensors": [(*key, tuple(array.shape), str(array.dtype)) for key, array in tensors.items()],
        "counters": None,
        "arrays": {},
        "new": False,
    }
    if loop.restored_counters is None:
        return [common] * loop.ranks.size
    counters = {name: value for name, value in loop.restored_counters.items() if name != RANKS}
    others = [*loop.restored_counters.get(RANKS, ())]
    plans = []
    for rank in range(loop.ranks.size):
        own = others[rank - 1] if 0 < rank <= len(others) else {"counters": {}, "arrays": {}}
        state = {**counters, **own["counters"]}
        if loop.regrouped_from is not None:
            state, _ = redealing.regrouped(
                loop.train_loader, loop.steps_per_epoch, state, loop.regrouped_from
            )
        plans.append({**common, "counters": state, "arrays": own["arrays"], "new": rank > len(others)})
    return plans


def _broadcast(listed: Sequence[Any], tensors: Tensors) -> Tensors:
    """Return rank 0's tensors, on every rank; as bytes, for not every backend knows every dtype."""
    received: Tensors = {}
    for group, name, kind, shape, dtype in listed:
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        key = (group, name, kind)
        if key in tensors:
            data = paddle.to_tensor(np.frombuffer(same_weights.bytes_of(tensors[key]), np.uint8))
        else:
            data = paddle.empty([count], "uint8")
        if count:
            paddle.distributed.broadcast(data, src=0)
        received[key] = tensors[key] if key in tensors else data.numpy().view(dtype).reshape(shape)
    return received


def _follow(loop: FitLoop, plan: State, tensors: Tensors) -> RestoreReport:
    """Put this rank where rank 0 is."""
    report = RestoreReport.from_json(plan["report"])
    loop.progress = Progress.from_json(plan["progress"])
    loop.parent = plan["parent"]
    loop.ancestry = plan["ancestry"]
    loop.finished = plan["finished"]
    loop.resumed_from = None if plan["checkpoint"] is None else Checkpoint(plan["checkpoint"])
    if report.kind == "cold":
        return report
    by_group: dict[str, dict[tuple[str, str], Any]] = {"model": {}, "optimizer": {}, "kept": {}}
    for (group, name, kind), array in tensors.items():
        by_group[group][name, kind] = array
    own = plan["arrays"]
    model = {**{name: array for (name, _), array in by_group["model"].items()}, **own}
    training_state.restore_model(loop.network, model, loop.trained)
    training_state.restore_kept(loop, {**{name: a for (name, _), a in by_group["kept"].items()}, **own})
    if report.kind == "resume" or by_group["optimizer"]:
        optimizer_state.restore(loop.trained, loop.optimizer, by_group["optimizer"])
    if plan["new"]:  # else it would draw what rank 0 draws
        rng.reseed(loop.progress.global_step, loop.ranks.rank)
        rng.reseed_host(loop.progress.global_step, loop.ranks.rank)
        plan["counters"]["loader"]["now"] = rng.capture()
    if plan["counters"] is not None:
        training_state.restore_counters(loop, plan["counters"], model)
    elif report.kind == "resume":
        optimizer_state.restore_learning_rate(loop.optimizer, plan["learning_rate"])
    return report
