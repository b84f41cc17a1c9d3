"""Layers of another shape: a head is told with the line that keeps its rows, anything else with a question."""

from __future__ import annotations

import re

import pytest

from paddle_warm_callbacks.plan.matching import TensorSpec, match
from paddle_warm_callbacks.plan.other_shapes import of_other_shape

Shapes = dict[str, tuple[tuple[int, ...], tuple[int, ...]]]


def said(shapes: Shapes, exclude: str | None = None) -> tuple[str, ...]:
    source = [TensorSpec(name, old, "float32") for name, (old, _) in shapes.items()]
    network = [TensorSpec(name, new, "float32") for name, (_, new) in shapes.items()]
    plan = match(source, network, exclude=exclude)
    return of_other_shape({skip.target: skip.shapes for skip in plan.skips if skip.shapes is not None})


BODY: Shapes = {"body.weight": ((4, 8), (4, 8)), "body.bias": ((8,), (8,))}


@pytest.mark.parametrize(
    ("shapes", "line"),
    [
        (
            {"fc.weight": ((8, 3), (8, 5)), "fc.bias": ((3,), (5,))},
            'head=HeadTransplant("fc", old_labels=[…], new_labels=[…])',
        ),
        (
            {"top.out.weight": ((3, 8, 1, 1), (5, 8, 1, 1))},
            'head=HeadTransplant("top.out", old_labels=[…], new_labels=[…], layout="conv")',
        ),
    ],
)
def test_a_head_is_told_with_the_line_to_paste(shapes: Shapes, line: str) -> None:
    (warning,) = said({**BODY, **shapes})
    assert "has 5 outputs here and 3 in the source, and begins anew" in warning
    assert line in warning
    pattern = re.search(r'exclude="(.*)"', warning)
    assert pattern is not None
    assert said({**BODY, **shapes}, exclude=pattern[1]) == ()  # said so, it is no slip


@pytest.mark.parametrize(
    "shapes",
    [
        {"mid.weight": ((8, 3), (6, 5))},
        {"mid.weight": ((8, 3), (6, 3))},  # other inputs
        {"mid.weight": ((8, 3), (8, 5)), "mid.bias": ((3,), (6,))},
        {"mid.weight": ((3, 8), (3, 8, 1, 1))},
        {"mid.scale": ((3,), (5,))},
    ],
)
def test_what_is_no_head_is_asked_about(shapes: Shapes) -> None:
    (warning,) = said({**BODY, **shapes})
    assert warning.startswith("mid has another shape here than in the source, and begins anew: (")
    assert "HeadTransplant" not in warning


def test_nothing_is_said_where_shapes_agree_and_a_missing_tensor_has_none() -> None:
    assert said(BODY) == ()
    (missing,) = match([], [TensorSpec("fc.weight", (8, 5), "float32")]).skips
    assert missing.shapes is None


def test_a_network_of_other_widths_is_told_in_short() -> None:
    warnings = said({f"layer{number}.weight": ((8, 8), (9, 9)) for number in range(9)})
    assert len(warnings) == 4
    assert warnings[-1].startswith("6 more layers have another shape here, and begin anew: layer3, layer4")
