"""``paddle-warm export``: weights out of a checkpoint, as a plain file for other tools."""

from __future__ import annotations

import click

from paddle_warm_callbacks.checkpoint.averages import open_average
from paddle_warm_callbacks.checkpoint.numbers import cast
from paddle_warm_callbacks.checkpoint.source import open_source
from paddle_warm_callbacks.cli.output import bytes_text, say
from paddle_warm_callbacks.cli.writing import check_target, write_weights


@click.command()
@click.argument("source")
@click.argument("out")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    help="Convert floating-point tensors; integers stay as they are. Without it nothing is converted.",
)
@click.option(
    "--which", type=click.Choice(["latest", "best"]), default="latest", help="Of a run: which checkpoint."
)
@click.option("--part", help="Of a nested file: keys of the part with the weights, joined by dots.")
@click.option("--ema", is_flag=True, help="The moving average of the weights, where SOURCE keeps one.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
def export(
    source: str, out: str, dtype: str | None, which: str, part: str | None, ema: bool, force: bool
) -> None:
    """Write the weights of SOURCE to OUT, a .pdparams or .safetensors file.

    SOURCE is a checkpoint, a run directory, a file of weights, or the URL of one. bfloat16 stays bfloat16. A
    .pdparams file is read by paddle.load; hand it to network.set_state_dict.
    """
    if ema and part is not None:
        raise click.UsageError("--ema finds the part by itself: leave out --part")
    path = check_target(out, force=force)
    if ema:
        description, tensors = open_average(source, which=which)
    else:
        opened = open_source(source, which=which, part=part)
        description, tensors = opened.description, opened.tensors
    if dtype is not None:
        tensors = {name: cast(name, array, dtype) for name, array in tensors.items()}
    size = write_weights(path, tensors)
    say(f"{len(tensors)} tensors of {description} -> {out}, {bytes_text(size)}")
