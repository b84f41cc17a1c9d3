"""What changed between two configurations, key by key, and what is harmless about it."""

from __future__ import annotations

from paddle_warm_callbacks.plan.config_changes import (
    ABSENT,
    ANOTHER_RUN,
    FOLLOWED,
    HARMLESS,
    ConfigChange,
    config_changes,
    flattened,
)


def test_equal_configurations_have_no_changes() -> None:
    config = {"a": {"b": [1, 2.5]}, "c": None, "d": [{"e": True}], "f": {}}
    assert config_changes(config, {**config, "d": ({"e": True},)}, lambda key: HARMLESS) == ()


def test_a_change_comes_and_goes_by_key() -> None:
    found = config_changes({"a": 1, "b": {"c": 1}}, {"b": {"c": 2}, "d": 3}, lambda key: ANOTHER_RUN)
    assert found == (
        ConfigChange("b.c", 1, 2, ANOTHER_RUN),
        ConfigChange("d", ABSENT, 3, ANOTHER_RUN),
        ConfigChange("a", 1, ABSENT, ANOTHER_RUN),
    )
    assert str(found[2]) == f"a: 1 when saved, nothing now ({ANOTHER_RUN})"


def test_harmless_changes_come_last() -> None:
    meanings = {"a": HARMLESS, "b": FOLLOWED, "c": ANOTHER_RUN}
    found = config_changes({"a": 1, "b": 1, "c": 1}, {"a": 2, "b": 2, "c": 2}, meanings.__getitem__)
    assert [change.key for change in found] == ["c", "a", "b"]


def test_a_section_that_comes_or_goes_is_told_by_its_settings_alone() -> None:
    opened = config_changes({"lr": None}, {"lr": {"factor": 0.1, "groups": {}}}, lambda key: HARMLESS)
    assert [change.key for change in opened] == ["lr.factor", "lr.groups"]
    assert opened[0].saved is ABSENT
    gone = config_changes({"stages": [{"n": 1}]}, {"stages": []}, lambda key: HARMLESS)
    assert [(change.key, change.current) for change in gone] == [("stages[0].n", ABSENT)]
    assert config_changes({"a": None}, {"a": 0}, lambda key: HARMLESS)[0].key == "a"


def test_true_is_not_one_and_a_list_is_one_value() -> None:
    assert [change.key for change in config_changes({"a": 1}, {"a": True}, lambda key: HARMLESS)] == ["a"]
    assert config_changes({"a": 1}, {"a": 1.0}, lambda key: HARMLESS) == ()
    assert flattened({"labels": ["a", "b"], "none": []}) == {"labels": ["a", "b"], "none": []}
    assert flattened({}) == {}
