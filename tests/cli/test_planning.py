"""``plan``: the stages and learning rates of a configuration are those that training then has."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paddle
import pytest

from paddle_warm_callbacks import from_config
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from tests.callbacks import runs
from tests.checkpoint.samples import contents
from tests.cli.typed import lines_of, typed, typed_json

CONFIG = """
training: {epochs: 3, run_dir: runs/a}
optimizer: {name: Momentum, learning_rate: 0.5, schedule: {name: CosineAnnealingDecay, arguments: {T_max: 12}}}
lr: {factor: 0.5, warmup_steps: 2, groups: {body: 0.25}}
unfreeze: {stages: [{from_epoch: 0, trainable: fc}, {from_epoch: 1, trainable: ".*", lr_factor: 0.5, rewarm_steps: 3}]}
"""


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("nets_of_plan.py").write_text(
        "from tests.callbacks.runs import model\nthree = lambda: model(3).network\n", encoding="utf-8"
    )
    Path("config.yaml").write_text(CONFIG, encoding="utf-8")
    yield
    sys.modules.pop("nets_of_plan", None)


NETWORK = ("--network", "nets_of_plan:three")


def test_the_stages_with_what_they_train_and_at_which_rate() -> None:
    said = typed("plan", "config.yaml", *NETWORK).stdout
    assert (
        "run:   runs/a, 3 epochs\nstart: 1. resume from the latest of runs/a, which has none yet\nstart: 2. cold"
        in said
    )
    rows = [line for line in said.splitlines() if line[:1].isdigit()]
    assert rows[0].split() == ["0", "fc", "2", "of", "4", "18", "47.4%", "0.25"]
    assert rows[1].split()[:7] == ["1", ".*", "4", "of", "4", "38", "100.0%"]
    assert "0.03125 to 0.125, warmed up over 3 steps" in rows[1]
    assert "the first 2 steps are a warm-up" in said
    assert typed_json("plan", "config.yaml", *NETWORK)["stages"][1]["lowest_rate"] == 0.03125


def test_the_rates_epoch_by_epoch_are_those_of_training() -> None:
    shown = typed_json("plan", "config.yaml", *NETWORK, "--steps-per-epoch", str(runs.STEPS))["epochs"]
    seen: dict[tuple[int, int], float] = {}

    class Rates(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
        """The rate of ``fc``, which has no group's factor, at each step."""

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.epoch = epoch

        def on_train_batch_end(self, step: int, logs: Any = None) -> None:
            factor = self.model.network.fc.weight.optimize_attr["learning_rate"]
            seen[self.epoch, step] = self.model._optimizer.get_lr() * factor

    network = runs.model(3).network
    setup = from_config("config.yaml", network=network)
    model = paddle.Model(network)
    model.prepare(setup.optimizer, paddle.nn.CrossEntropyLoss())
    runs.fit(model, *setup.callbacks, Rates())
    assert [row["stage"] for row in shown] == [0, 1, 1]
    for row in shown:
        assert row["first_step"] == pytest.approx(seen[row["epoch"], 0], rel=1e-9)
        assert row["last_step"] == pytest.approx(seen[row["epoch"], runs.STEPS - 1], rel=1e-9)


def test_overrides_change_what_is_shown() -> None:
    plain = typed_json("plan", "config.yaml", *NETWORK)
    other = typed_json("plan", "config.yaml", "lr.factor=0.25", "unfreeze=null", *NETWORK)
    assert plain["stages"][0]["highest_rate"] == 0.25
    assert [(row["trainable"], row["highest_rate"]) for row in other["stages"]] == [([".*"], 0.125)]


def test_without_a_network_the_factors_alone_are_shown() -> None:
    Path("config.yaml").write_text(
        "lr: {factor: 0.5}\nunfreeze: {stages: [{from_step: 0, trainable: fc, lr_factor: 0.5}]}",
        encoding="utf-8",
    )
    said = typed("plan", "config.yaml").stdout
    assert "no network: --network module:function" in said
    assert "from step" in said
    assert "x 0.25\n" in said
    assert "x is the rate of the script's own optimizer" in said
    rows = list(lines_of(typed("plan", "config.yaml", "--steps-per-epoch", "2")))
    assert rows[-1] == ["0", "0", "x", "0.25", "x", "0.25"]


def test_what_it_starts_from_is_in_order_of_precedence() -> None:
    store = CheckpointStore("runs/a")
    store.commit(contents(1))
    overrides = ["model.arch=resnet18", "model.pretrained=true", "unfreeze=null", "lr=null"]
    assert typed_json("plan", "config.yaml", *overrides)["start"] == [
        "resume from the latest of runs/a, which has 1 checkpoint",
        "warm, from paddle.vision's pretrained resnet18",
    ]
    given = typed_json(
        "plan", "config.yaml", *overrides, "model.checkpoint=old.pdparams", "training.resume_from=x"
    )
    assert given["start"] == ["resume from x", "warm, from old.pdparams"]
    none = typed_json("plan", "config.yaml", *NETWORK, "training.resume_from=null")
    assert none["start"] == ["cold"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["gone.yaml"], "the configuration cannot be read"),
        (["config.yaml", "lr.factr=1", *NETWORK], "did you mean lr.factor=…?"),
        (["config.yaml"], "from_config(…, network=…)"),
        (["config.yaml", *NETWORK, "unfreeze.stages[0].trainable=fd"], "a pattern matches nothing"),
        (["config.yaml", *NETWORK, "lr.groups={fd: 1}"], "a pattern matches nothing"),
        (["config.yaml", *NETWORK, "--steps-per-epoch", "0"], "Invalid value for '--steps-per-epoch'"),
        (["config.yaml", "--network", "nets_of_plan:four"], "nets_of_plan has: model, three"),
        ([], "Missing argument 'CONFIG'"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(arguments: list[str], says: str) -> None:
    assert says in typed("plan", *arguments, exit_code=2).stderr
