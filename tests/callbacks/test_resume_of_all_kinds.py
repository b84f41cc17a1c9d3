"""State in places where a script may well keep it: interrupted and resumed, the run is the uninterrupted one."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.io import BatchSampler, DataLoader, DistributedBatchSampler
from paddle.optimizer.lr import CosineAnnealingDecay, ExponentialDecay, LRScheduler

from paddle_warm_callbacks import (
    CheckpointStore,
    EveryNSteps,
    PeriodicCheckpoint,
    ResumeChangedError,
    UnsupportedFitError,
    WarmStartCallback,
)
from tests.callbacks.runs import BATCH, SAMPLES, STEPS, Interrupted, Losses, Points

Parts = dict[str, Any]


class ListOfTensors(paddle.metric.Metric):  # type: ignore[misc]  # Paddle is untyped
    """A metric that keeps what it has seen as tensors in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        self.seen: list[Any] = []

    def compute(self, predicted: Any, label: Any) -> Any:
        return predicted

    def update(self, predicted: Any) -> float:
        self.seen.append(paddle.to_tensor(predicted))
        return self.accumulate()

    def accumulate(self) -> float:
        return sum(float(tensor.sum()) for tensor in self.seen)

    def name(self) -> list[str]:
        return ["acc"]


class HoldsAnother(ListOfTensors):
    """A metric that leaves the counting to another."""

    def __init__(self) -> None:
        self.other = paddle.metric.Accuracy()
        super().__init__()

    def reset(self) -> None:
        self.other.reset()

    def compute(self, predicted: Any, label: Any) -> Any:
        return self.other.compute(predicted, label)

    def update(self, correct: Any) -> float:
        self.other.update(correct)
        return self.accumulate()

    def accumulate(self) -> float:
        return float(self.other.accumulate())


class OneAfterTheOther(LRScheduler):  # type: ignore[misc]
    """A schedule made of others, in a list."""

    def __init__(self) -> None:
        self.parts = [ExponentialDecay(0.05, 0.9), CosineAnnealingDecay(0.05, 5)]
        super().__init__(0.05)

    def get_lr(self) -> float:
        part = self.parts[int(self.last_epoch >= 3)]
        if self.last_epoch > 0:
            part.step()
        return float(part())


class LearnsToScale(nn.Layer):  # type: ignore[misc]
    """A loss with a parameter, and with a buffer that each call moves."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = self.create_parameter([1], default_initializer=nn.initializer.Constant(1.0))
        self.register_buffer("average", paddle.zeros([1]))
        self.entropy = nn.CrossEntropyLoss()

    def forward(self, predicted: Any, label: Any) -> Any:
        loss = self.entropy(predicted * self.scale, label)
        self.average.set_value(0.5 * self.average + 0.5 * loss.detach())
        return loss * (1 + self.average[0])


class Recurrent(nn.Layer):  # type: ignore[misc]
    """An LSTM with dropout, which has a buffer that holds nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.fc = nn.LSTM(1, 4, num_layers=2, dropout=0.3), nn.Linear(4, 3)

    def forward(self, points: Any) -> Any:
        return self.fc(self.cells(points.unsqueeze(-1))[0][:, -1])


class MakesItsBuffer(nn.Layer):  # type: ignore[misc]
    """A buffer that holds nothing until the first batch gives it a shape."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.register_buffer("total", self.create_tensor(), persistable=False)

    def forward(self, points: Any) -> Any:
        total: Any = self.total  # type: ignore[has-type]
        had = total if total._is_initialized() else paddle.zeros([3])
        self.total = had + points.detach().mean(0)
        return self.fc(points + 0.1 * self.total)


class AroundAnother(BatchSampler):  # type: ignore[misc]
    """A batch sampler that leaves the drawing to another."""

    def __init__(self) -> None:
        self.batch_size = BATCH
        self.other = DistributedBatchSampler(Points(), BATCH, num_replicas=1, rank=0, shuffle=True)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.other)

    def __len__(self) -> int:
        return STEPS


class OwnGenerator(AroundAnother):
    """A batch sampler with a generator of its own, from which it draws each epoch's order."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = np.random.default_rng(3)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.rng.permutation(SAMPLES).reshape(STEPS, BATCH).tolist())


def with_dropout() -> Any:
    return nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.3), nn.Linear(5, 3))


def build(
    network: Callable[[], Any] = with_dropout,
    loss: Callable[[], Any] = nn.CrossEntropyLoss,
    metric: Callable[[], Any] = paddle.metric.Accuracy,
    lr: Callable[[], Any] = lambda: 0.05,
    sampler: Callable[[], Any] | None = None,
    **fit: Any,
) -> Parts:
    made, of_loss = network(), loss()
    model = paddle.Model(made)
    parameters = made.parameters() + of_loss.parameters()
    model.prepare(paddle.optimizer.Adam(lr(), parameters=parameters), of_loss, metric())
    if sampler is not None:
        fit["train_data"] = DataLoader(Points(), batch_sampler=sampler())
    return {"model": model, "train_data": Points(), "batch_size": BATCH, "epochs": 3, "verbose": 0, **fit}


def train(parts: Parts, *callbacks: Any) -> list[bytes]:
    arguments = dict(parts)
    model = arguments.pop("model")
    model.fit(**arguments, callbacks=list(callbacks))
    tensors = {**model.network.state_dict(), **model._loss.state_dict()}
    return [tensor.numpy().tobytes() for tensor in tensors.values()]


def ours(run_dir: Path) -> tuple[Any, Any]:
    return (
        WarmStartCallback(run_dir=run_dir, resume_from="latest"),
        PeriodicCheckpoint(run_dir, save=EveryNSteps(1)),
    )


def seed(number: int) -> None:
    paddle.seed(number)
    np.random.seed(number)


KINDS: dict[str, Parts] = {
    "a metric with tensors in a list": {"metric": ListOfTensors},
    "a metric within a metric": {"metric": HoldsAnother},
    "schedules in a list": {"lr": OneAfterTheOther},
    "a loss with a parameter and a buffer": {"loss": LearnsToScale},
    "a recurrent network": {"network": Recurrent},
    "a buffer without a shape": {"network": MakesItsBuffer},
    "a sampler within a sampler": {"sampler": AroundAnother},
}


@pytest.mark.parametrize("after", [(0, 0), (1, 0), (1, STEPS - 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_on_to_the_bit(kind: str, after: tuple[int, int], tmp_path: Path) -> None:
    control, cut, rest = Losses(), Losses(fail_after=after), Losses()
    seed(1)
    expected = train(build(**KINDS[kind]), control, PeriodicCheckpoint(tmp_path / "control"))
    seed(1)
    with pytest.raises(Interrupted):
        train(build(**KINDS[kind]), cut, *ours(tmp_path / "cut"))
    seed(2)
    assert train(build(**KINDS[kind]), rest, *ours(tmp_path / "cut")) == expected
    assert {**cut.seen, **rest.seen} == control.seen
    assert min(rest.seen) > (0, 0)


@pytest.mark.parametrize("sampler", [AroundAnother, OwnGenerator])
@pytest.mark.parametrize("after", [(0, 0), (1, 1)])
def test_a_notebooks_cell_with_fit_alone_is_run_again(
    sampler: Callable[[], Any], after: tuple[int, int], tmp_path: Path
) -> None:
    control, cut, rest = Losses(), Losses(fail_after=after), Losses()
    seed(1)
    expected = train(build(sampler=sampler), control, PeriodicCheckpoint(tmp_path / "control"))
    seed(1)
    built = build(sampler=sampler)  # by another cell, once
    with pytest.raises(Interrupted):
        train(built, cut, *ours(tmp_path / "cut"))
    assert train(built, rest, *ours(tmp_path / "cut")) == expected
    assert {**cut.seen, **rest.seen} == control.seen


def interrupted(tmp_path: Path, after: tuple[int, int] = (1, 0), **parts: Any) -> None:
    seed(1)
    with pytest.raises(Interrupted):
        train(build(**parts), Losses(fail_after=after), *ours(tmp_path))


def resumed(tmp_path: Path, **parts: Any) -> Any:
    """Return the report of a resume."""
    start, saver = ours(tmp_path)
    train(build(**parts), start, saver)
    assert start.report is not None
    return start.report


@pytest.mark.parametrize(
    "changed", [{"shuffle": False}, {"train_data": DataLoader(Points(), batch_size=BATCH, shuffle=False)}]
)
def test_another_order_inside_an_epoch_is_refused(changed: Parts, tmp_path: Path) -> None:
    shuffled = {**changed, "shuffle": True}
    if "train_data" in changed:
        shuffled = {"train_data": DataLoader(Points(), batch_size=BATCH, shuffle=True)}
    interrupted(tmp_path, **shuffled)
    with pytest.raises(ResumeChangedError, match="another order"):
        resumed(tmp_path, **changed)
    assert resumed(tmp_path, **shuffled).kind == "resume"


def test_another_metric_begins_anew_and_the_report_says_so(tmp_path: Path) -> None:
    interrupted(tmp_path)
    report = resumed(tmp_path, metric=ListOfTensors)
    assert any("['Accuracy'] when saved, ['ListOfTensors'] now" in note for note in report.notes)


def test_the_report_says_of_each_trained_parameter_restored_or_reset_and_why(tmp_path: Path) -> None:
    class Frozen(nn.Sequential):  # type: ignore[misc]
        def __init__(self, frozen: bool) -> None:
            super().__init__(nn.Linear(3, 5), nn.Linear(5, 3))
            for parameter in self[0].parameters():
                parameter.stop_gradient = frozen

    interrupted(tmp_path, network=lambda: Frozen(frozen=True))
    report = resumed(tmp_path, network=lambda: Frozen(frozen=False))
    assert set(report.optimizer_restored) == {"1.weight", "1.bias"}
    assert dict(report.optimizer_reset).keys() == {"0.weight", "0.bias"}
    assert "frozen" in dict(report.optimizer_reset)["0.weight"]


def loader(workers: int) -> Any:
    return DataLoader(Points(), batch_size=BATCH, num_workers=workers)


def test_batches_loaded_again_are_counted_and_timed_in_the_report(tmp_path: Path) -> None:
    interrupted(tmp_path, after=(1, 1), train_data=loader(1))
    report = resumed(tmp_path, train_data=loader(2))
    said = "\n".join(report.notes)
    assert "the workers load the skipped batches again" in said
    assert "2 batches were loaded again and dropped, in " in said
    assert "nothing loaded twice" not in said


def test_and_where_none_are_it_says_that(tmp_path: Path) -> None:
    interrupted(tmp_path, after=(1, 1), train_data=loader(1))
    said = "\n".join(resumed(tmp_path, train_data=loader(1)).notes)
    assert "nothing loaded twice" in said
    assert "again" not in said


class OwnPosition:
    """A loader that knows where it is; whether the end of an epoch is to it the next one's beginning, is its affair."""

    def __init__(self, *, wraps: bool) -> None:
        self.wraps, self.at = wraps, 0

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[list[Any]]:
        while self.at < STEPS:
            batch = [Points()[BATCH * self.at + i] for i in range(BATCH)]
            self.at += 1
            if self.wraps and self.at == STEPS:
                self.at = 0
                yield [paddle.to_tensor(np.stack(part)) for part in zip(*batch)]
                return
            yield [paddle.to_tensor(np.stack(part)) for part in zip(*batch)]
        self.at = 0

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.at = state["at"]


@pytest.mark.parametrize("after", [(0, STEPS - 1), (1, 0)])
@pytest.mark.parametrize("wraps", [False, True])
def test_a_loader_with_a_state_of_its_own_goes_on_after_any_step(
    wraps: bool, after: tuple[int, int], tmp_path: Path
) -> None:
    control, cut, rest = Losses(), Losses(fail_after=after), Losses()
    seed(1)
    expected = train(build(train_data=OwnPosition(wraps=wraps)), control, *ours(tmp_path / "straight"))
    seed(1)
    with pytest.raises(Interrupted):
        train(build(train_data=OwnPosition(wraps=wraps)), cut, *ours(tmp_path / "cut"))
    for newest in CheckpointStore(tmp_path / "cut").list()[-1:]:
        if newest.progress.step_in_epoch == 0:
            shutil.rmtree(newest.path)  # so that the one after the epoch's last step is resumed
    seed(2)
    assert train(build(train_data=OwnPosition(wraps=wraps)), rest, *ours(tmp_path / "cut")) == expected
    assert {**cut.seen, **rest.seen} == control.seen


def test_the_report_names_the_losss_parameter(tmp_path: Path) -> None:
    for epochs in (1, 2):
        start, saver = ours(tmp_path)
        train(build(loss=LearnsToScale, epochs=epochs), start, saver)
    assert start.report is not None
    assert "loss@scale" in start.report.optimizer_restored
    checkpoint = CheckpointStore(tmp_path).latest_verified()
    assert checkpoint is not None
    assert not any("scale" in name for name in checkpoint.read_model()), "the model's file is for other tools"


def test_an_optimizer_within_another_is_refused(tmp_path: Path) -> None:
    parts = build()
    inner = parts["model"]._optimizer
    parts["model"]._optimizer = paddle.incubate.LookAhead(inner, k=2)
    with pytest.raises(UnsupportedFitError, match=r"LookAhead\(Adam\)"):
        train(parts, PeriodicCheckpoint(tmp_path))


def test_parameters_of_neither_network_nor_loss_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parts, stranger = build(epochs=1), nn.Linear(1, 1)
    parts["model"]._optimizer = paddle.optimizer.SGD(
        0.1, parameters=parts["model"].parameters() + stranger.parameters()
    )
    with caplog.at_level(logging.WARNING, "paddle_warm_callbacks"):
        train(parts, PeriodicCheckpoint(tmp_path / "one"))
    assert stranger.weight.name in caplog.text
    caplog.clear()
    train(build(epochs=1), PeriodicCheckpoint(tmp_path / "other"))
    assert "neither" not in caplog.text


@pytest.mark.parametrize("on_change", ["raise", "adapt"])
def test_a_loader_without_a_sampler_takes_over_at_an_epochs_end(tmp_path: Path, on_change: str) -> None:
    train(build(epochs=1), *ours(tmp_path))
    batches = [[paddle.rand([BATCH, 3]), paddle.to_tensor([[0]] * BATCH)]] * STEPS
    start = WarmStartCallback(run_dir=tmp_path, resume_from="latest", on_change=on_change)
    after = Losses()
    train(build(epochs=2, train_data=batches), after, start, PeriodicCheckpoint(tmp_path))
    assert len(after.seen) == STEPS
    assert start.report is not None
    assert any("sampler" in note for note in start.report.notes)
