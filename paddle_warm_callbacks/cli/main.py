"""The commands of ``paddle-warm`` and ``python -m paddle_warm_callbacks``."""

from __future__ import annotations

import sys

import click

from paddle_warm_callbacks.errors import WarmCallbacksError
from paddle_warm_callbacks.version import __version__


@click.group()
@click.version_option(__version__)
def main() -> None:
    """Look after the runs and checkpoints of paddle_warm_callbacks."""


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--kills", default=3, show_default=True, type=click.IntRange(min=1), help="How often the run is killed."
)
@click.option("--seed", default=0, show_default=True, help="Chooses the steps it is killed at.")
@click.option("--keep", type=click.Path(file_okay=False), help="Directory that keeps both runs.")
@click.argument("script", nargs=-1, required=True, type=click.UNPROCESSED)
def prove(kills: int, seed: int, keep: str | None, script: tuple[str, ...]) -> None:
    """Run SCRIPT (a path and its arguments) uninterrupted, and killed and resumed; compare every bit.

    Exit code 0: identical. 1: not. 2: the script itself failed.
    """
    # Imports Paddle, which a command that only looks at files must not.
    from paddle_warm_callbacks.cli.prove import prove as run_proof

    try:
        result = run_proof(script, kills=kills, seed=seed, directory=keep)
    except WarmCallbacksError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    click.echo(result.to_text())
    sys.exit(0 if result.identical else 1)
