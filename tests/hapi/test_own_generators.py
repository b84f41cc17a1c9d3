"""Generators that a data set has of its own are found where they lie; those of the process are not taken for them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from paddle_warm_callbacks.hapi.own_generators import OwnGenerators


class Holder:
    """Whatever is given, as attributes."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def drawn(self) -> float:
        return 0.0


def test_they_are_found_in_attributes_containers_and_what_these_hold_each_once() -> None:
    shared = np.random.default_rng(1)
    data = Holder(
        rng=shared,
        transforms=[
            Holder(rng=random.Random(2)),
            {"one": Holder(deeper=Holder(rng=np.random.RandomState(3)))},
        ],
        method=Holder(rng=shared).drawn,
    )
    assert len(OwnGenerators(data, Holder(rng=shared)).capture()) == 3


def test_those_of_the_process_are_not_and_what_holds_itself_ends() -> None:
    data = Holder(numpy=np.random.mtrand._rand, module=np.random, python=random._inst, call=random.random)
    data.itself = [data]  # type: ignore[attr-defined]
    assert not OwnGenerators(data, None)


def test_long_lists_are_not_searched() -> None:
    assert not OwnGenerators(Holder(samples=[Holder(rng=random.Random(1)) for _ in range(65)]))
    assert OwnGenerators(Holder(samples=[Holder(rng=random.Random(1)) for _ in range(64)]))


def test_they_go_on_where_they_were_captured_in_objects_built_anew() -> None:
    def build() -> Holder:
        return Holder(a=np.random.default_rng(1), b=[np.random.RandomState(2), random.Random(3)])

    def draw(data: Any) -> list[float]:
        return [data.a.random(), data.b[0].rand(), data.b[1].random()]

    one, other = build(), build()
    draw(one)
    states = OwnGenerators(one).capture()
    expected = draw(one)
    assert draw(other) != expected
    OwnGenerators(other).restore(states)
    assert draw(other) == expected


def test_seeded_by_a_position_each_draws_something_else() -> None:
    data = Holder(
        a=np.random.RandomState(0), b=np.random.RandomState(0), c=np.random.Generator(np.random.PCG64(0))
    )
    generators = OwnGenerators(data)
    drawn = set()
    for position in ((0, 1), (0, 2), (1, 1), (0, 1)):
        generators.reseed(5, *position)
        drawn.add((data.a.rand(), data.b.rand(), data.c.random()))  # type: ignore[attr-defined]
    assert len(drawn) == 3
    assert all(len(set(values)) == 3 for values in drawn)
