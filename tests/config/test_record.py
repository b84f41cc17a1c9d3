"""A configuration stored with checkpoints, shown, and compared at a resume."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paddle
import pytest

from paddle_warm_callbacks import (
    CheckpointStore,
    PeriodicCheckpoint,
    from_config,
)
from paddle_warm_callbacks.config.building import Setup
from paddle_warm_callbacks.plan.config_changes import ANOTHER_RUN, BY_LR_ON_RESUME, NOT_OURS
from tests.callbacks.runs import Interrupted, Losses, Points, bits, fit, model
from tests.config.written import write

pytestmark = pytest.mark.usefixtures("inside")

SECRET = "s3cr3t-token"


RUN = """
training: {run_dir: runs/a, batch_size: 4, epochs: 3}
lr: {factor: 0.5, warmup_steps: 2}
unfreeze: {stages: [{from_epoch: 0, trainable: fc}, {from_epoch: 1, trainable: ".*"}]}
checkpoints: {save: {every_steps: 1}, keep: {latest: 20}}
visualdl: {log_freq: 1}
user: {augmentation: flips}
"""


def test_a_run_by_configuration_killed_and_resumed_equals_the_uninterrupted_one_to_the_bit() -> None:
    whole = model()
    fit(whole, *from_config(write(RUN), ["training.run_dir=runs/whole"]).callbacks)
    with pytest.raises(Interrupted):
        fit(model(), *from_config("config.yaml").callbacks, Losses(fail_after=(1, 1)))
    resumed = model(seed=9)
    fit(resumed, *from_config("config.yaml").callbacks)
    assert bits(resumed) == bits(whole) != bits(model())


def run_and_resume(caplog: pytest.LogCaptureFixture, *overrides: str, epochs: int = 3) -> tuple[Setup, str]:
    write(RUN)
    with pytest.raises(Interrupted):
        fit(model(), *from_config("config.yaml").callbacks, Losses(fail_after=(0, 2)))
    caplog.set_level(logging.INFO, "paddle_warm_callbacks")
    setup = from_config("config.yaml", overrides)
    fit(model(), *setup.callbacks, epochs=epochs)
    return setup, caplog.text


def test_a_resume_shows_what_changed_key_by_key_and_which_changes_are_harmless(
    caplog: pytest.LogCaptureFixture,
) -> None:
    setup, log = run_and_resume(
        caplog,
        *(
            "training.epochs=4",
            "unfreeze.stages[1].lr_factor=0.5",
            "lr.factor=0.25",
            "user.augmentation=none",
        ),
        "visualdl.histograms=true",
        epochs=4,
    )
    assert [line for line in log.splitlines() if " when saved, " in line and line.startswith("  ")] == [
        f"  unfreeze.stages[1].lr_factor: 1.0 when saved, 0.5 now ({ANOTHER_RUN})",
        f"  lr.factor: 0.5 when saved, 0.25 now ({BY_LR_ON_RESUME})",
        f"  user.augmentation: 'flips' when saved, 'none' now ({NOT_OURS})",
        "  training.epochs: 3 when saved, 4 now (harmless)",
        "  visualdl.histograms: False when saved, True now (harmless)",
    ]
    newest = CheckpointStore("runs/a").latest_verified()
    assert newest is not None
    notes = newest.manifest.metadata["start"]["notes"]
    assert any("configuration, training.epochs: 3 when saved, 4 now (harmless)" in note for note in notes)
    assert newest.manifest.metadata["config"] == setup.plain


class Stream(paddle.io.IterableDataset):  # type: ignore[misc]  # Paddle is untyped
    """The twelve points in a row, which can only be found again by loading."""

    def __iter__(self) -> Iterator[Any]:
        return (Points()[index] for index in range(12))


def test_what_changed_stays_in_the_report_beside_what_the_resume_cost() -> None:
    def run(overrides: list[str], *more: Any) -> None:
        setup = from_config(write(RUN), overrides)
        loader = paddle.io.DataLoader(Stream(), batch_size=4)
        model().fit(loader, epochs=3, verbose=0, callbacks=[*setup.callbacks, *more])

    with pytest.raises(Interrupted):
        run([], Losses(fail_after=(0, 1)))
    run(["visualdl.log_freq=2"])
    newest = CheckpointStore("runs/a").latest_verified()
    assert newest is not None
    notes = "\n".join(newest.manifest.metadata["start"]["notes"])
    assert "configuration, visualdl.log_freq: 1 when saved, 2 now (harmless)" in notes
    assert "2 batches were loaded again and dropped" in notes


def test_the_control_an_unchanged_configuration_is_told_to_be_so(caplog: pytest.LogCaptureFixture) -> None:
    setup, log = run_and_resume(caplog)
    assert "configuration: as when step-00000003" in log
    assert "configuration, changed" not in log
    assert setup.callbacks[1].changes == ()


def test_a_checkpoint_saved_without_a_configuration_is_no_change(caplog: pytest.LogCaptureFixture) -> None:
    fit(model(), PeriodicCheckpoint("runs/a"), epochs=1)
    caplog.set_level(logging.INFO, "paddle_warm_callbacks")
    setup = from_config(write(RUN), ["lr=null", "unfreeze=null"])
    fit(model(), *setup.callbacks)
    assert "was saved without one" in caplog.text
    assert setup.callbacks[1].changes is None


def test_a_section_lr_that_is_new_at_a_resume_is_told_with_the_key_that_brings_it_into_force(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "paddle_warm_callbacks")

    def log_of(*overrides: str, epochs: int) -> str:
        caplog.clear()
        fit(model(), *from_config(write(RUN), [*overrides, "unfreeze=null"]).callbacks, epochs=epochs)
        return caplog.text

    log_of("lr=null", epochs=1)
    log = log_of(epochs=2)
    (told,) = (line for line in log.splitlines() if line.startswith("  lr.factor"))
    assert told == f"  lr.factor: nothing when saved, 0.5 now ({BY_LR_ON_RESUME})"
    assert "lr.on_resume" in BY_LR_ON_RESUME
    assert "reconfigure takes this" in BY_LR_ON_RESUME
    assert "(keep): 0.005 when saved, 0.005 now" in log
    assert "(reconfigure): 5e-05 when saved, 2.5e-05 now" in log_of("lr.on_resume=reconfigure", epochs=3)


def test_the_resolved_configuration_is_in_every_checkpoint_and_in_visualdl() -> None:
    setup = from_config(write(RUN), ["user.name=a", "user.again=${user.name}"])
    fit(model(), *setup.callbacks, epochs=1)
    stored = [checkpoint.manifest.metadata["config"] for checkpoint in CheckpointStore("runs/a").list()]
    assert len(stored) >= 3
    for config in stored:
        assert config["user"] == {"augmentation": "flips", "name": "a", "again": "a"}
        assert config["lr"] == {"factor": 0.5, "warmup_steps": 2, "groups": {}, "on_resume": "keep"}
        assert from_config(config).config == setup.config
    shown = Path("runs/a/vdl/metrics.jsonl").read_text(encoding="utf-8")
    assert "start/config" in shown
    assert "augmentation: flips" in shown


def test_no_secret_is_written_anywhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    caplog.set_level(logging.DEBUG, "paddle_warm_callbacks")
    overrides = [
        *(
            "user.token=${oc.env:TOKEN}",
            "user.again=x-${user.token}",
            "checkpoints.metadata.key=${user.token}",
        ),
        *("visualdl.hparams.key=${oc.env:TOKEN}", "mirror.url=memory://bucket/${oc.env:TOKEN}/run"),
    ]
    for epochs in (1, 2):
        setup = from_config(write(RUN), overrides)
        fit(model(), *setup.callbacks, epochs=epochs)
    assert setup.config.user["again"] == f"x-{SECRET}"  # the control: the script itself has it
    files = [path for path in Path("runs").rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    # A mirror is told of by its URL, whose passwords are hidden.
    lines = [line for line in caplog.text.splitlines() if "memory://" not in line]
    assert not any(SECRET in line for line in lines)
    newest = CheckpointStore("runs/a").latest_verified()
    assert newest is not None
    assert newest.manifest.metadata["config"]["user"]["again"] == "x-${oc.env:TOKEN}"
    assert newest.manifest.metadata["key"] == "${oc.env:TOKEN}"
