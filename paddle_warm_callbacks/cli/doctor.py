"""``paddle-warm doctor``: is a file safe, is it whole, what is in it, and what to do with it next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from paddle_warm_callbacks.checkpoint import nearby
from paddle_warm_callbacks.checkpoint.file_kinds import kind_of_file
from paddle_warm_callbacks.checkpoint.manifest import MANIFEST
from paddle_warm_callbacks.checkpoint.names import CHECKPOINTS
from paddle_warm_callbacks.cli.examining import Examined, Part, examine
from paddle_warm_callbacks.cli.output import bytes_text, print_json, say
from paddle_warm_callbacks.cli.recognising import architectures_of, heads_of
from paddle_warm_callbacks.cli.repairing import name_table, repaired
from paddle_warm_callbacks.cli.writing import check_target, write_weights
from paddle_warm_callbacks.errors import SourceError, UnsafeFileError
from paddle_warm_callbacks.plan.families import family_of
from paddle_warm_callbacks.plan.matching import KNOWN_PREFIXES

_MOST_KEYS = 8
_UNREADABLE = "do not load it with paddle.load or pickle; get it again from where it comes from"
_OF_PYTORCH = "a file of PyTorch's, if its name is right: save it as safetensors where PyTorch is at hand"
_OF_INFERENCE = "part of an inference model: take the .pdparams file it was exported from"
# For what other files than ours are called.
_OTHER_KINDS = {
    ".pt": _OF_PYTORCH,
    ".pth": _OF_PYTORCH,
    ".pdiparams": _OF_INFERENCE,
    ".pdmodel": _OF_INFERENCE,
}


@click.command()
@click.argument("file")
@click.option("--repair", metavar="OUT", help="Write what can be made of it to OUT: weights by plain names.")
@click.option("--names", metavar="FILE", help="Of --repair: a .pdparams with the table of generated names.")
@click.option("--force", is_flag=True, help="Of --repair: replace OUT if it exists.")
@click.option(
    "--identify", is_flag=True, help="Compare it with every network of paddle.vision too; imports Paddle."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(
    context: click.Context,
    file: str,
    repair: str | None,
    names: str | None,
    force: bool,
    identify: bool,
    as_json: bool,
) -> None:
    """Examine FILE: is it safe, is it whole, what is in it, and what to do next.

    FILE is a .pdparams, .pdopt or .safetensors file, from anyone: nothing in it is executed. With --repair weights are
    written anew: the nested part alone, without what is no tensor, without prefixes that every name has, and, with
    --names, by structured names instead of generated ones. FILE is left as it is. --identify names the networks of
    paddle.vision that have its tensors.

    Exit code 1: it is unsafe, damaged, without a tensor, or has numbers that are not finite.
    """
    if repair is None and (names is not None or force):
        raise click.UsageError("--names and --force belong to --repair")
    out = None if repair is None else check_target(repair, force=force)
    path = Path(file).expanduser()
    if not path.is_file():
        raise _no_file(file, path)
    try:
        examined = examine(path)
    except UnsafeFileError as error:
        kind = kind_of_file(path)
        # Of a file that is of another kind altogether the reader has said what to do.
        other = kind is not None and kind.remedy == error.remedy
        instead = _OTHER_KINDS.get(path.suffix) or (error.remedy if other else _UNREADABLE)
        if as_json:
            found = {"what": error.what, "received": error.received, "next": [instead]}
            print_json({"file": file, "readable": False, **found})
        else:
            say(f"{error}\nnext: {instead}")
        context.exit(1)
    advice = list(_advice(examined, file, identify=identify))
    not_finite = examined.not_finite
    if out is not None:
        mended = repaired(examined, None if names is None else name_table(Path(names).expanduser()))
        size = write_weights(out, mended.tensors)
        if as_json:
            done = {"done": mended.done, "left": mended.left}
            print_json(
                {"file": file, "repaired": repair, "tensors": len(mended.tensors), "size": size, **done}
            )
        else:
            for sentence in mended.done or ["nothing had to be mended: the weights are written as they are"]:
                say(f"done:     {sentence}")
            for sentence in mended.left:
                say(f"left:     {sentence}")
            say(f"{len(mended.tensors)} tensors of {file} -> {repair}, {bytes_text(size)}")
    elif as_json:
        print_json(
            {"file": file, "readable": True, **_json(examined), "not_finite": not_finite, "next": advice}
        )
    else:
        _print(path, examined, not_finite, advice)
    context.exit(1 if not_finite or not examined.tensors else 0)


def _no_file(file: str, path: Path) -> SourceError:
    is_ours = (path / MANIFEST).is_file() or (path / CHECKPOINTS).is_dir()
    ours = f"it is a {'checkpoint' if (path / MANIFEST).is_file() else 'run'}: `paddle-warm verify {file}`, or show"
    return SourceError(
        "a directory is no file of weights" if path.is_dir() else "there is no such file",
        where=file,
        received=nearby.seen(path),
        expected="a .pdparams, .pdopt or .safetensors file",
        remedy=ours if is_ours else nearby.advice(path),
    )


def _advice(examined: Examined, file: str, *, identify: bool = False) -> Iterator[str]:
    """Yield what to do next, a sentence each."""
    if not examined.tensors:
        yield "there is nothing to load: no tensor is in it"
        return
    if examined.optimizer:
        yield (
            "an optimizer's state: its keys are names that Paddle generated in the process that wrote it, and may "
            "stand for other layers in yours. Do not load it into another script; resume its run instead, with "
            'WarmStartCallback(run_dir=..., resume_from="latest"), which goes by structured names'
        )
        return
    largest = max(examined.parts, key=lambda part: sum(array.nbytes for array in part.tensors.values()))
    if 2 * largest.generated > len(largest.tensors):
        yield (
            "its keys are names that Paddle generated, not structured ones such as fc.weight: no network finds them. "
            "Save network.state_dict() in the script that made it; or, with a .pdparams of the same process, "
            "--repair OUT --names FILE"
        )
        return
    argument = f", part={largest.path!r}" if largest.path else ""
    if largest.path:
        yield f"its weights are nested: name their part, part={largest.path!r}"
    yield from _of_prefixes(largest)
    shapes = {name: array.shape for name, array in largest.tensors.items()}
    family = family_of(shapes)
    if family.convert is not None:
        argument += f", convert={family.convert!r}"
        yield f"its names are not Paddle's: convert={family.convert!r} makes them so"
    heads = heads_of(shapes)
    for head in heads:
        yield head.to_text()
    known = [(family.arch, family.classes)] if family.arch is not None else []
    if identify and not known:
        known = list(architectures_of(shapes, family.convert))
        if not known:
            yield "no network of paddle.vision has its names and shapes"
    for arch, classes in known:
        options = f"--arch {arch}"
        options += f" --classes {classes}" if classes is not None else ""
        options += f" --part {largest.path}" if largest.path else ""
        options += f" --convert {family.convert}" if family.convert is not None else ""
        yield (
            f"names and shapes are those of {arch}: `paddle-warm match {file} {options}` shows what would be loaded"
        )
    if not known:
        yield f"`paddle-warm match {file} --network module:function` shows what of it would be loaded into your network"
        if not heads and not identify:
            yield f"`paddle-warm doctor {file} --identify` compares it with every network of paddle.vision"
    yield f"start from it: WarmStartCallback({file!r}{argument})"


def _of_prefixes(part: Part) -> Iterator[str]:
    for prefix, count in part.prefixes.items():
        if prefix in KNOWN_PREFIXES:
            yield f"{count} of {len(part.tensors)} names begin with {prefix}, which a warm start takes off by itself"
        else:
            pattern = "^" + prefix.replace(".", r"\\.")
            yield f'{count} of {len(part.tensors)} names begin with {prefix}: rename={{"{pattern}": ""}} takes it off'


def _json(examined: Examined) -> dict[str, Any]:
    return {
        "keys": examined.keys,
        "tensors": len(examined.tensors),
        "elements": sum(array.size for array in examined.tensors),
        "size": examined.size,
        "dtypes": examined.dtypes,
        "optimizer": examined.optimizer,
        "name_table": examined.with_table,
        "parts": [
            {
                "path": part.path,
                "tensors": len(part.tensors),
                "prefixes": part.prefixes,
                "generated_names": part.generated,
            }
            for part in examined.parts
        ],
    }


def _print(path: Path, examined: Examined, not_finite: list[str], advice: list[str]) -> None:
    say(f"{path}: {bytes_text(path.stat().st_size)}")
    say("safe:     yes, nothing in it asks to run code")
    say("whole:    yes, read to its end")
    kinds = ", ".join(f"{count} {dtype}" for dtype, count in examined.dtypes.items())
    say(f"tensors:  {len(examined.tensors)}, {bytes_text(examined.size)}" + (f" ({kinds})" if kinds else ""))
    say(f"keys:     {_some(examined.keys)}")
    for part in examined.parts:
        if part.path:
            say(f"part:     {part.path}: {len(part.tensors)} tensors")
        generated = f"{part.generated} of {len(part.tensors)} names are generated by Paddle"
        if part.generated:
            say(f"names:    {generated}, such as {next(iter(part.tensors))}")
    if not_finite:
        say(f"not finite: NaN or infinity in {_some(not_finite)}")
    for sentence in advice:
        say(f"next:     {sentence}")


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_KEYS
    return ", ".join(names[:_MOST_KEYS]) + (f", and {more} more" if more > 0 else "")
