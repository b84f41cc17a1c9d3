"""The rest of an epoch that was begun on another number of ranks, dealt to the ranks there are now.

What is done of the epoch is counted in samples over all ranks: those that the old ranks have trained on are left out,
and those that are left, in the epoch's own order, are dealt as Paddle's DistributedBatchSampler deals a whole data set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from paddle.io import DistributedBatchSampler

from paddle_warm_callbacks.progress import Progress

State = dict[str, Any]

# What of a loader's state holds for any rank, and for any number of them.
_COMMON = ("now", "exhausted", "epoch_start", "sampler", "loader")


class Dealing(NamedTuple):
    """How part of an epoch was dealt: to how many ranks, in batches of what size, and how many steps were done."""

    ranks: int
    batch_size: int
    steps: int


class RedealtBatches:
    """Stand in for a DistributedBatchSampler in an epoch whose beginning was dealt otherwise.

    Args:
        sampler: Of this rank; raised to the next epoch by iterating, as by itself.
        dealings: Those before, the earliest first.
        first: Number of the first batch that is left; numbers before it stand for what is done.
    """

    def __init__(self, sampler: Any, dealings: Sequence[Dealing], first: int) -> None:
        self._sampler = sampler
        self._dealings = dealings
        self._first = first

    def __len__(self) -> int:
        return len(self._sampler)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)

    def __iter__(self) -> Iterator[list[int]]:
        sampler = self._sampler
        steps = steps_left(sampler, self._dealings)
        if sampler.shuffle:
            sampler.epoch += 1
        yield from ([] for _ in range(self._first))
        yield from (step[sampler.local_rank] for step in steps)


def can_be_dealt_anew(loader: Any) -> bool:
    """Return whether the order of the loader's samples over all ranks is known: Paddle's own sampler deals them."""
    sampler = getattr(loader, "batch_sampler", None)
    return getattr(type(sampler), "__iter__", None) is DistributedBatchSampler.__iter__


def steps_left(sampler: Any, dealings: Sequence[Dealing]) -> list[list[list[int]]]:
    """Return the batches that are left of the sampler's epoch: for each step, one for each rank there is now."""
    left: Sequence[int] = range(len(sampler.dataset))
    shuffle = bool(sampler.shuffle)
    for ranks, batch_size, done in dealings:
        steps = _dealt(left, ranks, batch_size, sampler, shuffle)
        left = [index for step in steps[done:] for batch in step for index in batch]
        shuffle = False  # what is left has its order
    return _dealt(left, sampler.nranks, sampler.batch_size, sampler, shuffle)


def regrouped(
    loader_now: Any, length: int | None, counters: Mapping[str, Any], saved: Progress
) -> tuple[State, Progress]:
    """Translate a state saved on another number of ranks.

    Args:
        loader_now: The train loader that goes on from it.
        length: Its steps in an epoch; None only where the position is an epoch's start.
        counters: Of one rank.
        saved: The position it was saved at.

    Returns:
        The state and the position for this number of ranks: the same global step, and the number, within the epoch,
        of the step that the rest of the epoch begins at.
    """
    loader = counters["loader"]
    kept = {name: loader[name] for name in _COMMON if name in loader}
    if saved.step_in_epoch == 0:
        return {**counters, "loader": kept}, saved
    assert length is not None
    if loader["exhausted"]:
        return {**counters, "loader": kept}, Progress(saved.global_step, saved.epoch, length)
    script = counters["script"]
    done = saved.step_in_epoch - loader.get("first", 0)
    dealings = [*loader.get("dealings", ()), (script["world_size"], script["batch_size"], done)]
    kept["sampler"] = loader["epoch_start"]["sampler"]
    sampler = loader_now.batch_sampler
    users, sampler.epoch = sampler.epoch, kept["sampler"].get("batch_sampler", {}).get("epoch", sampler.epoch)
    first = length - len(steps_left(sampler, [Dealing(*dealing) for dealing in dealings]))
    sampler.epoch = users
    return (
        {**counters, "loader": {**kept, "dealings": dealings, "first": first}},
        Progress(saved.global_step, saved.epoch, first),
    )


def _dealt(
    samples: Sequence[int], ranks: int, batch_size: int, sampler: Any, shuffle: bool
) -> list[list[list[int]]]:
    """Deal ``samples`` as Paddle does: for each step, a batch for each rank."""
    dealers = []
    for rank in range(ranks):
        dealer = DistributedBatchSampler(samples, batch_size, ranks, rank, shuffle, sampler.drop_last)
        dealer.set_epoch(sampler.epoch)
        dealers.append(dealer)
    return [[[samples[index] for index in batch] for batch in step] for step in zip(*dealers)]
