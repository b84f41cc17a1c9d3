"""What is left of an epoch is dealt to other ranks without a sample lost, and in the epoch's own order."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from paddle.io import BatchSampler, DataLoader, DistributedBatchSampler

from paddle_warm_callbacks.hapi.redealing import Dealing, RedealtBatches, can_be_dealt_anew, steps_left
from tests.exact_resume.training_script import Samples


def sampler(
    samples: int, ranks: int, batch_size: int, *, rank: int = 0, shuffle: bool = True, epoch: int = 0
) -> Any:
    made = DistributedBatchSampler(range(samples), batch_size, ranks, rank, shuffle)
    made.set_epoch(epoch)
    return made


def trained_on(samples: int, ranks: int, batch_size: int, steps: int, epoch: int) -> list[int]:
    """Return what Paddle's own samplers hand out in the first steps of an epoch, step by step and rank by rank."""
    batches = [list(sampler(samples, ranks, batch_size, rank=rank, epoch=epoch)) for rank in range(ranks)]
    return [index for step in list(zip(*batches))[:steps] for batch in step for index in batch]


@given(
    samples=st.integers(1, 60),
    old=st.integers(1, 4),
    new=st.integers(1, 4),
    old_size=st.integers(1, 4),
    new_size=st.integers(1, 4),
    steps=st.integers(0, 12),
    epoch=st.integers(0, 3),
)
def test_no_sample_is_lost_and_none_done_twice_but_for_paddles_padding(
    samples: int, old: int, new: int, old_size: int, new_size: int, steps: int, epoch: int
) -> None:
    done = trained_on(samples, old, old_size, steps, epoch)
    now = sampler(samples, new, new_size, epoch=epoch)
    left = steps_left(now, [Dealing(old, old_size, steps)])
    rest = [index for step in left for batch in step for index in batch]
    counts = Counter(done + rest)
    assert set(counts) == set(range(samples))
    assert sum(counts.values()) - samples < old + new
    whole = trained_on(samples, old, old_size, 10_000, epoch)
    if new == 1:  # in the order of the epoch, which more ranks take side by side
        assert rest == whole[len(done) :]
    assert all(len(step) == new for step in left)


def test_without_a_dealing_before_it_is_paddles_own_epoch() -> None:
    for rank in range(3):
        expected = list(sampler(50, 3, 4, rank=rank, epoch=2))
        assert [step[rank] for step in steps_left(sampler(50, 3, 4, epoch=2), [])] == expected


def test_the_epoch_counts_on_and_batches_before_the_rest_are_stand_ins() -> None:
    users = sampler(20, 1, 4, epoch=5)
    batches = RedealtBatches(users, [Dealing(2, 2, 3)], first=3)
    found = list(batches)
    assert found[:3] == [[], [], []]
    assert [len(batch) for batch in found[3:]] == [4, 4]
    assert users.epoch == 6
    assert len(batches) == 5


def test_a_sampler_of_the_users_own_is_not_dealt_anew() -> None:
    class Own(DistributedBatchSampler):  # type: ignore[misc]  # Paddle is untyped
        def __iter__(self) -> object:
            return iter([[0]])

    samples = Samples(8, augmented=False)
    assert can_be_dealt_anew(DataLoader(samples, batch_sampler=DistributedBatchSampler(samples, 2)))
    for other in (Own(samples, 2), BatchSampler(samples, batch_size=2)):
        assert not can_be_dealt_anew(DataLoader(samples, batch_sampler=other))
