"""Generated names of two processes: paired where one code built both networks, and never guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_warm_callbacks.plan.generated_names import Shapes, pair

NETWORK = {
    "conv2d_0.w_0": (4, 3, 3, 3),
    "batch_norm2d_0.w_0": (4,),
    "conv2d_1.w_0": (4, 4, 3, 3),
    "linear_0.w_0": (4, 5),
    "linear_0.b_0": (5,),
    "create_parameter_0.w_0": (1,),
    "learnt.w": (2,),
}


def shifted(kinds: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """Return the network's names as they are where so many layers of each kind were built before it."""
    found = {}
    for name, shape in NETWORK.items():
        for kind, by in kinds.items():
            if name.startswith(kind + "_"):
                number, _, rest = name[len(kind) + 1 :].partition(".")
                name = f"{kind}_{int(number) + by}.{rest}"
                break
        found[name] = shape
    return found


@given(st.integers(0, 120), st.integers(0, 120), st.integers(0, 9))
def test_what_was_built_before_does_not_matter(convs: int, linears: int, parameters: int) -> None:
    there = shifted({"conv2d": convs, "linear": linears, "create_parameter": parameters})
    assert pair(there, NETWORK) == dict(zip(there, NETWORK))


@pytest.mark.parametrize(
    "source",
    [
        {name: shape for name, shape in NETWORK.items() if not name.startswith("conv2d_1")},
        {**NETWORK, "linear_1.w_0": (5, 2)},
        {**NETWORK, "linear_0.b_0": (6,)},
        {},
        # The first convolution is left out, and the second has its number when counted from zero.
        {name: shape for name, shape in NETWORK.items() if not name.startswith("conv2d_0")},
    ],
)
def test_anything_less_is_not_guessed(source: Shapes) -> None:
    assert pair(source, NETWORK) is None
