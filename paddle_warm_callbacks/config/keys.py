"""Whether every key that was written is a setting, and what was meant if not."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, get_origin

from paddle_warm_callbacks.config.bounds import form_text
from paddle_warm_callbacks.config.origin import Origin
from paddle_warm_callbacks.config.structure import ITEMS, MAPPING, SECTION, VALUE, Node, find, parts_of, paths
from paddle_warm_callbacks.errors import InvalidArgumentError

# A whole schema is listed if it is no longer than this; else the keys beside the wrong one.
_MOST_LISTED = 30


def require_known(written: Any, node: Node, root: Node, origin: Origin, path: str = "") -> None:
    """Walk over plain values as they were written, and refuse what is no setting, or is of another form.

    Raises:
        InvalidArgumentError: A key that does not exist, with the nearest that does; a section that is no mapping.
    """
    if written is None or _is_interpolation(written):
        return
    where, so = origin.where(path), _written_so(node, path)
    if node.kind == VALUE:
        _require(_has_form(written, node.type), written, form_text(node), where, so)
        return
    if node.kind == ITEMS:
        _require(isinstance(written, (list, tuple)), written, "a list of sections", where, so)
        for number, item in enumerate(written):
            if not _is_interpolation(item):
                _require_section(item, node, root, origin, f"{path}[{number}]")
        return
    if node.kind == MAPPING:
        _require(isinstance(written, Mapping), written, "a mapping, name: value", where, so)
        for name, value in written.items():
            of_item = origin.where(f"{path}.{name}")
            _require(_has_form(value, node.type), value, form_text(node), of_item, so)
        return
    _require_section(written, node, root, origin, path)


def _require_section(written: Any, node: Node, root: Node, origin: Origin, path: str) -> None:
    expected = f"a section with some of: {', '.join(node.children)}"
    _require(isinstance(written, Mapping), written, expected, origin.where(path), _written_so(node, path))
    for name, value in written.items():
        below = f"{path}.{name}" if path else str(name)
        if name not in node.children:
            raise unknown(below, node, root, origin)
        require_known(value, node.children[name], root, origin, below)


def require_override(override: Any, root: Node) -> tuple[str, Node]:
    """Return the path that ``key=value`` sets, and the setting there.

    Raises:
        InvalidArgumentError: It is not of that form, or sets no setting that exists.
    """
    key, equals, _ = override.partition("=") if isinstance(override, str) else ("", "", "")
    node = find(root, key) if equals and key else None
    if node is not None:
        return key, node
    nearest = _nearest(key, root, "")
    raise InvalidArgumentError(
        "not an override",
        where="command line, overrides",
        received=str(override),
        expected=f"key=value with one of: {', '.join(_listed(key, root))}",
        remedy=f"did you mean {nearest}=…?" if nearest else "",
    )


def unknown(path: str, section: Node, root: Node, origin: Origin) -> InvalidArgumentError:
    """Build the error for a key that does not exist in ``section``."""
    nearest = _nearest(path, root, path.rpartition(".")[0], section)
    return InvalidArgumentError(
        "there is no such setting",
        where=origin.where(path),
        received=path,
        expected="one of: " + ", ".join(section.children),
        remedy=f"did you mean {nearest}?" if nearest else "",
    )


def _nearest(path: str, root: Node, above: str, section: Node | None = None) -> str:
    """Return the path that was probably meant: beside the wrong one, or anywhere by its last name; or ""."""
    name = parts_of(path)[-1]
    beside = difflib.get_close_matches(name, list(section.children) if section else [], n=1, cutoff=0.6)
    if beside:
        return f"{above}.{beside[0]}" if above else beside[0]
    known = [known_path for known_path, _ in paths(root, sections=True)]
    same_name = [known_path for known_path in known if parts_of(known_path)[-1] == name]
    whole = difflib.get_close_matches(path, known, n=1, cutoff=0.6)
    by_name = difflib.get_close_matches(name, [parts_of(other)[-1] for other in known], n=1, cutoff=0.75)
    alike = [other for other in known if by_name and parts_of(other)[-1] == by_name[0]]
    return next(iter((*same_name, *whole, *alike)), "")


def _listed(key: str, root: Node) -> Sequence[str]:
    everything = [path for path, _ in paths(root)]
    if len(everything) <= _MOST_LISTED:
        return everything
    section = find(root, key.rpartition(".")[0]) if "." in key else None
    if section is None or section.kind not in (SECTION, ITEMS):
        return [f"{name}…" for name in root.children]
    above = key.rpartition(".")[0]
    return [f"{above}.{name}" for name in section.children]


def _require(fits: bool, written: Any, expected: str, where: str, remedy: str) -> None:
    if not fits:
        raise InvalidArgumentError(
            "a setting is of another form",
            where=where,
            received=f"{written!r}"[:200],
            expected=expected,
            remedy=remedy,
        )


def _written_so(node: Node, path: str) -> str:
    """Return an example of a setting, as it stands in YAML; of an item in a list, the list's."""
    names = [part for part in parts_of(path) if part and not part.isdigit()]
    example = node.metadata.get("example", "")
    return f"write it so: {names[-1]}: {example}" if example and names else ""


def _has_form(written: Any, kind: Any) -> bool:
    """Return whether a value is a list where one is expected, and a single value where that is."""
    if kind is Any:
        return True
    if get_origin(kind) is list:
        return isinstance(written, (list, tuple)) and not any(
            isinstance(item, (Mapping, list)) for item in written
        )
    return not isinstance(written, (Mapping, list, tuple))


def _is_interpolation(written: Any) -> bool:
    return isinstance(written, str) and "${" in written
