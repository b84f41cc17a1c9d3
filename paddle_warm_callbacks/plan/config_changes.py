"""What is set otherwise than when a checkpoint was saved, key by key, and what that means for its resume."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# What a change can mean. The first two change nothing in how training goes on.
HARMLESS = "harmless"
FOLLOWED = "no effect: a resume follows the checkpoint"
BY_LR_ON_RESUME = "by lr.on_resume: keep, the default, goes on with the checkpoint's; reconfigure takes this"
INSIDE_EPOCH = "an exact resume is possible at an epoch's end only"
ANOTHER_RUN = "from here on training is not what it was before"
REFUSED = "an exact resume is impossible"
NOT_OURS = "a setting of the script's own: what it does is not known here"


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT = _Absent()


@dataclass(frozen=True)
class ConfigChange:
    """One key that is not set as it was.

    Attributes:
        key: Its path: names joined by dots, numbers of list items in brackets.
        saved: Its value when the checkpoint was saved; `ABSENT` if there was none.
        current: Its value now; `ABSENT` if there is none.
        meaning: What that means for the resume.
    """

    key: str
    saved: Any
    current: Any
    meaning: str

    def __str__(self) -> str:
        return f"{self.key}: {self.saved!r} when saved, {self.current!r} now ({self.meaning})"


def config_changes(
    saved: Mapping[str, Any], current: Mapping[str, Any], meaning: Callable[[str], str]
) -> tuple[ConfigChange, ...]:
    """Compare two configurations of plain values.

    Args:
        saved: When the checkpoint was saved.
        current: Now.
        meaning: Of a key, what its change means.

    Returns:
        The changes, harmless ones last, else in the order of ``current``.

    >>> [str(c) for c in config_changes({"a": {"b": 1}}, {"a": {"b": 2}}, lambda key: HARMLESS)]
    ['a.b: 1 when saved, 2 now (harmless)']
    """
    before, now = flattened(saved), flattened(current)
    found = [
        ConfigChange(key, before.get(key, ABSENT), now.get(key, ABSENT), meaning(key))
        for key in dict.fromkeys((*now, *before))
        if not _equal(before.get(key, ABSENT), now.get(key, ABSENT)) and not _opened(key, before, now)
    ]
    return tuple(sorted(found, key=lambda change: change.meaning in (HARMLESS, FOLLOWED)))


def flattened(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return path to value of everything that is neither a mapping nor a list of mappings.

    >>> flattened({"a": {"b": 1, "c": [1, 2]}, "d": [{"e": 3}]})
    {'a.b': 1, 'a.c': [1, 2], 'd[0].e': 3}
    """
    found: dict[str, Any] = {}

    def visit(value: Any, path: str) -> None:
        if isinstance(value, Mapping) and value:
            for key, item in value.items():
                visit(item, f"{path}.{key}" if path else str(key))
        elif isinstance(value, (list, tuple)) and value and all(isinstance(item, Mapping) for item in value):
            for number, item in enumerate(value):
                visit(item, f"{path}[{number}]")
        else:
            found[path] = list(value) if isinstance(value, tuple) else value

    visit(values, "")
    found.pop("", None)  # of no values at all
    return found


def _equal(one: Any, other: Any) -> bool:
    # True == 1 in Python, and not in a configuration.
    return one is other or (isinstance(one, bool) == isinstance(other, bool) and bool(one == other))


def _opened(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return whether ``key`` is an empty section on one side whose settings on the other are told one by one."""
    return any(
        not side.get(key) and any(name.startswith((f"{key}.", f"{key}[")) for name in other)
        for side, other in ((before, now), (now, before))
    )
