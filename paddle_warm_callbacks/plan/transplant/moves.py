"""What becomes of each label of a head: kept, new or dropped, and which of those may be one label misspelt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from paddle_warm_callbacks.plan.transplant.head import HeadTransplant

# One letter more, less or other makes a likely slip of the pen only in words of some length.
_SHORTEST_MISSPELT = 4
_MOST_SAID = 5


@dataclass(frozen=True)
class LabelMoves:
    """Where the labels of a head go.

    Attributes:
        kept: New labels whose rows are copied.
        new: New labels that have no row in the source.
        dropped: Old labels whose rows go nowhere.
        alike: (a new label, a dropped one) that differ in a letter, or in nothing but case, spaces and signs.
    """

    kept: tuple[str, ...]
    new: tuple[str, ...]
    dropped: tuple[str, ...]
    alike: tuple[tuple[str, str], ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is probably not meant so, with what to do, a sentence each."""
        said = [
            f"{new!r} is a new label, and the old label {old!r} is dropped: if they are one, write it alike in both "
            f"lists, or rename={{{old!r}: {new!r}}}"
            for new, old in self.alike[:_MOST_SAID]
        ]
        if len(self.alike) > _MOST_SAID:
            said.append(f"{len(self.alike) - _MOST_SAID} more new labels are spelt almost as a dropped one")
        if not self.kept:
            said.append(
                f"none of the {len(self.new)} new labels is among the {len(self.dropped)} old ones: no label keeps "
                "what was learnt of it"
            )
        return tuple(said)


def label_moves(transplant: HeadTransplant) -> LabelMoves:
    """Return where the labels of ``transplant`` go; its ``old_labels`` must be known.

    >>> label_moves(HeadTransplant("fc", ["scrach", "dent"], ["dent", "scratch", "spot"]))
    LabelMoves(kept=('dent',), new=('scratch', 'spot'), dropped=('scrach',), alike=(('scratch', 'scrach'),))
    """
    origins = transplant.origins()
    continued = {origin for origin in origins if origin is not None}
    kept = [label for label, origin in zip(transplant.new_labels, origins) if origin is not None]
    new = [label for label, origin in zip(transplant.new_labels, origins) if origin is None]
    dropped = [label for index, label in enumerate(transplant.old_labels or ()) if index not in continued]
    return LabelMoves(tuple(kept), tuple(new), tuple(dropped), tuple(_alike(new, dropped)))


def _alike(new: Sequence[str], dropped: Sequence[str]) -> Iterator[tuple[str, str]]:
    by_form: dict[str, str] = {}
    for label in dropped:
        for form in _forms(label):
            by_form.setdefault(form, label)
    for label in new:
        found = next((by_form[form] for form in _forms(label) if form in by_form), None)
        if found is not None:
            yield label, found


def _forms(label: str) -> Iterator[str]:
    """Yield what two spellings of one label have in common: letters and digits, with one letter left out of them.

    Digits are never left out: ``class_1`` and ``class_2`` are two.
    """
    plain = "".join(letter for letter in label.casefold() if letter.isalnum())
    if len(plain) < 2:  # of a dictionary of characters, where a and A are two
        return
    yield plain
    if len(plain) >= _SHORTEST_MISSPELT:
        for index, letter in enumerate(plain):
            if not letter.isdigit():
                yield plain[:index] + plain[index + 1 :]
