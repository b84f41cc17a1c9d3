"""Two-stage detectors of ppdet in the recipe's hands: trained through fit, resumed, grown by class name."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks import CheckpointStore, EveryNSteps, PeriodicCheckpoint, WarmStartCallback
from paddle_warm_callbacks.checkpoint.source import open_source
from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.hapi.warm_start import warm_start
from recipes.detection import two_stage
from recipes.detection.coco_map import CocoMap
from recipes.detection.detector import Detector, detector_file
from recipes.detection.heads import head_transplant
from recipes.detection.loading import loader
from recipes.detection.plates import CLASSES, OLD_CLASSES, write_plates
from tests.callbacks.runs import Interrupted

pytest.importorskip("ppdet")

# NumPy's, about arrays of one element, which ppdet takes for numbers: why the recipe asks for numpy below 2.4.
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning"),
]

FASTER = detector_file("faster_rcnn_r18_fpn")
CASCADE = """
_BASE_: [{base}]
architecture: CascadeRCNN
CascadeRCNN:
  backbone: ResNet
  neck: FPN
  rpn_head: RPNHead
  bbox_head: CascadeHead
  bbox_post_process: BBoxPostProcess
CascadeHead:
  head: CascadeTwoFCHead
  roi_extractor: {{resolution: 7, sampling_ratio: 0, aligned: True}}
  bbox_assigner: BBoxAssigner
BBoxAssigner:
  cascade_iou: [0.5, 0.6, 0.7]
CascadeTwoFCHead:
  out_channel: 64
BBoxPostProcess:
  decode: {{name: RCNNBox, prior_box_var: [30.0, 30.0, 15.0, 15.0]}}
"""


@pytest.fixture(scope="module")
def configurations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    cascade = tmp_path_factory.mktemp("detectors") / "cascade.yml"
    cascade.write_text(CASCADE.format(base=FASTER), encoding="utf-8")
    return {"faster": FASTER, "cascade": cascade}


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plates(tmp_path_factory.mktemp("data") / "plates", {"new": (CLASSES, 4)})["new"]


def prepared(detector: Path, plates: Path) -> tuple[paddle.Model, Any, Any]:
    """Return a model from the same seed each time, and its loaders."""
    paddle.seed(0)
    np.random.seed(0)
    network = Detector.build(detector, len(CLASSES))
    train, inputs = loader(detector, plates, plates.parent, len(CLASSES), training=True, batch_size=2)
    val, evaluated = loader(detector, plates, plates.parent, len(CLASSES), training=False, batch_size=2)
    model = paddle.Model(network, inputs=network.takes(inputs, evaluated))
    optimizer = paddle.optimizer.AdamW(1e-3, parameters=network.parameters())
    model.prepare(optimizer, network.losses, CocoMap(plates, CLASSES))
    return model, train, val


class Losses(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
    """Each step's loss; raises as the step begins that it is told."""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        self.seen: list[float] = []
        self._fail_at = fail_at

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        if len(self.seen) == self._fail_at:
            raise Interrupted

    def on_train_batch_end(self, step: int, logs: Any = None) -> None:
        self.seen.append(logs["loss"][0])


@pytest.mark.parametrize("name", ["faster", "cascade"])
def test_each_part_is_trained_through_fit_and_boxes_are_evaluated(
    configurations: dict[str, Path], plates: Path, name: str
) -> None:
    model, train, val = prepared(configurations[name], plates)
    before = {key: tensor.numpy() for key, tensor in model.network.state_dict().items()}
    losses = Losses()
    model.fit(train, val, epochs=2, verbose=0, callbacks=[losses])
    assert len(losses.seen) == 4
    assert np.isfinite(losses.seen).all()
    after = model.network.state_dict()
    for part in ("backbone.", "neck.", "rpn_head.", "bbox_head."):
        moved = [n for n in before if n.startswith(part) and not np.array_equal(before[n], after[n].numpy())]
        assert moved, part
    (metric,) = model._metrics
    assert metric.last is not None
    assert set(metric.last.by_image) == {1, 2, 3, 4}


def test_the_loss_is_ppdets_own_for_boxes_in_lists(tmp_path: Path) -> None:
    files = write_plates(tmp_path / "plates", {"new": (CLASSES, 12)})
    model, train, _ = prepared(FASTER, files["new"])
    network = model.network
    mask = network.inputs[True].index("pad_gt_mask")
    batch = next(batch for _ in range(20) for batch in train if not batch[mask].all())
    fields = dict(zip(network.inputs[True], batch))
    counts = [int(count) for count in batch[mask].sum(axis=[1, 2])]
    network.train()
    before = {key: tensor.numpy() for key, tensor in network.state_dict().items()}
    paddle.seed(1)
    (ours,) = network(*batch)
    network.set_state_dict({key: paddle.to_tensor(array) for key, array in before.items()})
    for name in ("gt_bbox", "gt_class", "is_crowd"):
        fields[name] = [table[:count] for table, count in zip(fields[name], counts)]
    fields["gt_class"] = [table.astype("int64") for table in fields["gt_class"]]
    (official,) = network._ppdet
    paddle.seed(1)
    assert float(ours) == float(official(fields)["loss"]) > 0


def test_without_help_ppdet_cannot_join_its_counts(plates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, train, val = prepared(FASTER, plates)
    batch = next(iter(train))
    model.network(*batch)
    for name in two_stage._JOINING:
        monkeypatch.setattr(importlib.import_module(f"ppdet.modeling.{name}"), "paddle", paddle)
    with pytest.raises(ValueError, match=r"0-D|rank|dimension"):
        model.network(*batch)
    model.network.eval()
    with pytest.raises(ValueError, match=r"0-D|rank|dimension"):
        model.network(*next(iter(val)))


def test_masks_are_refused_by_name() -> None:
    class MaskRCNN(paddle.nn.Layer):  # type: ignore[misc]  # Paddle is untyped
        def __init__(self) -> None:
            super().__init__()
            self.mask_head = paddle.nn.Linear(1, 1)

    with pytest.raises(InvalidArgumentError, match=r"(?s)masks.*MaskRCNN with a Linear.*leave mask_head out"):
        Detector(MaskRCNN())


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(plates: Path, tmp_path: Path) -> None:
    def run(folder: Path, losses: Losses) -> list[float]:
        model, train, val = prepared(FASTER, plates)
        callbacks = [
            WarmStartCallback(run_dir=folder, resume_from="latest"),
            losses,
            PeriodicCheckpoint(folder, save=EveryNSteps(1)),
        ]
        model.fit(train, val, epochs=2, verbose=0, callbacks=callbacks)
        return losses.seen

    whole = run(tmp_path / "whole", Losses())
    with pytest.raises(Interrupted):
        run(tmp_path / "resumed", Losses(fail_at=3))
    assert run(tmp_path / "resumed", Losses()) == whole[3:]
    ends = [CheckpointStore(tmp_path / name).latest_verified() for name in ("whole", "resumed")]
    weights = [
        {name: array.tobytes() for name, array in end.read_model().items()} for end in ends if end is not None
    ]
    assert len(weights) == 2
    assert weights[0] == weights[1]


def test_each_class_takes_its_score_and_its_four_box_columns_along(tmp_path: Path) -> None:
    paddle.seed(0)
    source = Detector.build(FASTER, len(OLD_CLASSES))
    paddle.save(source.state_dict(), str(tmp_path / "old.pdparams"))
    seen = paddle.randn([5, 256])
    scores, boxes = source.bbox_head.bbox_score(seen).numpy(), source.bbox_head.bbox_delta(seen).numpy()
    background = scores[:, -1]
    place = [CLASSES.index(name) for name in OLD_CLASSES]
    assert place != [0, 1, 2]
    for transplanted in (True, False):
        paddle.seed(1)
        grown = Detector.build(FASTER, len(CLASSES))
        head = head_transplant(grown, OLD_CLASSES, CLASSES) if transplanted else None
        warm_start(grown, open_source(str(tmp_path / "old.pdparams")).tensors, description="old", head=head)
        now = grown.bbox_head.bbox_score(seen).numpy()
        of_old = grown.bbox_head.bbox_delta(seen).numpy().reshape([5, len(CLASSES), 4])[:, place]
        same = [
            np.allclose(now[:, place], scores[:, :-1], atol=1e-6),
            np.allclose(now[:, -1], background, atol=1e-6),
            np.allclose(of_old.reshape([5, -1]), boxes, atol=1e-6),
        ]
        assert same == [transplanted] * 3
