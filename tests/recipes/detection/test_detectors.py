"""PaddleDetection's own networks in the recipe's hands: adapter, metric, transplant, export. Needs ppdet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks.checkpoint.source import open_source
from paddle_warm_callbacks.hapi.warm_start import warm_start
from recipes.detection.coco_map import CocoMap
from recipes.detection.detector import Detector, configuration, detector_file
from recipes.detection.heads import head_transplant
from recipes.detection.loading import loader
from recipes.detection.plates import CLASSES, OLD_CLASSES, write_plates

pytest.importorskip("ppdet")

OWN = ("picodet_s", "ppyoloe_s", "yolov3_mobilenet_v1")
# NumPy's, about arrays of one element, which ppdet takes for numbers: why the recipe asks for numpy below 2.4.
pytestmark = [pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore::DeprecationWarning:ppdet")]


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("data") / "plates"
    return write_plates(folder, {"old": (OLD_CLASSES, 6), "new": (CLASSES, 6)})


def detector(name: str, classes: int, seed: int = 0) -> Detector:
    paddle.seed(seed)
    return Detector.build(detector_file(name), classes)


def evaluation(network: Detector, name: str, file: Path, classes: int) -> tuple[Any, paddle.Model]:
    data, inputs = loader(detector_file(name), file, file.parent, classes, training=False, batch_size=4)
    return data, paddle.Model(network, inputs=network.takes(inputs, inputs))


def evaluated(network: Detector, name: str, file: Path, metric: CocoMap) -> dict[str, float]:
    data, model = evaluation(network, name, file, len(CLASSES))
    model.prepare(metrics=metric)
    return {key: float(value) for key, value in model.evaluate(data, verbose=0).items()}


def shaken(network: Detector, seed: int = 0) -> Detector:
    """Give a new network features and classes that differ from place to place, as training would."""
    draw = np.random.default_rng(seed)
    for key, parameter in network.named_parameters():
        if len(parameter.shape) == 4 and not parameter.stop_gradient and "proj" not in key:
            spread = np.sqrt(2 / np.prod(parameter.shape[1:]))
            parameter.set_value(draw.normal(0, spread, parameter.shape).astype("float32"))
    return network


def seen_by(network: Detector, name: str, file: Path, labels: Sequence[str], into: Path) -> Path:
    """Write annotations of which ``network`` is right about the best three boxes of each image, and about no more.

    So even an untrained network has a mAP that is neither 0 nor 1.
    """
    metric = CocoMap(file, labels)
    evaluated(network, name, file, metric)
    assert metric.last is not None
    content = json.loads(file.read_text(encoding="utf-8"))
    number = {category["name"]: category["id"] for category in content["categories"]}
    content["annotations"] = []
    for image, boxes in metric.last.by_image.items():
        for kind, _, x1, y1, x2, y2 in boxes[np.argsort(-boxes[:, 1])][:9:3].tolist():
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": image,
                    "category_id": number[labels[int(kind)]],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    into.write_text(json.dumps(content), encoding="utf-8")
    return into


@pytest.mark.parametrize("name", OWN)
def test_names_are_paddledetections_and_the_same_again_after_another_build(name: str) -> None:
    from ppdet.core.workspace import create

    with configuration(detector_file(name), 3) as config:
        official = create(config.architecture)
    expected = {key: list(tensor.shape) for key, tensor in official.state_dict().items()}
    for _ in range(2):
        detector(name, 6)
        ours = detector(name, 3)
        assert {key: list(tensor.shape) for key, tensor in ours.state_dict().items()} == expected


@pytest.mark.parametrize("name", OWN)
def test_a_step_is_trained_through_fit_and_the_loss_is_ppdets(plates: dict[str, Path], name: str) -> None:
    network = detector(name, len(CLASSES))
    file = plates["new"]
    train, inputs = loader(detector_file(name), file, file.parent, len(CLASSES), training=True, batch_size=2)
    val, to_evaluate = loader(
        detector_file(name), file, file.parent, len(CLASSES), training=False, batch_size=4
    )
    model = paddle.Model(network, inputs=network.takes(inputs, to_evaluate))
    metric = CocoMap(file, CLASSES)
    optimizer = paddle.optimizer.AdamW(1e-3, parameters=network.parameters())
    model.prepare(optimizer, network.losses, metric)
    before = {key: tensor.numpy() for key, tensor in network.state_dict().items()}

    paddle.seed(1)
    batch = next(iter(train))
    network.train()
    (ours,) = network(*batch)
    (official,) = network._ppdet
    network.set_state_dict({key: paddle.to_tensor(array) for key, array in before.items()})
    fields = dict(zip(inputs, batch))
    if "gt_class" in fields:
        fields["gt_class"] = fields["gt_class"].astype("int64")
    assert float(ours) == float(official({**fields, "epoch_id": 0})["loss"]) > 0

    network.set_state_dict({key: paddle.to_tensor(array) for key, array in before.items()})
    losses: list[float] = []

    class Losses(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
        def on_train_batch_end(self, step: int, logs: Any = None) -> None:
            losses.append(logs["loss"][0])

    model.fit(train, val, epochs=1, num_iters=1, verbose=0, callbacks=[Losses()])
    assert len(losses) == 1
    assert np.isfinite(losses).all()
    after = network.state_dict()
    for part in ("backbone.", "neck.", "head."):
        moved = [key for key in before if part in key and not np.array_equal(before[key], after[key].numpy())]
        assert moved, part


@pytest.mark.parametrize("name", OWN)
def test_old_classes_are_found_as_well_right_after_the_transplant_as_before(
    plates: dict[str, Path], tmp_path: Path, name: str
) -> None:
    source = shaken(detector(name, len(OLD_CLASSES)))
    paddle.save(source.state_dict(), str(tmp_path / "old.pdparams"))
    file = seen_by(source, name, plates["new"], OLD_CLASSES, plates["new"].with_name(f"{name}-seen.json"))
    groups = {"mAP_old": OLD_CLASSES}
    before = evaluated(source, name, file, CocoMap(file, OLD_CLASSES, groups))["mAP_old"]
    assert 0.05 < before < 0.95

    tensors = open_source(str(tmp_path / "old.pdparams")).tensors

    def found(seed: int, *, by_name: bool) -> float:
        grown = detector(name, len(CLASSES), seed)
        head = head_transplant(grown, OLD_CLASSES, CLASSES) if by_name else None
        report = warm_start(grown, tensors, description="old", head=head)
        assert bool(report.skipped) != by_name
        return evaluated(grown, name, file, CocoMap(file, CLASSES, groups))["mAP_old"]

    # Whatever the rows of the new classes happen to hold.
    assert [round(found(seed, by_name=True), 4) for seed in (1, 2, 3)] == [round(before, 4)] * 3
    assert found(1, by_name=False) < before - 0.05


@pytest.mark.parametrize("name", OWN)
def test_map_is_ppdets_own_for_each_of_its_outputs(
    plates: dict[str, Path], tmp_path: Path, name: str
) -> None:
    from ppdet.metrics import COCOMetric

    network = shaken(detector(name, len(CLASSES)))
    file = seen_by(network, name, plates["new"], CLASSES, plates["new"].with_name(f"{name}.json"))
    metric = CocoMap(file, CLASSES)
    ours = evaluated(network, name, file, metric)["mAP"]

    official = COCOMetric(str(file), output_eval=str(tmp_path))
    data, inputs = loader(detector_file(name), file, file.parent, len(CLASSES), training=False, batch_size=1)
    (ppdets,) = network._ppdet
    network.eval()
    ppdets.training = False
    for batch in data:
        fields = dict(zip(inputs, batch))
        official.update(fields, ppdets(fields))
    official.accumulate()
    assert 0.05 < ours < 1
    assert ours == pytest.approx(official.get_results()["bbox"][0], abs=1e-6)
