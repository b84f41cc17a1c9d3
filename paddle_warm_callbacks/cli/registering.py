"""``paddle-warm registry``: models by name and version, published, tagged, compared and followed to their origin."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import click

from paddle_warm_callbacks.checkpoint.registry.record import FIELDS, ModelVersion
from paddle_warm_callbacks.checkpoint.registry.references import ROOT_VARIABLE
from paddle_warm_callbacks.checkpoint.registry.registry import Link, Registry
from paddle_warm_callbacks.checkpoint.registry.schema import json_schema
from paddle_warm_callbacks.cli.output import (
    age_text,
    bytes_text,
    metrics_text,
    plain,
    print_json,
    print_table,
    say,
)
from paddle_warm_callbacks.plan.retention import KeepBest

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
@click.option(
    "--root",
    envvar=ROOT_VARIABLE,
    show_envvar=True,
    help="The registry: a directory, or any fsspec URL.",
)
@click.pass_context
def registry(context: click.Context, root: str | None) -> None:
    """Look into, and publish to, a registry of models.

    A MODEL is a reference: name@3, name@best, name@tag; a name alone stands for its newest version.
    """
    context.obj = root


@registry.command(name="list")
@click.argument("name", required=False)
@_json_option
@click.pass_obj
def list_models(root: str | None, name: str | None, as_json: bool) -> None:
    """List the versions of the model NAME, or of all models."""
    opened = _opened(root)
    versions = opened.list(name)
    tags = {model: opened.tags(model) for model in dict.fromkeys(version.name for version in versions)}

    def tags_of(version: ModelVersion) -> list[str]:
        return sorted(tag for tag, number in tags[version.name].items() if number == version.version)

    if as_json:
        print_json([{**_json(version), "tags": tags_of(version)} for version in versions])
    elif not versions:
        say("no model yet")
    else:
        rows = [
            (
                version.reference,
                " ".join(tags_of(version)),
                metrics_text(version.metrics),
                bytes_text(version.size),
                _age(version),
                version.author or "",
                version.notes or "",
            )
            for version in versions
        ]
        columns = ("model", "tags", "metrics", "size", "age", "author", "notes")
        print_table(columns, rows, right=("size", "age"))


@registry.command()
@click.argument("model")
@_json_option
@click.pass_obj
def show(root: str | None, model: str, as_json: bool) -> None:
    """Show all that is said of MODEL."""
    opened = _opened(root)
    version, tags = opened.show(model)
    if as_json:
        print_json({**_json(version), "tags": tags, "place": opened.place(version)})
        return
    said = {"model": version.reference, "tags": " ".join(tags), "place": opened.place(version)}
    progress = version.progress
    said["position"] = (
        f"epoch {progress.epoch} + {progress.step_in_epoch}, global step {progress.global_step}"
    )
    said["metrics"] = metrics_text(version.metrics)
    for name in (*FIELDS, "created", "digest", "parent", "config_digest"):
        said[name] = _text(getattr(version, name))
    said["size"] = bytes_text(version.size)
    said["written by"] = " ".join(f"{name}={number}" for name, number in version.writer.items())
    said.update((name, _text(value)) for name, value in version.extra.items())
    print_table(("", ""), [(name, text) for name, text in said.items() if text])


@registry.command()
@click.argument("checkpoint")
@click.argument("name")
@click.option("--version", type=click.IntRange(min=1), help="Its number. Default: the next.")
@click.option("--data-source", help="What it was trained on.")
@click.option("--notes", help="In words.")
@click.option("--author", help="Default: who you are on this machine.")
@click.option("--code-revision", help="Of the code that trained it.")
@click.option(
    "--parent", metavar="MODEL", help="What it was started from, where the checkpoint does not know."
)
@click.option("--metric", "metrics", multiple=True, metavar="NAME=NUMBER", help="A metric; may be repeated.")
@click.option(
    "--field", "extra", multiple=True, metavar="NAME=TEXT", help="A field of yours; may be repeated."
)
@click.option("--rank-by", metavar="METRIC", help="What name@best is decided by from now on.")
@click.option(
    "--mode", type=click.Choice(["max", "min"]), help="Of --rank-by: is greater better? Default: max."
)
@click.option("--tag", "tags", multiple=True, help="Tag it too; may be repeated.")
@_json_option
@click.pass_obj
def push(
    root: str | None,
    /,
    checkpoint: str,
    name: str,
    version: int | None,
    metrics: Sequence[str],
    extra: Sequence[str],
    rank_by: str | None,
    mode: str | None,
    tags: Sequence[str],
    as_json: bool,
    **said: str | None,
) -> None:
    """Publish CHECKPOINT as a version of the model NAME.

    CHECKPOINT is a checkpoint, a run directory for its newest that verifies, a file of weights, or the URL of one.
    """
    if rank_by is None and mode is not None:
        raise click.UsageError("--mode says how --rank-by ranks, and it is not given")
    metadata: dict[str, Any] = {
        **_pairs(extra),
        **{key: text for key, text in said.items() if text is not None},
    }
    metadata["metrics"] = _pairs(metrics)
    ranking = None if rank_by is None else KeepBest(rank_by, mode or "max")
    opened = _opened(root)
    pushed = opened.push(checkpoint, name, version, metadata, rank_by=ranking)
    for tag in tags:
        opened.tag(pushed.reference, tag)
    if as_json:
        print_json({**_json(pushed), "tags": tags})
    else:
        say(f"{checkpoint} is {pushed.reference}" + "".join(f", {name}@{tag}" for tag in tags))


@registry.command()
@click.argument("model")
@click.argument("tag")
@_json_option
@click.pass_obj
def tag(root: str | None, model: str, tag: str, as_json: bool) -> None:
    """Let TAG stand for MODEL from now on."""
    tagged = _opened(root).tag(model, tag)
    if as_json:
        print_json({"tag": tag, **_json(tagged)})
    else:
        say(f"{tagged.name}@{tag} is {tagged.reference}")


@registry.command()
@click.argument("a")
@click.argument("b")
@_json_option
@click.pass_context
def diff(context: click.Context, a: str, b: str, as_json: bool) -> None:
    """Say what the models A and B differ in; no weights are read.

    Exit code 1: they differ.
    """
    found = _opened(context.obj).diff(a, b)
    counts = {
        "same": found.same,
        "changed": len(found.changed),
        "only in A": len(found.only_a),
        "only in B": len(found.only_b),
    }
    if as_json:
        lists = {"changed": found.changed, "only_a": found.only_a, "only_b": found.only_b}
        names = {"a": found.a.reference, "b": found.b.reference}
        print_json({**names, "fields": found.fields, "same": found.same, **lists})
    else:
        say(f"A: {found.a.reference}")
        say(f"B: {found.b.reference}")
        say("tensors: " + ", ".join(f"{count} {kind}" for kind, count in counts.items() if count))
        if found.fields:
            say()
            rows = [(name, _text(one), _text(other)) for name, (one, other) in found.fields.items()]
            print_table(("field", "A", "B"), rows)
        for kind, listed in (("changed", found.changed), ("only A", found.only_a), ("only B", found.only_b)):
            for name in listed:
                say(f"{kind}: {name}")
    context.exit(1 if found.fields or found.changed or found.only_a or found.only_b else 0)


@registry.command()
@click.argument("model")
@_json_option
@click.pass_obj
def lineage(root: str | None, model: str, as_json: bool) -> None:
    """Say what MODEL comes from, and what that comes from, back to the root."""
    links = _opened(root).lineage(model)
    if as_json:
        print_json([{**asdict(link), "version": link.version and _json(link.version)} for link in links])
        return
    for depth, link in enumerate(links):
        say("  " * depth + ("" if depth == 0 else "<- ") + link.source + _said_of(link))


@registry.command()
def schema() -> None:
    """Print the JSON Schema of a version's record."""
    click.echo(json.dumps(json_schema(), indent=2))


def _opened(root: str | None) -> Registry:
    if not root:
        raise click.UsageError(f"which registry? Give --root after `registry`, or set {ROOT_VARIABLE}")
    return Registry(root)


def _said_of(link: Link) -> str:
    if link.version is None:
        return "  (not in this registry)" if link.digest else "  (no checkpoint)"
    version = link.version
    said = [version.data_source or "", metrics_text(version.metrics)]
    return "".join(f"  {text}" for text in said if text)


def _json(version: ModelVersion) -> dict[str, Any]:
    record = {name: getattr(version, name) for name in version.to_json()}
    record["progress"] = version.progress.to_json()
    record["ancestry"] = [asdict(ancestor) for ancestor in version.ancestry]
    return {"reference": version.reference, **record}


def _pairs(given: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise click.UsageError(f"{text!r} is not NAME=VALUE")
        pairs[name] = value
    return pairs


def _text(value: Any) -> str:
    if value is None or value == {}:
        return ""
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(plain(value))
    return str(value)


def _age(version: ModelVersion) -> str:
    try:
        seconds = (datetime.now(timezone.utc) - datetime.fromisoformat(version.created)).total_seconds()
    except (ValueError, TypeError):
        seconds = math.nan
    return "" if math.isnan(seconds) else age_text(seconds)
