"""Two nodes of one rank each, two launchers on one machine; a node dies in the middle of an epoch."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ranks.launching import Run, differences, free_port, kill_a_node, launch, nodes

pytestmark = pytest.mark.ranks

ARGUMENTS = ("--augmented", "--evaluate", "--stages", "head;norm|head;.*")
SECONDS = 80.0


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two ranks of one node: to the bit, nodes make no difference."""
    run = launch(tmp_path_factory.mktemp("control"), *ARGUMENTS)
    assert run.status == 0, run.output()
    return run


def two_nodes() -> list[list[str]]:
    master = f"127.0.0.1:{free_port()}"
    return [["--master", master, "--rank", str(node)] for node in range(2)]


def test_a_node_dies_and_the_same_commands_go_on(control: Run, tmp_path: Path) -> None:
    with nodes(tmp_path, *ARGUMENTS, "--pause", "0.1", name="killed", options=two_nodes()) as started:
        kill_a_node(tmp_path, "killed", started[1], rank=1, step=11)
        assert started[0].wait(SECONDS) != 0
    killed = Run(tmp_path, "killed", 2, 1)
    assert "step-00000009" in killed.checkpoints()
    with nodes(tmp_path, *ARGUMENTS, name="run", options=two_nodes()) as started:
        assert [process.wait(SECONDS) for process in started] == [0, 0]
    rerun = Run(tmp_path, "run", 2, 0)
    assert (
        rerun.told(1)["report"]["resumed_from"] == rerun.told(0)["report"]["resumed_from"] >= "step-00000009"
    )
    assert differences(control, killed, rerun) == []


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[str]:
    """An etcd of this test's own; Paddle's elastic mode keeps its peers there."""
    program = shutil.which("etcd")
    if program is None or importlib.util.find_spec("etcd3") is None:
        pytest.skip("needs etcd, which is Debian's etcd-server, and the package etcd3")
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    command = [program, "--data-dir", str(tmp_path / "etcd"), "--listen-client-urls", client]
    command += ["--advertise-client-urls", client, "--listen-peer-urls", peer]
    command += ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
    with (tmp_path / "etcd.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        time.sleep(2)
        assert process.poll() is None, (tmp_path / "etcd.log").read_text()
        yield client.replace("http://", "etcd://")
    finally:
        process.kill()
        process.wait()


def test_an_elastic_job_replaces_a_dead_node_by_itself(control: Run, etcd: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    node = ["--master", etcd, "--job_id", "elastic", "--max_restart", "3", "--elastic_level", "1"]
    node += ["--elastic_timeout", "10"]
    with nodes(out, *ARGUMENTS, "--pause", "0.1", name="run", options=[node, node]) as started:
        which = _launcher_of(_pid_of(out, rank=1), started)
        kill_a_node(out, "run", started[which], rank=1, step=11)
        time.sleep(3)
        with nodes(out, *ARGUMENTS, name="run", options=[node]) as spare:
            assert started[1 - which].wait(SECONDS) == 0
            assert spare[0].wait(SECONDS) == 0
    told = [Run(out, "run", 2, 0).told(rank) for rank in range(2)]
    assert told[0]["report"]["resumed_from"] == told[1]["report"]["resumed_from"] >= "step-00000009"
    again = Run(out, "run", 2, 0)
    for rank in range(2):
        one, other = again.final(rank), control.final(rank)
        assert [name for name in other if one[name].tobytes() != other[name].tobytes()] == []


def _pid_of(out: Path, *, rank: int) -> int:
    file = out / f"{rank}.pid"
    deadline = time.monotonic() + SECONDS
    while not file.exists() or not file.read_text():
        assert time.monotonic() < deadline, f"rank {rank} was not started"
        time.sleep(0.02)
    return int(file.read_text())


def _launcher_of(pid: int, started: list[subprocess.Popen[bytes]]) -> int:
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return [process.pid for process in started].index(parent)
