"""Every layout, held against what its network computes: old labels keep their outputs, to the bit.

Each case says in its own way, by slicing and reshaping as the network does, what a head's output means for each
label. The index rules of the package are not used for that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.plan.transplant import LAYOUTS, HeadTransplant, RowMap, head_tensors, row_map

Array = np.ndarray[Any, Any]
Params = dict[str, Array]
FEATURES = 6
ANCHORS = 3


@dataclass(frozen=True)
class Case:
    """A head in numpy.

    ``sizes(C)`` gives its tensors as name -> shape; ``meaning(params, x, C)`` what the network makes of them: an
    array with a first axis of C labels, and everything that belongs to no label.
    """

    layout: str
    key: str
    sizes: Callable[[int], dict[str, tuple[int, ...]]]
    meaning: Callable[[Params, Array, int], tuple[Array, Array]]


def linear(name: str, out: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (FEATURES, out), f"{name}.bias": (out,)}


def conv(name: str, out: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, FEATURES, 1, 1), f"{name}.bias": (out,)}


def columns(params: Params, name: str, x: Array) -> Array:
    """Return each output of a linear layer; one dot product an output, so that bits do not hang on the width."""
    weight = params[f"{name}.weight"]
    dots = np.array([(x * column).sum() for column in weight.T])
    return dots + params.get(f"{name}.bias", 0)


def filters(params: Params, name: str, x: Array) -> Array:
    weight = params[f"{name}.weight"][:, :, 0, 0]
    return np.array([(x * row).sum() for row in weight]) + params[f"{name}.bias"]


def stack(*parts: tuple[Array, Array]) -> tuple[Array, Array]:
    """Join several readings: label axis first, the rest flattened."""
    labels = np.concatenate([part.reshape(len(part), -1) for part, _ in parts], axis=1)
    return labels, np.concatenate([rest.ravel() for _, rest in parts])


def none() -> Array:
    return np.zeros(0)


def plain(out: Array, c: int) -> tuple[Array, Array]:
    assert len(out) == c
    return out, none()


def background_last(out: Array, c: int) -> tuple[Array, Array]:
    scores, background = np.split(out, [c])
    assert len(background) == 1
    return scores, background


def characters(out: Array, c: int, first: int, specials: int) -> tuple[Array, Array]:
    """Read characters from index ``first`` on; everything else is one of ``specials`` tokens."""
    assert len(out) == c + specials
    return out[first : first + c], np.delete(out, np.arange(first, first + c), axis=0)


def yolo(out: Array, c: int) -> tuple[Array, Array]:
    boxes_objectness, scores = np.split(out.reshape(ANCHORS, 5 + c), [5], axis=1)
    return scores.T, boxes_objectness


def yolo_iou(out: Array, c: int) -> tuple[Array, Array]:
    iou, rest = out[:ANCHORS], out[ANCHORS:]
    scores, boxes = yolo(rest, c)
    return scores, np.concatenate([iou, boxes.ravel()])


def ssd(out: Array, c: int) -> tuple[Array, Array]:
    scores, background = np.split(out.reshape(ANCHORS, c + 1), [c], axis=1)
    return scores.T, background


def gates(params: Params, context: Array, c: int) -> tuple[Array, Array]:
    """Feed (context, one-hot token) to a recurrent cell: its input gates for every character, then the rest."""
    weight = params["head.attention_cell.rnn.weight_ih"]
    from_context, from_token = weight[:, :FEATURES], weight[:, FEATURES:]
    by_token = np.array([from_token @ np.eye(c + 2)[token] for token in range(c + 2)])
    start, chars, end = np.split(by_token, [1, c + 1])
    return chars, np.concatenate([(from_context * context).ravel(), start.ravel(), end.ravel()])


def levels(
    read: Callable[[Array, int], tuple[Array, Array]], *names: str
) -> Callable[..., tuple[Array, Array]]:
    return lambda p, x, c: stack(*(read(filters(p, name, x), c) for name in names))


def nrtr(p: Params, x: Array, c: int, at: str) -> tuple[Array, Array]:
    return stack(
        characters(p[f"{at}.embedding.embedding.weight"], c, 4, 5),
        characters(columns(p, f"{at}.tgt_word_prj", x), c, 4, 5),
    )


def nrtr_sizes(at: str, c: int) -> dict[str, tuple[int, ...]]:
    return {f"{at}.embedding.embedding.weight": (c + 5, 4), f"{at}.tgt_word_prj.weight": (FEATURES, c + 5)}


def sar(p: Params, x: Array, c: int, at: str) -> tuple[Array, Array]:
    return stack(
        characters(p[f"{at}.decoder.embedding.weight"], c, 0, 3),
        characters(columns(p, f"{at}.decoder.prediction", x), c, 0, 2),
    )


def sar_sizes(at: str, c: int) -> dict[str, tuple[int, ...]]:
    return {f"{at}.decoder.embedding.weight": (c + 3, 4), **linear(f"{at}.decoder.prediction", c + 2)}


PICO = ("head.head_cls0", "head.head_cls1", "head.head_cls_list.0", "head.head_cls_list.1")
YOLO = ("yolo_head.yolo_output.0", "yolo_head.yolo_output.1")
SCORES = ("ssd_head.scores0", "ssd_head.scores1")
STAGES = ("bbox_head.bbox_score_stage0", "bbox_head.bbox_score_stage1")
CATE = "mask_head.solo_cate"


def convs(names: tuple[str, ...], out: Callable[[int], int]) -> Callable[[int], dict[str, tuple[int, ...]]]:
    return lambda c: {key: shape for name in names for key, shape in conv(name, out(c)).items()}


def one_conv(layout: str, key: str, name: str) -> Case:
    return Case(layout, key, convs((name,), lambda c: c), levels(plain, name))


CASES = (
    Case("linear", "fc", lambda c: linear("fc", c), lambda p, x, c: plain(columns(p, "fc", x), c)),
    one_conv("conv", "classifier", "classifier"),
    Case(
        "ctc",
        "head.fc",
        lambda c: linear("head.fc", c + 1),
        lambda p, x, c: characters(columns(p, "head.fc", x), c, 1, 1),
    ),
    Case("nrtr", "head", lambda c: nrtr_sizes("head", c), lambda p, x, c: nrtr(p, x, c, "head")),
    Case("sar", "head", lambda c: sar_sizes("head", c), lambda p, x, c: sar(p, x, c, "head")),
    Case(
        "attention",
        "head",
        lambda c: {
            **linear("head.generator", c + 2),
            "head.attention_cell.rnn.weight_ih": (8, FEATURES + c + 2),
        },
        lambda p, x, c: stack(characters(columns(p, "head.generator", x), c, 1, 2), gates(p, x, c)),
    ),
    Case(
        "parseq",
        "head",
        lambda c: {**linear("head.head", c + 1), "head.text_embed.embedding.weight": (c + 3, 4)},
        lambda p, x, c: stack(
            characters(columns(p, "head.head", x), c, 1, 1),
            characters(p["head.text_embed.embedding.weight"], c, 1, 3),
        ),
    ),
    Case(
        "vitstr",
        "head.fc",
        lambda c: linear("head.fc", c + 2),
        lambda p, x, c: characters(columns(p, "head.fc", x), c, 2, 2),
    ),
    Case(
        "abinet",
        "head",
        lambda c: {
            **linear("head.cls", c + 1),
            **linear("head.cls_align", c + 1),
            **linear("head.language.cls", c + 1),
            "head.language.proj.weight": (c + 1, 4),
        },
        lambda p, x, c: stack(
            *(
                characters(columns(p, f"head.{name}", x), c, 1, 1)
                for name in ("cls", "cls_align", "language.cls")
            ),
            characters(p["head.language.proj.weight"], c, 1, 1),
        ),
    ),
    Case(
        "ppocr_multihead",
        "head",
        lambda c: {
            **linear("head.ctc_head.fc", c + 1),
            **nrtr_sizes("head.gtc_head", c),
            **sar_sizes("head.sar_head", c),
        },
        lambda p, x, c: stack(
            characters(columns(p, "head.ctc_head.fc", x), c, 1, 1),
            nrtr(p, x, c, "head.gtc_head"),
            sar(p, x, c, "head.sar_head"),
        ),
    ),
    Case("picodet", "head", convs(PICO, lambda c: c), levels(plain, *PICO)),
    Case(
        "picodet_shared",
        "head",
        convs(PICO[:2], lambda c: c + 4 * 8),
        levels(lambda out, c: (out[:c], out[c:]), *PICO[:2]),
    ),
    one_conv("ppyoloe", "yolo_head", "yolo_head.pred_cls.0"),
    Case("yolov3", "yolo_head", convs(YOLO, lambda c: ANCHORS * (5 + c)), levels(yolo, *YOLO)),
    Case("yolov3_iou_aware", "yolo_head", convs(YOLO, lambda c: ANCHORS * (6 + c)), levels(yolo_iou, *YOLO)),
    Case(
        "faster_rcnn",
        "bbox_head",
        lambda c: {**linear("bbox_head.bbox_score", c + 1), **linear("bbox_head.bbox_delta", 4 * c)},
        lambda p, x, c: stack(
            background_last(columns(p, "bbox_head.bbox_score", x), c),
            (columns(p, "bbox_head.bbox_delta", x).reshape(c, 4), none()),
        ),
    ),
    Case(
        "cascade_rcnn",
        "bbox_head",
        lambda c: {key: shape for name in STAGES for key, shape in linear(name, c + 1).items()},
        lambda p, x, c: stack(*(background_last(columns(p, name, x), c) for name in STAGES)),
    ),
    one_conv("mask_rcnn", "mask_head", "mask_head.mask_fcn_logits"),
    Case("ssd", "ssd_head", convs(SCORES, lambda c: ANCHORS * (c + 1)), levels(ssd, *SCORES)),
    one_conv("gfl", "head", "head.gfl_head_cls"),
    one_conv("fcos", "fcos_head", "fcos_head.fcos_head_cls"),
    one_conv("tood", "head", "head.tood_cls"),
    Case(
        "retinanet",
        "head",
        convs(("head.retina_cls",), lambda c: ANCHORS * c),
        levels(lambda out, c: (out.reshape(ANCHORS, c).T, none()), "head.retina_cls"),
    ),
    one_conv("yolox", "head", "head.conv_cls.1.2"),
    Case(
        "detr",
        "detr_head",
        lambda c: linear("detr_head.score_head", c + 1),
        lambda p, x, c: background_last(columns(p, "detr_head.score_head", x), c),
    ),
    Case(
        "rtdetr",
        "transformer",
        lambda c: {
            **linear("transformer.enc_score_head", c),
            **linear("transformer.dec_score_head.0", c),
            **linear("transformer.dec_score_head.5", c),
            "transformer.denoising_class_embed.weight": (c, 4),
        },
        lambda p, x, c: stack(
            plain(columns(p, "transformer.enc_score_head", x), c),
            plain(columns(p, "transformer.dec_score_head.0", x), c),
            plain(columns(p, "transformer.dec_score_head.5", x), c),
            plain(p["transformer.denoising_class_embed.weight"], c),
        ),
    ),
    one_conv("centernet", "head", "head.heatmap.2.conv"),
    one_conv("solov2", "mask_head", CATE),
)

by_layout = pytest.mark.parametrize("case", CASES, ids=lambda case: case.layout)
label_lists = st.lists(st.sampled_from("abcdefg"), min_size=1, unique=True)


def build(case: Case, labels: int, seed: int) -> Params:
    rng = np.random.default_rng(seed)
    sizes = case.sizes(labels)
    beside = {f"{case.key}.beside.weight": (3, 3), "backbone.weight": (FEATURES, FEATURES)}
    return {name: rng.standard_normal(shape) for name, shape in {**sizes, **beside}.items()}


def fill(rows: RowMap, target: Array, source: Array) -> Array:
    """Copy the pairs of ``rows``; what is new stays as ``target`` has it."""
    moved = np.moveaxis(target.copy(), rows.axis, 0)
    for new, old in rows.pairs:
        moved[new] = np.moveaxis(source, rows.axis, 0)[old]
    return np.moveaxis(moved, 0, rows.axis)


def transplanted(case: Case, head: HeadTransplant, source: Params, target: Params) -> Params:
    filled = dict(target)
    for name in head_tensors(head, target):
        rows = row_map(head, name, target[name].shape, source[name].shape)
        filled[name] = fill(rows, target[name], source[name])
    return filled


def test_every_layout_has_a_case() -> None:
    assert [case.layout for case in CASES] == list(LAYOUTS)


@by_layout
@settings(max_examples=25, deadline=None)
@given(old=label_lists, new=label_lists, seed=st.integers(0, 99))
def test_old_labels_keep_their_outputs_and_new_ones_their_own(
    case: Case, old: list[str], new: list[str], seed: int
) -> None:
    source, target = build(case, len(old), seed), build(case, len(new), seed + 1)
    x = np.random.default_rng(seed + 2).standard_normal(FEATURES)
    filled = transplanted(case, HeadTransplant(case.key, old, new, layout=case.layout), source, target)

    was, was_fixed = case.meaning(source, x, len(old))
    fresh, _ = case.meaning(target, x, len(new))
    now, now_fixed = case.meaning(filled, x, len(new))
    for place, label in enumerate(new):
        expected = was[old.index(label)] if label in old else fresh[place]
        np.testing.assert_array_equal(now[place], expected, err_msg=label)
    np.testing.assert_array_equal(now_fixed, was_fixed)


@by_layout
def test_the_head_owns_its_tensors_and_no_others(case: Case) -> None:
    head = HeadTransplant(case.key, list("ab"), list("ab"), layout=case.layout)
    assert set(head_tensors(head, build(case, 2, 0))) == set(case.sizes(2))


@by_layout
def test_a_copy_by_position_would_mix_labels_up(case: Case) -> None:
    """The control: without the rule, reordered labels get each other's outputs."""
    source = build(case, 3, 0)
    x = np.ones(FEATURES)
    was, _ = case.meaning(source, x, 3)
    by_position, _ = case.meaning(dict(source), x, 3)
    assert not np.array_equal(by_position[0], was[2])  # new label 0 was old label 2
    head = HeadTransplant(case.key, list("abc"), list("cba"), layout=case.layout)
    by_label, _ = case.meaning(transplanted(case, head, source, build(case, 3, 1)), x, 3)
    np.testing.assert_array_equal(by_label[0], was[2])


@by_layout
def test_mean_rows_average_every_old_label_in_the_same_place(case: Case) -> None:
    source, target = build(case, 3, 0), build(case, 4, 1)
    head = HeadTransplant(case.key, list("abc"), list("xcba"), layout=case.layout, new_rows="mean")
    filled = dict(target)
    for name in head_tensors(head, target):
        rows = row_map(head, name, target[name].shape, source[name].shape)
        array = np.moveaxis(fill(rows, target[name], source[name]), rows.axis, 0)
        for index, peers in zip(rows.new, rows.peers):
            array[index] = np.moveaxis(source[name], rows.axis, 0)[list(peers)].mean(axis=0)
        filled[name] = np.moveaxis(array, 0, rows.axis)
    x = np.ones(FEATURES)
    now, _ = case.meaning(filled, x, 4)
    was, _ = case.meaning(source, x, 3)
    np.testing.assert_allclose(now[0], was.mean(axis=0))  # every reading of a head is linear in its rows


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.layout != "picodet_shared"], ids=lambda c: c.layout
)
def test_a_label_too_many_or_too_few_is_an_error(case: Case) -> None:
    source, target = build(case, 7, 0), build(case, 7, 1)
    good = HeadTransplant(case.key, list("abcdefg"), list("abcdefg"), layout=case.layout)
    transplanted(case, good, source, target)
    for labels in ("abcdef", "abcdefgh"):
        wrong = HeadTransplant(case.key, list(labels), list("abcdefg"), layout=case.layout)
        with pytest.raises(InvalidArgumentError):
            transplanted(case, wrong, source, target)


def test_ssd_with_separable_convolutions_is_the_same_head() -> None:
    head = HeadTransplant("ssd_head", list("ab"), list("ab"), layout="ssd")
    names = (
        "ssd_head.scores0.dw_conv.weight",
        "ssd_head.scores0.bn.weight",
        "ssd_head.scores0.pw_conv.weight",
    )
    assert head_tensors(head, names) == ("ssd_head.scores0.pw_conv.weight",)
