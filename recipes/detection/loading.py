"""COCO-format data through PaddleDetection's own dataset, transforms and collation, in loaders for ``fit``."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from paddle.io import DataLoader

from recipes.detection.detector import fields, reader_settings


def loader(
    detector: Path,
    annotations: Path,
    images: Path,
    num_classes: int,
    *,
    training: bool,
    batch_size: int,
    size: int | None = None,
    limit: int | None = None,
    workers: int = 0,
) -> tuple[DataLoader, list[str]]:
    """Return a loader of lists of arrays, and what the arrays are.

    Args:
        detector: The configuration with the reader to use.
        annotations: Checked before.
        images: Folder that the file names in it are relative to.
        num_classes: Of the network.
        training: Whether to use the ``TrainReader``, shuffled, rather than the ``EvalReader``.
        batch_size: Images; the last batch of an epoch may be smaller.
        size: Height and width that images are resized to, in pixels; None: as the configuration says.
        limit: Images used of the file, at most; None: all.
        workers: Processes that load.
    """
    from ppdet.data.reader import BatchCompose, Compose
    from ppdet.data.source.coco import COCODataSet

    settings = reader_settings(detector, num_classes, training=training)
    dataset = COCODataSet(
        dataset_dir="",
        image_dir=str(images.resolve()),
        anno_path=str(annotations.resolve()),
        data_fields=["image", "gt_bbox", "gt_class", "is_crowd"] if training else ["image"],
        sample_num=-1 if limit is None else limit,
        allow_empty=not training,
    )
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        dataset.parse_dataset()
    dataset.set_transform(Compose(resized(settings["sample_transforms"], size), num_classes))
    epochs = {name: value for name, value in settings.items() if name.endswith("_epoch")}
    dataset.set_kwargs(**(epochs if training else {}))
    together = list(settings.get("batch_transforms") or [])
    if training and not settings.get("collate_batch", True):
        together.append({"PadGT": {}})  # a list of boxes, as two-stage detectors have them, cannot be batched
    collate = BatchCompose(resized(together, size), num_classes, True)
    names = fields(collate([dataset[0]]))
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=training,
        num_workers=workers,
        collate_fn=_AsList(collate, names),
        return_list=True,
    ), names


class _AsList:
    """Collate as ppdet does, into a list in the order of ``names``: of a dict, fit would sort the keys."""

    def __init__(self, collate: Any, names: Sequence[str]) -> None:
        self._collate = collate
        self._names = names

    def __call__(self, samples: list[Any]) -> list[Any]:
        batch = self._collate(samples)
        return [np.asarray(batch[name]) for name in self._names]


def resized(transforms: Sequence[dict[str, Any]], size: int | None) -> list[dict[str, Any]]:
    """Return the transforms with every size that they resize to replaced."""
    resized = []
    for transform in transforms:
        ((name, settings),) = transform.items()
        settings = dict(settings or {})
        if size is not None and "target_size" in settings:
            settings["target_size"] = [size, size]
        resized.append({name: settings})
    return resized
