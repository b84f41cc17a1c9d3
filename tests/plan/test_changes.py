"""Tests of what a change of the script means for a resume."""

from __future__ import annotations

from typing import Any

import pytest

from paddle_warm_callbacks.plan.changes import changes

FACTS: dict[str, Any] = {"network": "a", "batch_size": 8, "epochs": 5}


def test_the_same_script_has_no_changes() -> None:
    assert changes(FACTS, dict(FACTS), within_epoch=True) == ()


@pytest.mark.parametrize("within_epoch", [True, False])
@pytest.mark.parametrize(
    "fact", ["network", "optimizer", "learning_rate", "accumulate_grad_batches", "seed_samples", "world_size"]
)
def test_what_the_state_belongs_to_breaks_a_resume_anywhere(fact: str, within_epoch: bool) -> None:
    (change,) = changes({fact: 1}, {fact: 2}, within_epoch=within_epoch)
    assert change.reason
    assert change.reason in str(change)


@pytest.mark.parametrize("fact", ["batch_size", "dataset_length", "steps_per_epoch", "sampler"])
def test_what_the_position_counts_in_breaks_a_resume_inside_an_epoch_only(fact: str) -> None:
    (inside,) = changes({fact: 1}, {fact: 2}, within_epoch=True)
    (boundary,) = changes({fact: 1}, {fact: 2}, within_epoch=False)
    assert inside.reason
    assert boundary.reason is None
    assert str(boundary) == f"{fact}: 1 when saved, 2 now (harmless)"


def test_another_paddle_is_no_reason_to_stop_and_not_called_harmless() -> None:
    (change,) = changes({"paddle": "2.6.2"}, {"paddle": "3.3.1"}, within_epoch=True)
    assert change.reason is None
    assert "goes on, but" in str(change)


@pytest.mark.parametrize("fact", ["optimizer.beta1", "amp.level", "loss"])
def test_a_setting_of_the_script_is_in_force_and_makes_another_run(fact: str) -> None:
    (change,) = changes({fact: "1"}, {fact: "2"}, within_epoch=True)
    assert change.reason is None
    assert not change.harmless
    assert "not what it was before" in str(change)


def test_another_learning_rate_is_not_in_force_unless_the_script_is_followed() -> None:
    saved, now = {"learning_rate.gamma": "0.5"}, {"learning_rate.gamma": "0.9"}
    (kept,) = changes(saved, now, within_epoch=True)
    (followed,) = changes(saved, now, within_epoch=True, rate_of_script=True)
    assert kept.reason is followed.reason is None
    assert not kept.harmless
    assert not followed.harmless
    assert "not in force: the checkpoint's goes on; WarmLRScaler(" in str(kept)
    assert str(followed) == (
        "learning_rate.gamma: 0.5 when saved, 0.9 now (in force: from here on training is not what it was before)"
    )


def test_harmless_changes_come_last() -> None:
    found = changes({"epochs": 1, "amp.level": "O0"}, {"epochs": 2, "amp.level": "O1"}, within_epoch=True)
    assert [(change.fact, change.harmless) for change in found] == [("amp.level", False), ("epochs", True)]


def test_breaking_changes_come_first_and_each_is_named_with_both_values() -> None:
    found = changes(FACTS, {"epochs": 9, "network": "b", "batch_size": 8}, within_epoch=True)
    assert [(change.fact, change.saved, change.current) for change in found] == [
        ("network", "a", "b"),
        ("epochs", 5, 9),
    ]


def test_a_fact_that_an_older_checkpoint_lacks_is_not_compared() -> None:
    assert changes({}, FACTS, within_epoch=True) == ()
