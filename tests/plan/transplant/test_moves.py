"""What becomes of each label, and which spellings are taken for a slip of the pen."""

from __future__ import annotations

import pytest

from paddle_warm_callbacks.plan.transplant import HeadTransplant, label_moves


def alike(old: list[str], new: list[str], layout: str = "linear") -> tuple[tuple[str, str], ...]:
    return label_moves(HeadTransplant("fc", old, new, layout=layout)).alike


def test_every_label_is_kept_new_or_dropped() -> None:
    head = HeadTransplant("fc", ["cat", "dog", "emu"], ["fox", "hound", "cat"], rename={"dog": "hound"})
    moves = label_moves(head)
    assert (moves.kept, moves.new, moves.dropped) == (("hound", "cat"), ("fox",), ("emu",))
    assert moves.warnings == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("scratch", "scrach"),  # a letter less
        ("scratch", "scratsch"),  # one more
        ("scratch", "scratck"),  # another
        ("scratch", "scartch"),  # two swapped
        ("scratch", "Scratch "),
        ("surface scratch", "surface_scratch"),
        ("划痕", "划 痕"),
    ],
)
def test_a_label_misspelt_is_told_with_both_remedies(old: str, new: str) -> None:
    moves = label_moves(HeadTransplant("fc", [old, "dent"], ["dent", new]))
    assert moves.alike == ((new, old),)
    (warning,) = moves.warnings
    assert f"{new!r} is a new label, and the old label {old!r} is dropped" in warning
    assert f"rename={{{old!r}: {new!r}}}" in warning
    # Control: what the remedy makes of it is no slip any more.
    assert label_moves(HeadTransplant("fc", [old, "dent"], ["dent", new], rename={old: new})).warnings == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("scratch", "spot"),
        ("class_1", "class_2"),  # digits tell labels apart
        ("12345", "1234"),
        ("cat", "car"),  # too short for a letter to be a slip
        ("划痕", "划伤"),
    ],
)
def test_other_labels_are_other_labels(old: str, new: str) -> None:
    assert alike([old, "dent"], ["dent", new]) == ()


def test_a_label_that_is_still_there_is_no_slip() -> None:
    assert alike(["scratch", "dent"], ["scratch", "scratches", "dent", "scratchy"]) == ()


def test_characters_of_a_dictionary_are_never_alike() -> None:
    assert alike(list("ABC"), list("abc"), "ctc") == ()


def test_many_slips_are_told_in_short() -> None:
    old = [f"label{letter * 3}" for letter in "abcdefgh"]
    moves = label_moves(HeadTransplant("fc", ["kept", *old], ["kept", *(label.upper() for label in old)]))
    assert len(moves.alike) == 8
    assert len(moves.warnings) == 6
    assert moves.warnings[-1] == "3 more new labels are spelt almost as a dropped one"


def test_a_transplant_that_keeps_nothing_is_told() -> None:
    (warning,) = label_moves(HeadTransplant("fc", ["cat", "dog"], ["Fox", "Emu", "Owl"])).warnings
    assert warning.startswith("none of the 3 new labels is among the 2 old ones")
