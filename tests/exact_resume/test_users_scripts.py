"""Scripts that draw, count or iterate where simpler ones do not: killed and run again, each ends in the same bits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.exact_resume.cells import Cell
from tests.exact_resume.harness import Job, TrainingServer, compare, differing_arrays
from tests.exact_resume.users_scripts import SCRIPTS

PADDLE_26 = version("paddlepaddle").startswith("2.6")


@dataclass(frozen=True)
class UsersJob(Job):
    """One run of a user's script."""

    script: str = ""
    module: str = "users_scripts"

    @property
    def arguments(self) -> list[str]:
        """The script's command line."""
        return ["--script", self.script, *super().arguments]


def job(name: str, out: Path, run: str, added: str, kill: str = "") -> UsersJob:
    cell = Cell(data=SCRIPTS[name].data, save="each step", kill=kill or "mid-epoch")
    return UsersJob(cell, out, run, added, kill=bool(kill), script=name)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if script.slow else []) for name, script in SCRIPTS.items()],
)
def test_killed_and_run_again_it_ends_in_the_same_bits(
    name: str, server: TrainingServer, tmp_path: Path
) -> None:
    script = SCRIPTS[name]
    # Paddle 2.6 cannot save its generator: our callbacks seed it at each step, and a run without them draws others.
    added = "nothing" if script.like_without_ours and not PADDLE_26 else "ours"
    control = job(name, tmp_path / "control", "control", added)
    straight = job(name, tmp_path / "straight", "straight", "ours")
    killed = [job(name, tmp_path / kill, "killed", "ours", kill) for kill in script.kills]
    statuses = server.run(control, straight, *killed)
    assert statuses == [0, 0, *(-9 for _ in killed)], "\n".join(
        run.output()[-1500:] for run in [control, *killed]
    )
    assert straight.steps() == control.steps()
    assert not differing_arrays(straight.final(), control.final())

    again = [replace(run, name="rerun", kill=False) for run in killed]
    assert server.run(*again) == [0 for _ in again], "\n".join(run.output()[-1500:] for run in again)
    for before, after in zip(killed, again):
        found = compare(control, before, after)
        assert not found.differences, "\n".join([before.cell.kill, *found.differences[:6]])
        assert found.resumed_at is None or found.resumed_at > (100 * (script.fits - 1), 0)


@pytest.mark.parametrize(
    ("name", "item"),
    [
        ("evaluation in workers that persist", "the evaluation's loader"),
        ("evaluation on a part that the sampler's own generator chooses", "the evaluation's loader"),
        ("transforms and collate_fn have generators of their own", "generators of a data set's own"),
    ],
)
def test_left_out_it_makes_a_difference(name: str, item: str, server: TrainingServer, tmp_path: Path) -> None:
    control = job(name, tmp_path / "control", "control", "ours" if PADDLE_26 else "nothing")
    killed = job(name, tmp_path / "killed", "killed", "ours", "mid-epoch")
    assert server.run(control, killed) == [0, -9]
    again = replace(killed, name="rerun", kill=False, leave_out=item)
    assert server.run(again) == [0], again.output()
    found = compare(control, killed, again)
    assert found.resumed_at == (1, 3)
    assert found.differences
