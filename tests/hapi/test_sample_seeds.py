"""A sample that is seeded by its epoch and index is the same in every process, and touches nobody else's draws."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks import (
    EveryNSteps,
    InvalidArgumentError,
    PeriodicCheckpoint,
    UnsupportedFitError,
    WarmStartCallback,
)
from paddle_warm_callbacks.errors import ResumeChangedError
from paddle_warm_callbacks.hapi import rng
from paddle_warm_callbacks.hapi.sample_seeds import SeededSamples

SAMPLES, BATCH, EPOCHS = 12, 4, 3
STEPS = SAMPLES // BATCH


class Noise(paddle.io.Dataset):  # type: ignore[misc]  # Paddle is untyped
    """Samples that are noise of both kinds and know their index."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        noise = [index, random.random(), np.random.rand()]
        return np.array(noise, dtype="float32"), np.array([index % 2])


class Stop(Exception):
    """Ends a run early."""


class Losses(paddle.callbacks.Callback):  # type: ignore[misc]
    """The losses, by step of the run; raises before a step when told to."""

    def __init__(self, stop_before: int | None = None) -> None:
        super().__init__()
        self.seen: dict[tuple[int, int], float] = {}
        self.stop_before = stop_before
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        if self.stop_before == self.epoch * STEPS + step:
            raise Stop

    def on_train_batch_end(self, step: int, logs: Any = None) -> None:
        self.seen[self.epoch, step] = float(logs["loss"][0])


def loader(workers: int = 0, *, persistent: bool = False, seed: int = 0) -> paddle.io.DataLoader:
    np.random.seed(seed)
    random.seed(seed)
    return paddle.io.DataLoader(
        Noise(), batch_size=BATCH, shuffle=True, num_workers=workers, persistent_workers=persistent
    )


def train(data: Any, *callbacks: Any, stop_before: int | None = None) -> dict[tuple[int, int], float]:
    paddle.seed(0)
    network = paddle.nn.Linear(3, 2)
    model = paddle.Model(network)
    optimizer = paddle.optimizer.Adam(0.01, parameters=network.parameters())
    model.prepare(optimizer, paddle.nn.CrossEntropyLoss())
    losses = Losses(stop_before)
    try:
        model.fit(data, epochs=EPOCHS, callbacks=[*callbacks, losses], verbose=0)
    except Stop:
        assert stop_before is not None
    return losses.seen


@pytest.mark.parametrize(("workers", "persistent"), [(1, False), (2, False), (2, True)])
def test_augmentation_does_not_depend_on_the_number_of_workers(workers: int, persistent: bool) -> None:
    alone = train(loader(), WarmStartCallback(seed_samples=5))
    assert len(alone) == EPOCHS * STEPS
    assert train(loader(workers, persistent=persistent), WarmStartCallback(seed_samples=5)) == alone
    assert train(loader(workers, persistent=persistent)) != train(loader())  # the control


def test_it_depends_on_the_seed_the_epoch_and_the_index_alone() -> None:
    samples = SeededSamples(Noise(), 5)
    samples.begin_epoch(1)
    first = [samples[index][0].tobytes() for index in (3, 4, 3)]
    assert first[0] == first[2] != first[1]
    np.random.seed(99)
    random.seed(98)
    assert samples[3][0].tobytes() == first[0]
    samples.begin_epoch(2)
    assert samples[3][0].tobytes() != first[0]
    other = SeededSamples(Noise(), 6)
    other.begin_epoch(1)
    assert other[3][0].tobytes() != first[0]


def test_other_draws_are_as_without_samples() -> None:
    before = rng.capture()
    samples = SeededSamples(Noise(), 5)
    for index in range(SAMPLES):
        assert len(samples[index]) == 2
    assert rng.same_host(before, rng.capture())
    Noise()[0]
    assert not rng.same_host(before, rng.capture())  # the control


def test_generators_of_its_own_are_seeded_too_and_are_then_as_they_were() -> None:
    class Own(Noise):
        def __init__(self) -> None:
            self.generators: list[Any] = [np.random.default_rng(1), np.random.RandomState(2)]
            self.python = random.Random(3)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            noise = [float(generator.normal()) for generator in self.generators] + [self.python.random()]
            return np.array(noise, dtype="float32"), np.array([index % 2])

    data = Own()
    samples = SeededSamples(data, 5)
    first = [samples[index][0].tobytes() for index in (3, 4, 3)]
    assert first[0] == first[2] != first[1]
    assert data[3][0].tobytes() == Own()[3][0].tobytes()
    assert samples[3][0].tobytes() == first[0] == SeededSamples(Own(), 5)[3][0].tobytes()
    assert data[3][0].tobytes() != Own()[3][0].tobytes()  # the control


def test_a_dataset_that_fails_leaves_the_generators_as_they_were() -> None:
    class Broken(Noise):
        def __getitem__(self, index: int) -> tuple[Any, Any]:
            np.random.rand()
            raise ValueError

    before = rng.capture_host()
    with pytest.raises(ValueError, match=r"^$"):
        SeededSamples(Broken(), 5)[0]
    assert rng.same_host(before, rng.capture_host())


@pytest.mark.parametrize("stop_before", [2, 4, STEPS])
def test_a_run_resumed_with_other_workers_goes_on_exactly(tmp_path: Path, stop_before: int) -> None:
    def callbacks(directory: Path, seed: int | None) -> list[Any]:
        return [
            WarmStartCallback(run_dir=directory, resume_from="latest", seed_samples=seed),
            PeriodicCheckpoint(directory, save=EveryNSteps(1)),
        ]

    straight = train(loader(2), *callbacks(tmp_path / "straight", 5))
    train(loader(2), *callbacks(tmp_path / "cut", 5), stop_before=stop_before)
    resumed = train(loader(seed=17), *callbacks(tmp_path / "cut", 5))
    assert len(resumed) == EPOCHS * STEPS - stop_before
    assert resumed == {at: straight[at] for at in resumed}


def test_the_report_says_that_samples_are_seeded_and_another_seed_is_refused(tmp_path: Path) -> None:
    def callbacks(seed: int | None) -> list[Any]:
        return [
            WarmStartCallback(run_dir=tmp_path, resume_from="latest", seed_samples=seed),
            PeriodicCheckpoint(tmp_path, save=EveryNSteps(1)),
        ]

    train(loader(), *callbacks(5), stop_before=4)
    with pytest.raises(ResumeChangedError, match="seed_samples: 5 when saved, 6 now"):
        train(loader(), *callbacks(6))
    start, saver = callbacks(5)
    train(loader(), start, saver)
    assert "every sample seeded by its epoch and index" in start.report.to_text()


def test_the_loader_is_given_back() -> None:
    data = loader(2, persistent=True)
    dataset, sampler = data.dataset, data.batch_sampler
    train(data, WarmStartCallback(seed_samples=5))
    assert data.dataset is dataset
    assert data.batch_sampler is sampler
    assert data._iterator is None
    train(data)  # with workers of its own, which seed nothing
    again = loader(2, persistent=True)
    train(again)  # whose workers the seeded fit must not use
    np.random.seed(0)
    assert train(again, WarmStartCallback(seed_samples=5)) == train(
        loader(2), WarmStartCallback(seed_samples=5)
    )


def test_samples_without_an_index_are_refused() -> None:
    class Stream(paddle.io.IterableDataset):  # type: ignore[misc]
        def __iter__(self) -> Any:
            yield from (Noise()[index] for index in range(SAMPLES))

    data = paddle.io.DataLoader(Stream(), batch_size=BATCH)
    with pytest.raises(UnsupportedFitError, match="no index"):
        train(data, WarmStartCallback(seed_samples=5))


@pytest.mark.parametrize("wrong", [-1, 1.5, "5", True])
def test_a_wrong_seed_is_refused_at_once(wrong: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        WarmStartCallback(seed_samples=wrong)
