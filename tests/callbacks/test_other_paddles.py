"""A run that another version of Paddle began goes on, and says so."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import paddle
import pytest

from paddle_warm_callbacks import (
    Checkpoint,
    CheckpointStore,
    EveryNSteps,
    PeriodicCheckpoint,
    WarmStartCallback,
)
from paddle_warm_callbacks.checkpoint.manifest import SHARDS_VERSION, VERSION
from tests.callbacks.other_paddles import write
from tests.callbacks.runs import STEPS, Interrupted, Losses, bits, fit, model

VERSIONS = ("2.6.2", "3.0.0", "3.3.1")
OF_BOTH_LAYOUTS = (*VERSIONS, *(f"{version}-shards" for version in VERSIONS))


def test_there_is_a_checkpoint_of_every_version_of_the_format() -> None:
    found = Path(write.__file__).parent.glob("*/checkpoints/*")
    versions = {Checkpoint(path).manifest.version for path in found}
    assert versions == set(range(1, max(VERSION, SHARDS_VERSION) + 1))


@pytest.fixture
def run_dir(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return a copy of the run that the version parametrized wrote."""
    shutil.copytree(Path(write.__file__).with_name(f"paddle-{request.param}"), tmp_path / "run")
    return tmp_path / "run"


def callbacks(directory: Path) -> list[Any]:
    return [
        WarmStartCallback(run_dir=directory, resume_from="latest"),
        PeriodicCheckpoint(directory, save=EveryNSteps(1)),
    ]


@pytest.mark.parametrize("run_dir", OF_BOTH_LAYOUTS, indirect=True)
def test_it_goes_on_at_the_next_step_and_the_report_names_both_versions(run_dir: Path) -> None:
    saved = CheckpointStore(run_dir).latest_verified()
    assert saved is not None
    version = saved.manifest.writer["paddle"]
    start, saver = callbacks(run_dir)
    losses = Losses()
    fit(model(seed=9), start, saver, losses, epochs=3)
    assert sorted(losses.seen) == [(1, 1), (1, 2), *((2, step) for step in range(STEPS))]
    assert start.report is not None
    said = f"paddle: {version} when saved, {paddle.__version__} now (goes on, but"
    assert (said in start.report.to_text()) == (version != paddle.__version__)


@pytest.mark.parametrize("run_dir", OF_BOTH_LAYOUTS, indirect=True)
def test_once_taken_over_it_can_be_killed_and_resumed_to_the_bit(run_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir, tmp_path / "cut")
    straight, resumed = model(seed=9), model(seed=8)
    fit(straight, *callbacks(run_dir), epochs=3)
    with pytest.raises(Interrupted):
        fit(model(seed=9), *callbacks(tmp_path / "cut"), Losses(fail_after=(2, 0)), epochs=3)
    fit(resumed, *callbacks(tmp_path / "cut"), epochs=3)
    assert bits(resumed) == bits(straight)


@pytest.mark.parametrize("run_dir", VERSIONS, indirect=True)
def test_paddle_reads_the_files_of_each_version_without_us(run_dir: Path) -> None:
    saved = CheckpointStore(run_dir).latest_verified()
    assert saved is not None
    prefix = str(Path(saved.path) / "model")
    expected = {name: array.tobytes() for name, array in saved.read_model().items()}
    weights = paddle.load(f"{prefix}.pdparams", return_numpy=True)
    assert {name: array.tobytes() for name, array in weights.items()} == expected
    moments = {name: a.tobytes() for name, a in saved.read_optimizer().items() if hasattr(a, "tobytes")}
    optimizer = paddle.load(f"{prefix}.pdopt", return_numpy=True)
    assert {name: optimizer[name].tobytes() for name in moments} == moments
    assert optimizer["LR_Scheduler"] == saved.read_optimizer()["LR_Scheduler"]
    fresh = model(seed=9)
    assert bits(fresh) != expected
    fresh.load(prefix, reset_optimizer=True)
    assert bits(fresh) == expected


@pytest.mark.parametrize("run_dir", OF_BOTH_LAYOUTS, indirect=True)
def test_a_warm_start_from_it_has_every_tensor_and_says_who_wrote_it(run_dir: Path) -> None:
    saved = CheckpointStore(run_dir).latest_verified()
    assert saved is not None
    start = WarmStartCallback(str(run_dir))
    trained = model(seed=9)

    class Start(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
        def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
            if step == 0:
                found.append(bits(self.model))

    found: list[dict[str, bytes]] = []
    fit(trained, start, Start(), epochs=1)
    assert found[0] == {name: array.tobytes() for name, array in saved.read_model().items()}
    version = saved.manifest.writer["paddle"]
    assert start.report is not None
    said = f"written by Paddle {version}, read by {paddle.__version__}"
    assert (said in start.report.to_text()) == (version != paddle.__version__)
