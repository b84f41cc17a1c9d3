"""A checkpoint put back onto a running fit: the script compared, the state restored, the position set."""

from __future__ import annotations

import logging
from typing import Any

from paddle_warm_callbacks.checkpoint.staging import MODEL
from paddle_warm_callbacks.checkpoint.store import Checkpoint
from paddle_warm_callbacks.errors import ResumeChangedError
from paddle_warm_callbacks.hapi import redealing, training_state, warm_start
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.plan.changes import Change, changes
from paddle_warm_callbacks.plan.report import RestoreReport
from paddle_warm_callbacks.progress import Progress

logger = logging.getLogger("paddle_warm_callbacks")

_MOST_TENSORS = 4


def resume(loop: FitLoop, checkpoint: Checkpoint, *, on_change: str) -> RestoreReport:
    """Continue the run of ``checkpoint`` in ``loop``.

    Args:
        loop: A fit whose callbacks have had their ``on_train_begin``.
        checkpoint: Verified while it is read.
        on_change: What to do about a change of the script. ``"adapt"``: where an exact resume is impossible, load what
            fits by name and repeat the interrupted epoch. ``"raise"``: refuse that. ``"strict"``: refuse whatever is
            not harmless.

    Raises:
        ResumeChangedError: The script was changed, and ``on_change`` refuses that. Nothing has been restored then.
        CorruptCheckpointError: A file differs from what the manifest promised.
    """
    counters = checkpoint.read_state()
    progress = checkpoint.progress
    facts = training_state.script_facts(loop)
    within_epoch = progress.step_in_epoch > 0 and not counters["loader"]["exhausted"]
    regroups = counters["script"].get("world_size", facts["world_size"]) != facts["world_size"]
    redealt = regroups and (not within_epoch or redealing.can_be_dealt_anew(loop.train_loader))
    found = changes(
        counters["script"],
        facts,
        within_epoch=within_epoch,
        redealt=redealt,
        rate_of_script=loop.rate_of_script,
    )
    breaking = tuple(change for change in found if change.reason is not None)
    _refuse(loop, checkpoint, breaking, found, on_change)
    for change in found:
        if not change.harmless:
            logger.warning("the script has changed since %s: %s", checkpoint.name, change)
    loop.parent = checkpoint.digest
    loop.ancestry = list(checkpoint.manifest.metadata.get("ancestry", ()))
    loop.resumed_from = checkpoint
    notes = tuple(f"changed, {change}" for change in found)
    if breaking:
        return _adapted(loop, checkpoint, counters, breaking, notes)
    tensors = training_state.TensorState(
        model=checkpoint.read_model(),
        model_names={},
        optimizer=checkpoint.read_optimizer(),
        extra=checkpoint.read_extra(),
    )
    loop.progress, loop.restored_counters = progress, counters
    if regroups:
        loop.regrouped_from = progress
        counters, loop.progress = redealing.regrouped(
            loop.train_loader, loop.steps_per_epoch, counters, progress
        )
    restored, reset, more = training_state.restore(loop, tensors, counters)
    if regroups:
        more += _notes_on_regrouping(loop, counters, within_epoch)
    loop.finished = bool(counters["stopped"])
    if loop.finished:
        more.append("a callback had ended this run (early stopping)")
    elif progress.step_in_epoch:
        more.append(f"position inside epoch {progress.epoch}: {loop.position.how}")
    return RestoreReport(
        kind="resume",
        source=checkpoint.path,
        loaded=tuple(tensors.model),
        share_loaded=1.0,
        resumed_from=checkpoint.name,
        optimizer_restored=tuple(restored),
        optimizer_reset=tuple(reset),
        notes=(*notes, *more),
    )


def _refuse(
    loop: FitLoop,
    checkpoint: Checkpoint,
    breaking: tuple[Change, ...],
    found: tuple[Change, ...],
    on_change: str,
) -> None:
    if breaking and on_change != "adapt":
        tensors = _tensors_changed(loop, checkpoint) if breaking[0].fact == "network" else []
        raise ResumeChangedError(
            "the script has changed since the checkpoint: the run cannot go on exactly",
            where=checkpoint.path,
            received="; ".join([*map(str, breaking), *tensors]),
            expected="the script as it was",
            remedy="undo the change; or on_change='adapt' to load what fits and repeat the epoch; or begin another run "
            "with a new run_dir, from scratch, or warm from this checkpoint: WarmStartCallback(source=…)",
        )
    inexact = [change for change in found if not change.harmless]
    if inexact and on_change == "strict":
        raise ResumeChangedError(
            "the script has changed since the checkpoint: the run would not go on as the one it was",
            where=checkpoint.path,
            received="; ".join(map(str, inexact)),
            expected="the script as it was, for on_change='strict'",
            remedy="undo the change; or on_change='raise' to go on with what each change means",
        )


def _tensors_changed(loop: FitLoop, checkpoint: Checkpoint) -> list[str]:
    """Say of the first few tensors in words what the digests of two networks only say in sum."""
    saved = {entry.name: list(entry.shape) for entry in checkpoint.read_tensors() if entry.file == MODEL}
    here = {name: list(tensor.shape) for name, tensor in loop.network.state_dict().items()}
    changed = [
        f"{name} {saved.get(name, 'not there')} when saved, {here.get(name, 'not there')} now"
        for name in {**saved, **here}
        if saved.get(name) != here.get(name)
    ]
    more = len(changed) - _MOST_TENSORS
    return [*changed[:_MOST_TENSORS], *([f"and {more} more tensors"] if more > 0 else [])]


def _notes_on_regrouping(loop: FitLoop, counters: dict[str, Any], within_epoch: bool) -> list[str]:
    """Say what of a run that goes on with other ranks is exact, and what is not."""
    saved, ranks = counters["script"], loop.ranks.size
    notes = [
        f"{saved['world_size']} ranks when saved, {ranks} now: parameters, optimizer state and schedule are exact",
        "no longer the same to the bit: the batches, and with them the gradients, dropout and augmentation",
    ]
    if within_epoch:
        done = sum(ranks * size * steps for ranks, size, steps in counters["loader"]["dealings"])
        notes.append(
            f"epoch {loop.progress.epoch}: {done} of {saved['dataset_length']} samples were done, over all ranks; "
            f"what is left is dealt anew, from step {loop.progress.step_in_epoch} on"
        )
    size = getattr(getattr(loop.train_loader, "batch_sampler", None), "batch_size", None)
    if size is not None:
        before, now = saved["world_size"] * (saved["batch_size"] or size), ranks * size
        if before != now:
            notes.append(
                f"{now} samples a step where there were {before}: the learning rate is not changed for it"
            )
    return notes


def _adapted(
    loop: FitLoop,
    checkpoint: Checkpoint,
    counters: dict[str, Any],
    breaking: tuple[Change, ...],
    notes: tuple[str, ...],
) -> RestoreReport:
    """Take over what still fits: weights and optimizer state by name, and the epoch the run was in."""
    facts = {change.fact for change in breaking}
    report = warm_start.warm_start(
        loop.network, checkpoint.read_model(), description=checkpoint.path, min_loaded=0.0
    )
    restored: list[str] = []
    reset: list[tuple[str, str]] = []
    if "optimizer" not in facts:
        restored, reset = training_state.restore_optimizer(loop, checkpoint.read_optimizer(), counters)
    if not facts & {"optimizer", "learning_rate"}:
        training_state.restore_learning_rate(loop, counters)
    progress = checkpoint.progress
    loop.progress = Progress(progress.global_step, progress.epoch, 0)
    repeated = f"epoch {progress.epoch} begins again: {progress.step_in_epoch} of its steps were already done"
    return RestoreReport(
        kind="resume",
        source=checkpoint.path,
        loaded=report.loaded,
        skipped=report.skipped,
        unused=report.unused,
        share_loaded=report.share_loaded,
        resumed_from=checkpoint.name,
        optimizer_restored=tuple(restored),
        optimizer_reset=tuple(reset),
        notes=(*notes, *((repeated,) if progress.step_in_epoch else ()), *report.notes),
    )
