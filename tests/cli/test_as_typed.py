"""Every command in a process of its own, as a user types it: on what is good, and on what is broken."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_warm_callbacks.cli.main import COMMANDS
from tests.cli.typed import flip_a_bit, make_run, write_weights

ROOT = str(Path(__file__).parents[2])

TRANSPLANT = "transplant net.pdparams out.pdparams --old-labels old.txt --new-labels new.txt"
# What is typed, the exit code, and what is said: of a finding on the standard output, of an error on the other.
GOOD = [
    ("ls run", 0, "step-00000002-epoch-0001"),
    ("show run", 0, "the newest of 3 in run"),
    ("verify run", 0, "whole"),
    ("diff run run", 0, "2 same"),
    ("diff run run/checkpoints/step-00000002-epoch-0001", 1, "2 changed"),
    ("match net.pdparams --network nets:make", 0, "4 tensors loaded"),
    (f"{TRANSPLANT} --head fc", 0, "labels kept: b, a"),
    ("export run out.safetensors", 0, "2 tensors of run/checkpoints/step-00000005 -> out.safetensors"),
    ("average net.pdparams net.pdparams -o out.pdparams", 0, "mean of 2: 4 tensors -> out.pdparams"),
    ("prune run --keep-latest 1", 0, "would delete 2 of 3; nothing was changed: --yes deletes"),
    ("registry --root registry list", 0, ""),
    ("doctor net.pdparams", 0, "safe:     yes"),
    ("plan config.yaml --network nets:make --steps-per-epoch 4", 0, "learning rate, of the group that has the highest"),
    ("dashboard log --print", 0, "visualdl --logdir log --language en"),
]  # fmt: skip
BROKEN = [
    ("ls nowhere", 2, "there is neither a checkpoint nor a run"),
    ("ls rnu", 2, "did you mean run?"),
    ("ls log", 2, "is another one the run_dir of PeriodicCheckpoint?"),
    ("ls broken", 1, "damaged: the manifest's bytes are not what was written"),
    ("ls .", 1, "empty             0  none yet"),
    ("show empty", 2, "the run has no checkpoint yet"),
    ("verify broken", 1, "DAMAGED"),
    ("diff run nowhere.pdparams", 2, "the source is not there"),
    ("match net.pdparams", 2, "into which network? Give --arch, or --network module:function"),
    ("match net.pdparams --network nets:mak", 2, "nets has: model, make"),
    (f"{TRANSPLANT} --head fd", 2, "did you mean HeadTransplant('fc', …)"),
    ("export hostile.pdparams out.pdparams", 2, "posix.system"),
    ("average net.pdparams other.pdparams -o out.pdparams", 2, "`paddle-warm diff` shows all that differs"),
    ("prune run --keep-latest 1 --keep-best bcc", 2, "no checkpoint of the run has such a metric"),
    ("registry --root registry show defects", 2, "defects"),
    ("doctor hostile.pdparams", 1, "do not load it with paddle.load or pickle"),
    ("doctor cut.pdparams", 1, "get it again from where it comes from"),
    ("plan wrong.yaml", 2, "did you mean training.epochs?"),
    ("dashboard run", 2, "there are no logs of VisualDL"),
    ("prove gone.py", 2, "gone.py"),
    ("lss run", 2, "No such command 'lss'"),
]  # fmt: skip


class _Hostile:
    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("typed")
    make_run(folder / "run")
    flip_a_bit(make_run(folder / "broken") / "checkpoints" / "step-00000005" / "manifest.json")
    (folder / "empty" / "checkpoints").mkdir(parents=True)
    weights: dict[str, Any] = {"body.weight": np.ones((3, 5)), "body.bias": np.ones(5)}
    weights |= {"fc.weight": np.ones((5, 2)), "fc.bias": np.ones(2)}
    whole = write_weights(folder / "net.pdparams", **{n: a.astype(np.float32) for n, a in weights.items()})
    write_weights(folder / "other.pdparams", w=np.ones(1))
    (folder / "cut.pdparams").write_bytes(whole.read_bytes()[:-40])
    (folder / "hostile.pdparams").write_bytes(pickle.dumps(_Hostile(), protocol=2))
    (folder / "old.txt").write_text("a\nb\n", encoding="utf-8")
    (folder / "new.txt").write_text("b\na\n", encoding="utf-8")
    (folder / "nets.py").write_text(
        "from tests.callbacks.runs import model\nmake = lambda: model(2).network\n"
    )
    (folder / "config.yaml").write_text("training: {epochs: 2}\nlr: {factor: 0.5}\n", encoding="utf-8")
    (folder / "wrong.yaml").write_text("training: {epoch: 2}\n", encoding="utf-8")
    (folder / "log").mkdir()
    (folder / "log" / "vdlrecords.1.log").touch()
    return folder


@pytest.mark.parametrize(
    ("command", "exit_code", "says"), [*GOOD, *BROKEN], ids=lambda value: str(value)[:30]
)
def test_a_command_as_it_is_typed(folder: Path, command: str, exit_code: int, says: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "paddle_warm_callbacks", *command.split()],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": ROOT, "PYTHONWARNINGS": "ignore", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    for out in folder.glob("out.*"):
        out.unlink()
    assert done.returncode == exit_code, done.stderr
    assert says in (done.stderr if exit_code == 2 else done.stdout)
    assert "Traceback" not in done.stderr
    assert exit_code == 2 or done.stderr == ""
    assert not (folder / "executed").exists()


def test_every_command_is_typed_on_good_and_on_broken_input() -> None:
    for cases, commands in ((GOOD, set(COMMANDS)), (BROKEN, {*COMMANDS, "prove"})):
        assert commands <= {command.split()[0] for command, _, _ in cases}
