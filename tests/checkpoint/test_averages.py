"""The moving average in checkpoints and files, made ready to evaluate with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_warm_callbacks.checkpoint import jsonvalue
from paddle_warm_callbacks.checkpoint.averages import corrected, open_average
from paddle_warm_callbacks.checkpoint.contents import CheckpointContents
from paddle_warm_callbacks.checkpoint.pdparams import write_pdparams
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.errors import SourceError

WEIGHTS = np.array([3.0, -2.0, 0.5], np.float32)


def after_updates(decay_type: str, decay: float, steps: int) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    """Return what ppdet's ModelEMA holds after updates with the same weights each time, by its own rule."""
    average, used = np.zeros(3), decay
    for step in range(steps):
        used = {
            "threshold": min(decay, (1 + step) / (10 + step)),
            "exponential": decay * (1 - np.exp(-(step + 1) / 2000)),
        }.get(decay_type, decay)
        average = used * average + (1 - used) * WEIGHTS
    counts = {"decay": decay, "decay_type": decay_type, "step": steps, "epoch": 1, "last_decay": float(used)}
    return average.astype(np.float32), counts


def commit(folder: Path, average: np.ndarray[Any, Any], counts: dict[str, Any]) -> None:
    CheckpointStore(folder).commit(
        CheckpointContents(
            {"fc.weight": np.zeros(3, np.float32)},
            extra={"kept@ema@fc.weight": average, "running": np.zeros(1)},
            state={"callbacks": {"EmaWeights": jsonvalue.encode(counts)}},
        )
    )


def test_of_weights_that_never_changed_the_average_is_the_weights(tmp_path: Path) -> None:
    average, counts = after_updates("normal", 0.9, 5)
    assert not np.allclose(average, WEIGHTS)  # the control: what is kept is short of them
    commit(tmp_path, average, counts)
    description, tensors = open_average(str(tmp_path))
    assert "step-" in description
    assert list(tensors) == ["fc.weight"]
    assert np.allclose(tensors["fc.weight"], WEIGHTS, rtol=1e-6)
    assert tensors["fc.weight"].dtype == np.float32


@pytest.mark.parametrize("decay_type", ["threshold", "exponential"])
def test_the_other_decays_are_corrected_as_ppdet_does(decay_type: str) -> None:
    average, counts = after_updates(decay_type, 0.9998, 7)
    share = 1 - counts["last_decay"] ** 7 if decay_type == "threshold" else 1.0
    assert np.allclose(corrected({"w": average}, counts)["w"], average / share, rtol=1e-6)


def test_before_the_first_update_and_of_integers_nothing_is_divided() -> None:
    counts = {"decay_type": "threshold", "step": 0, "last_decay": None}
    assert corrected({"w": WEIGHTS}, counts)["w"] is WEIGHTS
    counted = np.array([7])
    assert corrected({"n": counted}, {"decay_type": "normal", "step": 2, "last_decay": 0.5})["n"] is counted


@pytest.mark.parametrize("part", ["ema", "model_ema"])
def test_a_nested_files_part(tmp_path: Path, part: str) -> None:
    path = tmp_path / "nested.pdparams"
    with path.open("wb") as file:
        write_pdparams(file, {"model": {"w": np.zeros(3)}, part: {"w": WEIGHTS}})
    description, tensors = open_average(str(path))
    assert part in description
    assert np.array_equal(tensors["w"], WEIGHTS)


def test_without_one_it_is_said_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "plain.pdparams"
    with path.open("wb") as file:
        write_pdparams(file, {"w": WEIGHTS})
    with pytest.raises(SourceError, match="no part called ema, ema_state_dict"):
        open_average(str(path))
    CheckpointStore(tmp_path / "run").commit(CheckpointContents({"w": WEIGHTS}))
    with pytest.raises(SourceError, match="the checkpoint keeps no moving average"):
        open_average(str(tmp_path / "run"))
    with pytest.raises(SourceError, match="the source is not there"):
        open_average(str(tmp_path / "gone.pdparams"))
