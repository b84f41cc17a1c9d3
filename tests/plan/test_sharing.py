"""Tensors dealt to ranks by their bytes."""

from __future__ import annotations

import random

import pytest

from paddle_warm_callbacks.plan.sharing import dealt


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
@pytest.mark.parametrize("seed", range(20))
def test_shares_are_even_to_a_tensor_whatever_the_order(ranks: int, seed: int) -> None:
    rng = random.Random(seed)
    sizes = {f"t{n}": rng.choice((0, 4, 4, 1000, rng.randrange(10**6))) for n in range(60)}
    loads = {rank: rng.randrange(10**5) for rank in range(ranks)}
    found = dealt(sizes, loads)
    assert found.keys() == sizes.keys()
    totals = [loads[rank] + sum(sizes[n] for n, to in found.items() if to == rank) for rank in loads]
    assert max(totals) - min(totals) <= max(max(sizes.values()), max(loads.values()))
    shuffled = list(sizes.items())
    rng.shuffle(shuffled)
    assert dealt(dict(shuffled), loads) == found


def test_a_rank_that_has_much_already_gets_less() -> None:
    assert dealt({"a": 3, "b": 2}, {0: 10, 4: 0}) == {"a": 4, "b": 4}


def test_a_rank_that_does_not_write_gets_nothing() -> None:
    assert set(dealt(dict.fromkeys("abcdef", 1), {0: 0, 2: 0}).values()) == {0, 2}
