"""What is copied while training goes on is the state of exactly one step."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks import (
    CheckpointStore,
    EveryNEpochs,
    EveryNSteps,
    KeepLatest,
    PeriodicCheckpoint,
    Stage,
    StagedUnfreeze,
)
from paddle_warm_callbacks.checkpoint.in_flight import InFlight
from paddle_warm_callbacks.hapi import staging
from paddle_warm_callbacks.hapi.hold_back import HoldBack
from paddle_warm_callbacks.hapi.staging import Copying

SIZE, LAYERS, STEPS = 50, 6, 4


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = paddle.Tensor.set_value
    yield
    assert paddle.Tensor.set_value is before
    assert not [thread for thread in threading.enumerate() if thread.name == "checkpoint-writer"]


class AtTheLastMoment:
    """Stands in for NumPy in ``staging``: copies on the writer's thread stop halfway until training waits for them.

    Attributes:
        halfway: Set while one has stopped.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.halfway = threading.Event()
        self._changed = threading.Condition()
        self._wanted: set[Any] = set()
        self._run, self._wait = Copying.run, Copying.wait
        self._idle, self._close = InFlight._wait_until_idle, InFlight.close
        self._copying: Any = None
        self._copied = 0
        monkeypatch.setattr(staging, "np", self)
        monkeypatch.setattr(Copying, "run", lambda copying: self._begin(copying))
        monkeypatch.setattr(Copying, "wait", lambda copying: self._waited_for(copying))
        monkeypatch.setattr(InFlight, "_wait_until_idle", lambda writer: self._idle_wanted(writer))
        monkeypatch.setattr(InFlight, "close", lambda writer: self._closed(writer))

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def copyto(self, target: Any, source: Any) -> None:
        np.copyto(target, source)
        if threading.current_thread() is threading.main_thread():
            return
        self._copied += 1
        if self._copied == LAYERS:
            self.halfway.set()
            with self._changed:
                assert self._changed.wait_for(lambda: self._wanted & {self._copying, InFlight}, 60)
            self.halfway.clear()
            time.sleep(0.03)  # what does not wait now has the time to spoil the rest

    def _begin(self, copying: Any) -> bool:
        self._copying, self._copied = copying, 0
        return self._run(copying)

    def _waited_for(self, copying: Any) -> None:
        self._want(copying)
        self._wait(copying)

    def _idle_wanted(self, writer: Any) -> None:
        self._want(InFlight)
        try:
            self._idle(writer)
        finally:
            self._wanted.discard(InFlight)

    def _closed(self, writer: Any) -> None:
        self._want(InFlight)
        self._close(writer)

    def _want(self, whom: Any) -> None:
        # The writer holds its own condition while it waits to be idle: this one is another.
        with self._changed:
            self._wanted.add(whom)
            self._changed.notify_all()


@pytest.fixture
def slow_copies(monkeypatch: pytest.MonkeyPatch) -> AtTheLastMoment:
    return AtTheLastMoment(monkeypatch)


class Counting(paddle.nn.Layer):  # type: ignore[misc]  # Paddle is untyped
    """Every parameter's gradient is -1 everywhere, so that SGD at rate 1 counts steps in each of its values."""

    def __init__(self) -> None:
        super().__init__()
        zero = paddle.nn.initializer.Constant(0.0)
        self.parts = paddle.nn.LayerList(
            [paddle.nn.Linear(SIZE, SIZE, weight_attr=zero, bias_attr=zero) for _ in range(LAYERS)]
        )
        self.register_buffer("passes", paddle.zeros([SIZE]))
        self.register_buffer("transient", paddle.zeros([SIZE]), persistable=False)
        self.norm = paddle.nn.BatchNorm1D(3)

    def forward(self, points: Any) -> Any:
        if self.training:
            with paddle.no_grad():
                self.passes.add_(paddle.ones([SIZE]))
                self.transient.add_(paddle.ones([SIZE]))
            self.norm(points)
        return -sum(part.weight.sum() + part.bias.sum() for part in self.parts)


class Points(paddle.io.Dataset):  # type: ignore[misc]
    def __len__(self) -> int:
        return 2 * STEPS

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return np.full(3, index, "float32"), np.zeros(1, "float32")


class AsItWas(paddle.callbacks.Callback):  # type: ignore[misc]
    """The bits of every tensor after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.after: dict[int, dict[str, bytes]] = {}

    def on_train_batch_end(self, step: int, logs: Any = None) -> None:
        self.after[len(self.after) + 1] = bits(self.model)


def bits(model: Any) -> dict[str, bytes]:
    held = {
        f"{kind}/{owner}": tensor
        for kind, of in model._optimizer._accumulators.items()
        for owner, tensor in of.items()
    }
    return {name: tensor.numpy().tobytes() for name, tensor in {**model.network.state_dict(), **held}.items()}


def counting(optimizer: Any = paddle.optimizer.SGD, rate: float = 1.0, **prepare: Any) -> Any:
    network = Counting()
    model = paddle.Model(network)
    model.prepare(
        optimizer(rate, parameters=network.parameters()),
        lambda out, label: out + 0.0 * label.sum(),
        **prepare,
    )
    return model


def saved_values(run_dir: Path) -> dict[int, set[float]]:
    """Return, by step, the values found in all parameters of the checkpoint after it."""
    return {
        checkpoint.progress.global_step: {
            float(value)
            for name, array in checkpoint.read_model().items()
            if name.startswith("parts.")
            for value in np.unique(array)
        }
        for checkpoint in CheckpointStore(str(run_dir)).list()
    }


def every_step(run_dir: Path) -> PeriodicCheckpoint:
    return PeriodicCheckpoint(str(run_dir), save=EveryNSteps(1), keep=KeepLatest(99))


def fit(model: Any, *callbacks: Any, epochs: int = 1, **options: Any) -> None:
    model.fit(
        Points(), batch_size=2, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks), **options
    )


ONE_STEP_EACH = {step: {float(step)} for step in range(1, STEPS + 1)}


@pytest.mark.usefixtures("slow_copies")
def test_values_that_count_steps_are_those_of_one_step(tmp_path: Path) -> None:
    saving = every_step(tmp_path)
    fit(counting(), saving)
    assert saved_values(tmp_path) == ONE_STEP_EACH
    held = [event.seconds_blocked for event in saving.events]
    assert min(held[:-1]) > 0.03, "the wait for the copy is counted"


def test_control_without_the_hold_back_files_are_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow_copies: AtTheLastMoment
) -> None:
    def not_held(hold: Any) -> None:
        assert hold._copying is None or slow_copies.halfway.wait(60)

    monkeypatch.setattr(HoldBack, "_wait_and_apply", not_held_then_applied(not_held))
    fit(counting(), every_step(tmp_path))
    assert saved_values(tmp_path) == {1: {1.0, 2.0}, 2: {2.0, 3.0}, 3: {3.0, 4.0}, 4: {4.0}}


def not_held_then_applied(before: Callable[[Any], None]) -> Any:
    """Return an optimizer's writing, which only ``before`` can hold up."""

    def write(hold: Any, *args: Any, **options: Any) -> Any:
        before(hold)
        return hold._apply(*args, **options)

    return write


@pytest.mark.usefixtures("slow_copies")
@pytest.mark.parametrize(
    ("optimizer", "accumulate"),
    [("SGD", 1), ("Momentum", 1), ("Adam", 2), ("AdamW", 1), ("Adagrad", 1), ("Lamb", 2), ("NAdam", 1)],
)
def test_accumulators_buffers_and_norms_are_of_the_same_step(
    tmp_path: Path, optimizer: str, accumulate: int
) -> None:
    if not hasattr(paddle.optimizer, optimizer):
        pytest.skip("this Paddle has none")
    model, seen = counting(getattr(paddle.optimizer, optimizer), 0.1), AsItWas()
    fit(model, every_step(tmp_path), seen, accumulate_grad_batches=accumulate, eval_data=Points())
    names = {tensor.name: name for name, tensor in model.network.state_dict().items()}
    for checkpoint in CheckpointStore(str(tmp_path)).list():
        tensors = {name: array.tobytes() for name, array in checkpoint.read_model().items()}
        table = {
            key: f"{kind}/{names_of(names)[owner]}"
            for key, owner, kind in checkpoint.read_state()["optimizer_keys"]
        }
        tensors |= {
            table[key]: array.tobytes() for key, array in checkpoint.read_optimizer().items() if key in table
        }
        assert tensors == seen.after[checkpoint.progress.global_step]
        assert checkpoint.read_extra()["transient"][0] == checkpoint.read_model()["passes"][0]


def names_of(structured: dict[str, str]) -> dict[str, str]:
    return {name: generated for generated, name in structured.items()}


@pytest.mark.usefixtures("slow_copies")
def test_a_users_set_value_between_two_steps_waits(tmp_path: Path) -> None:
    class Resetting(paddle.callbacks.Callback):  # type: ignore[misc]
        """Set everything to 100 before the third step."""

        def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
            if step == 2:
                for part in reversed(self.model.network.parts):
                    part.set_state_dict(
                        {"weight": paddle.full([SIZE, SIZE], 100.0), "bias": paddle.full([SIZE], 100.0)}
                    )

    fit(counting(), every_step(tmp_path), Resetting())
    assert saved_values(tmp_path) == {1: {1.0}, 2: {2.0}, 3: {101.0}, 4: {102.0}}


class InPlace(paddle.callbacks.Callback):  # type: ignore[misc]
    """Add 100 to everything in place before the third step."""

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        if step == 2:
            with paddle.no_grad():
                for parameter in reversed(self.model.network.parts.parameters()):
                    parameter.add_(paddle.full(parameter.shape, 100.0))


@pytest.mark.usefixtures("slow_copies")
def test_what_is_changed_in_place_meanwhile_is_dropped_and_the_next_step_saved(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "paddle_warm_callbacks"):
        fit(counting(), every_step(tmp_path), InPlace())
    assert saved_values(tmp_path) == {1: {1.0}, 3: {103.0}, 4: {104.0}}
    assert "changed in place" in caplog.text


@pytest.mark.usefixtures("slow_copies")
def test_an_exception_after_the_save_leaves_it_whole(tmp_path: Path) -> None:
    class Failing(paddle.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
            if step == 2:
                raise KeyboardInterrupt

    model = counting()
    with pytest.raises(KeyboardInterrupt):
        fit(model, every_step(tmp_path), Failing())
    assert saved_values(tmp_path) == {1: {1.0}, 2: {2.0}}
    assert "_apply_optimize" not in vars(model._optimizer)


@pytest.mark.usefixtures("slow_copies")
def test_stages_may_change_right_after_a_save(tmp_path: Path) -> None:
    stages = StagedUnfreeze(
        [
            Stage(None, "parts.0", from_step=0),
            Stage(None, "parts.1", from_step=2),
            Stage(None, "parts", from_step=3),
        ]
    )
    fit(counting(paddle.optimizer.Adam, 0.5), every_step(tmp_path), stages)
    moved = [
        {name for name, array in checkpoint.read_model().items() if name.startswith("parts") and array.any()}
        for checkpoint in CheckpointStore(str(tmp_path)).list()
    ]
    first, second = {"parts.0.weight", "parts.0.bias"}, {"parts.1.weight", "parts.1.bias"}
    assert moved[:3] == [first, first, first | second]
    assert len(moved[3]) == 2 * LAYERS


class OwnStep(paddle.optimizer.SGD):  # type: ignore[misc]
    """Writes where nothing can hold it back."""

    def minimize(self, loss: Any, *args: Any, **options: Any) -> Any:
        with paddle.no_grad():
            for parameter in self._parameter_list:
                if parameter.grad is not None:
                    parameter.subtract_(parameter.grad)


@pytest.mark.usefixtures("slow_copies")
def test_an_optimizer_with_a_step_of_its_own_is_waited_for(tmp_path: Path) -> None:
    assert not HoldBack.works_for(OwnStep(1.0, parameters=Counting().parameters()))
    assert not HoldBack.works_for(paddle.optimizer.LBFGS(parameters=Counting().parameters()))
    assert HoldBack.works_for(paddle.optimizer.Adam(parameters=Counting().parameters()))
    fit(counting(OwnStep), every_step(tmp_path))
    assert saved_values(tmp_path) == ONE_STEP_EACH


@pytest.mark.filterwarnings("ignore:.*can only be enabled on CUDAPlace:UserWarning")
@pytest.mark.usefixtures("slow_copies")
def test_a_gradient_scalers_step_waits(tmp_path: Path) -> None:
    model = counting(amp_configs={"level": "O1", "init_loss_scaling": 2.0})
    fit(model, every_step(tmp_path))
    assert model._scaler is not None
    assert saved_values(tmp_path) == ONE_STEP_EACH


class Growing(paddle.callbacks.Callback):  # type: ignore[misc]
    """Add a layer before the third step."""

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        if step == 2:
            self.model.network.parts.append(paddle.nn.Linear(SIZE, SIZE))


def lengths(run_dir: Path) -> dict[int, int]:
    """Return how many tensors the checkpoint after each step holds."""
    saved = CheckpointStore(str(run_dir)).list()
    return {checkpoint.progress.global_step: len(checkpoint.read_model()) for checkpoint in saved}


@pytest.mark.usefixtures("slow_copies")
def test_layers_that_come_during_fit_are_saved_a_step_late_if_need_be(tmp_path: Path) -> None:
    fit(counting(), every_step(tmp_path), Growing())
    found = lengths(tmp_path)
    assert found[4] == found[1] + 2
    # The layer may come while the second step is being copied, or after that: one of the two is missing.
    assert [found[step] for step in (2, 3) if step in found] in ([found[1]], [found[4]])


@pytest.mark.usefixtures("slow_copies")
def test_the_end_of_an_epoch_is_saved_whatever_has_come(tmp_path: Path) -> None:
    class GrowingAtTheEnd(paddle.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.network.parts.append(paddle.nn.Linear(SIZE, SIZE))

    saving = PeriodicCheckpoint(str(tmp_path), save=EveryNEpochs(1), keep=KeepLatest(99))
    fit(counting(), saving, GrowingAtTheEnd(), epochs=3)
    found = lengths(tmp_path)
    assert list(found) == [STEPS, 2 * STEPS, 3 * STEPS]
    first, *later = found.values()
    assert later == [first + 2, first + 4]


@pytest.mark.usefixtures("slow_copies")
def test_a_parameter_that_has_moved_is_saved_from_where_it_is(tmp_path: Path) -> None:
    class Moving(paddle.callbacks.Callback):  # type: ignore[misc]
        """Give the parameters other memory after the second step, with their values."""

        memory: ClassVar[list[Any]] = []

        def on_train_batch_end(self, step: int, logs: Any = None) -> None:
            if step == 1:
                for parameter in self.model.network.parts.parameters():
                    self.memory.append(paddle.to_tensor(parameter.numpy()))
                    parameter.get_tensor()._share_data_with(self.memory[-1].get_tensor())

    fit(counting(), every_step(tmp_path), Moving())
    saved = saved_values(tmp_path)
    assert 2 not in saved, "this was found out while copying"
    assert saved == {step: {float(step)} for step in (1, 3, 4)}


def test_the_copies_are_gone_after_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks: list[weakref.ref[Any]] = []
    room = staging.StagingBuffers._room

    def watched(buffers: Any, count: int) -> Any:
        made = room(buffers, count)
        blocks.append(weakref.ref(buffers._block))
        return made

    monkeypatch.setattr(staging.StagingBuffers, "_room", watched)
    model, saving = counting(), every_step(tmp_path)
    fit(model, saving)
    gc.collect()
    assert blocks
    assert not [block for block in blocks if block() is not None]
    assert len(saving.events) >= STEPS, "while what it cost is still known"
