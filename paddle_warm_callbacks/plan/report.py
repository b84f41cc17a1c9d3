"""What a start did: which tensors were loaded, transplanted or skipped, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from paddle_warm_callbacks.arguments import require_choice

_KINDS = ("cold", "warm", "resume")
_MOST_GROUPS = 40
_MOST_NAMES = 12


@dataclass(frozen=True)
class RestoreReport:
    """Tell what became of every tensor when a run started.

    Every parameter and buffer of the network is in exactly one of ``loaded``, ``transplanted`` and ``skipped``.

    Attributes:
        kind: "cold" (nothing was loaded), "warm" (weights of another run) or "resume" (the same run goes on).
        source: What the tensors came from, in words; ``None`` for a cold start.
        loaded: Structured names of tensors copied whole.
        transplanted: Structured names of head tensors whose rows were copied by label.
        labels_kept: Of a transplanted head, the labels whose rows were copied.
        labels_new: Those that had no row in the source.
        labels_dropped: Labels of the source whose rows went nowhere.
        skipped: (structured name, reason) of tensors that kept their own values.
        unused: Names in the source that went nowhere.
        share_loaded: Share of the network's elements, 0 to 1, that came from the source; rows of new labels did not.
        resumed_from: Name or URL of the checkpoint that was resumed, or ``None``.
        optimizer_restored: Names of the optimizer's restored entries.
        optimizer_reset: (name, reason) of the optimizer's entries that start afresh.
        warnings: What is probably not meant so, with what to do, a sentence each.
        notes: Other things worth knowing, a sentence each (casts, another Paddle version, ...).
    """

    kind: str
    source: str | None = None
    loaded: tuple[str, ...] = ()
    transplanted: tuple[str, ...] = ()
    labels_kept: tuple[str, ...] = ()
    labels_new: tuple[str, ...] = ()
    labels_dropped: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()
    share_loaded: float = 0.0
    resumed_from: str | None = None
    optimizer_restored: tuple[str, ...] = ()
    optimizer_reset: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_choice(self.kind, "RestoreReport(kind)", choices=_KINDS)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; :meth:`from_json` reads them back."""
        return {name: _as_json(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> RestoreReport:
        """Build from :meth:`to_json`'s dictionary; fields it lacks take their defaults."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: _as_field(value) for name, value in record.items() if name in known})

    def to_text(self, *, layers: bool = True) -> str:
        """Return the report as a table grouped by layer, then each tensor that was not loaded, by reason.

        Args:
            layers: Whether the table is in it.
        """
        lines = [self._headline()]
        if layers and (self.loaded or self.transplanted or self.skipped):
            lines += ["", *self._layers()]
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.skipped:
            by_reason.setdefault(reason, []).append(name)
        for reason, names in by_reason.items():
            lines.append(_listed(f"not loaded, {reason}", names))
        if self.transplanted:
            lines.append(_listed("transplanted by label", self.transplanted))
        for title, labels in (
            ("kept", self.labels_kept),
            ("new", self.labels_new),
            ("dropped", self.labels_dropped),
        ):
            if labels:
                lines.append(_listed(f"labels {title}", labels))
        if self.unused:
            lines.append(_listed("in the source, unused", self.unused))
        if self.optimizer_restored:
            lines.append(f"optimizer: {len(self.optimizer_restored)} entries restored")
        by_reason = {}
        for name, reason in self.optimizer_reset:
            by_reason.setdefault(reason, []).append(name)
        for reason, names in by_reason.items():
            lines.append(_listed(f"optimizer, fresh, {reason}", names))
        lines += [f"warning: {warning}" for warning in self.warnings]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _headline(self) -> str:
        if self.kind == "cold":
            return "cold start: nothing was loaded"
        origin = self.resumed_from if self.kind == "resume" else self.source
        begin = "resumed" if self.kind == "resume" else "warm start"
        total = len(self.loaded) + len(self.transplanted) + len(self.skipped)
        return (
            f"{begin} from {origin or 'an unnamed source'}: {len(self.loaded)} tensors loaded, "
            f"{len(self.transplanted)} transplanted, {len(self.skipped)} not, of {total}; "
            f"{_percent(self.share_loaded)} of parameters"
        )

    def _layers(self) -> list[str]:
        names = [*self.loaded, *self.transplanted, *(name for name, _ in self.skipped)]
        depth = _depth(names)
        counts: dict[str, list[int]] = {}
        skipped = [name for name, _ in self.skipped]
        for column, members in enumerate((self.loaded, self.transplanted, skipped)):
            for name in members:
                counts.setdefault(_layer(name, depth), [0, 0, 0])[column] += 1
        rows: list[tuple[str, ...]] = [("layer", "loaded", "transplanted", "not loaded")]
        rows += [
            (layer, *(str(count or "") for count in counts[layer])) for layer in sorted(counts, key=_natural)
        ]
        return _table(rows)


def _percent(share: float) -> str:
    """Write a share so that "100%" is only said of all and "0%" only of nothing."""
    text = f"{100 * share:.1f}%"
    if share < 1 and text == "100.0%":
        return "more than 99.9%"
    return "less than 0.1%" if share > 0 and text == "0.0%" else text


def _layer(name: str, depth: int) -> str:
    parts = name.split(".")
    return ".".join(parts[: min(depth, max(len(parts) - 1, 1))])


def _depth(names: Sequence[str]) -> int:
    """Return the greatest depth of names at which the table stays short."""
    deepest = max(name.count(".") for name in names) or 1
    for depth in range(deepest, 1, -1):
        if len({_layer(name, depth) for name in names}) <= _MOST_GROUPS:
            return depth
    return 1


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort ``layer10`` after ``layer2``."""
    key: list[tuple[int, int, str]] = []
    digits, text = "", ""
    for character in name + "\0":
        if character.isdigit() and character.isascii():
            if text:
                key.append((1, 0, text))
                text = ""
            digits += character
        else:
            if digits:
                key.append((0, int(digits), ""))
                digits = ""
            text += character
    return [*key, (1, 0, text)]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        first, *numbers = [
            cell.ljust(w) if not i else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join([first, *numbers]).rstrip())
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _listed(title: str, names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    shown = ", ".join(names[:_MOST_NAMES])
    return f"{title} ({len(names)}): {shown}" + (f", and {more} more" if more > 0 else "")


def _as_json(value: Any) -> Any:
    return [_as_json(item) for item in value] if isinstance(value, (tuple, list)) else value


def _as_field(value: Any) -> Any:
    return tuple(_as_field(item) for item in value) if isinstance(value, (tuple, list)) else value
