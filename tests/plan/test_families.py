"""Which network a file is of, told by names and shapes alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from paddle_warm_callbacks.plan.families import Family, family_of


def resnet(
    blocks: Sequence[int], *, bottleneck: bool, classes: int = 10, width: int = 64
) -> dict[str, list[int]]:
    """Return some names and shapes of a ResNet as paddle.vision has it."""
    shapes = {"conv1.weight": [64, 3, 7, 7], "bn1._mean": [64]}
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            for conv in range(1, 4 if bottleneck else 3):
                shapes[f"layer{stage}.{block}.conv{conv}.weight"] = [width, width, 3, 3]
    return {**shapes, "fc.weight": [512, classes]}


@pytest.mark.parametrize(
    ("blocks", "bottleneck", "arch"),
    [
        ((2, 2, 2, 2), False, "resnet18"),
        ((3, 4, 6, 3), False, "resnet34"),
        ((3, 4, 6, 3), True, "resnet50"),
        ((3, 4, 23, 3), True, "resnet101"),
        ((3, 8, 36, 3), True, "resnet152"),
        ((3, 4, 6, 4), True, None),
    ],
)
def test_resnets_are_told_by_their_blocks(blocks: Sequence[int], bottleneck: bool, arch: str | None) -> None:
    found = family_of(resnet(blocks, bottleneck=bottleneck))
    assert found == Family(arch, 10 if arch else None, None)


def test_a_wider_one_has_the_same_names_and_is_not_taken_for_it() -> None:
    assert family_of(resnet((3, 4, 6, 3), bottleneck=True, width=128)).arch is None


def test_pytorchs_names_are_converted_and_its_head_is_turned() -> None:
    shapes = {
        name: shape for name, shape in resnet((2, 2, 2, 2), bottleneck=False).items() if name != "bn1._mean"
    }
    shapes |= {"bn1.running_mean": [64], "fc.weight": [7, 512]}
    assert family_of(shapes) == Family("resnet18", 7, "torch")


def test_paddleclas_counts_blocks_through() -> None:
    shapes = {f"blocks.{number}.conv2.conv.weight": [256, 64, 1, 1] for number in range(16)}
    plain = {**shapes, "stem.0.conv.weight": [64, 3, 7, 7], "fc.weight": [2048, 5]}
    assert family_of(plain) == Family("resnet50", 5, "paddleclas-resnet50")
    assert family_of({**plain, "stem.1.conv.weight": [32, 32, 3, 3]}).arch is None  # ResNet50_vd
    assert family_of(shapes).arch is None


def test_what_is_unknown_is_said_to_be() -> None:
    assert family_of({"fc.weight": [3, 4]}) == Family(None, None, None)
    assert family_of({}) == Family(None, None, None)
