"""Names say the order, quickly and for any run."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_warm_callbacks.checkpoint import names
from paddle_warm_callbacks.checkpoint.names import Position
from paddle_warm_callbacks.progress import Progress

_POSITIONS = st.builds(
    Position,
    st.one_of(st.integers(0, 3), st.integers(99_999_990, 100_000_010), st.integers(0, 10**12)),
    st.one_of(st.none(), st.integers(0, 12), st.integers(9_998, 10_001)),
    st.one_of(st.just(0), st.integers(0, 12)),
)
_FOREIGN = st.sampled_from(
    ["notes", ".staging-step-00000001", "step-1", "step-00000001.g0", "step-00000001.g01", "step-zzz",
     "step-00000009.g", "step-00000001.g٣", "step-٠٠٠٠٠٠٠٩", "step-00000001-epoch-1",
     "step-00000001 ", "step-00000001.gz", "step-"]
)  # fmt: skip


@given(_POSITIONS)
def test_a_name_says_its_position(position: Position) -> None:
    assert names.position_of(position.name) == position


@given(st.lists(_POSITIONS, unique=True, max_size=12), st.lists(_FOREIGN, max_size=3))
def test_order_is_by_generation_then_step_then_epoch(positions: list[Position], foreign: list[str]) -> None:
    mixed = [position.name for position in positions] + foreign
    random.Random(0).shuffle(mixed)
    expected = [position.name for position in sorted(positions, key=lambda position: position.order)]
    assert names.in_order(mixed) == expected
    assert names.newest(mixed) == (expected[-1] if expected else None)


def test_an_epochs_end_is_newer_than_its_last_step_in_every_generation() -> None:
    for suffix in ("", ".g1"):
        both = [f"step-00000004{suffix}", f"step-00000004-epoch-0001{suffix}"]
        assert names.newest(both) == names.in_order(both)[-1] == both[1]


def test_an_epochs_end_takes_the_place_of_its_last_step_in_its_own_generation() -> None:
    there = ["step-00000004", "step-00000004-epoch-0001", "step-00000007", "step-00000008-epoch-0002.g1",
             "step-00000008", "step-00000009.g1", "step-00000009-epoch-0003.g1", "notes"]  # fmt: skip
    assert names.superseded(there) == {"step-00000004", "step-00000009.g1"}


@given(_FOREIGN)
def test_other_names_are_no_checkpoints(name: str) -> None:
    assert names.position_of(name) is None


@pytest.mark.parametrize(
    ("progress", "epoch_completed", "generation", "expected"),
    [
        (Progress(1200, 3, 17), False, 0, "step-00001200"),
        (Progress(1200, 4, 0), True, 0, "step-00001200-epoch-0004"),
        (Progress(1200, 4, 0), True, 2, "step-00001200-epoch-0004.g2"),
    ],
)
def test_names_of_progress(progress: Progress, epoch_completed: bool, generation: int, expected: str) -> None:
    assert names.name_for(progress, epoch_completed, generation) == expected
