"""Parameters compared over ranks that are threads of this process."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks.errors import RankError
from paddle_warm_callbacks.hapi import same_weights
from paddle_warm_callbacks.hapi.parallel import ConnectedRanks, Ranks
from paddle_warm_callbacks.hapi.staging import borrowed
from paddle_warm_callbacks.hapi.trained import Trained
from tests.hapi.test_parallel import run


class Scaled(paddle.nn.Layer):  # type: ignore[misc]  # Paddle is untyped
    def __init__(self) -> None:
        super().__init__()
        self.scale = self.create_parameter([1])
        self.fixed = self.create_parameter([1])
        self.fixed.stop_gradient = True


def models(number: int = 3) -> list[Any]:
    """Return as many networks with the same parameters, and losses that have a few."""
    made = []
    for _ in range(number):
        paddle.seed(1)
        network = paddle.nn.Sequential(paddle.nn.Linear(3, 4), paddle.nn.BatchNorm1D(4))
        made.append(SimpleNamespace(network=network, _loss=Scaled()))
    return made


def compared(given: list[Any]) -> list[Any]:
    trained = [Trained(model) for model in given]
    return run(len(given), lambda ranks: same_weights.require(ranks, trained[ranks.rank], "here"))


def test_what_is_the_same_passes_and_statistics_may_differ() -> None:
    given = models()
    given[1].network[1]._mean.set_value(np.ones(4, np.float32))
    given[2]._loss.fixed.set_value(np.ones(1, np.float32))
    assert compared(given) == [None] * 3


@pytest.mark.parametrize(
    ("rank", "name"), [(0, "0.weight"), (1, "0.bias"), (2, "1.weight"), (1, "loss@scale")]
)
def test_the_first_parameter_that_differs_in_a_bit_is_named_on_every_rank(rank: int, name: str) -> None:
    given = models()
    named = [dict(Trained(model).named_parameters())[name] for model in given]
    for (
        parameter
    ) in named:  # the last bit of a zero makes a number that some modes of the processor take for zero
        parameter.set_value(np.full(parameter.shape, 0.5, np.float32))
    found = named[rank]
    value = found.numpy()
    value.reshape(-1).view(np.uint32)[0] ^= 1
    found.set_value(value)
    given[rank].network[1].bias.set_value(np.full(4, 7, np.float32))  # later in order, but for the loss's
    expected = "1.bias" if name.startswith("loss@") else name
    for error in compared(given):
        assert isinstance(error, RankError)
        assert error.where == f"{expected}, here"
    if name.startswith("loss@"):
        given[rank].network[1].bias.set_value(np.zeros(4, np.float32))
        for error in compared(given):
            assert error.where == "loss@scale, here"
            assert "parameters of the network" in error.remedy


@pytest.mark.parametrize("torn", [None, 0, 2])
def test_what_changed_while_it_was_looked_at_is_not_compared(torn: int | None) -> None:
    given = models()
    given[1].network[0].bias.set_value(np.full(4, 7, np.float32))

    def act(ranks: ConnectedRanks) -> bool:
        comparison = same_weights.Comparison(ranks, Trained(given[ranks.rank]), "here")
        comparison.look()
        moved_later = np.full([3, 4], ranks.rank, np.float32)
        given[ranks.rank].network[0].weight.set_value(moved_later)
        expected = pytest.raises(RankError, match=r"0\.bias, here") if torn is None else nullcontext()
        with expected:
            comparison.require(whole=ranks.rank != torn)
        return comparison.differ

    assert run(3, act) == [torn is None] * 3


class OnDevice:
    """A tensor that is elsewhere than in this process's memory, as on a GPU."""

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor
        self.shape = tensor.shape
        self.place = SimpleNamespace(is_cpu_place=lambda: False)

    def numpy(self) -> Any:
        return self._tensor.numpy()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64"])
def test_a_tensor_on_a_device_is_compared_by_its_bytes_on_the_host(dtype: str) -> None:
    tensor = paddle.arange(6, dtype="float32").reshape([2, 3]).astype(dtype)
    here, there = (same_weights.bytes_of(borrowed(each)) for each in (tensor, OnDevice(tensor)))
    assert bytes(here) == bytes(there)


def test_a_loss_that_trains_is_warned_of_once_and_on_several_ranks_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = models(1)[0]
    with caplog.at_level(logging.WARNING, "paddle_warm_callbacks"):
        same_weights.warn_of_the_loss(Ranks(), Trained(model))
        assert not caplog.records

        def act(ranks: ConnectedRanks) -> None:
            same_weights.warn_of_the_loss(ranks, Trained(model))

        run(2, act)
    assert [record.getMessage().count("loss@scale") for record in caplog.records] == [1]
    assert "loss@fixed" not in caplog.text
