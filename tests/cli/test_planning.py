"""``plan``: the stages and learning rates of a configuration are those that training then has."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paddle
import pytest
from paddle.utils import download
from PIL import Image

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
WRONG = """unfreeze:
  stages:
    - {from_epoch: 0, trainable: fc}
    - {from_epoch: 1, trainable: bdy}
"""


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("nets_of_plan.py").write_text(
        "from tests.callbacks.runs import model\nthree = lambda: model(3).network\n", encoding="utf-8"
    )
    Path("config.yaml").write_text(CONFIG, encoding="utf-8")
    Path("wrong.yaml").write_text(WRONG, encoding="utf-8")
    yield
    sys.modules.pop("nets_of_plan", None)


NETWORK = ("--network", "nets_of_plan:three")
PLAIN = ("unfreeze=null", "lr=null")


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


def test_what_it_starts_from_is_in_order_of_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "WEIGHTS_HOME", "cache")
    store = CheckpointStore("runs/a")
    store.commit(contents(1))
    overrides = ["model.arch=resnet18", "model.pretrained=true", "unfreeze=null", "lr=null"]
    assert typed_json("plan", "config.yaml", *overrides)["start"] == [
        "resume from the latest of runs/a, which has 1 checkpoint",
        "warm, from paddle.vision's pretrained resnet18, which is downloaded first",
    ]
    Path("cache").mkdir()
    Path("cache/resnet18.pdparams").touch()
    assert typed_json("plan", "config.yaml", *overrides)["start"][1].endswith("pretrained resnet18")
    given = ("model.checkpoint=s3://old/x.pdparams", "training.resume_from=runs/a")
    assert typed_json("plan", "config.yaml", *overrides, *given)["start"] == [
        "resume from runs/a",
        "warm, from s3://old/x.pdparams, which was not looked for",
    ]
    none = typed_json("plan", "config.yaml", *NETWORK, "training.resume_from=null")
    assert none["start"] == ["cold"]


@pytest.mark.parametrize(
    ("overrides", "says", "exit_code"),
    [
        (["model.checkpoint=old.pdparam"], "start: 2. warm, from old.pdparam -- NOT THERE", 1),
        (["model.checkpoint=old.pdparam"], "remedy:   did you mean old.pdparams?", 1),
        (["model.checkpoint=runs/empty"], "the run directory has no checkpoint yet", 1),
        (["training.resume_from=runs/aa"], "remedy:   did you mean runs/a?", 1),
        (["training.resume_from=old.pdparams"], "give weights alone as source=, not as resume_from=", 1),
        (["model.arch=densenet121", "model.pretrained=true", *PLAIN], "which is downloaded first", 0),
        (["model.arch=alexnt", "model.pretrained=true", *PLAIN], "did you mean alexnet?", 2),
        # Controls: there, or not come to.
        (["model.checkpoint=old.pdparams"], "start: 2. warm, from old.pdparams\n", 0),
        (["training.run_dir=runs/a", "model.checkpoint=gone"], "start: 2. warm, from gone -- NOT THERE", 0),
    ],
)
def test_what_is_not_there_is_told_before_training(
    overrides: list[str], says: str, exit_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "WEIGHTS_HOME", "cache")
    CheckpointStore("runs/a").commit(contents(1))
    Path("runs/empty/checkpoints").mkdir(parents=True)
    Path("old.pdparams").touch()
    network = () if any(override.startswith("model.arch") for override in overrides) else NETWORK
    ran = typed("plan", "config.yaml", "training.run_dir=runs/new", *overrides, *network, exit_code=exit_code)
    assert says in ran.output
    assert ("the run would not start:" in ran.output) == (exit_code == 1)


def test_an_unset_number_of_epochs_is_said() -> None:
    unset = "runs/a, training.epochs is not set: the script must say how many"
    assert unset in typed("plan", "config.yaml", "training.epochs=null", *NETWORK).stdout
    assert "training.epochs is not set" not in typed("plan", "config.yaml", *NETWORK).stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["gone.yaml"], "the configuration cannot be read"),
        (["confg.yaml"], "did you mean config.yaml?"),
        (["config.yaml", "lr.factr=1", *NETWORK], "did you mean lr.factor=…?"),
        (["config.yaml"], "from_config(…, network=…)"),
        (
            ["config.yaml", *NETWORK, "unfreeze.stages[0].trainable=fd"],
            "by the override 'unfreeze.stages[0].tr",
        ),
        (["wrong.yaml", *NETWORK], "unfreeze.stages[1].trainable in wrong.yaml, line 4"),
        (["config.yaml", *NETWORK, "lr.groups={fd: 1}"], "a pattern matches nothing"),
        (["config.yaml", *NETWORK, "--steps-per-epoch", "0"], "Invalid value for '--steps-per-epoch'"),
        (["config.yaml", "--network", "nets_of_plan:four"], "nets_of_plan has: model, three"),
        ([], "Missing argument 'CONFIG'"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(arguments: list[str], says: str) -> None:
    assert says in typed("plan", *arguments, exit_code=2).stderr


def test_the_data_is_counted() -> None:
    for name, count in (("dent", 3), ("scratch", 2)):
        Path("images", name).mkdir(parents=True)
        for number in range(count):
            Image.new("L", (4, 4)).save(f"images/{name}/{number}.png")
    said = typed("plan", "config.yaml", *NETWORK, "data.train=images", "data.val=images").stdout
    assert "data:  2 classes: 5 images in images, 5 images in images\n" in said
    gone = typed("plan", "config.yaml", *NETWORK, "data.train=imags", exit_code=2).stderr
    assert "no such folder" in gone
