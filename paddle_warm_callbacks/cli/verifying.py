"""``paddle-warm verify``: which checkpoints are what was written, and which file of the others is not.

One at a URL is read from there, never from the cache: the question is whether the mirror's copy is whole.
"""

from __future__ import annotations

import click

from paddle_warm_callbacks.cli.checking import Verdict, verify_place
from paddle_warm_callbacks.cli.output import bytes_text, print_json, print_table, say
from paddle_warm_callbacks.cli.places import OF_DAMAGED, find


@click.command()
@click.argument("checkpoint")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def verify(context: click.Context, checkpoint: str, as_json: bool) -> None:
    """Compare every file and tensor of a checkpoint with its digest.

    CHECKPOINT is a checkpoint's directory, or a run directory for all of its checkpoints; or the URL of either, which
    is then read from end to end.

    Exit code 1: something is damaged, and the output says which file.
    """
    places, _ = find(checkpoint)
    verdicts = [verify_place(place, with_bar=True) for place in places]
    damaged = [verdict for verdict in verdicts if verdict.problems]
    if as_json:
        print_json([_json(verdict) for verdict in verdicts])
    elif not verdicts:
        say("no checkpoint yet")
    else:
        rows = [
            (
                v.place.name,
                str(v.files),
                str(v.tensors),
                bytes_text(v.size),
                "DAMAGED" if v.problems else "whole",
            )
            for v in verdicts
        ]
        print_table(("name", "files", "tensors", "size", "state"), rows, right=("files", "tensors", "size"))
        for verdict in damaged:
            for problem in verdict.problems:
                say(f"{verdict.place.where}/{problem}")
        if damaged:
            say(OF_DAMAGED)
    context.exit(1 if damaged else 0)


def _json(verdict: Verdict) -> dict[str, object]:
    return {
        "name": verdict.place.name,
        "path": verdict.place.where,
        "whole": not verdict.problems,
        "files": verdict.files,
        "tensors": verdict.tensors,
        "size": verdict.size,
        "problems": [
            {"file": problem.file, "what": problem.what, "tensors": problem.tensors}
            for problem in verdict.problems
        ],
    }
