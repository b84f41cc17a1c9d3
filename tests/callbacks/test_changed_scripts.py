"""A script that was changed between two runs: what is in force then is what the warning says, or it is refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import paddle
import pytest
from paddle import nn
from paddle.optimizer.lr import CosineAnnealingDecay

from paddle_warm_callbacks import (
    EveryNSteps,
    PeriodicCheckpoint,
    ResumeChangedError,
    WarmLRScaler,
    WarmStartCallback,
)
from tests.callbacks.runs import Interrupted, Losses, Points, bits, fit, interrupted_run, model, resumed

AT = (1, 0)
RATES: dict[str, tuple[Any, Any, str]] = {
    "float": (lambda: 0.05, lambda: 0.2, "learning_rate.value: 0.05 when saved, 0.2 now"),
    "schedule": (
        lambda: CosineAnnealingDecay(0.05, 7),
        lambda: CosineAnnealingDecay(0.05, 70),
        "learning_rate.T_max: 7 when saved, 70 now",
    ),
}


def made(
    rate: Any = 0.05, kind: str = "Momentum", amp: str = "O0", loss: Any = None, **optimizer: Any
) -> paddle.Model:
    paddle.seed(0)
    network = nn.Sequential(("body", nn.Linear(3, 5)), ("drop", nn.Dropout(0.3)), ("fc", nn.Linear(5, 3)))
    model = paddle.Model(network)
    model.prepare(
        getattr(paddle.optimizer, kind)(rate, parameters=network.parameters(), **optimizer),
        loss or nn.CrossEntropyLoss(),
        paddle.metric.Accuracy(),
        amp_configs=amp,
    )
    return model


def interrupt(model: paddle.Model, run_dir: Path, *callbacks: Any) -> None:
    with pytest.raises(Interrupted):
        fit(model, PeriodicCheckpoint(run_dir, save=EveryNSteps(1)), Losses(fail_after=AT), *callbacks)


def resume(model: paddle.Model, run_dir: Path, *callbacks: Any, **start: Any) -> WarmStartCallback:
    warm = WarmStartCallback(run_dir=run_dir, resume_from="latest", **start)
    fit(model, warm, *callbacks)
    return warm


def uninterrupted(model: paddle.Model, run_dir: Path, *callbacks: Any) -> dict[str, bytes]:
    """Train to the end, saving as the others do: on Paddle 2.6 a run with that draws otherwise than one without."""
    fit(model, PeriodicCheckpoint(run_dir, save=EveryNSteps(1)), *callbacks)
    return bits(model)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [r.getMessage() for r in caplog.records if "the script has changed" in r.getMessage()]
    assert all(r.levelno == logging.WARNING for r in caplog.records if r.getMessage() in found)
    caplog.clear()
    return found


class Uses(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
    """Another optimizer setting from a step on: what a run becomes whose script is changed there."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings, self.epoch = settings, -1

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        if (self.epoch, step) > AT:
            vars(self.model._optimizer).update(self.settings)


def test_an_unchanged_script_is_told_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for kind, (rate, _, _) in RATES.items():
        options = {"weight_decay": 0.1, "grad_clip": nn.ClipGradByNorm(1.0)}
        interrupt(made(rate(), **options), tmp_path / kind)
        resume(made(rate(), **options), tmp_path / kind, on_change="strict")
    assert said(caplog) == []


def test_another_setting_of_the_optimizer_is_in_force_and_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    interrupt(made(momentum=0.9), tmp_path / "run")
    continued = made(momentum=0.5)
    warm = resume(continued, tmp_path / "run")
    (warning,) = said(caplog)
    assert "optimizer.momentum: 0.9 when saved, 0.5 now (in force: from here on" in warning
    assert warm.report is not None
    assert any("optimizer.momentum" in note for note in warm.report.notes)
    expected = uninterrupted(made(momentum=0.9), tmp_path / "expected", Uses(_momentum=0.5))
    assert bits(continued) == expected
    assert bits(continued) != uninterrupted(made(momentum=0.9), tmp_path / "unchanged")


@pytest.mark.filterwarnings("ignore:.* can only be enabled")  # Paddle's, on a CPU
@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ({"weight_decay": 0.1}, {"weight_decay": 0.2}, "optimizer.weight_decay: 0.1 when saved, 0.2 now"),
        (
            {},
            {"grad_clip": nn.ClipGradByNorm(1.0)},
            "optimizer.grad_clip: None when saved, ClipGradByNorm(clip_norm=1)",
        ),
        ({}, {"use_nesterov": True}, "optimizer.use_nesterov: False when saved, True now"),
        ({}, {"amp": "O1"}, "amp.level: O0 when saved, O1 now"),
        ({}, {"loss": nn.CrossEntropyLoss(reduction="sum")}, "loss: CrossEntropyLoss("),
        ({"kind": "Adam"}, {"kind": "Adam", "beta2": 0.9}, "optimizer.beta2: 0.999 when saved, 0.9 now"),
    ],
)
def test_each_is_warned_of_or_refused_as_on_change_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, before: Any, after: Any, says: str
) -> None:
    interrupt(made(**before), tmp_path)
    with pytest.raises(ResumeChangedError) as caught:
        resume(made(**after), tmp_path, on_change="strict")
    assert says in str(caught.value)
    assert "on_change='raise' to go on" in caught.value.remedy
    assert said(caplog) == []
    for on_change in ("raise", "adapt"):
        losses = Losses()
        resume(made(**after), tmp_path, losses, on_change=on_change)
        (warning,) = said(caplog)
        assert says in warning
        assert "from here on training is not what it was before" in warning
        assert min(losses.seen) == (1, 1), "nothing is repeated: the position is as exact as ever"


@pytest.mark.parametrize("kind", RATES)
def test_another_learning_rate_is_not_in_force_and_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    before, after, says = RATES[kind]
    interrupt(made(before()), tmp_path / "run")
    continued = made(after())
    resume(continued, tmp_path / "run")
    whole = uninterrupted(made(before()), tmp_path / "whole")
    assert bits(continued) == whole, "the old rate goes on, to the bit"
    (warning,) = said(caplog)
    assert says in warning
    assert "not in force: the checkpoint's goes on" in warning
    with pytest.raises(ResumeChangedError, match=r"learning_rate\."):
        resume(made(after()), tmp_path / "run", on_change="strict")


@pytest.mark.parametrize("kind", RATES)
@pytest.mark.parametrize("choice", ["keep", "reconfigure", "extend"])
def test_the_scaler_that_the_warning_names_takes_the_scripts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, choice: str
) -> None:
    before, after, says = RATES[kind]
    interrupt(made(before()), tmp_path / "run", WarmLRScaler(1.0))
    taken = made(after())
    resume(taken, tmp_path / "run", WarmLRScaler(1.0, on_resume=choice))
    warnings = [warning for warning in said(caplog) if says in warning]
    kept = uninterrupted(made(before()), tmp_path / "kept")
    assert len(warnings) == 1
    if choice == "keep":
        assert "not in force" in warnings[0]
        assert bits(taken) == kept
    else:
        assert "(in force: from here on" in warnings[0]
        assert bits(taken) != kept


def test_another_batch_size_inside_an_epoch_is_refused(tmp_path: Path) -> None:
    interrupted_run(tmp_path)
    trained = model()
    with pytest.raises(ResumeChangedError, match="batch_size: 4 when saved, 6 now") as caught:
        trained.fit(Points(), batch_size=6, epochs=3, callbacks=[resumed(tmp_path)], verbose=0)
    assert "on_change" in caught.value.remedy


def test_another_batch_size_can_be_adapted_to(tmp_path: Path) -> None:
    interrupted_run(tmp_path)
    warm, losses = resumed(tmp_path, on_change="adapt"), Losses()
    model().fit(Points(), batch_size=6, epochs=3, callbacks=[warm, losses], verbose=0)
    assert sorted(losses.seen) == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert warm.report is not None
    assert len(warm.report.optimizer_restored) == 4
    assert any("begins again" in note for note in warm.report.notes)


def test_another_batch_size_at_an_epochs_boundary_is_harmless_and_said(tmp_path: Path) -> None:
    fit(model(), PeriodicCheckpoint(str(tmp_path)), epochs=1)
    warm, losses = resumed(tmp_path), Losses()
    model().fit(Points(), batch_size=6, epochs=2, callbacks=[warm, losses], verbose=0)
    assert sorted(losses.seen) == [(1, 0), (1, 1)]
    assert warm.report is not None
    assert any("batch_size: 4 when saved, 6 now (harmless)" in note for note in warm.report.notes)


@pytest.mark.parametrize("layout", ["native", "shards"])
def test_a_refused_network_is_told_by_the_tensors_that_changed(tmp_path: Path, layout: str) -> None:
    interrupted_run(tmp_path, layout=layout)
    with pytest.raises(ResumeChangedError) as caught:
        fit(model(classes=4), resumed(tmp_path))
    assert "fc.weight [5, 3] when saved, [5, 4] now; fc.bias [3] when saved, [4] now" in caught.value.received
    assert "body" not in caught.value.received
    assert "a new run_dir, from scratch" in caught.value.remedy


def test_another_network_is_refused_or_adapted_to(tmp_path: Path) -> None:
    interrupted_run(tmp_path)
    with pytest.raises(ResumeChangedError, match="network"):
        fit(model(classes=5), resumed(tmp_path))
    warm = resumed(tmp_path, on_change="adapt")
    fit(model(classes=5), warm)
    assert warm.report is not None
    assert dict(warm.report.skipped).keys() == {"fc.weight", "fc.bias"}
    assert set(dict(warm.report.optimizer_reset)) == {"fc.weight", "fc.bias"}
    assert set(warm.report.optimizer_restored) == {"body.weight", "body.bias"}
