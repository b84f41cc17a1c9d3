"""Scripts that draw where others do not."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import paddle
from paddle.io import BatchSampler, DataLoader, get_worker_info

from tests.exact_resume.cells import BATCH_SIZE, TRAIN_SAMPLES
from tests.exact_resume.training_script import Samples, Stream, sample
from tests.exact_resume.users_fit import Dropping, Fit, loader, model, persistent, script


class Draws(paddle.callbacks.Callback):  # type: ignore[misc]
    """Draw from every generator at every event."""

    def draw(self, *_: Any) -> None:
        self.drawn = np.random.random() + random.random() + float(paddle.rand([1]))

    on_train_begin = on_epoch_begin = on_train_batch_begin = on_train_batch_end = draw
    on_epoch_end = on_eval_begin = on_eval_batch_end = on_eval_end = draw


@script("a callback draws at every event")
def _(fit: Fit) -> Any:
    return fit(model(), loader(False, workers=0), Draws(), eval_data=loader(False, workers=0, samples=10))


@script("the same, beside augmentation in workers", slow=True)
def _(fit: Fit) -> Any:
    return fit(model(), loader(), Draws(), eval_data=loader(samples=10))


@script("the same, and workers persist", slow=True)
def _(fit: Fit) -> Any:
    return fit(model(), persistent(), Draws(), eval_data=persistent(samples=10))


@script("the same, beside a stream in workers", data="iterable")
def _(fit: Fit) -> Any:
    stream = DataLoader(Stream(TRAIN_SAMPLES, True), batch_size=BATCH_SIZE, num_workers=2, drop_last=True)
    return fit(model(), stream, Draws(), eval_data=loader(False, workers=0, samples=10))


class Seeds(paddle.callbacks.Callback):  # type: ignore[misc]
    """Seed every generator with each epoch's number, as a recipe for reproducible runs has it."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        np.random.seed(epoch)
        random.seed(epoch)
        paddle.seed(epoch)


@script("a callback seeds each epoch", slow=True)
def _(fit: Fit) -> Any:
    return fit(model(), loader(), Seeds(), eval_data=loader(samples=10))


def seed_worker(number: int) -> None:
    np.random.seed(42 + number)
    random.seed(7 + number)


@script("worker_init_fn seeds each worker", slow=True, kills=["mid-epoch", "last step"])
def _(fit: Fit) -> Any:
    return fit(model(), persistent(worker_init_fn=seed_worker))


def mixed(samples: list[Any]) -> list[Any]:
    """Mix each sample with another."""
    features, labels = (np.stack(part) for part in zip(*samples))
    share, others = np.random.beta(1, 1), np.random.permutation(len(features))
    return [(share * features + (1 - share) * features[others]).astype("float32"), labels]


@script("collate_fn mixes samples, in workers that persist", kills=["mid-epoch", "last step"])
def _(fit: Fit) -> Any:
    return fit(model(), persistent(collate_fn=mixed))


class DrawsEachBatch(BatchSampler):  # type: ignore[misc]
    """Batches drawn one by one from NumPy's global generator."""

    def __init__(self) -> None:
        self.batch_size = BATCH_SIZE

    def __len__(self) -> int:
        return 7

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(len(self)):
            yield np.random.randint(0, TRAIN_SAMPLES, BATCH_SIZE).tolist()


@script(
    "network and sampler draw from one generator, beside workers", slow=True, kills=["mid-epoch", "last step"]
)
def _(fit: Fit) -> Any:
    data = DataLoader(Samples(TRAIN_SAMPLES, True), batch_sampler=DrawsEachBatch(), num_workers=2)
    return fit(model(Dropping(from_numpy=True)), data)


class Made:
    """A loader of the user's: batches made as they are asked for."""

    def __len__(self) -> int:
        return 7

    def __iter__(self) -> Iterator[Any]:
        for _ in range(len(self)):
            made = [sample(int(index), True) for index in np.random.randint(0, TRAIN_SAMPLES, BATCH_SIZE)]
            yield [paddle.to_tensor(np.stack(part)) for part in zip(*made)]


@script("batches that are made when asked for, and a network that draws", kills=["mid-epoch", "last step"])
def _(fit: Fit) -> Any:
    return fit(model(Dropping(from_numpy=True)), Made())


class Flips:
    """A transform that draws from generators of its own, as those of some libraries do."""

    def __init__(self) -> None:
        self.numpy, self.python = np.random.default_rng(6), random.Random(7)

    def __call__(self, features: Any) -> Any:
        return (features * self.numpy.choice([1.0, -0.5]) + self.python.random()).astype("float32")


class Transformed(Samples):
    """Samples through a list of transforms; a worker may be given one more."""

    def __init__(self, length: int = TRAIN_SAMPLES) -> None:
        super().__init__(length, augmented=False)
        self.transforms: list[Any] = [Flips()]

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        features, label = super().__getitem__(index)
        for transform in self.transforms:
            features = transform(features)
        return features, label


class Mixes:
    """A collate function with a generator of its own."""

    def __init__(self) -> None:
        self.rng = np.random.RandomState(8)

    def __call__(self, samples: list[Any]) -> list[Any]:
        features, labels = (np.stack(part) for part in zip(*samples))
        return [(features + self.rng.rand() * features[::-1]).astype("float32"), labels]


def of_own_generators(workers: int, **options: Any) -> Any:
    data = Transformed()
    return DataLoader(
        data, batch_size=BATCH_SIZE, shuffle=True, num_workers=workers, collate_fn=Mixes(), **options
    )


@script("transforms and collate_fn have generators of their own")
def _(fit: Fit) -> Any:
    evaluation = DataLoader(Transformed(10), batch_size=BATCH_SIZE)
    return fit(model(), of_own_generators(0), eval_data=evaluation)


@script("transforms and collate_fn in workers have generators of their own", kills=["mid-epoch", "last step"])
def _(fit: Fit) -> Any:
    return fit(model(), of_own_generators(2))


class Jitters(Flips):
    """A transform made in a worker."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.numpy = np.random.default_rng(number)


def give_a_transform(number: int) -> None:
    get_worker_info().dataset.transforms.append(Jitters(number))


@script("the same, in workers that persist and are given one more")
def _(fit: Fit) -> Any:
    evaluation = DataLoader(Transformed(10), batch_size=BATCH_SIZE, num_workers=2, persistent_workers=True)
    train = of_own_generators(2, persistent_workers=True, worker_init_fn=give_a_transform)
    return fit(model(), train, eval_data=evaluation)
