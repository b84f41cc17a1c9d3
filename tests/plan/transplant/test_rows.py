"""Row maps: every row of the target accounted for, no source row twice, and errors that name the tensor."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_warm_callbacks.errors import InvalidArgumentError, PatternError
from paddle_warm_callbacks.plan.transplant import HeadTransplant, head_tensors, row_map

label_lists = st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True)


@given(label_lists, label_lists, st.integers(1, 4))
def test_a_row_map_fills_every_row_and_takes_none_twice(old: list[str], new: list[str], anchors: int) -> None:
    head = HeadTransplant("head", old, new, layout="yolov3")
    size, source_size = anchors * (5 + len(new)), anchors * (5 + len(old))
    rows = row_map(head, "head.yolo_output.0.bias", (size,), (source_size,))
    filled = [index for index, _ in rows.pairs]
    taken = [index for _, index in rows.pairs]
    assert sorted([*filled, *rows.new]) == list(range(size))
    assert len(set(taken)) == len(taken)
    assert set(taken) <= set(range(source_size))
    assert len(rows.peers) == len(rows.new) == anchors * len(set(new) - set(old))
    assert all(len(peers) == len(old) for peers in rows.peers)


def test_reordered_labels_without_new_ones_take_every_row() -> None:
    rows = row_map(HeadTransplant("fc", list("abc"), list("cab"), layout="ctc"), "fc.weight", (8, 4), (8, 4))
    assert (rows.axis, rows.pairs, rows.new) == (1, ((0, 0), (1, 3), (2, 1), (3, 2)), ())


def test_a_head_that_is_not_there_is_told_what_is() -> None:
    head = HeadTransplant("head", ["a"], ["a"], layout="ppyoloe")
    with pytest.raises(PatternError) as failure:
        head_tensors(head, ["backbone.conv.weight", "yolo_head.pred_cls.0.weight"])
    assert failure.value.remedy == "did you mean HeadTransplant('yolo_head', …)?"
    assert "ppyoloe" in failure.value.where


NAMES = ("conv.weight", "bn.weight", "bn.bias", "bn._mean", "bn._variance", "fc.weight", "fc.bias")


@pytest.mark.parametrize(
    ("key", "layout", "names", "remedy"),
    [
        # Every key that is offered works, and the last layer comes first, where none is spelt alike.
        ("head", "linear", NAMES, "did you mean HeadTransplant('fc', …) or HeadTransplant('conv', …)?"),
        ("fcc", "linear", NAMES, "did you mean HeadTransplant('fc', …)?"),
        ("head", "picodet", ("head.yolo_output.0.weight", "x.y"), "what is there looks like layout='yolov3'"),
        ("head", "gfl", NAMES, "see the names: for name in network.state_dict(): print(name)"),
    ],
)
def test_what_is_offered_instead_is_a_head(
    key: str, layout: str, names: tuple[str, ...], remedy: str
) -> None:
    with pytest.raises(PatternError) as failure:
        head_tensors(HeadTransplant(key, ["a"], ["a"], layout=layout), names)
    assert remedy in failure.value.remedy
    for offered in re.findall(r"HeadTransplant\('(.*?)'", failure.value.remedy):
        assert head_tensors(HeadTransplant(offered, ["a"], ["a"], layout=layout), names)


def test_the_network_itself_can_be_the_head() -> None:
    assert head_tensors(HeadTransplant("", ["a"], ["a"]), ["weight", "bias"]) == ("weight", "bias")


@pytest.mark.parametrize(
    ("target_shape", "source_shape", "says"),
    [
        ((8, 3), (8, 4), "old_labels do not fit the source's head"),
        ((8, 4), (8, 2), "new_labels do not fit the network's head"),
        ((9, 3), (8, 2), "differ in more than their labels"),
        ((3,), (8, 2), "differ in more than their labels"),
    ],
)
def test_shapes_that_do_not_fit_name_the_tensor(
    target_shape: tuple[int, ...], source_shape: tuple[int, ...], says: str
) -> None:
    head = HeadTransplant("fc", list("ab"), list("abc"))
    row_map(head, "fc.weight", (8, 3), (8, 2))
    with pytest.raises(InvalidArgumentError) as failure:
        row_map(head, "fc.weight", target_shape, source_shape)
    assert says in str(failure.value)
    assert "fc.weight" in failure.value.where


def test_other_anchors_are_not_taken_for_labels() -> None:
    head = HeadTransplant("head", list("ab"), list("ab"), layout="yolov3")
    row_map(head, "head.yolo_output.0.bias", (21,), (21,))
    with pytest.raises(InvalidArgumentError, match="differ in more than their labels"):
        row_map(head, "head.yolo_output.0.bias", (21,), (14,))


def test_a_tensor_beside_the_head_has_no_rows() -> None:
    with pytest.raises(InvalidArgumentError, match="not a tensor of the head"):
        row_map(HeadTransplant("fc", ["a"], ["a"]), "conv.weight", (8, 1), (8, 1))
