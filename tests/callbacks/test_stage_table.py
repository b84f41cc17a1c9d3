"""The table of stages: before training, at its start, and where a schedule runs."""

from __future__ import annotations

import logging

import paddle
import pytest

from paddle_warm_callbacks import (
    Stage,
    StagedUnfreeze,
    WarmLRScaler,
)
from tests.callbacks.runs import fit
from tests.callbacks.staged import TWO, made


def test_the_plan_is_a_table_before_and_at_the_start_of_training(caplog: pytest.LogCaptureFixture) -> None:
    model, unfreeze = made(), StagedUnfreeze(TWO)
    table = unfreeze.plan(model.network)
    assert [line.split()[0] for line in table.splitlines()[2:]] == ["0", "1"]
    assert "2 of 6" in table
    assert "6 of 6" in table
    assert unfreeze.stage_index == -1
    with caplog.at_level(logging.INFO, logger="paddle_warm_callbacks"):
        fit(model, unfreeze, WarmLRScaler(0.2, warmup_steps=9, groups={"body": 0.1}), epochs=1)
    # 0.05, scaled, as it is after the warm-up; a table before training knows the stages' factors alone.
    assert table.splitlines()[0] in caplog.text
    assert table.splitlines()[3].replace("x 1", "0.001 to 0.01") in caplog.text
    assert unfreeze.stage_index == 0
    assert unfreeze.trainable_share == pytest.approx(18 / 48)


def test_of_a_prepared_model_the_table_gives_learning_rates() -> None:
    model, unfreeze = (
        made(learning_rate=0.05),
        StagedUnfreeze([Stage(0, "fc"), Stage(1, ".*", lr_factor=0.1)]),
    )
    model.network.body.weight.optimize_attr["learning_rate"] = 0.5
    assert [line.split()[-1] for line in unfreeze.plan(model).splitlines()[2:]] == ["0.05", "0.005"]
    assert "0.0025 to 0.005" in unfreeze.plan(model)
    scheduled = made(learning_rate=paddle.optimizer.lr.StepDecay(0.05, 10))
    assert "x 0.1" in unfreeze.plan(scheduled)
    assert "x 0.1" in unfreeze.plan(paddle.Model(model.network))  # not prepared


def test_the_table_leaves_out_what_the_user_froze(caplog: pytest.LogCaptureFixture) -> None:
    model = made()
    model.network.body.bias.stop_gradient = True
    assert "5 of 6" in StagedUnfreeze(TWO).plan(model.network)
    with caplog.at_level(logging.INFO, logger="paddle_warm_callbacks"):
        fit(model, StagedUnfreeze(TWO), epochs=1)
    assert "5 of 6" in caplog.text


def test_where_a_schedule_runs_the_table_gives_factors_of_it(caplog: pytest.LogCaptureFixture) -> None:
    schedule = paddle.optimizer.lr.CosineAnnealingDecay(0.05, 10)
    with caplog.at_level(logging.INFO, logger="paddle_warm_callbacks"):
        fit(made(learning_rate=schedule), StagedUnfreeze(TWO), WarmLRScaler(0.2), epochs=1)
    assert "100.0%  x 0.2" in caplog.text
