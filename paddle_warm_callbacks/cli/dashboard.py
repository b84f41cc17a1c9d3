"""``paddle-warm dashboard``: VisualDL, in English, on the folder that has the logs."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

import click

from paddle_warm_callbacks.checkpoint import nearby
from paddle_warm_callbacks.cli.output import say
from paddle_warm_callbacks.errors import SourceError, WarmCallbacksError

# VisualDL reads every file with this in its name.
_RECORDS = "vdlrecords"


class ProgramMissingError(WarmCallbacksError):
    """A program that a command starts is not installed."""


@click.command()
@click.argument("directory")
@click.option("--port", type=click.IntRange(1, 65535), help="Default: VisualDL's own, 8040.")
@click.option("--print", "only_print", is_flag=True, help="Print the command, and start nothing.")
def dashboard(directory: str, port: int | None, only_print: bool) -> None:
    """Start VisualDL on the logs in DIRECTORY, or below it.

    DIRECTORY is a run's, a log's, or one above several, whose curves are then shown together. Ctrl-C ends it.
    """
    command = ["visualdl", "--logdir", str(log_dir(Path(directory).expanduser())), "--language", "en"]
    command += ["--port", str(port)] if port is not None else []
    if only_print:
        say(shlex.join(command))
        return
    # The environment's own comes first, also where it is not activated.
    beside = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    program = shutil.which("visualdl", path=beside)
    if program is None:
        raise ProgramMissingError(
            "VisualDL is not installed",
            where="paddle-warm dashboard",
            received=f"no program visualdl beside {sys.executable} or on PATH",
            remedy='pip install "paddle-warm-callbacks[visualdl]"',
        )
    say(shlex.join(command))
    # In the place of this process: what ends the command, Ctrl-C or a signal, ends the server.
    os.execv(program, command)  # noqa: S606  # VisualDL, with our own arguments


def log_dir(directory: Path) -> Path:
    """Return the deepest directory that has all of VisualDL's records at or below ``directory``.

    Raises:
        SourceError: There is no such directory, or no records in it.
    """
    found = [Path(path) for path, _, files in os.walk(directory) if any(_RECORDS in file for file in files)]
    if not found:
        raise SourceError(
            "there are no logs of VisualDL",
            where=str(directory),
            received="a directory without them"
            if directory.is_dir()
            else "a file"
            if directory.exists()
            else "nothing",
            expected=f"a file with {_RECORDS!r} in its name, there or below",
            remedy='log with WarmVisualDL("runs/name/vdl") among the callbacks of fit'
            if directory.exists()
            else nearby.meant(directory),
        )
    return Path(os.path.commonpath(found))
