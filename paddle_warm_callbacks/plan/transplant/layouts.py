"""The known heads: which tensors of each hold rows of labels, along which axis, by which index rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from paddle_warm_callbacks.plan.transplant.rules import (
    Rule,
    before_features,
    behind_features,
    padded,
    per_anchor,
    per_label,
)


@dataclass(frozen=True)
class HeadTensor:
    """One kind of tensor of a head.

    Attributes:
        pattern: Regular expression that the name after the head's key and a dot must match whole.
        axis: The axis that holds the labels, from 0.
        rule: Which of its indices belong to each label.
        required: Whether a head of this layout has at least one.
    """

    pattern: str
    axis: int
    rule: Rule
    required: bool = True


@dataclass(frozen=True)
class HeadLayout:
    """A kind of head.

    Attributes:
        about: What it is, what its key names, and where label ``c`` of ``C`` lives.
        tensors: Its tensors that hold rows of labels. Everything else of the head is loaded as any other tensor.
        repeated_labels: Whether a label may stand twice, as characters do in some dictionaries. Equal labels
            are then paired from the last backwards, as the last is the one that texts are encoded with.
    """

    about: str
    tensors: tuple[HeadTensor, ...]
    repeated_labels: bool = False


def _linear(name: str, rule: Rule, *, required: bool = True) -> tuple[HeadTensor, ...]:
    """Tensors of ``nn.Linear``: weight [in, out], bias [out]."""
    return (
        HeadTensor(f"{name}weight", axis=1, rule=rule, required=required),
        HeadTensor(f"{name}bias", axis=0, rule=rule, required=False),
    )


def _conv(name: str, rule: Rule, *, required: bool = True) -> tuple[HeadTensor, ...]:
    """Tensors of ``nn.Conv2D``: weight [out, in, h, w], bias [out]."""
    return (
        HeadTensor(f"{name}weight", axis=0, rule=rule, required=required),
        HeadTensor(f"{name}bias", axis=0, rule=rule, required=False),
    )


def _embedding(name: str, rule: Rule, *, required: bool = True) -> tuple[HeadTensor, ...]:
    """The tensor of ``nn.Embedding``, or of a linear layer fed by labels: weight [labels, out]."""
    return (HeadTensor(f"{name}weight", axis=0, rule=rule, required=required),)


_plain = padded()
_background_last = padded(after=1)
_blank_first = padded(before=1)


def _nrtr(name: str = "", *, required: bool = True) -> tuple[HeadTensor, ...]:
    rule = padded(before=4, after=1)
    return (
        *_embedding(rf"{name}embedding\.embedding\.", rule, required=required),
        *_linear(rf"{name}tgt_word_prj\.", rule, required=required),
    )


def _sar(name: str = "", *, required: bool = True) -> tuple[HeadTensor, ...]:
    return (
        *_embedding(rf"{name}decoder\.embedding\.", padded(after=3), required=required),
        *_linear(rf"{name}decoder\.prediction\.", padded(after=2), required=required),
    )


LAYOUTS: Mapping[str, HeadLayout] = {
    # Classifiers: the key is the layer itself.
    "linear": HeadLayout("nn.Linear classifier; key: the layer; column c", _linear("", _plain)),
    "conv": HeadLayout("nn.Conv2D classifier; key: the layer; filter c", _conv("", _plain)),
    # Text recognition: label i is the i-th character of the dictionary, a space appended last if one is used.
    "ctc": HeadLayout(
        "CTC head; key: its linear layer (head.fc, head.fc2, head.ctc_head.fc); column i + 1, blank 0",
        _linear("", _blank_first),
        repeated_labels=True,
    ),
    "nrtr": HeadLayout(
        "NRTR transformer; key: the head; embedding row and tgt_word_prj column i + 4, after blank, unknown, "
        "start and end; one unused index last",
        _nrtr(),
        repeated_labels=True,
    ),
    "sar": HeadLayout(
        "SAR; key: the head; decoder.embedding row and decoder.prediction column i; unknown D, start and end D + 1, "
        "padding D + 2 (embedding only)",
        _sar(),
        repeated_labels=True,
    ),
    "attention": HeadLayout(
        "attention decoder; key: the head; generator column i + 1 between start and end; "
        "attention_cell.rnn.weight_ih column features + i + 1",
        (
            *_linear(r"generator\.", padded(before=1, after=1)),
            HeadTensor(r"attention_cell\.rnn\.weight_ih", axis=1, rule=behind_features(before=1, after=1)),
        ),
        repeated_labels=True,
    ),
    "parseq": HeadLayout(
        "ParseQ; key: the head; head column i + 1 after the end token; text_embed row i + 1, start and padding last",
        (
            *_linear(r"head\.", _blank_first),
            *_embedding(r"text_embed\.embedding\.", padded(before=1, after=2)),
        ),
        repeated_labels=True,
    ),
    "vitstr": HeadLayout(
        "ViTSTR; key: its linear layer; column i + 2 after start and end",
        _linear("", padded(before=2)),
        repeated_labels=True,
    ),
    "abinet": HeadLayout(
        "ABINet; key: the head; cls, cls_align and language.cls column, language.proj row i + 1 after the end token",
        (
            *_linear(r"cls\.", _blank_first),
            *_linear(r"(cls_align|language\.cls)\.", _blank_first, required=False),
            *_embedding(r"language\.proj\.", _blank_first, required=False),
        ),
        repeated_labels=True,
    ),
    "ppocr_multihead": HeadLayout(
        "PP-OCR MultiHead; key: the head; ctc_head as ctc, gtc_head as nrtr, sar_head as sar",
        (
            *_linear(r"ctc_head\.fc2?\.", _blank_first),
            *_nrtr(r"gtc_head\.", required=False),
            *_sar(r"sar_head\.", required=False),
        ),
        repeated_labels=True,
    ),
    # Detection and segmentation: the key is the head's module.
    "picodet": HeadLayout(
        "PicoHeadV2; key: the head; head_cls{i} and its alias head_cls_list.{i}, filter c; no background",
        (*_conv(r"head_cls\d+\.", _plain), *_conv(r"head_cls_list\.\d+\.", _plain, required=False)),
    ),
    "picodet_shared": HeadLayout(
        "PicoHead whose head_cls{i} also predicts boxes; key: the head; filter c, box distributions from C on",
        (
            *_conv(r"head_cls\d+\.", before_features()),
            *_conv(r"head_cls_list\.\d+\.", before_features(), required=False),
        ),
    ),
    "ppyoloe": HeadLayout(
        "PP-YOLOE(+); key: the head; pred_cls.{i}, filter c", _conv(r"pred_cls\.\d+\.", _plain)
    ),
    "yolov3": HeadLayout(
        "YOLOv3; key: the head; yolo_output.{i}, filter a (5 + C) + 5 + c of anchor a",
        _conv(r"yolo_output\.\d+\.", per_anchor(before=5)),
    ),
    "yolov3_iou_aware": HeadLayout(
        "PP-YOLO, PP-YOLOv2; key: the head; yolo_output.{i}, filter A + a (5 + C) + 5 + c of anchor a of A",
        _conv(r"yolo_output\.\d+\.", per_anchor(before=5, leading=1)),
    ),
    "faster_rcnn": HeadLayout(
        "Faster and Mask R-CNN's box head; key: the head; bbox_score column c, background C; "
        "bbox_delta columns 4 c to 4 c + 3",
        (*_linear(r"bbox_score\.", _background_last), *_linear(r"bbox_delta\.", per_label(4))),
    ),
    "cascade_rcnn": HeadLayout(
        "Cascade R-CNN's box head; key: the head; bbox_score_stage{s} column c, background C; boxes know no class",
        _linear(r"bbox_score_stage\d+\.", _background_last),
    ),
    "mask_rcnn": HeadLayout(
        "Mask R-CNN's mask head; key: the head; mask_fcn_logits filter c", _conv(r"mask_fcn_logits\.", _plain)
    ),
    "ssd": HeadLayout(
        "SSD; key: the head; scores{i}, filter a (C + 1) + c of anchor a, background last in each anchor's group",
        _conv(r"scores\d+\.(pw_conv\.)?", per_anchor(after=1)),
    ),
    "gfl": HeadLayout("GFL; key: the head; gfl_head_cls, filter c", _conv(r"gfl_head_cls\.", _plain)),
    "fcos": HeadLayout("FCOS; key: the head; fcos_head_cls, filter c", _conv(r"fcos_head_cls\.", _plain)),
    "tood": HeadLayout("TOOD; key: the head; tood_cls, filter c", _conv(r"tood_cls\.", _plain)),
    "retinanet": HeadLayout(
        "RetinaNet; key: the head; retina_cls, filter a C + c of anchor a",
        _conv(r"retina_cls\.", per_anchor()),
    ),
    "yolox": HeadLayout(
        "YOLOX; key: the head; conv_cls.{i}.2, filter c", _conv(r"conv_cls\.\d+\.2\.", _plain)
    ),
    "detr": HeadLayout(
        "DETR; key: the head; score_head column c, no-object C", _linear(r"score_head\.", _background_last)
    ),
    "rtdetr": HeadLayout(
        "RT-DETR; key: the transformer; enc_score_head and dec_score_head.{k} column c, denoising_class_embed row c",
        (
            *_linear(r"enc_score_head\.", _plain),
            *_linear(r"dec_score_head\.\d+\.", _plain),
            *_embedding(r"denoising_class_embed\.", _plain, required=False),
        ),
    ),
    "centernet": HeadLayout(
        "CenterNet; key: the head; heatmap.2.conv, filter c", _conv(r"heatmap\.2\.conv\.", _plain)
    ),
    "solov2": HeadLayout("SOLOv2; key: the head; solo_cate, filter c", _conv(r"solo_cate\.", _plain)),
}
