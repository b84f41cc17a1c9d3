"""Which tensor of a source goes into which tensor of a network, and why the others do not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from paddle_warm_callbacks.errors import PatternError
from paddle_warm_callbacks.patterns import compile_patterns, matches_nothing, select

SHAPE_DIFFERS = "shape differs"
DTYPE_DIFFERS = "dtype differs"
MISSING_IN_SOURCE = "missing in the source"
EXCLUDED = "excluded"
NOT_INCLUDED = "not included"

# What trainers and wrappers put before the names of one and the same network.
KNOWN_PREFIXES = ("Student.", "backbone.", "module.", "_layers.", "model.")

_FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})


@dataclass(frozen=True)
class TensorSpec:
    """One tensor, by what can be known without its values.

    Attributes:
        name: Its structured name.
        shape: Its shape.
        dtype: Its dtype, "float32" and so on. "uint16" is how files hold bfloat16, and is taken for it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Load:
    """Copy tensor ``source`` of the source into tensor ``target`` of the network.

    Attributes:
        target: Structured name in the network.
        source: Name in the source.
        cast: The dtype to convert to, or ``None`` where both have the same.
    """

    target: str
    source: str
    cast: str | None


@dataclass(frozen=True)
class Skip:
    """Leave ``target`` as it is.

    Attributes:
        target: Structured name in the network.
        reason: One of the constants of this module.
        detail: The two shapes or dtypes that differ; empty for other reasons.
        shapes: Where shapes differ, the source's and the network's; else None.
    """

    target: str
    reason: str
    detail: str = ""
    shapes: tuple[tuple[int, ...], tuple[int, ...]] | None = None


@dataclass(frozen=True)
class MatchPlan:
    """What happens to every tensor of the network: each is in exactly one of the first three.

    Attributes:
        loads: Tensors copied whole.
        transplants: Tensors a head transplant fills, with where they come from; their shapes may differ.
        skips: Tensors that stay as they are, with the reason.
        unused: Names in the source that go nowhere.
    """

    loads: tuple[Load, ...]
    transplants: tuple[Load, ...]
    skips: tuple[Skip, ...]
    unused: tuple[str, ...]


def match(
    source: Iterable[TensorSpec],
    target: Iterable[TensorSpec],
    *,
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    transplanted: Iterable[str] = (),
) -> MatchPlan:
    """Find for each tensor of the network the one of the source that goes into it.

    Names of the source are renamed first. Then a tensor is looked for by the same name; by the same name when
    `KNOWN_PREFIXES` are taken off both; and by the same name but for another prefix, on either side, if more than
    half of the names under that prefix find a counterpart so: a wrapper is believed, a chance likeness of two
    layers is not. Equal names never lose to likenesses, and no tensor of the source is taken for two likenesses.

    Args:
        source: The source's tensors; names are unique.
        target: The network's parameters and buffers; names are unique.
        include: One or more regular expressions; only tensors of the network in whose name one is found
            (``re.search``) are loaded. Transplanted ones need not be included.
        exclude: One or more regular expressions; tensors of the network in whose name one is found are not loaded.
        rename: Regular expression to replacement, applied (``re.sub``) to names of the source one after another.
        transplanted: Names of the network's tensors that a head transplant fills.

    Raises:
        PatternError: A pattern or rename is found in no name or is not a regular expression; renames make two
            names of the source equal; a tensor has several likely origins; a transplanted one is excluded too.
    """
    sources = {spec.name: spec for spec in source}
    targets = tuple(target)
    names = tuple(spec.name for spec in targets)
    heads = frozenset(transplanted)
    included = frozenset(_selected(include, names, "include=") if include is not None else names)
    excluded = frozenset(_selected(exclude, names, "exclude=") if exclude is not None else ())
    for name in sorted(heads & excluded):
        raise PatternError(
            "a tensor is to be transplanted and excluded",
            where="exclude=",
            received=name,
            expected="one of the two",
            remedy="take the head out of exclude, or leave out head=",
        )
    wanted = [name for name in names if name not in excluded and (name in included or name in heads)]
    origin = _origins(sources, targets, wanted, rename or {})
    loads: list[Load] = []
    transplants: list[Load] = []
    skips: list[Skip] = []
    for spec in targets:
        found = origin.get(spec.name)
        if spec.name in excluded:
            skips.append(Skip(spec.name, EXCLUDED))
        elif spec.name not in included and spec.name not in heads:
            skips.append(Skip(spec.name, NOT_INCLUDED))
        elif found is None:
            skips.append(Skip(spec.name, MISSING_IN_SOURCE))
        elif not _castable(found, spec):
            skips.append(Skip(spec.name, DTYPE_DIFFERS, f"{found.dtype} in the source, {spec.dtype} here"))
        elif spec.name in heads:
            transplants.append(_load(found, spec))
        elif found.shape != spec.shape:
            differ = f"{found.shape} in the source, {spec.shape} here"
            skips.append(Skip(spec.name, SHAPE_DIFFERS, differ, (found.shape, spec.shape)))
        else:
            loads.append(_load(found, spec))
    used = {load.source for load in (*loads, *transplants)}
    return MatchPlan(
        tuple(loads), tuple(transplants), tuple(skips), tuple(name for name in sources if name not in used)
    )


def _selected(patterns: str | Sequence[str], names: tuple[str, ...], where: str) -> tuple[str, ...]:
    return select(compile_patterns(patterns, where), names, where)


def _load(found: TensorSpec, spec: TensorSpec) -> Load:
    return Load(spec.name, found.name, None if _dtype(found) == _dtype(spec) else spec.dtype)


def _dtype(spec: TensorSpec) -> str:
    return "bfloat16" if spec.dtype == "uint16" else spec.dtype


def _castable(found: TensorSpec, spec: TensorSpec) -> bool:
    return _dtype(found) == _dtype(spec) or {_dtype(found), _dtype(spec)} <= _FLOATS


def _origins(
    sources: Mapping[str, TensorSpec],
    targets: Sequence[TensorSpec],
    wanted: Sequence[str],
    rename: Mapping[str, str],
) -> dict[str, TensorSpec]:
    """Find the origins of the wanted tensors: by equal names, then known prefixes, then believed ones."""
    renamed = {new: sources[old] for old, new in _renamed(tuple(sources), rename).items()}
    chosen = {name: name for name in wanted if name in renamed}
    for alike in (_by_known_prefix, _by_believed_prefix):
        taken = set(chosen.values())
        likely = alike(renamed, targets)
        claims: dict[str, str] = {}
        for name in wanted:
            if name in chosen:
                continue
            left = [candidate for candidate in likely.get(name, ()) if candidate not in taken]
            if len(left) > 1:
                raise _ambiguous(f"{name} could come from several tensors of the source", left)
            if left:
                other = claims.setdefault(left[0], name)
                if other != name:
                    raise _ambiguous(f"{left[0]} could go into several tensors of the network", [other, name])
        chosen.update({name: candidate for candidate, name in claims.items()})
    return {name: renamed[candidate] for name, candidate in chosen.items()}


def _renamed(names: tuple[str, ...], rename: Mapping[str, str]) -> dict[str, str]:
    """Map each name of the source to what the renames make of it."""
    current = {name: name for name in names}
    for pattern, replacement in rename.items():
        compile_patterns(pattern, "rename=")
        if not any(re.search(pattern, name) for name in current.values()):
            see = "`paddle-warm doctor` shows the names in a file; renames before this one have changed some"
            raise matches_nothing(pattern, tuple(current.values()), "rename=", how_to_see=see)
        try:
            current = {old: re.sub(pattern, replacement, name) for old, name in current.items()}
        except (re.error, IndexError) as failure:
            raise PatternError(
                f"a rename cannot be applied: {failure}",
                where="rename=",
                received=f"{pattern!r}: {replacement!r}",
                expected="what re.sub(pattern, replacement, name) accepts",
                remedy=r"refer to groups as \1 or \g<name>",
            ) from failure
    first: dict[str, str] = {}
    for old, new in current.items():
        if first.setdefault(new, old) != old:
            raise PatternError(
                "two tensors of the source get the same name",
                where="rename=",
                received=f"{first[new]} and {old} both become {new}",
                expected="different names",
                remedy="narrow the pattern, for example by ^ and $",
            )
    return current


def _core(name: str) -> str:
    """Take known prefixes off, as many as there are."""
    while True:
        prefix = next((known for known in KNOWN_PREFIXES if name.startswith(known)), None)
        if prefix is None:
            return name
        name = name[len(prefix) :]


def _by_known_prefix(
    renamed: Mapping[str, TensorSpec], targets: Sequence[TensorSpec]
) -> dict[str, list[str]]:
    """Map names of the network to those of the source that are equal but for known prefixes."""
    by_core: dict[str, list[str]] = {}
    for name in renamed:
        by_core.setdefault(_core(name), []).append(name)
    return {spec.name: by_core.get(_core(spec.name), []) for spec in targets}


def _by_believed_prefix(
    renamed: Mapping[str, TensorSpec], targets: Sequence[TensorSpec]
) -> dict[str, list[str]]:
    """Map names of the network to those of the source that are equal but for one prefix that is believed."""
    network = {spec.name: spec for spec in targets}
    likely: dict[str, list[str]] = {}
    for longer, shorter, source_is_longer in ((renamed, network, True), (network, renamed, False)):
        under: dict[str, list[str]] = {}
        for name in longer:
            for dot in (place for place, letter in enumerate(name) if letter == "."):
                under.setdefault(name[: dot + 1], []).append(name)
        for prefix, names in under.items():
            rests = {name: name[len(prefix) :] for name in names if name[len(prefix) :] in shorter}
            if 2 * sum(longer[name].shape == shorter[rest].shape for name, rest in rests.items()) <= len(
                names
            ):
                continue
            for name, rest in rests.items():
                goes_into, comes_from = (rest, name) if source_is_longer else (name, rest)
                likely.setdefault(goes_into, []).append(comes_from)
    return likely


def _ambiguous(what: str, names: Sequence[str]) -> PatternError:
    return PatternError(
        what,
        where="matching by prefix",
        received=", ".join(names),
        expected="one",
        remedy='say which with rename={"^Teacher\\\\.": ""}, or exclude what is not to be loaded',
    )
