"""How a model is named, ``defects@3`` or ``registry://defects@production``, and where its registry is."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from paddle_warm_callbacks.errors import InvalidArgumentError

SCHEME = "registry://"
# Names the registry's root where a reference does not.
ROOT_VARIABLE = "PADDLE_WARM_CALLBACKS_REGISTRY"

LATEST, BEST = "latest", "best"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
_TAG = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,99}", re.ASCII)
ROOT_OPTION = "?root="


@dataclass(frozen=True)
class Reference:
    """A model's name, and which of its versions.

    Attributes:
        name: The model's name.
        which: A version's number; ``"latest"``; ``"best"``; or a tag.
    """

    name: str
    which: int | str = LATEST

    def __str__(self) -> str:
        return f"{self.name}@{self.which}"


def parse(reference: str) -> Reference:
    """Read ``name``, ``name@3``, ``name@best`` or ``name@tag``; a name alone stands for its newest version.

    >>> parse("defects@3"), parse("defects").which
    (Reference(name='defects', which=3), 'latest')

    Raises:
        InvalidArgumentError: It is none of these.
    """
    name, at, which = str(reference).partition("@")
    require_name(name, reference)
    if not at:
        return Reference(name)
    if which.isascii() and which.isdecimal() and int(which) > 0:
        return Reference(name, int(which))
    if not _TAG.fullmatch(which):
        raise _wrong(reference)
    return Reference(name, which)


def require_name(name: object, where: str = "") -> str:
    """Return ``name`` if a model can have it; InvalidArgumentError if not."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _wrong(where or repr(name))
    return name


def require_tag(tag: object) -> str:
    """Return ``tag`` if a version can be given it; InvalidArgumentError if not."""
    if not isinstance(tag, str) or not _TAG.fullmatch(tag) or tag in (LATEST, BEST):
        raise InvalidArgumentError(
            "not a tag's name",
            where="tag",
            received=repr(tag),
            expected=f"letters, digits and ._- after a letter; {LATEST!r} and {BEST!r} are found by rule, not by tag",
        )
    return tag


def parse_url(url: str) -> tuple[str, Reference]:
    """Read ``registry://defects@production`` or ``registry://defects@3?root=s3://models/registry``.

    Returns:
        The registry's root, which without ``?root=`` is the environment variable's, and the reference.

    Raises:
        InvalidArgumentError: It is no reference, or no root is known.
    """
    text, _, root = url[len(SCHEME) :].partition(ROOT_OPTION)
    reference = parse(text)
    root = root or os.environ.get(ROOT_VARIABLE, "")
    if not root:
        raise InvalidArgumentError(
            "which registry is not known",
            where=url,
            received=f"no ?root=, and {ROOT_VARIABLE} is not set",
            expected="the root of a registry: a path, or any fsspec URL",
            remedy=f"export {ROOT_VARIABLE}=s3://models/registry, or write {url}{ROOT_OPTION}s3://models/registry",
        )
    return root, reference


def _wrong(reference: object) -> InvalidArgumentError:
    return InvalidArgumentError(
        "not a reference to a model",
        where="registry",
        received=str(reference),
        expected="name, name@3, name@latest, name@best or name@tag; names are letters, digits and ._-",
        remedy='for example "defects@production"',
    )
