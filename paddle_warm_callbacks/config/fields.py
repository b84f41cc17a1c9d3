"""How a setting is declared: its default, what it is for, what it may be, and what its change means at a resume."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from types import MappingProxyType
from typing import Any

PATTERNS = "patterns"
LABELS = "labels"
# Which end of a metric is better.
BETTER = ("max", "min")


def setting(
    default: Any,
    about: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    choices: Sequence[str] = (),
    form: str = "",
    example: str = "",
    on_resume: str = "",
) -> Any:
    """Declare one setting of a section.

    Args:
        default: Its value where the YAML has none; a dictionary or list is copied for each configuration.
        about: What it is for, one sentence; the documentation and the JSON Schema show it.
        at_least: The least a number may be.
        above: What a number must be greater than.
        at_most: The most a number may be.
        choices: What a text may be.
        form: `PATTERNS` (a regular expression, or a list of them) or `LABELS` (a list of texts, or the path of a file).
        example: How one is written in YAML, on one line; shown where another form was.
        on_resume: What it means that a resumed run has another value; empty: as for the section.
    """
    limits = {
        "at_least": at_least,
        "above": above,
        "at_most": at_most,
        "choices": tuple(choices),
        "form": form,
        "example": example,
    }
    metadata = _metadata(about, on_resume, **limits)
    if isinstance(default, (dict, list)):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def section(kind: Callable[[], Any] | None, about: str, *, example: str, on_resume: str = "") -> Any:
    """Declare a section within another.

    Args:
        kind: Its dataclass; None for one that is left out by default.
        about: What it is for.
        example: How one is written in YAML, on one line; shown where another form was.
        on_resume: Of those settings in it that do not say it themselves.
    """
    metadata = _metadata(about, on_resume, example=example)
    if kind is None:
        return field(default=None, metadata=metadata)
    return field(default_factory=kind, metadata=metadata)


def _metadata(about: str, on_resume: str, **limits: Any) -> Mapping[str, Any]:
    return MappingProxyType({"about": about, "on_resume": on_resume, **limits})
