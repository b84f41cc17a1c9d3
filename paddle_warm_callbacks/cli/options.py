"""Options that several commands have: which weights of a source, which labels of a head, which network."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from paddle_warm_callbacks.checkpoint.label_files import KINDS
from paddle_warm_callbacks.errors import InvalidArgumentError, SourceError
from paddle_warm_callbacks.plan.transplant import LAYOUTS

Function = TypeVar("Function", bound=Callable[..., Any])


def source_options(command: Function) -> Function:
    """Add ``--which`` and ``--part``."""
    command = click.option(
        "--part", help="Of a nested file: keys of the part with the weights, joined by dots."
    )(command)
    return click.option(
        "--which", type=click.Choice(["latest", "best"]), default="latest", help="Of a run: which checkpoint."
    )(command)


def head_options(*, required: bool) -> Callable[[Function], Function]:
    """Return what adds the options that make a ``HeadTransplant``.

    Args:
        required: Whether the head and its new labels must be given.
    """

    def add(command: Function) -> Function:
        for option in reversed(
            (
                click.option(
                    "--head", required=required, help="Structured name of the head's layer, such as fc."
                ),
                click.option("--old-labels", help="File with the labels of the source, in its order."),
                click.option(
                    "--new-labels", required=required, help="File with the new labels, in their order."
                ),
                click.option(
                    "--label-files",
                    type=click.Choice(KINDS),
                    default="lines",
                    help="What these files are: one label a line, PaddleOCR dictionaries, or COCO annotations.",
                ),
                click.option("--use-space-char", is_flag=True, help="Of dictionaries: append a space."),
                click.option(
                    "--layout", type=click.Choice(tuple(LAYOUTS)), default="linear", help="The kind of head."
                ),
                click.option(
                    "--rename-label",
                    multiple=True,
                    metavar="OLD=NEW",
                    help="An old label that has another name now.",
                ),
            )
        ):
            command = option(command)
        return command

    return add


def network_options(command: Function) -> Function:
    """Add ``--arch``, ``--classes`` and ``--network``."""
    for option in reversed(
        (
            click.option("--arch", help="A network of paddle.vision.models, such as resnet50."),
            click.option("--classes", type=click.IntRange(min=1), help="Of --arch: its outputs."),
            click.option(
                "--network",
                metavar="MODULE:FUNCTION",
                help="A function that returns the Layer, or a Layer's class.",
            ),
        )
    ):
        command = option(command)
    return command


def to_mapping(pairs: Sequence[str], option: str) -> dict[str, str] | None:
    """Return ``OLD=NEW`` options as a mapping; None if there are none.

    Raises:
        InvalidArgumentError: One has no ``=``.
    """
    for pair in pairs:
        if "=" not in pair:
            raise InvalidArgumentError("not a rename", where=option, received=pair, expected="OLD=NEW")
    return {old: new for old, _, new in (pair.partition("=") for pair in pairs)} or None


def open_network(given: str) -> Any:
    """Return the network that ``module:function`` makes; modules are looked for in the working directory too.

    Raises:
        SourceError: There is no such module, or it cannot be imported.
        InvalidArgumentError: It has no such function, or what that returns is no network.
    """
    module_name, colon, name = given.partition(":")
    if not colon or not module_name or not name:
        raise InvalidArgumentError(
            "not a network",
            where="--network",
            received=given,
            expected="module:function, such as nets:make_detector",
        )
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    # Whatever the user's module does when it is imported.
    except Exception as error:
        raise SourceError(
            "the module cannot be imported",
            where=f"--network {given}",
            received=f"{type(error).__name__}: {error}",
            expected=f"{module_name.replace('.', '/')}.py in {Path.cwd()}, or an installed module",
        ) from error
    function = getattr(module, name, None)
    try:
        network = function() if callable(function) else None
    except Exception as error:
        raise SourceError(
            "the network cannot be built",
            where=f"--network {given}",
            received=f"{type(error).__name__}: {error}",
            expected="a function without arguments that returns a paddle.nn.Layer",
        ) from error
    if not callable(getattr(network, "state_dict", None)):
        callables = [
            key for key, value in vars(module).items() if callable(value) and not key.startswith("_")
        ]
        raise InvalidArgumentError(
            "no network comes from there",
            where=f"--network {given}",
            received="nothing of that name"
            if function is None
            else f"a {type(network if callable(function) else function).__name__}",
            expected="a function without arguments that returns a paddle.nn.Layer",
            remedy=f"{module_name} has: {', '.join(callables[:12])}" if callables else "",
        )
    return network
