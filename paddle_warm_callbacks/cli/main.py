"""The commands of ``paddle-warm`` and ``python -m paddle_warm_callbacks``, each loaded when it is called."""

from __future__ import annotations

import errno
import importlib
import sys
from typing import Any

import click

from paddle_warm_callbacks.errors import WarmCallbacksError
from paddle_warm_callbacks.version import __version__

# Command to its module in this room and what the overview says of it: the command's own first line, which a test holds
# to it, so that the overview imports neither NumPy nor Paddle.
COMMANDS = {
    "ls": ("listing", "List the checkpoints of RUN, oldest first."),
    "show": ("showing", "Show what is in a checkpoint, or in the newest of a run."),
    "verify": ("verifying", "Compare every file and tensor of a checkpoint with its digest."),
    "diff": ("comparing", "Compare the weights of A and B, tensor by tensor."),
    "match": ("matching", "Show what of SOURCE would be loaded into a network, before any training."),
    "transplant": ("transplanting", "Write the weights of SOURCE to OUT with a head for other labels."),
    "export": ("exporting", "Write the weights of SOURCE to OUT, a .pdparams or .safetensors file."),
    "average": ("averaging", "Write the mean of the weights of several SOURCES."),
    "prune": ("pruning", "Delete the checkpoints of RUN that a policy does not keep."),
    "registry": ("registering", "Look into, and publish to, a registry of models."),
    "doctor": ("doctor", "Examine FILE: is it safe, is it whole, what is in it, and what to do next."),
    "plan": ("planning", "Show what a configuration comes to: the start, the stages, the learning rates."),
    "dashboard": ("dashboard", "Start VisualDL on the logs in DIRECTORY, or below it."),
}


class _Commands(click.Group):
    """A group that loads its commands late, and ends with exit code 2 and our message where one raises our error."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(f"{__package__}.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, line) for name, (_, line) in COMMANDS.items()]
        rows += [(name, command.get_short_help_str(200)) for name, command in sorted(self.commands.items())]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except WarmCallbacksError as error:
            message = str(error)
        except OSError as error:
            if error.errno == errno.EPIPE:  # `paddle-warm ls | head`: click ends that in silence
                raise
            message = f"{type(error).__name__}: {error}"
        from paddle_warm_callbacks.cli.output import printable

        click.echo(printable(message), err=True)
        raise click.exceptions.Exit(2)


@click.group(cls=_Commands)
@click.version_option(__version__)
def main() -> None:
    """Look after the runs and checkpoints of paddle_warm_callbacks.

    Exit codes: 0 fine; 1 a finding, such as a damaged file or a difference; 2 a wrong call, or an error.
    """


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
