"""Matching: every tensor of the network has exactly one fate, and likeness of names is never guessed at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_warm_callbacks.errors import PatternError
from paddle_warm_callbacks.plan.matching import (
    DTYPE_DIFFERS,
    EXCLUDED,
    MISSING_IN_SOURCE,
    NOT_INCLUDED,
    SHAPE_DIFFERS,
    Load,
    MatchPlan,
    Skip,
    TensorSpec,
    match,
)


def specs(*names: str, shape: tuple[int, ...] = (2, 3), dtype: str = "float32") -> list[TensorSpec]:
    return [TensorSpec(name, shape, dtype) for name in names]


def pairs(plan: MatchPlan) -> dict[str, str]:
    return {load.target: load.source for load in plan.loads}


NET = ("conv1.weight", "conv1.bias", "layer1.0.conv.weight", "fc.weight", "fc.bias")


def test_equal_names_are_loaded_and_the_rest_is_accounted_for() -> None:
    plan = match(specs("a", "b", "old"), [*specs("a", "new"), TensorSpec("b", (9,), "float32")])
    assert plan.loads == (Load("a", "a", None),)
    assert plan.skips == (
        Skip("new", MISSING_IN_SOURCE),
        Skip("b", SHAPE_DIFFERS, "(2, 3) in the source, (9,) here", ((2, 3), (9,))),
    )
    assert plan.unused == ("b", "old")


@given(
    st.lists(st.sampled_from([*NET, *(f"Student.{name}" for name in NET)]), unique=True),
    st.lists(st.sampled_from([*NET, *(f"model.{name}" for name in NET)]), unique=True),
    st.sampled_from([(2, 3), (3, 2)]),
)
def test_every_tensor_has_one_fate(source: list[str], target: list[str], shape: tuple[int, ...]) -> None:
    try:
        plan = match(specs(*source, shape=shape), specs(*target))
    except PatternError as failure:
        assert "several tensors" in failure.what  # noqa: PT017
        return
    fates = [*(load.target for load in plan.loads), *(skip.target for skip in plan.skips)]
    assert sorted(fates) == sorted(target)
    used = [load.source for load in plan.loads]
    assert len(set(used)) == len(used)
    assert sorted([*used, *plan.unused]) == sorted(source)
    assert not (plan.loads and shape != (2, 3))
    assert all(load.source == load.target for load in plan.loads if load.target in source)


@pytest.mark.parametrize(
    ("source_prefix", "target_prefix"),
    [("Student.", ""), ("", "backbone."), ("module.", ""), ("", "_layers."), ("model.", "backbone."),
     ("Student.model.backbone.", "module."), ("Teacher.", ""), ("", "my.wrapper.net."), ("modelStudent.", "")],
)  # fmt: skip
def test_a_prefix_on_either_side_is_no_obstacle(source_prefix: str, target_prefix: str) -> None:
    plan = match(
        specs(*(source_prefix + name for name in NET)), specs(*(target_prefix + name for name in NET))
    )
    assert pairs(plan) == {target_prefix + name: source_prefix + name for name in NET}


def test_a_chance_likeness_of_two_layers_is_not_believed() -> None:
    source = specs("layer3.bn.weight", "layer3.conv.weight", "layer3.conv.bias")
    plan = match(source, specs("bn.weight", "head.weight"))
    assert plan.loads == ()
    control = match([*source, *specs("bn.weight")], specs("bn.weight", "head.weight"))
    assert pairs(control) == {"bn.weight": "bn.weight"}


def test_two_prefixes_that_both_fit_are_an_error_that_a_rename_settles() -> None:
    source = specs(*(f"{side}.{name}" for side in ("Teacher", "Student2") for name in NET))
    with pytest.raises(PatternError) as failure:
        match(source, specs(*NET))
    assert "Teacher.conv1.weight" in failure.value.received
    assert "Student2.conv1.weight" in failure.value.received
    plan = match(source, specs(*NET), rename={"^Teacher\\.": ""})
    assert pairs(plan) == {name: f"Teacher.{name}" for name in NET}


def test_student_is_taken_where_both_student_and_teacher_are_there() -> None:
    source = specs(*(f"{side}.{name}" for side in ("Teacher", "Student") for name in NET))
    assert set(pairs(match(source, specs(*NET))).values()) == {f"Student.{name}" for name in NET}


def test_one_source_tensor_for_two_is_an_error() -> None:
    with pytest.raises(PatternError, match="could go into several"):
        match(specs("x.weight"), specs("model.x.weight", "backbone.x.weight"))


def test_a_changed_head_under_another_prefix_is_a_difference_in_shape_not_missing() -> None:
    source = [*specs(*(f"net.{name}" for name in NET[:-2])), *specs("net.fc.weight", shape=(2, 10))]
    plan = match(source, specs(*NET[:-1]))
    assert [skip.reason for skip in plan.skips] == [SHAPE_DIFFERS]


def test_renames_apply_one_after_another_and_keep_the_file_s_name() -> None:
    plan = match(
        specs("stem.0.conv.weight", "blocks.3.conv0.weight"),
        specs("conv1.weight", "layer4.conv.weight"),
        rename={r"^stem\.0\.conv": "conv1", r"^blocks\.(\d)": r"layer\1", "layer3.conv0": "layer4.conv"},
    )
    assert pairs(plan) == {
        "conv1.weight": "stem.0.conv.weight",
        "layer4.conv.weight": "blocks.3.conv0.weight",
    }


@pytest.mark.parametrize(
    ("rename", "says"),
    [
        ({"conv2": "x"}, "matches nothing"),
        ({"(": "x"}, "not a regular expression"),
        ({"conv1": r"\3"}, "cannot be applied"),
        ({"weight|bias": ""}, "the same name"),
    ],
)
def test_a_rename_without_effect_or_sense_is_an_error(rename: dict[str, str], says: str) -> None:
    with pytest.raises(PatternError, match=says):
        match(specs(*NET), specs(*NET), rename=rename)


def test_include_and_exclude_choose_targets() -> None:
    plan = match(specs(*NET), specs(*NET), include=["conv", "fc"], exclude="bias$")
    assert set(pairs(plan)) == {"conv1.weight", "layer1.0.conv.weight", "fc.weight"}
    assert {skip.target: skip.reason for skip in plan.skips} == {"conv1.bias": EXCLUDED, "fc.bias": EXCLUDED}
    plan = match(specs(*NET), specs(*NET), include="^fc")
    assert {skip.reason for skip in plan.skips} == {NOT_INCLUDED}
    assert set(pairs(plan)) == {"fc.weight", "fc.bias"}
    assert "conv1.weight" in plan.unused


@pytest.mark.parametrize("option", ["include", "exclude"])
def test_a_pattern_that_matches_nothing_names_near_misses(option: str) -> None:
    with pytest.raises(PatternError) as failure:
        match(specs(*NET), specs(*NET), **{option: r"^layr1\."})  # type: ignore[arg-type]
    assert "layer1" in failure.value.remedy
    assert option in failure.value.where


def test_an_ambiguity_can_be_excluded() -> None:
    target = specs("model.x.weight", "backbone.x.weight")
    plan = match(specs("x.weight"), target, exclude="^backbone")
    assert pairs(plan) == {"model.x.weight": "x.weight"}


@pytest.mark.parametrize(
    ("saved", "here", "cast"),
    [
        ("float32", "float32", None),
        ("float16", "float32", "float32"),
        ("float32", "bfloat16", "bfloat16"),
        ("uint16", "bfloat16", None),  # how files hold bfloat16
        ("uint16", "float32", "float32"),
        ("int64", "int64", None),
    ],
)
def test_casts_are_stated(saved: str, here: str, cast: str | None) -> None:
    assert match(specs("w", dtype=saved), specs("w", dtype=here)).loads == (Load("w", "w", cast),)


@pytest.mark.parametrize(("saved", "here"), [("int64", "float32"), ("float32", "int64"), ("int32", "int64")])
def test_numbers_of_another_kind_are_not_cast(saved: str, here: str) -> None:
    plan = match(specs("w", dtype=saved), specs("w", dtype=here))
    assert plan.skips == (Skip("w", DTYPE_DIFFERS, f"{saved} in the source, {here} here"),)


def test_transplanted_tensors_keep_their_origin_whatever_the_shape() -> None:
    source = [*specs("Student.conv.weight"), *specs("Student.fc.weight", shape=(2, 10))]
    target = specs("conv.weight", "fc.weight")
    plan = match(source, target, include="conv", transplanted=["fc.weight"])
    assert plan.transplants == (Load("fc.weight", "Student.fc.weight", None),)
    assert plan.unused == ()
    assert match(source[:1], target, transplanted=["fc.weight"]).skips == (
        Skip("fc.weight", MISSING_IN_SOURCE),
    )


def test_a_head_cannot_be_transplanted_and_excluded() -> None:
    with pytest.raises(PatternError, match="transplanted and excluded"):
        match(specs(*NET), specs(*NET), exclude="fc", transplanted=["fc.weight"])


def test_a_large_network_is_matched_quickly() -> None:
    """Not a timing: 4,000 names under another prefix would take minutes if the work were quadratic."""
    names = [f"blocks.{block}.part{part}.linear.weight" for block in range(400) for part in range(10)]
    assert len(match(specs(*("wrapped." + name for name in names)), specs(*names)).loads) == 4000
