"""``paddle-warm plan``: what a configuration comes to, before any training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from paddle_warm_callbacks.checkpoint.names import CHECKPOINTS, in_order
from paddle_warm_callbacks.checkpoint.source import require_local
from paddle_warm_callbacks.checkpoint.urls import is_url
from paddle_warm_callbacks.cli.options import open_network
from paddle_warm_callbacks.cli.output import print_json, print_table, say
from paddle_warm_callbacks.errors import SourceError
from paddle_warm_callbacks.plan.lr import LRGroups, effective_lr, stage_factor
from paddle_warm_callbacks.progress import Progress

if TYPE_CHECKING:
    from paddle_warm_callbacks.config.building import Setup


@dataclass(frozen=True)
class _Start:
    """What a run may start from.

    Attributes:
        text: In words.
        passes: Whether, with nothing there, the next is taken.
        error: What ``fit`` would end with if it came to this; None: nothing is known to be wrong.
    """

    text: str
    passes: bool = False
    error: SourceError | None = None


@click.command()
@click.argument("config")
@click.argument("overrides", nargs=-1)
@click.option(
    "--network", metavar="MODULE:FUNCTION", help="The script's own network, where there is no model.arch."
)
@click.option(
    "--steps-per-epoch", type=click.IntRange(min=1), help="Show the learning rates epoch by epoch too."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def plan(
    context: click.Context,
    config: str,
    overrides: tuple[str, ...],
    network: str | None,
    steps_per_epoch: int | None,
    as_json: bool,
) -> None:
    """Show what a configuration comes to: the start, the stages, the learning rates.

    CONFIG is a YAML file of from_config; OVERRIDES are key=value. The configuration is checked as for training, and
    the network built, but nothing is loaded, trained or written.

    Exit code 1: what the run would start from is not there.
    """
    # Imports Paddle.
    from paddle_warm_callbacks.config.building import from_config

    setup = from_config(config, overrides, network=None if network is None else open_network(network))
    sizes = _sizes(setup.network)
    starts = _starts(setup)
    # What comes before may have nothing to resume, and is no fault.
    first = next(start for start in starts if not start.passes)
    record: dict[str, Any] = {
        "config": setup.plain,
        "start": [start.text for start in starts],
        "start_problem": first.error and str(first.error),
        "stages": _stages(setup, sizes),
    }
    if steps_per_epoch is not None:
        record["epochs"] = _epochs(setup, sizes, steps_per_epoch)
    if as_json:
        print_json(record)
    else:
        _print(setup, record, starts, sizes)
        if steps_per_epoch is None:
            say("\n--steps-per-epoch N shows the learning rates epoch by epoch")
        if first.error is not None:
            say(f"\nthe run would not start:\n{first.error}")
    context.exit(0 if first.error is None else 1)


def _sizes(network: Any) -> dict[str, int]:
    if network is None:
        return {}
    from paddle_warm_callbacks.hapi.freezing import trainable_sizes

    return trainable_sizes(network)


def _starts(setup: Setup) -> list[_Start]:
    """Return in order what the run would start from, as far as can be told without opening it."""
    # Imports Paddle.
    from paddle_warm_callbacks.hapi.pretrained import PREFIX, is_cached

    training, model = setup.config.training, setup.config.model
    found = []
    if training.resume_from in ("latest", "best"):
        which = f"the {training.resume_from} of {training.run_dir}"
        found.append(_run_start(f"resume from {which}", str(training.run_dir)))
    elif training.resume_from is not None:
        found.append(_given_start(f"resume from {training.resume_from}", training.resume_from, of_run=True))
    if model.checkpoint is not None:
        found.append(_given_start(f"warm, from {model.checkpoint}", model.checkpoint))
    elif model.pretrained:
        text = f"warm, from paddle.vision's pretrained {model.arch}"
        try:
            cached = is_cached(f"{PREFIX}{model.arch}")
        except SourceError as error:
            found.append(_Start(text, error=error))
        else:
            found.append(_Start(text if cached else f"{text}, which is downloaded first"))
    else:
        found.append(_Start("cold"))
    return found


def _run_start(text: str, run_dir: str) -> _Start:
    if is_url(run_dir):
        return _Start(f"{text}, if it has a checkpoint", passes=True)
    inside = Path(run_dir).expanduser() / CHECKPOINTS
    names = in_order(entry.name for entry in inside.iterdir()) if inside.is_dir() else []
    if not names:
        return _Start(f"{text}, which has none yet", passes=True)
    return _Start(f"{text}, which has {len(names)} checkpoint{'s' if len(names) != 1 else ''}")


def _given_start(text: str, given: str, *, of_run: bool = False) -> _Start:
    try:
        if require_local(given, checkpoint=of_run):
            return _Start(text)
    except SourceError as error:
        return _Start(text, error=error)
    return _Start(f"{text}, which was not looked for")


def _rates(setup: Setup, sizes: Mapping[str, int]) -> dict[str, float]:
    """Return parameter to what the stages' factors multiply once warm-up is over: a rate, or a factor of one."""
    groups = LRGroups(dict(setup.scaling.groups)).factors(sizes) if sizes else {}
    everywhere = setup.scaling.factor
    return {
        name: effective_lr(_base(setup), everywhere=everywhere, group=group) for name, group in groups.items()
    }


def _stages(setup: Setup, sizes: Mapping[str, int]) -> list[dict[str, Any]]:
    rates = _rates(setup, sizes)
    total = sum(sizes.values())
    trained = setup.stages.trainable_names(sizes) if sizes else [()] * len(setup.stages.stages)
    rows = []
    for stage, names in zip(setup.stages.stages, trained):
        elements = sum(sizes[name] for name in names)
        found = [stage.lr_factor * rates[name] for name in names] or [
            stage.lr_factor * _base(setup) * setup.scaling.factor
        ]
        rows.append(
            {
                f"from_{setup.stages.unit}": stage.start,
                "trainable": list(stage.trainable),
                "tensors": len(names),
                "parameters": elements,
                "share": elements / total if total else None,
                "lowest_rate": min(found),
                "highest_rate": max(found),
                "rewarm_steps": stage.rewarm_steps,
            }
        )
    return rows


def _epochs(setup: Setup, sizes: Mapping[str, int], steps: int) -> list[dict[str, Any]]:
    """Return the highest rate of any group that is trained, at the first and last step of each epoch."""
    base = _base(setup)
    groups = LRGroups(dict(setup.scaling.groups)).factors(sizes) if sizes else {}
    trained = setup.stages.trainable_names(sizes) if sizes else [()] * len(setup.stages.stages)
    highest = [max((groups[name] for name in names), default=1.0) for names in trained]
    last = setup.stages.stages[-1].start if setup.stages.unit == "epoch" else 0
    scheduled = _scheduled(setup)
    rows = []
    for epoch in range(setup.config.training.epochs or last + 1):
        rates = []
        for step in range(steps):
            position = Progress(epoch * steps + step, epoch, step)
            at = setup.stages.stage_at(position)
            stage = stage_factor(at.stage.lr_factor, at.steps_into, at.stage.rewarm_steps)
            everywhere = setup.scaling.factor_at(position)
            rates.append(
                effective_lr(
                    next(scheduled, base), everywhere=everywhere, group=highest[at.index], stage=stage
                )
            )
        rows.append({"epoch": epoch, "stage": at.index, "first_step": rates[0], "last_step": rates[-1]})
    return rows


def _base(setup: Setup) -> float:
    """Return the optimizer's rate, or 1 where the script has its own."""
    return 1.0 if setup.config.optimizer is None else setup.config.optimizer.learning_rate


def _scheduled(setup: Setup) -> Iterator[float]:
    if setup.optimizer is None:
        return iter(())
    from paddle_warm_callbacks.hapi.lr import scheduled_rates

    return scheduled_rates(setup.optimizer)


def _print(
    setup: Setup, record: Mapping[str, Any], starts: Sequence[_Start], sizes: Mapping[str, int]
) -> None:
    training = setup.config.training
    unset = "training.epochs is not set: the script must say how many"
    say(f"run:   {training.run_dir}, " + (f"{training.epochs} epochs" if training.epochs else unset))
    if setup.config.data is not None and setup.classes is not None:
        folders = ((setup.config.data.train, setup.train_data), (setup.config.data.val, setup.eval_data))
        counts = ", ".join(
            f"{len(images):,} images in {folder}" for folder, images in folders if folder is not None
        )
        say(f"data:  {len(setup.classes)} classes: {counts}")
    for number, start in enumerate(starts, 1):
        say(f"start: {number}. {start.text}" + (" -- NOT THERE" if start.error is not None else ""))
    say(f"with:  {', '.join(type(callback).__name__ for callback in setup.callbacks)}")
    if not sizes:
        say("no network: --network module:function shows what each stage trains of it")
    say()
    is_rate = setup.config.optimizer is not None
    columns = (f"from {setup.stages.unit}", "trainable", "tensors", "parameters", "share", "learning rate")
    rows = [
        (
            str(row[f"from_{setup.stages.unit}"]),
            " | ".join(row["trainable"]),
            f"{row['tensors']} of {len(sizes)}" if sizes else "?",
            f"{row['parameters']:,}" if sizes else "?",
            f"{row['share']:.1%}" if row["share"] is not None else "?",
            _rate(row["lowest_rate"], row["highest_rate"], is_rate)
            + (f", warmed up over {row['rewarm_steps']} steps" if row["rewarm_steps"] else ""),
        )
        for row in record["stages"]
    ]
    print_table(columns, rows, right=columns[2:5])
    if setup.scaling.warmup_steps:
        say(f"the first {setup.scaling.warmup_steps} steps are a warm-up")
    if not is_rate:
        say("x is the rate of the script's own optimizer")
    if "epochs" in record:
        say()
        heads = ("epoch", "stage", "first step", "last step")
        cells = [
            (
                str(row["epoch"]),
                str(row["stage"]),
                _rate(row["first_step"], row["first_step"], is_rate),
                _rate(row["last_step"], row["last_step"], is_rate),
            )
            for row in record["epochs"]
        ]
        print_table(heads, cells, right=heads, title="learning rate, of the group that has the highest")


def _rate(low: float, high: float, is_rate: bool) -> str:
    text = f"{high:.5g}" if low == high else f"{low:.5g} to {high:.5g}"
    return text if is_rate else f"x {text}"
