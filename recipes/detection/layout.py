"""A run in PaddleDetection's own layout, as its ``tools/eval.py`` and ``tools/export_model.py`` take it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle
from omegaconf import OmegaConf

from paddle_warm_callbacks import CheckpointStore
from paddle_warm_callbacks.errors import SourceError
from recipes.detection.detector import OWN, Detector, reader_settings
from recipes.detection.ema import EmaWeights, average_of, kept_average
from recipes.detection.loading import resized

WEIGHTS = "model_final"
_KEPT = "kept@"  # before the names of a checkpoint's kept arrays


@dataclass(frozen=True)
class Evaluated:
    """What the exported configuration evaluates on.

    Attributes:
        annotations: COCO annotation file.
        images: Folder that its file names are relative to.
        size: Height and width that images are resized to, in pixels; None: as the detector says.
        batch_size: Images.
    """

    annotations: Path
    images: Path
    size: int | None
    batch_size: int


def export(run_dir: Path, folder: Path, detector: Path, labels: Sequence[str], data: Evaluated) -> Path:
    """Write a run's newest checkpoint as PaddleDetection would have saved it, and a configuration to go with it.

    ``model_final.pdparams`` holds the weights to evaluate: where the run kept a moving average, that, and
    ``model_final.pdema`` what was trained, as PaddleDetection swaps them. Beside them are ``label_list.txt`` and
    ``model.yml``. There is no ``.pdopt``: the run itself is what can be resumed.

    Returns:
        The path of ``model_final.pdparams``.

    Raises:
        SourceError: The run has no checkpoint.
    """
    checkpoint = CheckpointStore(str(run_dir)).latest_verified()
    if checkpoint is None:
        raise SourceError("the run has no checkpoint to export", where=str(run_dir))
    network = Detector.build(detector, len(labels))
    network.set_state_dict({name: paddle.to_tensor(array) for name, array in checkpoint.read_model().items()})
    kept = checkpoint.read_extra().items()
    average = kept_average({name[len(_KEPT) :]: array for name, array in kept if name.startswith(_KEPT)})
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / f"{WEIGHTS}.pdparams"
    if average:
        counts = checkpoint.read_state()["callbacks"][EmaWeights.__name__]
        ema = average_of(network, average, counts)
        paddle.save(ema.apply(), str(weights))
        paddle.save(network.state_dict(), str(weights.with_suffix(".pdema")))
    else:
        paddle.save(network.state_dict(), str(weights))
    (folder / "label_list.txt").write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    (folder / "model.yml").write_text(_configuration(folder, detector, len(labels), data), encoding="utf-8")
    return weights


def _configuration(folder: Path, detector: Path, num_classes: int, data: Evaluated) -> str:
    """Return a configuration for ppdet's trainer that inherits the detector's."""
    base = str(detector.resolve())
    if detector.parent == OWN:
        shutil.copy(detector, folder)
        base = detector.name
    settings = reader_settings(detector, num_classes, training=False)
    transforms = resized(settings["sample_transforms"], data.size)
    steps = [step for transform in transforms for step in transform.values()]
    sizes = [step["target_size"] for step in steps if "target_size" in step]
    content: dict[str, Any] = {
        "_BASE_": [base],
        "metric": "COCO",
        "num_classes": num_classes,
        "eval_size": sizes[-1],
        "use_gpu": False,
        "log_iter": 20,
        "save_dir": "output",
        "weights": WEIGHTS,
        "worker_num": 0,
        "EvalReader": {"sample_transforms": transforms, "batch_size": data.batch_size},
        "TestReader": {
            "inputs_def": {"image_shape": [3, *sizes[-1]]},
            "sample_transforms": transforms,
            "batch_size": 1,
        },
    }
    annotations = str(data.annotations.resolve())
    sets = (
        f"EvalDataset: !COCODataSet {{dataset_dir: {_quoted(data.images.resolve())}, anno_path: {_quoted(annotations)},"
        " allow_empty: true}\n"
        f"TestDataset: !ImageFolder {{anno_path: {_quoted(annotations)}}}\n"
    )
    return OmegaConf.to_yaml(OmegaConf.create(content)) + sets


def _quoted(text: object) -> str:
    return "'" + str(text).replace("'", "''") + "'"
