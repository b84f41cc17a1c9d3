"""A detector of PaddleDetection (``ppdet``) as ``paddle.Model.fit`` wants its networks; built from its YAML."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paddle

from paddle_warm_callbacks.errors import InvalidArgumentError, WarmCallbacksError
from recipes.detection.two_stage import as_lists, is_two_stage, let_numbers_be_joined, require_boxes_only

OWN = Path(__file__).with_name("detectors")
# What networks of the suite read of a batch; the rest of it is for the readers themselves.
_READ = ("image", "im_id", "im_shape", "scale_factor", "gt_bbox", "gt_class", "is_crowd", "pad_gt_mask")


def require_ppdet() -> None:
    """Raise WarmCallbacksError if PaddleDetection is not installed."""
    if importlib.util.find_spec("ppdet") is None:
        raise WarmCallbacksError(
            "PaddleDetection is not installed",
            expected="the Python package ppdet",
            remedy="pip install --no-deps paddledet==2.6.0, or have your checkout on PYTHONPATH; see the README",
        )


def detector_file(name: str) -> Path:
    """Return the configuration file of a detector: one of ours by name, or the path of yours.

    Raises:
        InvalidArgumentError: It is neither.
    """
    own = {file.stem: file for file in sorted(OWN.glob("*.yml"))}
    file = own.get(name, Path(name))
    if not file.is_file():
        raise InvalidArgumentError(
            "no such detector",
            where="model.detector",
            received=name,
            expected=f"{', '.join(own)}, or the path of a PaddleDetection configuration",
        )
    return file


@contextmanager
def configuration(file: Path, num_classes: int) -> Iterator[Any]:
    """Load a PaddleDetection configuration for ``num_classes`` classes; afterwards ppdet's is as it was before.

    ppdet has one configuration a process, and each file loaded is merged into what files before have left there.
    """
    from ppdet.core import workspace
    from ppdet.core.config.schema import SchemaDict

    shared = workspace.global_config
    before = {
        key: (value, dict(value) if isinstance(value, SchemaDict) else None) for key, value in shared.items()
    }

    def clear() -> None:
        for key, value in list(shared.items()):
            if isinstance(value, SchemaDict):
                value.clear()
            else:
                del shared[key]

    clear()
    try:
        workspace.load_config(str(file))
        shared["num_classes"] = num_classes
        shared["eval_size"] = None  # heads would keep anchors of this size, whatever the images' is
        yield shared
    finally:
        clear()
        for key, (value, content) in before.items():
            shared[key] = value
            if content is not None:
                value.update(content)


class Detector(paddle.nn.Layer):  # type: ignore[misc]  # Paddle is untyped
    """Take a batch as separate tensors, and return losses in training and boxes in evaluation.

    The parts of ppdet's network are this layer's own, so each structured name is what PaddleDetection calls it.

    Args:
        network: Built by ppdet.

    Raises:
        InvalidArgumentError: It predicts masks too.

    Attributes:
        epoch: The epoch that training is in, from 0; some detectors assign boxes in another way in the first ones.
        inputs: Names of what ``forward`` takes, by whether it is training; set by :meth:`takes`.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        require_boxes_only(network)
        for name, part in network.named_children():
            self.add_sublayer(name, part)
        assert not network.parameters(include_sublayers=False), "ppdet keeps parameters in parts"
        self._ppdet = (network,)  # in a tuple Paddle does not take it for a part, which would be there twice
        self._two_stage = is_two_stage(network)
        if self._two_stage:
            let_numbers_be_joined()
        self.epoch = 0
        self.inputs: dict[bool, tuple[str, ...]] = {}

    @classmethod
    def build(cls, file: Path, num_classes: int) -> Detector:
        """Return the detector of a configuration file."""
        from ppdet import modeling  # noqa: F401  # registers what configurations name
        from ppdet.core.workspace import create

        with configuration(file, num_classes) as config:
            return cls(create(config.architecture))

    def takes(self, training: Sequence[str], evaluation: Sequence[str]) -> list[Any]:
        """Say which fields of a batch come in which order; return as many specifications for ``paddle.Model``."""
        self.inputs = {True: tuple(training), False: tuple(evaluation)}
        count = max(len(training), len(evaluation))
        return [paddle.static.InputSpec([None], name=f"input{number}") for number in range(count)]

    def forward(self, *tensors: Any) -> list[Any]:
        """Return ``[loss]`` in training, else ``[boxes, counts, im_id]``.

        Returns:
            boxes: float32 [images, most boxes of an image, 6]: class, score, x1, y1, x2, y2 in pixels of the file;
                -1 beyond an image's own.
            counts: int32 [images].
        """
        (network,) = self._ppdet
        network.training = self.training
        batch = dict(zip(self.inputs[self.training], tensors))
        batch["epoch_id"] = self.epoch
        # Assigners of ppdet compare with int64 only, and its readers make int32.
        if "gt_class" in batch:
            batch["gt_class"] = batch["gt_class"].astype("int64")
            if self._two_stage:
                batch = as_lists(batch)
        found = network(batch)
        if self.training:
            return [found["loss"].reshape([])]
        return [_padded(found["bbox"], found["bbox_num"]), found["bbox_num"], batch["im_id"]]

    def losses(self, *outputs: Any) -> list[Any]:
        """Return the loss that ``forward`` has computed; ppdet computes none in evaluation."""
        return list(outputs) if self.training else []


def _padded(boxes: Any, counts: Any) -> Any:
    """Return boxes of all images, one after the other, as one table an image."""
    per_image = [int(count) for count in counts]
    tables = paddle.full([len(per_image), max(1, *per_image), 6], -1.0)
    start = 0
    for number, count in enumerate(per_image):
        if count:
            tables[number, :count] = boxes[start : start + count]
        start += count
    return tables


def fields(batch: dict[str, Any]) -> list[str]:
    """Return which fields of a collated batch are for the network, in a fixed order."""
    targets = sorted(name for name in batch if name.startswith("target"))
    return [name for name in _READ if name in batch] + targets


def reader_settings(file: Path, num_classes: int, *, training: bool) -> dict[str, Any]:
    """Return the ``TrainReader`` or ``EvalReader`` of a configuration, as plain values."""
    with configuration(file, num_classes) as config:
        settings: dict[str, Any] = copy.deepcopy(dict(config["TrainReader" if training else "EvalReader"]))
    return settings
