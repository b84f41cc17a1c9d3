"""A pre-empted run goes on, on another machine, from the mirror: to the bit, with the same command."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import paddle
import pytest

from paddle_warm_callbacks import (
    CheckpointStore,
    EveryNSteps,
    InvalidArgumentError,
    KeepBest,
    KeepLatest,
    PeriodicCheckpoint,
    WarmStartCallback,
)
from paddle_warm_callbacks.checkpoint import cache, mirror
from paddle_warm_callbacks.hapi.proof import Watch
from tests.callbacks.runs import Interrupted, Losses, Points, bits, fit, model


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    return f"memory://{tmp_path}/mirror"


def run(run_dir: str | Path, url: str | None, *more: Any) -> tuple[Any, WarmStartCallback]:
    trained = model()
    start = WarmStartCallback(run_dir=run_dir, resume_from="latest")
    fit(trained, start, PeriodicCheckpoint(run_dir, save=EveryNSteps(1), mirror=url), *more)
    return trained, start


@pytest.mark.parametrize("kind", ["a mirror", "a run at a URL"])
def test_a_lost_machines_run_goes_on_from_the_mirror_to_the_bit(tmp_path: Path, url: str, kind: str) -> None:
    control, _ = run(tmp_path / "control", None)
    place, mirror_url = (tmp_path / "run", url) if kind == "a mirror" else (url, None)
    with pytest.raises(Interrupted):
        run(place, mirror_url, Losses(fail_after=(1, 0)))
    # The machine is gone, and its disk with it.
    for lost in (tmp_path / "run", tmp_path / "cache"):
        shutil.rmtree(lost, ignore_errors=True)
    losses = Losses()
    continued, start = run(place, mirror_url, losses)
    assert start.report is not None
    assert start.report.resumed_from == "step-00000004"
    assert min(losses.seen) == (1, 1), "no step is repeated"
    assert bits(continued) == bits(control)
    assert mirror.list_mirrored(url)[-1] == "step-00000009-epoch-0003"


def test_without_the_mirror_the_same_would_have_started_over(tmp_path: Path, url: str) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path / "run", None, Losses(fail_after=(1, 0)))
    shutil.rmtree(tmp_path / "run")
    assert run(tmp_path / "run", None)[1].report is not None
    _, start = run(tmp_path / "another", url)
    assert start.report is not None
    assert start.report.kind == "cold"


def test_a_new_run_with_an_old_runs_mirror_is_newer_than_it(tmp_path: Path, url: str) -> None:
    run(tmp_path / "old", url)
    fit(model(seed=5), PeriodicCheckpoint(tmp_path / "new", mirror=url), epochs=1)
    assert mirror.list_mirrored(url)[-1] == "step-00000003-epoch-0001.g1"


def test_a_run_at_a_url_takes_no_other_mirror(url: str) -> None:
    with pytest.raises(InvalidArgumentError, match="has its mirror there"):
        PeriodicCheckpoint(url, mirror=url)


def test_a_run_that_is_being_proved_copies_nothing_to_its_mirror(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in Watch(str(tmp_path / "proof")).to_environment().items():
        monkeypatch.setenv(name, value)
    run(tmp_path / "run", url)
    run(url, None)
    assert mirror.list_mirrored(url) == []
    assert len(list((tmp_path / "proof" / "runs").iterdir())) == 2


def test_resume_from_the_url_of_a_run(tmp_path: Path, url: str) -> None:
    control, _ = run(tmp_path / "control", None)
    with pytest.raises(Interrupted):
        run(tmp_path / "run", url, Losses(fail_after=(1, 0)))
    continued = model()
    fit(continued, WarmStartCallback(resume_from=url), PeriodicCheckpoint(tmp_path / "elsewhere"))
    assert bits(continued) == bits(control)
    assert CheckpointStore(tmp_path / "elsewhere").latest_verified() is not None


def test_what_an_interrupted_run_did_not_get_to_copy_is_copied_when_it_goes_on(
    tmp_path: Path, url: str
) -> None:
    """A mirror that comes later stands for one that could not be reached until then."""
    with pytest.raises(Interrupted):
        run(tmp_path / "run", None, Losses(fail_after=(1, 0)))
    with pytest.raises(Interrupted):
        run(tmp_path / "run", url, Losses(fail_after=(1, 0)), Interrupting())
    assert mirror.list_mirrored(url) == ["step-00000004"], "no step was done, and nothing new was saved"


class Interrupting(paddle.callbacks.Callback):  # type: ignore[misc]
    """Raises before the first step."""

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        raise Interrupted


def test_a_mirror_that_hangs_does_not_hold_up_a_step(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, let_go = threading.Event(), threading.Event()
    put = mirror.put

    def hang(*given: Any) -> None:
        hanging.set()
        assert let_go.wait(60)
        put(*given)

    monkeypatch.setattr(mirror, "put", hang)
    ended_while_hanging: list[bool] = []

    class AtTheEnd(paddle.callbacks.Callback):  # type: ignore[misc]
        def on_train_end(self, logs: Any = None) -> None:
            ended_while_hanging.append(hanging.is_set() and not let_go.is_set())
            let_go.set()

    run(tmp_path / "run", url, AtTheEnd())
    assert ended_while_hanging == [True], "all steps were done and saved while the first copy hung"
    assert mirror.list_mirrored(url)[-1] == "step-00000009-epoch-0003"


def test_the_best_of_a_lost_machines_run_is_found_at_its_mirror(tmp_path: Path, url: str) -> None:
    """The best is not the newest: the loss falls, and the highest is asked for."""

    def train(run_dir: Path, resume_from: str, epochs: int) -> WarmStartCallback:
        start = WarmStartCallback(run_dir=run_dir, resume_from=resume_from)
        kept = KeepLatest(9) | KeepBest("loss", mode="max")
        saves = PeriodicCheckpoint(run_dir, keep=kept, mirror=url)
        fit(model(), start, saves, eval_data=Points(), epochs=epochs)
        return start

    for epochs in (1, 2):  # each ends when its checkpoint is at the mirror
        train(tmp_path / "lost", "latest", epochs)
    first, _ = mirror.list_mirrored(url)
    report = train(tmp_path / "run", "best", 3).report
    assert report is not None
    assert report.resumed_from == first
    control = train(tmp_path / "control", "latest", 3).report
    assert control is not None
    assert control.resumed_from != first
