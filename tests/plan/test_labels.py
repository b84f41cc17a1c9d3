"""Labels are read in the head's order, and nothing of a dictionary is lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.plan.labels import labels_from_coco, labels_from_dictionary, labels_from_lines


def test_a_label_list_drops_a_first_background_only() -> None:
    assert labels_from_lines("background\r\ncat\r\n\r\nbackground\n") == ("cat", "background")
    assert labels_from_lines("cat\ndog") == ("cat", "dog")


@given(st.lists(st.text(st.characters(exclude_characters="\n\r"), min_size=1, max_size=2), min_size=1))
def test_a_dictionary_keeps_every_line_whatever_stands_in_it(characters: list[str]) -> None:
    for text in ("\n".join(characters), "\n".join([*characters, ""]), "\r\n".join([*characters, ""])):
        assert labels_from_dictionary(text) == tuple(characters)
    assert labels_from_dictionary("\n".join(characters), use_space_char=True) == (*characters, " ")


def test_characters_that_other_readers_take_for_line_ends_stay() -> None:
    assert labels_from_dictionary("a\n\u2028\n \n\x85\n") == ("a", "\u2028", " ", "\x85")


def test_coco_classes_come_in_the_order_of_the_file_not_of_their_ids() -> None:
    assert labels_from_coco({"categories": [{"id": 9, "name": "b"}, {"id": 1, "name": "a"}]}) == ("b", "a")


@pytest.mark.parametrize(
    "wrong", [{}, {"categories": []}, {"categories": [{"id": 1}]}, [1], {"categories": None}]
)
def test_what_holds_no_labels_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="categories"):
        labels_from_coco(wrong)
    with pytest.raises(InvalidArgumentError, match="no labels"):
        labels_from_lines("background\n\n")
    with pytest.raises(InvalidArgumentError, match="no labels"):
        labels_from_dictionary("")
