"""A captured state, put into objects made anew, continues to the bit; and each item of it matters."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from typing import Any, Callable

import numpy as np
import paddle
import pytest
from paddle.io import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, SubsetRandomSampler

from paddle_warm_callbacks.hapi import rng, training_state
from paddle_warm_callbacks.hapi.callback import FitCallback
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.hapi.loader_position import LoaderPosition
from paddle_warm_callbacks.hapi.staging import StagingBuffers
from paddle_warm_callbacks.progress import Progress

SAMPLES, BATCH, EPOCHS = 20, 4, 3
STEPS = SAMPLES // BATCH


class Augmented(Dataset):  # type: ignore[misc]
    """Samples with noise from Python's and NumPy's global generators."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        noise = np.random.normal(size=4) + random.random()
        return (np.full(4, index / SAMPLES) + 0.1 * noise).astype("float32"), np.array([index % 2])


class Plain(Dataset):  # type: ignore[misc]
    """Samples that are the same each time."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return np.linspace(index, index + 1, 4).astype("float32") / SAMPLES, np.array([index % 2])


class Stream(IterableDataset):  # type: ignore[misc]
    """Samples that can only be read one after the other, with noise."""

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for index in range(SAMPLES):
            yield Augmented()[index]


class OwnGenerators(BatchSampler):  # type: ignore[misc]
    """A user's sampler: an order from its own generator, one batch size jitter per batch from another."""

    def __init__(self) -> None:
        self.order_from = np.random.RandomState(7)
        self.jitter_from = random.Random(8)
        self.batch_size = BATCH
        self.epochs_drawn = 0

    def __iter__(self) -> Iterator[list[int]]:
        self.epochs_drawn += 1
        order = self.order_from.permutation(SAMPLES).tolist()
        for start in range(0, SAMPLES, BATCH):
            batch = order[start : start + BATCH]
            self.jitter_from.shuffle(batch)
            yield batch

    def __len__(self) -> int:
        return STEPS


class DrawsPerBatch(BatchSampler):  # type: ignore[misc]
    """A user's sampler that draws every batch from NumPy's global generator."""

    def __init__(self) -> None:
        self.batch_size = BATCH

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(STEPS):
            yield np.random.randint(0, SAMPLES, BATCH).tolist()

    def __len__(self) -> int:
        return STEPS


LOADERS: dict[str, Callable[[], Any]] = {
    "loader, shuffled": lambda: DataLoader(Plain(), batch_size=BATCH, shuffle=True),
    "loader, shuffled, augmented": lambda: DataLoader(Augmented(), batch_size=BATCH, shuffle=True),
    "own sampler": lambda: DataLoader(Plain(), batch_sampler=OwnGenerators()),
    "own sampler, augmented": lambda: DataLoader(Augmented(), batch_sampler=OwnGenerators()),
    "a draw per batch": lambda: DataLoader(Plain(), batch_sampler=DrawsPerBatch()),
    "a draw per batch, workers": lambda: DataLoader(Plain(), batch_sampler=DrawsPerBatch(), num_workers=2),
    "subset sampler": lambda: DataLoader(
        Plain(),
        batch_sampler=BatchSampler(sampler=SubsetRandomSampler(list(range(SAMPLES))), batch_size=BATCH),
    ),
    "random sampler, replacing": lambda: DataLoader(
        Plain(),
        batch_sampler=BatchSampler(sampler=RandomSampler(Plain(), replacement=True), batch_size=BATCH),
    ),
    "workers, augmented": lambda: DataLoader(Augmented(), batch_size=BATCH, shuffle=True, num_workers=2),
    "persistent workers, augmented": lambda: DataLoader(
        Augmented(), batch_size=BATCH, shuffle=True, num_workers=2, persistent_workers=True
    ),
    "stream": lambda: DataLoader(Stream(), batch_size=BATCH),
    "list of batches": lambda: [
        [
            paddle.to_tensor(np.random.RandomState(i).normal(size=(2, 4)).astype("float32")),
            paddle.to_tensor([[0], [1]]),
        ]
        for i in range(STEPS)
    ],
}
if not hasattr(paddle.io, "SubsetRandomSampler"):
    del LOADERS["subset sampler"]


def build() -> paddle.Model:
    paddle.seed(3)
    network = paddle.nn.Sequential(
        paddle.nn.Linear(4, 6), paddle.nn.BatchNorm1D(6), paddle.nn.Dropout(0.5), paddle.nn.Linear(6, 2)
    )
    schedule = paddle.optimizer.lr.CosineAnnealingDecay(0.05, 30)
    model = paddle.Model(network)
    model.prepare(
        paddle.optimizer.Adam(schedule, parameters=network.parameters()),
        paddle.nn.CrossEntropyLoss(),
        paddle.metric.Accuracy(),
    )
    return model


class Capture(FitCallback):
    """Capture the state when ``at`` steps are done; write down every step's loss and accuracy."""

    order = 80

    def __init__(self, at: int, at_epoch_end: bool = False) -> None:
        super().__init__()
        self.at, self.at_epoch_end = at, at_epoch_end
        self.trace: list[Any] = []
        self.captured: Any = None

    def fit_opened(self, loop: FitLoop) -> None:
        _ = loop.position

    def step_ended(self, loop: FitLoop, logs: dict[str, Any]) -> None:
        self.trace.append((loop.progress.global_step, logs["loss"], logs["acc"], loop.optimizer.get_lr()))
        if loop.progress.global_step == self.at and not self.at_epoch_end:
            self._capture(loop)

    def epoch_completed(self, loop: FitLoop, logs: dict[str, Any], eval_logs: Any) -> None:
        if loop.progress.global_step == self.at and self.at_epoch_end:
            self._capture(loop)

    def _capture(self, loop: FitLoop) -> None:
        tensors = training_state.capture_tensors(loop, training_state.layout(loop), StagingBuffers())
        self.captured = (loop.progress, tensors, training_state.capture_counters(loop))


class Restore(FitCallback):
    """Put a captured state back, after ``forget`` has damaged it."""

    order = 0

    def __init__(self, captured: Any, forget: Callable[[dict[str, Any]], None] | None = None) -> None:
        super().__init__()
        self.captured, self.forget = captured, forget

    def fit_opened(self, loop: FitLoop) -> None:
        progress, tensors, counters = self.captured
        if self.forget is not None:
            counters = {**counters, "loader": dict(counters["loader"])}
            self.forget(counters)
        loop.progress = progress
        training_state.restore(loop, tensors, counters)


def run(loader: Any, *callbacks: Any) -> list[bytes]:
    model = build()
    options: dict[str, Any] = {"shuffle": True, "batch_size": BATCH} if isinstance(loader, Dataset) else {}
    model.fit(loader, epochs=EPOCHS, callbacks=list(callbacks), verbose=0, **options)
    return [tensor.numpy().tobytes() for tensor in model.network.state_dict().values()]


def scramble() -> None:
    """Leave the process's generators somewhere else, as a new process would find them."""
    random.seed(99)
    np.random.seed(99)
    paddle.seed(99)


MOMENTS = {
    "first step": (1, False),
    "mid-epoch": (STEPS + 2, False),
    "last step": (STEPS, False),
    "epoch": (STEPS, True),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", ["dataset", *LOADERS])
def test_the_continued_run_equals_the_uninterrupted_one(kind: str, moment: str) -> None:
    require_equal_bits(LOADERS.get(kind, Augmented), Capture(*MOMENTS[moment]))


def test_a_reading_thread_has_drawn_ahead_even_if_it_has_ended_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_end, drop, ended = threading.Event(), LoaderPosition._drop, []
    may_end.set()

    class Held(Stream):
        def __iter__(self) -> Iterator[tuple[Any, Any]]:
            for number, sample in enumerate(super().__iter__()):
                assert number < SAMPLES - BATCH or may_end.wait(60)
                yield sample

    class BeforeItEnds(Capture):
        held = True

        def epoch_completed(self, loop: FitLoop, logs: dict[str, Any], eval_logs: Any) -> None:
            if self.held:
                may_end.clear()

        def _capture(self, loop: FitLoop) -> None:
            super()._capture(loop)
            may_end.set()
            self.held = False

    def drop_until_it_has_ended(position: Any, iterator: Any, batches: int, *others: Any) -> None:
        drop(position, iterator, batches, *others)
        if batches:
            iterator._thread.join(60)
            ended.append(not iterator._thread.is_alive())

    monkeypatch.setattr(LoaderPosition, "_drop", drop_until_it_has_ended)
    require_equal_bits(lambda: DataLoader(Held(), batch_size=BATCH), BeforeItEnds(*MOMENTS["mid-epoch"]))
    assert ended == [True]


def require_equal_bits(make: Callable[[], Any], control: Capture) -> None:
    """Train without a break, and again from what ``control`` has captured."""
    scramble()
    expected = run(make(), control)
    random.seed(5)
    np.random.seed(5)
    continued = Capture(10**6)
    found = run(make(), Restore(control.captured), continued)
    assert continued.trace == control.trace[control.at :]
    assert found == expected


def _forget_rng(counters: dict[str, Any]) -> None:
    random.seed(1)
    np.random.seed(1)
    counters["loader"]["now"] = rng.capture()
    counters["loader"]["draws"] = False


def _forget_epoch_start(counters: dict[str, Any]) -> None:
    np.random.seed(1)
    counters["loader"]["epoch_start"] = {**counters["loader"]["epoch_start"], "rng": rng.capture()}


def _forget_sampler(counters: dict[str, Any]) -> None:
    counters["loader"]["epoch_start"] = {**counters["loader"]["epoch_start"], "sampler": {}}


def _forget_metrics(counters: dict[str, Any]) -> None:
    counters["metrics"] = []


def _forget_learning_rate(counters: dict[str, Any]) -> None:
    fresh = build()
    from paddle_warm_callbacks.hapi import optimizer_state

    counters["learning_rate"] = optimizer_state.capture_learning_rate(fresh._optimizer)


def _forget_accumulators(counters: dict[str, Any]) -> None:
    counters["optimizer_keys"] = []


def _forget_workers(counters: dict[str, Any]) -> None:
    workers = counters["loader"]["workers"]
    counters["loader"]["workers"] = list(reversed(workers))


@pytest.mark.parametrize(
    ("kind", "forget"),
    [
        ("loader, shuffled", _forget_rng),
        ("loader, shuffled", _forget_epoch_start),
        ("dataset", _forget_sampler),
        ("own sampler", _forget_sampler),
        ("loader, shuffled", _forget_metrics),
        ("loader, shuffled", _forget_learning_rate),
        ("loader, shuffled", _forget_accumulators),
        ("workers, augmented", _forget_workers),
    ],
)
def test_each_item_left_out_is_noticed(kind: str, forget: Callable[[dict[str, Any]], None]) -> None:
    make = LOADERS.get(kind, Augmented)
    scramble()
    control = Capture(STEPS + 2)
    run(make(), control)
    continued = Capture(10**6)
    run(make(), Restore(control.captured, forget), continued)
    assert continued.trace != control.trace[STEPS + 2 :]


def test_no_sample_is_loaded_for_what_is_skipped() -> None:
    class Counting(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[int] = []

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            self.asked.append(index)
            return super().__getitem__(index)

    control = Capture(STEPS - 1)
    run(DataLoader(Plain(), batch_size=BATCH, shuffle=True), control)
    data = Counting()
    run(DataLoader(data, batch_size=BATCH, shuffle=True), Restore(control.captured))
    assert len(data.asked) == BATCH + (EPOCHS - 1) * SAMPLES


def test_a_loader_with_its_own_state_is_asked_for_it() -> None:
    class Resumable:
        """Batches from a counter that the loader itself can save."""

        def __init__(self) -> None:
            self.served = 0
            self.loaded = 0

        def __iter__(self) -> Iterator[list[Any]]:
            while self.served % STEPS or self.served == self.start:
                self.loaded += 1
                values = np.random.RandomState(self.served).normal(size=(2, 4)).astype("float32")
                self.served += 1
                yield [paddle.to_tensor(values), paddle.to_tensor([[0], [1]])]
            self.start = self.served

        start = 0

        def __len__(self) -> int:
            return STEPS

        def state_dict(self) -> dict[str, int]:
            return {"served": self.served, "start": self.start}

        def load_state_dict(self, state: dict[str, int]) -> None:
            self.served, self.start = state["served"], state["start"]

    control = Capture(STEPS + 2)
    expected = run(Resumable(), control)
    loader = Resumable()
    continued = Capture(10**6)
    assert run(loader, Restore(control.captured), continued) == expected
    assert continued.trace == control.trace[STEPS + 2 :]
    assert loader.loaded == 2 * STEPS - 2


def test_gradients_that_are_zero_and_none_are_told_apart() -> None:
    class Branches(paddle.nn.Layer):  # type: ignore[misc]
        """A branch that takes part in two steps only: momentum moves it on, but only where it has a gradient."""

        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.early = paddle.nn.Linear(4, 2), paddle.nn.Linear(4, 2)
            self.never = paddle.nn.Linear(4, 2)
            self.steps = 0

        def forward(self, x: Any) -> Any:
            self.steps += 1
            return self.trunk(x) + (self.early(x) if self.steps <= 2 else 0)

    def fit(start_steps: int, *callbacks: Any) -> list[bytes]:
        paddle.seed(3)
        network = Branches()
        network.steps = start_steps
        model = paddle.Model(network)
        model.prepare(
            paddle.optimizer.Momentum(0.1, 0.9, parameters=network.parameters(), weight_decay=0.1),
            paddle.nn.CrossEntropyLoss(),
            paddle.metric.Accuracy(),
        )
        model.fit(DataLoader(Plain(), batch_size=BATCH), epochs=2, callbacks=list(callbacks), verbose=0)
        return [tensor.numpy().tobytes() for tensor in network.state_dict().values()]

    def forget(counters: dict[str, Any]) -> None:
        counters["with_gradient"] = []

    control = Capture(4)
    expected = fit(0, control)
    assert fit(4, Restore(control.captured)) == expected
    assert fit(4, Restore(control.captured, forget)) != expected


def test_a_tensor_of_another_shape_is_refused_before_anything_is_set() -> None:
    from paddle_warm_callbacks.errors import CorruptCheckpointError

    network = paddle.nn.Linear(3, 2)
    before = network.weight.numpy().tobytes()
    with pytest.raises(CorruptCheckpointError, match="does not fit") as caught:
        training_state.restore_model(
            network, {"weight": np.zeros((3, 2), "float32"), "bias": np.zeros(5, "float32")}
        )
    assert caught.value.where == "bias"
    assert network.weight.numpy().tobytes() == before


def test_progress_is_the_one_captured() -> None:
    control = Capture(STEPS + 2)
    run(Plain(), control)
    assert control.captured[0] == Progress(STEPS + 2, 1, 2)
