"""Stages and groups made from the order of layers: cut between layers, deepest first, everything in the end."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_warm_callbacks.errors import InvalidArgumentError, PatternError
from paddle_warm_callbacks.plan.stages import StagePlan, fine_tune_by_depth, stages_by_depth
from paddle_warm_callbacks.plan.stages.depth import depth_parts

# The layers of networks that users have, a few tensors for each block.
VIT = {
    "cls_token": 768,
    "pos_embed": 768,
    "patch_embed.proj.weight": 9000,
    **{
        f"blocks.{i}.{part}.weight": 9000
        for i in range(12)
        for part in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    },
    "norm.weight": 768,
    "head.weight": 7680,
    "head.bias": 10,
}
SWIN = {
    "patch_embed.proj.weight": 9000,
    **{
        f"layers.{stage}.blocks.{block}.attn.qkv.weight": 9000
        for stage, depth in enumerate((2, 2, 6, 2))
        for block in range(depth)
    },
    "norm.weight": 768,
    "head.weight": 7680,
}
RECOGNISER = {
    "backbone.conv1.conv.weight": 432,
    **{
        f"backbone.blocks{k}.{i}.dw_conv.lab.scale": 100
        for k, blocks in ((2, 1), (3, 2), (4, 2), (5, 5), (6, 4))
        for i in range(blocks)
    },
    "head.ctc_encoder.encoder.conv1.conv.weight": 5000,
    "head.ctc_head.fc.weight": 800000,
    "head.gtc_head.embedding.weight": 2000000,
}
DETECTOR = {
    **{f"backbone.stage{i}.blocks.{j}.conv.weight": 9000 for i in range(4) for j in range(3)},
    **{f"neck.fpn_stages.{i}.conv.weight": 9000 for i in range(3)},
    "yolo_head.stem_cls.0.fc.weight": 900,
    "yolo_head.pred_cls.0.weight": 900,
}


@pytest.mark.parametrize(
    ("sizes", "head", "deepest"),
    [
        (VIT, "head", "norm"),
        (SWIN, "head", "norm"),
        (DETECTOR, "yolo_head", "neck"),
    ],
)
def test_a_networks_head_and_what_is_thawed_after_it(sizes: dict[str, int], head: str, deepest: str) -> None:
    parts = depth_parts(sizes, 4)
    assert parts[-1] == (head,)
    assert parts[-2][-1] == deepest


def test_transformer_blocks_are_shared_out_evenly() -> None:
    first, second, third, _ = depth_parts(VIT, 4)
    assert first == ("cls_token", "pos_embed", "patch_embed", *(f"blocks.{i}" for i in range(4)))
    assert second == tuple(f"blocks.{i}" for i in range(4, 8))
    assert third == (*(f"blocks.{i}" for i in range(8, 12)), "norm")


def test_two_rows_of_layers_that_take_turns_are_put_in_order() -> None:
    """PaddleClas' EfficientNet keeps each stage's first block in one container and its repeats in another."""
    rows = ("_blocks", "_blocks", "block", "_blocks", "block", "_blocks", "block", "block")
    sizes = {f"_ef.{row}.{number}.conv.weight": 9 for number, row in enumerate(rows)} | {"_fc.weight": 9}
    order = list(sizes)
    for n in (3, 4, 5):
        parts = depth_parts(sizes, n)
        layers = [name.rpartition(".conv")[0] for name in order[:-1]]
        assert [prefix for part in parts[:-1] for prefix in part] == layers
        trained = StagePlan(stages_by_depth(sizes, n)).trainable_names(sizes)
        assert all(list(names) == order[-len(names) :] for names in trained)


def test_a_recognisers_head_may_hold_most_of_it_and_part_of_it_may_be_named() -> None:
    trained = StagePlan(stages_by_depth(RECOGNISER, 3)).trainable_names(RECOGNISER)
    assert set(trained[0]) == {name for name in RECOGNISER if name.startswith("head.")}
    stages = stages_by_depth(RECOGNISER, 3, head="head.ctc_head")
    trained = StagePlan(stages).trainable_names(RECOGNISER)
    assert trained[0] == ("head.ctc_head.fc.weight",)


def test_a_wrapper_is_looked_through_and_of_a_row_the_last_is_the_head() -> None:
    wrapped = {f"model.{name}": size for name, size in DETECTOR.items()}
    assert depth_parts(wrapped, 2)[-1] == ("model.yolo_head",)
    row = {f"{i}.weight": 9 for i in range(4)}
    assert depth_parts(row, 3) == (("0",), ("1", "2"), ("3",))


def test_stages_begin_where_they_are_told_and_slow_down() -> None:
    stages = stages_by_depth(VIT, 3, epochs_per_stage=2, lr_decay=0.5)
    assert [(stage.from_epoch, stage.lr_factor) for stage in stages] == [(0, 1.0), (2, 0.5), (4, 0.25)]


def test_fine_tune_is_fastais_recipe() -> None:
    recipe = fine_tune_by_depth(VIT, freeze_epochs=2, lr_mult=100, n=3)
    assert [(stage.from_epoch, stage.lr_factor) for stage in recipe.stages] == [(0, 1.0), (2, 0.5)]
    assert StagePlan(recipe.stages).trainable_names(VIT)[0] == ("head.weight", "head.bias")
    assert list(recipe.groups.values()) == pytest.approx([1.0, 0.1, 0.01])
    first_found = {
        name: next(factor for pattern, factor in recipe.groups.items() if re.search(pattern, name))
        for name in VIT
    }
    assert first_found["head.weight"] == 1.0
    assert first_found["blocks.11.mlp.fc2.weight"] == pytest.approx(0.1)
    assert first_found["pos_embed"] == pytest.approx(0.01)


def test_a_head_inside_a_layer_keeps_its_own_rate() -> None:
    sizes = {"features.0.weight": 9, "classifier.0.weight": 9000, "classifier.3.weight": 400}
    recipe = fine_tune_by_depth(sizes, n=2)
    assert next(iter(recipe.groups)) == r"^classifier\.3(\.|$)"


layers = st.lists(
    st.tuples(
        st.sampled_from(["stem", "layer1", "layer2", "blocks.0", "blocks.1", "blocks.2", "neck.a", "neck.b"]),
        st.sampled_from(["conv", "norm", "fc"]),
        st.integers(1, 10_000),
    ),
    min_size=3,
    unique_by=lambda layer: layer[:2],
)


@given(layers, st.integers(2, 6))
def test_parts_cover_the_network_once_and_stages_thaw_more_and_more(
    found: list[tuple[str, str, int]], n: int
) -> None:
    found.sort(key=lambda layer: layer[0])  # registered block by block
    sizes = {f"{block}.{layer}.weight": size for block, layer, size in found} | {"head.weight": 10}
    if len({name.rpartition(".")[0] for name in sizes}) < n:
        with pytest.raises(InvalidArgumentError, match="at most"):
            depth_parts(sizes, n)
        return
    parts = depth_parts(sizes, n)
    assert len(parts) == n
    assert parts[-1] == ("head",)
    owners = [
        [at for at, part in enumerate(parts) for p in part if name == p or name.startswith(p + ".")]
        for name in sizes
    ]
    assert all(len(owner) == 1 for owner in owners)
    assert [owner[0] for owner in owners] == sorted(owner[0] for owner in owners)
    trained = [set(names) for names in StagePlan(stages_by_depth(sizes, n)).trainable_names(sizes)]
    assert trained[0] == {"head.weight"}
    assert all(earlier < later for earlier, later in zip(trained, trained[1:]))
    assert trained[-1] == set(sizes)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n": 1}, "at least 2"),
        ({"n": 99}, "at most"),
        ({"n": 2, "epochs_per_stage": 0}, "at least 1"),
        ({"n": 2, "lr_decay": 0}, "above 0"),
    ],
)
def test_numbers_out_of_bounds_are_refused(options: dict[str, int], says: str) -> None:
    with pytest.raises(InvalidArgumentError, match=says):
        stages_by_depth(VIT, **options)  # type: ignore[arg-type]


def test_a_head_that_is_not_there_is_refused_with_near_misses() -> None:
    with pytest.raises(PatternError, match="did you mean 'head'"):
        stages_by_depth(VIT, 2, head="heads")


@pytest.mark.parametrize("options", [{"freeze_epochs": 0}, {"lr_mult": 0.5}, {"n": 1}])
def test_a_wrong_fine_tune_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(InvalidArgumentError):
        fine_tune_by_depth(VIT, **options)  # type: ignore[arg-type]
