"""``paddle-warm transplant``: a file whose head has other labels, made of one file; no network is needed."""

from __future__ import annotations

from collections.abc import Sequence

import click
import numpy as np

from paddle_warm_callbacks.checkpoint.label_files import read_labels
from paddle_warm_callbacks.checkpoint.rows import transplanted
from paddle_warm_callbacks.checkpoint.source import Source, open_source
from paddle_warm_callbacks.cli.options import head_options, source_options, to_mapping
from paddle_warm_callbacks.cli.output import bytes_text, say
from paddle_warm_callbacks.cli.writing import check_target, write_weights
from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.plan.transplant import HeadTransplant, head_tensors, label_moves, resized, row_map
from paddle_warm_callbacks.plan.transplant.head import NEW_ROWS

_MOST_LABELS = 10
_A_FILE = {"lines": "one label a line", "dictionary": "a dictionary of PaddleOCR", "coco": "COCO annotations"}


@click.command()
@click.argument("source")
@click.argument("out")
@head_options(required=True)
@click.option(
    "--new-rows",
    type=click.Choice(NEW_ROWS),
    default="mean",
    show_default=True,
    help="What rows of new labels hold: zeros, or the mean of all old labels' rows; init needs a network.",
)
@source_options
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
def transplant(
    source: str,
    out: str,
    head: str,
    old_labels: str | None,
    new_labels: str,
    label_files: str,
    use_space_char: bool,
    layout: str,
    rename_label: tuple[str, ...],
    new_rows: str,
    which: str,
    part: str | None,
    force: bool,
) -> None:
    """Write the weights of SOURCE to OUT with a head for other labels.

    Rows of labels in both lists are copied, whatever their order; all other tensors are copied as they are. Without
    --old-labels those in the checkpoint's metadata are taken. Rows of new labels can only be zero or a mean here, where
    no network gives them initial values; in a script HeadTransplant begins them so, with new_rows="init".
    """
    if new_rows == "init":
        raise InvalidArgumentError(
            "initial values come from a network, and here is none",
            where="--new-rows",
            received="init",
            expected="zero or mean",
            remedy=f"in a script: WarmStartCallback({source!r}, head=HeadTransplant({head!r}, […], […]))",
        )
    path = check_target(out, force=force)
    opened = open_source(source, which=which, part=part)
    plan = head_transplant(
        opened, head, old_labels, new_labels, label_files, use_space_char, layout, rename_label, new_rows
    )
    tensors = dict(opened.tensors)
    for name in head_tensors(plan, tensors):
        array = tensors[name]
        shape = resized(plan, name, array.shape)
        rows = row_map(plan, name, shape, array.shape)
        tensors[name] = transplanted(np.zeros(shape, array.dtype), array, rows, new_rows)
        say(f"{name}: {list(array.shape)} -> {list(shape)}")
    size = write_weights(path, tensors)
    _say_labels(plan)
    say(f"{len(tensors)} tensors of {opened.description} -> {out}, {bytes_text(size)}")


def head_transplant(
    source: Source,
    head: str,
    old_labels: str | None,
    new_labels: str,
    kind: str,
    use_space_char: bool,
    layout: str,
    renames: Sequence[str],
    new_rows: str,
) -> HeadTransplant:
    """Return what the options of a command say of a head; the source's own labels where old ones are not given.

    Raises:
        InvalidArgumentError: The labels are not known, or do not go together.
        SourceError: A file of labels is not there.
    """

    def read(given: str, option: str) -> tuple[str, ...]:
        return read_labels(given, kind, use_space_char=use_space_char, where=option)

    old: Sequence[str] | None
    old = read(old_labels, "--old-labels") if old_labels is not None else source.labels
    if old is None:
        raise InvalidArgumentError(
            "the old labels are not known",
            where="--old-labels",
            received=f"not given, and {source.description} does not say them",
            expected="a file with the labels the source was trained on, in its order",
            remedy=f"--old-labels FILE, {_A_FILE[kind]}; checkpoints saved with metadata={{'labels': […]}} need none",
        )
    rename = to_mapping(renames, "--rename-label")
    new = read(new_labels, "--new-labels")
    return HeadTransplant(head, old, new, layout=layout, rename=rename, new_rows=new_rows)


def _say_labels(plan: HeadTransplant) -> None:
    moves = label_moves(plan)
    groups = (
        ("kept", moves.kept),
        (f"new (new_rows: {plan.new_rows})", moves.new),
        ("dropped", moves.dropped),
    )
    for words, labels in groups:
        more = f", and {len(labels) - _MOST_LABELS} more" if len(labels) > _MOST_LABELS else ""
        say(f"labels {words}: {', '.join(labels[:_MOST_LABELS]) or 'none'}{more}")
    for warning in moves.warnings:
        say(f"warning: {warning}")
