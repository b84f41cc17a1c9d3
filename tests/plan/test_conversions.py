"""Conversions turn one library's names into Paddle's, all of them and without collision."""

from __future__ import annotations

import pytest

from paddle_warm_callbacks.plan.conversions import CONVERSIONS
from paddle_warm_callbacks.plan.matching import TensorSpec, match

NORM = ("weight", "bias", "_mean", "_variance")


def paddleclas_names(blocks: tuple[int, ...]) -> list[str]:
    """List the tensors of PaddleClas's ResNet in the order it makes them."""
    names = ["stem.0.conv.weight", *(f"stem.0.bn.{part}" for part in NORM)]
    for block in range(sum(blocks)):
        first = block in {0, blocks[0], sum(blocks[:2]), sum(blocks[:3])}
        for layer in ("conv0", "conv1", "conv2", *(("short",) if first else ())):
            names += [
                f"blocks.{block}.{layer}.conv.weight",
                *(f"blocks.{block}.{layer}.bn.{part}" for part in NORM),
            ]
    return [*names, "fc.weight", "fc.bias"]


@pytest.mark.parametrize(
    ("depth", "blocks"), [(50, (3, 4, 6, 3)), (101, (3, 4, 23, 3)), (152, (3, 8, 36, 3))]
)
def test_paddleclas_names_become_those_of_paddle_vision(depth: int, blocks: tuple[int, ...]) -> None:
    paddle = pytest.importorskip("paddle")
    network = getattr(paddle.vision.models, f"resnet{depth}")(pretrained=False)
    live = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    # Both libraries make the same tensors in the same order, which gives the source its shapes.
    names = paddleclas_names(blocks)
    table = CONVERSIONS[f"paddleclas-resnet{depth}"].rename
    assert len(names) == len(live)
    source = [
        TensorSpec(name, shape, "float32") for name, shape in zip(names, _paddleclas_order(live).values())
    ]
    target = [TensorSpec(name, shape, "float32") for name, shape in live.items()]
    plan = match(source, target, rename=table)
    assert plan.skips == ()
    assert plan.unused == ()
    assert [load.target for load in plan.loads] == list(live)
    by_source = {load.source: load.target for load in plan.loads}
    assert [by_source[name] for name in names] == list(_paddleclas_order(live))
    control = match(source, target)
    assert {load.target for load in control.loads} == {"fc.weight", "fc.bias"}


def _paddleclas_order(live: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Order ``paddle.vision`` names as a forward pass meets them: each convolution before its norm."""

    def place(name: str) -> tuple[int, int, int, int, int]:
        parts = name.split(".")
        if parts[0] == "fc":
            return (9, 0, 0, 0, 0)
        if not parts[0].startswith("layer"):
            return (0, 0, 0, int(parts[0].startswith("bn")), NORM.index(parts[-1]))
        kind, norm = (
            (3, int(parts[3])) if parts[2] == "downsample" else (int(parts[2][-1]) - 1, parts[2][0] == "b")
        )
        return (int(parts[0][5:]), int(parts[1]), kind, int(norm), NORM.index(parts[-1]))

    return {name: live[name] for name in sorted(live, key=place)}


def test_torch_statistics_get_paddles_names_and_counters_are_dropped() -> None:
    names = ["bn1.weight", "bn1.running_mean", "bn1.running_var", "bn1.num_batches_tracked"]
    assert CONVERSIONS["torch"].names(names) == {
        "bn1.weight": "bn1.weight",
        "bn1.running_mean": "bn1._mean",
        "bn1.running_var": "bn1._variance",
    }
