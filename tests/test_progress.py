"""Progress: ordered by time, exact in JSON, and never a position that cannot be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.progress import Progress

counts = st.integers(0, 10**12)
positions = st.builds(Progress, counts, counts, counts)


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_training_only_moves_forward(epoch_ends: list[bool]) -> None:
    progress, steps = Progress(), 0
    for ends in epoch_ends:
        after = progress.after_epoch() if ends else progress.after_step()
        assert after > progress
        steps += not ends
        assert after.global_step == steps
        assert after.step_in_epoch == (0 if ends else progress.step_in_epoch + 1)
        progress = after
    assert progress.epoch == sum(epoch_ends)


@given(positions)
def test_json_gives_back_the_same_position(progress: Progress) -> None:
    assert Progress.from_json(json.loads(json.dumps(progress.to_json()))) == progress


@pytest.mark.parametrize("wrong", [-1, 1.0, True, "3", None])
@pytest.mark.parametrize("name", ["global_step", "epoch", "step_in_epoch"])
def test_what_is_not_a_position_is_refused_by_name(name: str, wrong: Any) -> None:
    record = {"global_step": 1, "epoch": 1, "step_in_epoch": 1}
    assert Progress.from_json(record) == Progress(1, 1, 1)
    with pytest.raises(InvalidArgumentError, match=name):
        Progress.from_json({**record, name: wrong})


@pytest.mark.parametrize("missing", ["global_step", "epoch", "step_in_epoch"])
def test_a_record_that_lacks_a_field_is_refused(missing: str) -> None:
    record = Progress(1, 1, 1).to_json()
    del record[missing]
    with pytest.raises(InvalidArgumentError, match=missing):
        Progress.from_json(record)
