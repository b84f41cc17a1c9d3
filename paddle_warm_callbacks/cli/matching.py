"""``paddle-warm match``: the table of a warm start, without a warm start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import click

from paddle_warm_callbacks.checkpoint.source import Source, open_source
from paddle_warm_callbacks.cli.options import (
    head_options,
    network_options,
    open_network,
    source_options,
    to_mapping,
)
from paddle_warm_callbacks.cli.output import print_json, say
from paddle_warm_callbacks.cli.transplanting import head_transplant
from paddle_warm_callbacks.plan.conversions import CONVERSIONS
from paddle_warm_callbacks.plan.report import RestoreReport
from paddle_warm_callbacks.plan.transplant import HeadTransplant


@click.command()
@click.argument("source")
@network_options
@head_options(required=False)
@click.option("--include", multiple=True, metavar="PATTERN", help="Load only tensors with such names.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Do not load tensors with such names.")
@click.option("--rename", multiple=True, metavar="PATTERN=TEXT", help="Change names of the source.")
@click.option("--convert", type=click.Choice(tuple(CONVERSIONS)), help="Whose names the source has.")
@click.option(
    "--min-loaded",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="The least share of the network to be loaded.",
)
@source_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def match(
    context: click.Context,
    source: str,
    arch: str | None,
    classes: int | None,
    network: str | None,
    head: str | None,
    old_labels: str | None,
    new_labels: str | None,
    label_files: str,
    use_space_char: bool,
    layout: str,
    rename_label: tuple[str, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    rename: tuple[str, ...],
    convert: str | None,
    min_loaded: float,
    which: str,
    part: str | None,
    as_json: bool,
) -> None:
    """Show what of SOURCE would be loaded into a network, before any training.

    SOURCE is whatever WarmStartCallback takes: a file, a checkpoint, a run, a URL, paddle.vision:resnet50. The network
    is --arch with --classes, or --network module:function. Nothing is written.

    Exit code 1: less than --min-loaded of the network would be loaded.
    """
    if (arch is None) == (network is None):
        raise click.UsageError("into which network? Give --arch, or --network module:function")
    if classes is not None and arch is None:
        raise click.UsageError("--classes is the number of outputs of --arch")
    if (head is None) != (new_labels is None):
        raise click.UsageError("--head and --new-labels go together")
    opened = _open(source, which, part)
    plan = None
    if head is not None and new_labels is not None:
        plan = head_transplant(
            opened, head, old_labels, new_labels, label_files, use_space_char, layout, rename_label, "init"
        )
        if classes is None and arch is not None and layout in ("linear", "conv"):
            classes = len(plan.new_labels)
    layer = _build(arch, classes) if arch is not None else open_network(str(network))
    # Imports Paddle, as does what builds the network.
    from paddle_warm_callbacks.hapi.warm_start import under_structured_names, warm_start

    tensors = opened.tensors
    if opened.generated_names:
        tensors = under_structured_names(layer, tensors, opened.description)
    report = warm_start(
        layer,
        tensors,
        description=opened.description,
        head=plan,
        include=include or None,
        exclude=exclude or None,
        rename=to_mapping(rename, "--rename"),
        convert=convert,
        min_loaded=0.0,
    )
    enough = report.share_loaded >= min_loaded
    advice = list(_advice(report, plan, enough, min_loaded))
    if as_json:
        print_json({**report.to_json(), "enough": enough, "next": advice})
    else:
        say(report.to_text())
        for sentence in advice:
            say(f"next: {sentence}")
    context.exit(0 if enough else 1)


def _open(source: str, which: str, part: str | None) -> Source:
    # The prefix is hapi.pretrained's, which imports Paddle.
    if not source.startswith("paddle.vision:"):
        return open_source(source, which=which, part=part)
    from paddle_warm_callbacks.hapi import pretrained

    return replace(open_source(pretrained.find(source), part=part), description=source)


def _build(arch: str, classes: int | None) -> Any:
    from paddle_warm_callbacks.hapi.building import build_network

    return build_network(arch, classes)


def _advice(
    report: RestoreReport, head: HeadTransplant | None, enough: bool, min_loaded: float
) -> Iterator[str]:
    """Yield what to do next, a sentence each."""
    if not enough:
        yield (
            f"a warm start would be refused, for less than {min_loaded:.0%} would be loaded: the source is of another "
            "network, or has other names: map them with --rename or --convert, or name its --part"
        )
    wrong_shape = [name for name, reason in report.skipped if reason.startswith("shape")]
    if wrong_shape and head is None:
        layer = wrong_shape[0].rpartition(".")[0]
        yield f"if {layer} is a head: --head {layer} --old-labels FILE --new-labels FILE shows which labels it keeps"
    if enough and not report.skipped:
        yield "everything has its place: WarmStartCallback takes it with the same arguments"
    elif enough:
        yield "WarmStartCallback takes it with the same arguments; what is not loaded keeps its initial values"
