"""A data set that draws from Paddle's generator without workers: told where that is inexact, exact elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.io import DataLoader, IterableDataset

from paddle_warm_callbacks import EveryNSteps, PeriodicCheckpoint, WarmStartCallback
from paddle_warm_callbacks.hapi import paddle_draws, rng
from tests.callbacks.runs import BATCH, Interrupted, Losses, Points

pytestmark = pytest.mark.skipif(
    not rng.paddle_state_is_whole(), reason="Paddle 2.6 cannot read its generator: nothing can be found"
)
Draw = Callable[[], float]


def from_paddle() -> float:
    return float(paddle.rand([1]).item())


def from_numpy() -> float:
    return float(np.random.rand())


class Augmented(Points):
    def __init__(self, draw: Draw) -> None:
        self.draw = draw

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        point, label = super().__getitem__(index)
        return point * np.float32(1 + self.draw()), label


class Stream(IterableDataset):  # type: ignore[misc]  # Paddle is untyped
    def __init__(self, draw: Draw) -> None:
        self.samples = Augmented(draw)

    def __iter__(self) -> Iterator[Any]:
        return (self.samples[index] for index in range(len(self.samples)))


# One point a batch: more batches than are read ahead, so that training draws while the loading thread waits for it.
def of_indices(draw: Draw) -> Any:
    return DataLoader(Augmented(draw), batch_size=1, shuffle=True)


def in_collate(draw: Draw) -> Any:
    def collate(samples: Any) -> Any:
        points, labels = zip(*samples)
        return np.stack(points) * np.float32(1 + draw()), np.stack(labels)

    return DataLoader(Points(), batch_size=1, collate_fn=collate)


def of_workers(draw: Draw) -> Any:
    return DataLoader(Augmented(draw), batch_size=BATCH, num_workers=1)


def streamed(draw: Draw) -> Any:
    return DataLoader(Stream(draw), batch_size=BATCH)


def train(loader: Any, dropout: float, run_dir: Path, *callbacks: Any) -> list[bytes]:
    paddle.seed(1)
    np.random.seed(1)
    network = nn.Sequential(nn.Linear(3, 5), nn.Dropout(dropout), nn.Linear(5, 3))
    model = paddle.Model(network)
    adam = paddle.optimizer.Adam(0.05, parameters=network.parameters())
    model.prepare(adam, nn.CrossEntropyLoss(), paddle.metric.Accuracy())
    start = WarmStartCallback(run_dir=run_dir, resume_from="latest")
    saver = PeriodicCheckpoint(run_dir, save=EveryNSteps(1))
    model.fit(loader, epochs=4, callbacks=[start, saver, *callbacks], verbose=0)
    return [parameter.numpy().tobytes() for parameter in network.parameters()]


@pytest.mark.parametrize(
    ("loader", "draw", "dropout", "told"),
    [
        (of_indices, from_paddle, 0.5, [paddle_draws.RACE]),
        (in_collate, from_paddle, 0.5, [paddle_draws.RACE]),
        (streamed, from_paddle, 0.5, [paddle_draws.UNRECORDED]),
        (of_indices, from_numpy, 0.5, []),
        (streamed, from_numpy, 0.5, []),
        (of_indices, from_paddle, 0.0, []),
        (of_workers, from_paddle, 0.5, []),
    ],
)
def test_it_is_told_once_where_training_draws_too(
    loader: Any, draw: Draw, dropout: float, told: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(loader(draw), dropout, tmp_path)
    assert [r.getMessage() for r in caplog.records if "Paddle's generator" in r.getMessage()] == told


@pytest.mark.parametrize("loader", [of_indices, in_collate])
@pytest.mark.parametrize("after", [(0, 1), (1, 0)])
def test_where_training_does_not_draw_a_resume_is_exact(
    loader: Any, after: tuple[int, int], tmp_path: Path
) -> None:
    control, cut, rest = Losses(), Losses(fail_after=after), Losses()
    expected = train(loader(from_paddle), 0.0, tmp_path / "control", control)
    with pytest.raises(Interrupted):
        train(loader(from_paddle), 0.0, tmp_path / "cut", cut)
    assert train(loader(from_paddle), 0.0, tmp_path / "cut", rest) == expected
    assert {**cut.seen, **rest.seen} == control.seen
    assert min(rest.seen) > after
