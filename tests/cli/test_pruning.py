"""``prune``: a dry run changes nothing, --yes deletes exactly what was shown, and a live run is left alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.plan.retention import KeepBest, KeepLatest
from tests.checkpoint.samples import contents
from tests.cli.typed import flip_a_bit, lines_of, make_run, typed

FIRST, SECOND, LAST = NAMES = ["step-00000002-epoch-0001", "step-00000004-epoch-0002", "step-00000005"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def left(run: Path) -> list[str]:
    return [checkpoint.name for checkpoint in CheckpointStore(run).list()]


POLICIES: list[tuple[list[str], list[str]]] = [
    (["--keep-latest", "1"], [LAST]),
    (["--keep-latest", "2"], [SECOND, LAST]),
    (["--keep-latest", "9"], NAMES),
    (["--keep-latest", "1", "--keep-best", "acc"], [FIRST, LAST]),
    (["--keep-latest", "1", "--keep-best", "acc", "--mode", "min"], [SECOND, LAST]),
    (["--keep-latest", "1", "--keep-best", "acc", "--n", "2"], NAMES),
    (["--keep-latest", "1", "--keep-every", "2"], [SECOND, LAST]),
]


@pytest.mark.parametrize(("policy", "kept"), POLICIES)
def test_what_is_shown_is_what_is_deleted(run: Path, policy: list[str], kept: list[str]) -> None:
    dry = typed("prune", run, *policy)
    shown = {row[0]: row[-1] for row in lines_of(dry) if row[0] in NAMES}
    assert shown == {name: "stays" if name in kept else "goes" for name in NAMES}
    assert f"would delete {3 - len(kept)} of 3; nothing was changed" in dry.stdout
    assert left(run) == NAMES
    assert f"deleted {3 - len(kept)} of 3" in typed("prune", run, *policy, "--yes").stdout
    assert left(run) == kept


def test_what_an_epochs_end_has_taken_the_place_of_goes_and_is_shown_so(run: Path) -> None:
    store = CheckpointStore(run)
    store.commit(contents(6))
    store.commit(contents(6, epoch=3))
    dry = typed("prune", run, "--keep-latest", "9")
    assert [row[0] for row in lines_of(dry) if row[-1] == "goes"] == ["step-00000006"]
    typed("prune", run, "--keep-latest", "9", "--yes")
    assert left(run) == [*NAMES, "step-00000006-epoch-0003"]


def test_a_run_that_a_live_process_writes_to_is_left_alone(run: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom paddle_warm_callbacks.checkpoint.lock import RunLock\n"
        "with RunLock(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(run)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        typed("prune", run, "--keep-latest", "1")
        said = typed("prune", run, "--keep-latest", "1", "--yes", exit_code=2).stderr
        assert "another live process writes to this run directory" in said
        assert f"process {owner.pid} on" in said
        assert left(run) == NAMES
        assert owner.stdin is not None
        owner.stdin.close()
        owner.wait(30)
    typed("prune", run, "--keep-latest", "1", "--yes")
    assert left(run) == [LAST]


def test_nothing_goes_while_the_newest_is_damaged(run: Path) -> None:
    flip_a_bit(run / "checkpoints" / LAST / "model.pdparams")
    said = typed("prune", run, "--keep-latest", "1", "--yes", exit_code=2).stderr
    assert "a file of the checkpoint is not what was written" in said
    assert left(run) == NAMES


def test_a_misspelt_metric_deletes_nothing(run: Path) -> None:
    said = typed("prune", run, "--keep-latest", "1", "--keep-best", "accc", "--yes", exit_code=2).stderr
    assert "no checkpoint of the run has such a metric" in said
    assert "one of acc" in said
    assert left(run) == NAMES


@pytest.mark.parametrize("without", [["--mode", "min"], ["--n", "2"]])
def test_an_option_of_keep_best_without_it_is_a_wrong_call(run: Path, without: list[str]) -> None:
    said = typed("prune", run, "--keep-latest", "1", *without, "--yes", exit_code=2).stderr
    assert "--keep-best" in said
    assert left(run) == NAMES


@pytest.mark.parametrize("policy", [[], ["--keep-latest", "0"], ["--keep-latest", "1", "--keep-every", "0"]])
def test_a_policy_that_is_none_is_a_wrong_call(run: Path, policy: list[str]) -> None:
    typed("prune", run, *policy, "--yes", exit_code=2)
    assert left(run) == NAMES


def test_the_runs_own_best_is_not_forgotten_in_silence_and_its_ranking_stays(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step, acc in ((1, 0.9), (2, 0.1), (3, 0.5)):
        store.commit(contents(step, metrics={"acc": acc}))
        store.retain(KeepLatest(3) | KeepBest("acc", "max"))
    said = typed("prune", tmp_path, "--keep-latest", "2").stdout
    assert (
        "step-00000001 is the best by acc, which the run was kept by: --keep-best acc --mode max keeps it"
        in said
    )
    assert "the best by" not in typed("prune", tmp_path, "--keep-latest", "1", "--keep-best", "acc").stdout
    typed("prune", tmp_path, "--keep-latest", "1", "--keep-best", "acc", "--mode", "min", "--yes")
    assert left(tmp_path) == ["step-00000002", "step-00000003"]
    best = CheckpointStore(tmp_path).best()
    assert best is not None
    assert best.name == "step-00000003", "by the run's own acc, max; not by the min of that one call"


def test_what_is_no_run_here_is_an_error_and_nothing_is_made(tmp_path: Path) -> None:
    said = typed("prune", tmp_path / "none", "--keep-latest", "1", "--yes", exit_code=2).stderr
    assert "there is no run" in said
    assert not (tmp_path / "none").exists()
    said = typed("prune", "memory://x/y", "--keep-latest", "1", "--yes", exit_code=2).stderr
    assert "no lock keeps others from a mirror" in said
