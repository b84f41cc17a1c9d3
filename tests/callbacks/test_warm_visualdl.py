"""What VisualDL shows of a fit, straight through and resumed: the same curves, no step twice, and the texts."""

from __future__ import annotations

import builtins
import errno
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_warm_callbacks import (
    CheckpointStore,
    EveryNEpochs,
    EveryNSteps,
    InvalidArgumentError,
    PeriodicCheckpoint,
    Stage,
    StagedUnfreeze,
    WarmLRScaler,
    WarmStartCallback,
    WarmVisualDL,
)
from paddle_warm_callbacks.hapi.callback import FitCallback
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from tests.callbacks.runs import STEPS, Interrupted, Losses, Points, fit, model

visualdl = pytest.importorskip("visualdl")
FILE = "vdlrecords.run.log"
TIMES = ("checkpoint/seconds", "throughput/")


def records(directory: Path) -> list[tuple[str, int, Any]]:
    """Return (tag, step, value) of every line, but what is a time."""
    read = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [(r["tag"], r["step"], r["value"]) for r in read if not r["tag"].startswith(TIMES)]


def curves(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """Return tag to points, as VisualDL's reader gives them, but what is a time."""
    reader = visualdl.LogReader(file_path=str(directory / FILE))
    tags = [tag.replace("%", "/") for tag in reader.get_tags().get("scalar", [])]
    return {
        tag: [(point.id, point.value) for point in reader.get_data("scalar", tag)]
        for tag in tags
        if not tag.startswith(TIMES)
    }


def callbacks(directory: Path, save: Any = None, **options: Any) -> list[Any]:
    return [
        WarmStartCallback(run_dir=directory / "run", resume_from="latest"),
        WarmLRScaler(0.5, groups={"fc": 1.0, "body": 0.1}),
        StagedUnfreeze([Stage(0, "fc"), Stage(2, ".*", lr_factor=0.5)]),
        PeriodicCheckpoint(directory / "run", save=EveryNSteps(2) if save is None else save),
        WarmVisualDL(directory / "vdl", log_freq=1, **options),
    ]


def test_the_curves_are_what_was_trained_with(tmp_path: Path) -> None:
    losses = Losses()
    fit(model(), *callbacks(tmp_path), losses, eval_data=Points(), epochs=3)
    found = curves(tmp_path / "vdl")
    expected = [(e * STEPS + s + 1, loss[0]) for (e, s), (loss, _) in sorted(losses.seen.items())]
    assert found["train/loss"] == pytest.approx([pytest.approx(point) for point in expected])
    assert [step for step, _ in found["eval/acc"]] == [STEPS, 2 * STEPS, 3 * STEPS]
    assert found["epoch/eval_acc"] == [(1 + n, value) for n, (_, value) in enumerate(found["eval/acc"])]
    at_ends = [(1 + n, found["train/loss"][(n + 1) * STEPS - 1][1]) for n in range(3)]
    assert found["epoch/train_loss"] == at_ends
    # StepDecay(0.05, 2) steps after each batch; the point of a step is the rate of the step after it, as get_lr says.
    assert {step for step, _ in found["lr/fc"]} == set(range(1, 3 * STEPS + 1))
    assert [value for _, value in found["lr/body"]][: 2 * STEPS - 1] == [0.0] * (2 * STEPS - 1)
    assert found["lr/body"][-1][1] == pytest.approx(found["lr/fc"][-1][1] * 0.1)
    assert [value for _, value in found["stage/index"]] == [0.0] * 2 * STEPS + [1.0] * STEPS
    assert found["stage/trainable_share"][0][1] == pytest.approx(18 / 38)
    sizes = found["checkpoint/bytes"]
    assert [step for step, _ in sizes][:3] == [2, 4, 6]
    assert all(value > 100 for _, value in sizes)


@pytest.mark.parametrize("after", [(0, 1), (1, 0), (1, 2), (2, 1)])
@pytest.mark.parametrize("save", [EveryNSteps(2), EveryNEpochs(1)], ids=["by step", "by epoch"])
def test_a_resumed_run_has_the_curves_of_an_uninterrupted_one(
    tmp_path: Path, after: tuple[int, int], save: Any
) -> None:
    fit(model(), *callbacks(tmp_path / "straight", save), eval_data=Points(), epochs=3)
    with pytest.raises(Interrupted):
        fit(model(), *callbacks(tmp_path / "cut", save), Losses(after), eval_data=Points(), epochs=3)
    fit(model(), *callbacks(tmp_path / "cut", save), eval_data=Points(), epochs=3)
    assert without_checkpoints(curves(tmp_path / "cut" / "vdl")) == without_checkpoints(
        curves(tmp_path / "straight" / "vdl")
    )
    cut = [record for record in records(tmp_path / "cut" / "vdl") if is_curve(record[0])]
    straight = [record for record in records(tmp_path / "straight" / "vdl") if is_curve(record[0])]
    assert sorted(cut) == sorted(straight)


def is_curve(tag: str) -> bool:
    return not tag.startswith(("checkpoint/", "start/", "hparams"))


def without_checkpoints(found: dict[str, Any]) -> dict[str, Any]:
    return {tag: points for tag, points in found.items() if is_curve(tag)}


SCRIPT = """
import sys
from pathlib import Path
from tests.callbacks.runs import Points, fit, model
from tests.callbacks.test_warm_visualdl import callbacks, Killer
fit(model(), *callbacks(Path(sys.argv[1])), *([Killer(int(sys.argv[2]))] if sys.argv[2:] else []),
    eval_data=Points(), epochs=3)
"""


class Killer(Losses):
    """Kills its own process at the beginning of a step, counted from the process' first."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        self.left -= 1
        if self.left < 0:
            time.sleep(0.5)  # the checkpoint before is committed, and may be all that is on disk
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_run_killed_twice_is_one_curve(tmp_path: Path) -> None:
    def run(directory: Path, *kill_at: str) -> int:
        command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(directory), *kill_at]
        return subprocess.run(command, check=False, capture_output=True).returncode

    assert run(tmp_path / "straight") == 0
    assert run(tmp_path / "cut", "5") == -9
    assert run(tmp_path / "cut", "3") == -9
    assert run(tmp_path / "cut") == 0
    found = without_checkpoints(curves(tmp_path / "cut" / "vdl"))
    assert found == without_checkpoints(curves(tmp_path / "straight" / "vdl"))
    assert [step for step, _ in found["train/loss"]] == list(range(1, 3 * STEPS + 1))
    cut, straight = (
        sorted(record for record in records(tmp_path / name / "vdl") if is_curve(record[0]))
        for name in ("cut", "straight")
    )
    assert cut == straight


def test_the_report_and_the_stages_are_texts_of_each_start(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fit(model(), *callbacks(tmp_path), Losses((1, 1)), epochs=3)
    fit(model(), *callbacks(tmp_path), epochs=3)
    texts = {(tag, step): value for tag, step, value in records(tmp_path / "vdl") if tag.startswith("start/")}
    assert texts["start/report", 0].startswith("cold start")
    assert "resumed" in texts["start/report", 4]
    assert "1 of" in texts["start/stages", 0] or "2 of 4" in texts["start/stages", 0]


def test_a_run_that_starts_anew_replaces_the_logs(tmp_path: Path) -> None:
    for _ in range(2):
        fit(model(), WarmVisualDL(tmp_path, log_freq=1), epochs=1)
    assert [step for step, _ in curves(tmp_path)["train/loss"]] == list(range(1, STEPS + 1))


def test_every_log_freq_th_step_is_logged_by_its_number_in_the_run(tmp_path: Path) -> None:
    fit(model(), WarmVisualDL(tmp_path, log_freq=2), epochs=3)
    assert [step for step, _ in curves(tmp_path)["train/loss"]] == [2, 4, 6, 8]


class Pictures(FitCallback):
    """Put a picture on the board after each epoch, its red the number of epochs done."""

    order = 60

    def epoch_completed(self, loop: FitLoop, logs: dict[str, Any], eval_logs: dict[str, Any] | None) -> None:
        picture = np.full((2, 2, 3), loop.progress.epoch, dtype="uint8")
        loop.board.pictures.append(("eval/sample", loop.progress.global_step, picture))


def test_pictures_on_the_board_are_shown_once_each_after_a_resume_too(tmp_path: Path) -> None:
    for epochs in (2, 4):
        fit(model(), *callbacks(tmp_path), Pictures(), epochs=epochs)
    reader = visualdl.LogReader(file_path=str(tmp_path / "vdl" / FILE))
    found = reader.get_data("image", "eval/sample")
    assert [picture.id for picture in found] == [STEPS, 2 * STEPS, 3 * STEPS, 4 * STEPS]


def test_histograms_of_what_is_trained(tmp_path: Path) -> None:
    stages = StagedUnfreeze([Stage(0, "fc")])
    fit(model(), stages, WarmVisualDL(tmp_path, histograms=True), epochs=2)
    reader = visualdl.LogReader(file_path=str(tmp_path / FILE))
    tags = {tag.replace("%", "/") for tag in reader.get_tags()["histogram"]}
    assert tags == {"parameters/fc.weight", "parameters/fc.bias"}
    assert [point.id for point in reader.get_data("histogram", "parameters/fc.bias")] == [STEPS, 2 * STEPS]


def test_without_visualdl_the_lines_are_written_and_it_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "visualdl":
            raise ImportError("No module named 'visualdl'")
        return whole(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with caplog.at_level(logging.WARNING, logger="paddle_warm_callbacks"):
        fit(model(), WarmVisualDL(tmp_path, log_freq=1), epochs=2)
    monkeypatch.undo()
    assert caplog.text.count("paddle-warm-callbacks[visualdl]") == 1
    assert [step for tag, step, _ in records(tmp_path) if tag == "train/loss"] == list(
        range(1, 2 * STEPS + 1)
    )
    assert not (tmp_path / FILE).exists()


def compared(log_dir: Path) -> list[dict[str, Any]]:
    """Return the runs as VisualDL's server gives them to its page of hyper-parameters."""
    from visualdl.reader.reader import LogReader
    from visualdl.server import lib

    # The reader keeps what other readers of the process have read.
    return [run for run in lib.get_hparam_list(LogReader(str(log_dir))) if str(log_dir) in run["name"]]


def test_runs_are_compared_by_settings_and_last_metrics(tmp_path: Path) -> None:
    for name, factor in (("low", 0.1), ("high", 0.5)):
        board = WarmVisualDL(tmp_path / name, hparams={"augmentation": "flips"})
        fit(model(), WarmLRScaler(factor), board, eval_data=Points(), epochs=2)
    runs = {Path(run["name"]).name: run for run in compared(tmp_path)}
    assert set(runs) == {"low", "high"}
    settings = runs["low"]["hparams"]
    assert settings.pop("lr_factor") == pytest.approx(0.1)
    assert settings.pop("learning_rate") == pytest.approx(0.05)
    assert settings == {
        "optimizer": "Adam",
        "epochs": 2,
        "accumulate": 1,
        "batch_size": 4,
        "warmup_steps": 0,
        "augmentation": "flips",
    }
    last = curves(tmp_path / "low")
    assert runs["low"]["metrics"] == {tag: last[tag][-1][1] for tag in ("eval/loss", "eval/acc")}


def test_a_resumed_run_has_the_settings_of_its_last_process_and_once(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fit(model(), *callbacks(tmp_path), Losses((1, 1)), epochs=3)
    fit(model(), *callbacks(tmp_path), epochs=5)
    (run,) = compared(tmp_path / "vdl")
    assert run["hparams"]["epochs"] == 5
    assert set(run["metrics"]) == {"train/loss", "train/acc"}
    assert [tag for tag, _, _ in records(tmp_path / "vdl")].count("hparams") == 1


def test_the_gradients_norm_is_a_curve_of_its_own_and_survives_a_restart(tmp_path: Path) -> None:
    def watched(directory: Path) -> list[Any]:
        return callbacks(directory, gradient_norm=True)

    fit(model(), *watched(tmp_path / "straight"), epochs=3)
    with pytest.raises(Interrupted):
        fit(model(), *watched(tmp_path / "cut"), Losses((1, 1)), epochs=3)
    fit(model(), *watched(tmp_path / "cut"), epochs=3)
    found = curves(tmp_path / "straight" / "vdl")["train/gradient_norm"]
    assert [step for step, _ in found] == list(range(1, 3 * STEPS + 1))
    assert all(value > 0 for _, value in found)
    assert found == curves(tmp_path / "cut" / "vdl")["train/gradient_norm"]
    fit(model(), *callbacks(tmp_path / "without"), epochs=1)
    assert "train/gradient_norm" not in curves(tmp_path / "without" / "vdl")


def test_an_accumulation_windows_norm_is_logged_at_its_end(tmp_path: Path) -> None:
    board = WarmVisualDL(tmp_path, log_freq=2, gradient_norm=True)
    fit(model(), board, epochs=2, accumulate_grad_batches=3)
    assert [step for step, _ in curves(tmp_path)["train/gradient_norm"]] == [3, 6]


def test_the_mirrors_lag_is_shown(tmp_path: Path) -> None:
    saver = PeriodicCheckpoint(tmp_path / "run", mirror=f"memory://{tmp_path}/mirror")
    fit(model(), saver, WarmVisualDL(tmp_path / "vdl"), epochs=1)
    reader = visualdl.LogReader(file_path=str(tmp_path / "vdl" / FILE))
    (point,) = reader.get_data("scalar", "checkpoint/seconds_to_mirror")
    assert point.id == STEPS
    assert point.value > 0


def test_texts_of_the_user_stand_beside_ours_and_keep_their_lines_apart(tmp_path: Path) -> None:
    board = WarmVisualDL(tmp_path, texts={"config": "lr:    0.1\n\nepochs:  3\n"})
    fit(model(), WarmStartCallback(), StagedUnfreeze([Stage(0, "fc")]), board, epochs=1)
    reader = visualdl.LogReader(file_path=str(tmp_path / FILE))
    texts = {
        tag.replace("%", "/"): reader.get_data("text", tag)[0].text.encoded_text_string
        for tag in reader.get_tags()["text"]
    }
    assert texts["config"] == "lr: | 0.1 ¶ epochs: | 3"
    assert "¶ 0 | fc | 2 of 4 |" in texts["start/stages"]
    assert ("config", 0, "lr:    0.1\n\nepochs:  3\n") in records(tmp_path)


def test_the_lineage_names_the_checkpoint_that_was_started_from(tmp_path: Path) -> None:
    fit(model(), PeriodicCheckpoint(tmp_path / "old"), epochs=1)
    fit(model(), WarmStartCallback(str(tmp_path / "old")), WarmVisualDL(tmp_path / "vdl"), epochs=1)
    newest = CheckpointStore(str(tmp_path / "old")).latest_verified()
    assert newest is not None
    (lineage,) = [value for tag, _, value in records(tmp_path / "vdl") if tag == "start/lineage"]
    assert newest.digest in lineage
    assert str(tmp_path / "old") in lineage


@pytest.mark.parametrize(
    "wrong",
    [
        {"log_dir": ""},
        {"log_dir": 3},
        {"log_dir": "x", "log_freq": 0},
        {"log_dir": "x", "hparams": {"sizes": [1]}},
        {"log_dir": "x", "hparams": 3},
        {"log_dir": "x", "texts": {"config": 3}},
    ],
)
def test_wrong_arguments_are_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        WarmVisualDL(**wrong)


def test_a_place_where_no_logs_can_be_is_told_with_what_is_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for given in (tmp_path / "file", tmp_path / "file" / "vdl"):
        with pytest.raises(InvalidArgumentError, match="a file is where the directory would be") as caught:
            WarmVisualDL(given)
        assert caught.value.remedy == f"{tmp_path / 'file'} is a file: name another directory"
    board = WarmVisualDL(tmp_path / "vdl")

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(InvalidArgumentError, match="the logs cannot be written there") as caught:
        fit(model(), board, epochs=1)
    assert "No space left on device" in caught.value.received
