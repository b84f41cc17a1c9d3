"""Promise 1: killed at any moment and run again, a run ends in the bits of one that was never interrupted."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Callable

import pytest

from paddle_warm_callbacks import CheckpointStore
from tests.exact_resume.cells import CORE, FACTORS, MATRIX, Cell
from tests.exact_resume.harness import (
    FreshInterpreters,
    Job,
    Position,
    TrainingServer,
    compare,
    differing_arrays,
    rerun,
    run_control,
    run_killed,
)

# Paddle 2.6 cannot save its generator. There the callbacks seed it at each step, and so a run with them draws otherwise
# than one without.
CONTROL = "ours" if version("paddlepaddle").startswith("2.6") else "nothing"
Controls = Callable[[Cell], Job]


@pytest.fixture(scope="session")
def controls(server: TrainingServer, tmp_path_factory: pytest.TempPathFactory) -> Controls:
    """Return the uninterrupted run of a cell, trained once for all its kills and save policies."""
    done: dict[Cell, Job] = {}

    def control(cell: Cell) -> Job:
        key = replace(cell, kill="mid-epoch", save="each epoch")
        if key not in done:
            done[key] = run_control(server, key, tmp_path_factory.mktemp("control"), CONTROL)
        return done[key]

    return control


def resume_exactly(runner: Any, control: Job, cell: Cell, out: Path) -> Position:
    """Kill the cell, run it again, hold it to its control and to its newest checkpoint; return where it went on."""
    killed = run_killed(runner, cell, out, "ours")
    position = _next_step(cell, out / "run")
    trains_on = f"train {position[0]} {position[1]}" in control.steps()
    again = rerun(runner, killed)
    found = compare(control, killed, again)
    assert not found.differences, "\n".join([f"resumed at {found.resumed_at}", *found.differences[:12]])
    assert found.resumed_at == (position if trains_on else None), again.output()
    return position


def _next_step(cell: Cell, run_dir: Path) -> Position:
    """Return (epoch, step) of the first step after the newest committed checkpoint; (0, 0) without one."""
    committed = CheckpointStore(run_dir).list() if run_dir.exists() else []
    if not committed:
        return 0, 0
    progress = committed[-1].progress
    ended = progress.step_in_epoch == cell.steps_per_epoch
    return (progress.epoch + 1, 0) if ended else (progress.epoch, progress.step_in_epoch)


@pytest.mark.parametrize("cell", CORE, ids=lambda cell: cell.name)
def test_core(cell: Cell, server: TrainingServer, controls: Controls, tmp_path: Path) -> None:
    assert resume_exactly(server, controls(cell), cell, tmp_path) > (0, 0)


@pytest.mark.parametrize("cell", CORE, ids=lambda cell: cell.name)
def test_an_uninterrupted_run_is_not_changed_by_the_callbacks(
    cell: Cell, server: TrainingServer, controls: Controls, tmp_path: Path
) -> None:
    with_callbacks = run_control(server, cell, tmp_path, "ours")
    assert with_callbacks.steps() == controls(cell).steps()
    assert not differing_arrays(with_callbacks.final(), controls(cell).final())


def test_in_fresh_interpreters(controls: Controls, tmp_path: Path) -> None:
    cell = Cell(kill="mid-epoch", loading="augmented", lr="per step", extra="EarlyStopping")
    assert resume_exactly(FreshInterpreters(), controls(cell), cell, tmp_path) == (1, 2)


def test_killed_again_after_its_resume(server: TrainingServer, controls: Controls, tmp_path: Path) -> None:
    cell = Cell(kill="mid-epoch", save="each step", loading="augmented", lr="per step", extra="EarlyStopping")
    killed = run_killed(server, cell, tmp_path, "ours")
    later = replace(cell, kill="epoch end")
    killed_again = Job(later, tmp_path, "killed again", "ours", kill=True)
    (status,) = server.run(killed_again)
    assert status == -9, killed_again.output()
    again = rerun(server, killed_again)
    found = compare(controls(cell), killed_again, again)
    assert [d for d in found.differences if not d.endswith("never done")] == []
    assert {**killed.steps(), **killed_again.steps(), **again.steps()}.keys() == controls(cell).steps().keys()
    assert found.resumed_at == (2, 0)


def test_run_again_after_its_end_it_trains_nothing(
    server: TrainingServer, controls: Controls, tmp_path: Path
) -> None:
    cell = Cell(extra="eval_freq=2")
    run_control(server, cell, tmp_path, "ours")
    again = Job(cell, tmp_path, "again", "ours")
    assert server.run(again) == [0], again.output()
    assert again.steps() == {}
    parameters = {
        name: array for name, array in controls(cell).final().items() if name.startswith("parameter")
    }
    assert parameters
    assert not differing_arrays({name: again.final()[name] for name in parameters}, parameters)


@pytest.mark.slow
@pytest.mark.parametrize("kill", FACTORS["kill"])
@pytest.mark.parametrize("cell", MATRIX, ids=lambda cell: cell.name)
def test_matrix(cell: Cell, kill: str, server: TrainingServer, controls: Controls, tmp_path: Path) -> None:
    cell = replace(cell, kill=kill)
    went_on_at = resume_exactly(server, controls(cell), cell, tmp_path)
    saved_at_once = cell.save == "each step" and cell.accumulate == 1
    if kill != "write" and (kill != "after the first step" or saved_at_once):
        assert went_on_at > (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("save", ["each step", "each epoch"])
@pytest.mark.parametrize("kill", ["last step", "epoch end", "evaluation"])
def test_num_iters_that_end_with_an_epochs_last_step(
    kill: str, save: str, server: TrainingServer, controls: Controls, tmp_path: Path
) -> None:
    cell = Cell(
        extra="num_iters=17", kill=kill, save=save
    )  # 7 and 7 steps, and 3 batches of evaluation between them
    assert list(controls(cell).steps())[-1] == "eval 1 -"
    resume_exactly(server, controls(cell), cell, tmp_path)


@pytest.mark.crash
@pytest.mark.parametrize("number", range(1, 31))
def test_killed_at_any_sync_of_a_file(
    number: int, server: TrainingServer, controls: Controls, tmp_path: Path
) -> None:
    cell = Cell(kill=f"write {number}", save="each step", lr="per step", extra="EarlyStopping")
    resume_exactly(server, controls(cell), cell, tmp_path)
