"""The order of waiting on a device made of Python, and pinned memory that is short. The real one was never run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks.hapi import device_copies, staging
from paddle_warm_callbacks.hapi.staging import StagingBuffers


class Device:
    """Two streams, and a note of all that is queued on them."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.current = "computing"
        self.short = False

    def stream(self, name: str) -> Any:
        return Stream(self, name)

    @contextlib.contextmanager
    def guard(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream.name
        try:
            yield
        finally:
            self.current = before


class Stream:
    def __init__(self, device: Device, name: str) -> None:
        self.device, self.name = device, name

    def wait_stream(self, other: Stream) -> None:
        self.device.done.append(f"{self.name} waits for {other.name}")

    def record_event(self) -> Event:
        self.device.done.append(f"{self.name} records")
        return Event(self.device)

    def wait_event(self, event: Event) -> None:
        self.device.done.append(f"{self.name} waits for the event")


class Event:
    def __init__(self, device: Device) -> None:
        self.device = device

    def synchronize(self) -> None:
        self.device.done.append("host waits for the event")


class OnDevice:
    """A tensor that says it is on a GPU."""

    dtype, shape, size = paddle.float32, [3], 3

    def __init__(self, device: Device, name: str, value: float) -> None:
        self.device, self.name, self.value = device, name, value
        self.place = self
        self.changes = 0

    def _inplace_version(self) -> int:
        return self.changes

    def is_gpu_place(self) -> bool:
        return True

    def is_cpu_place(self) -> bool:
        return False

    def numpy(self) -> Any:
        return np.full(3, self.value, "float32")

    def _copy_to(self, place: Any, blocking: bool) -> Any:
        if self.device.short:
            raise MemoryError("ResourceExhausted: pinned memory")
        assert not blocking
        self.device.done.append(f"{self.device.current} copies {self.name}")
        return OnDevice(self.device, self.name, self.value)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    made = Device()
    monkeypatch.setattr(staging, "_GPU_BUILD", True)
    monkeypatch.setattr(device_copies, "_side_stream", lambda: made.stream("beside"))
    monkeypatch.setattr(paddle, "CUDAPinnedPlace", lambda: "pinned")
    monkeypatch.setattr(paddle.device, "current_stream", lambda: made.stream("computing"))
    monkeypatch.setattr(paddle.device, "stream_guard", made.guard)
    monkeypatch.setattr(paddle.device, "synchronize", lambda: made.done.append("host waits for all"))
    return made


def test_the_device_copies_beside_and_waits_before_it_overwrites(device: Device) -> None:
    tensors = {"norm": OnDevice(device, "norm", 1.0), "weight": OnDevice(device, "weight", 2.0)}
    arrays, copying = StagingBuffers().copy_behind(tensors, {"norm"})
    copying.wait()  # the optimizer's step
    assert device.done == [
        "computing copies norm",
        "beside waits for computing",
        "beside copies weight",
        "beside records",
        "computing waits for the event",
    ], "and the host did not wait"
    assert copying.run()
    assert device.done[-1] == "host waits for the event"
    assert (arrays["norm"][0], arrays["weight"][0]) == (1.0, 2.0)


def test_a_change_in_place_is_noticed_there_too(device: Device) -> None:
    tensors = {"norm": OnDevice(device, "norm", 1.0), "weight": OnDevice(device, "weight", 2.0)}
    _, copying = StagingBuffers().copy_behind(tensors, {"norm"})
    tensors["norm"].changes = 1
    assert copying.run()
    _, copying = StagingBuffers().copy_behind(tensors, {"norm"})
    tensors["weight"].changes = 1
    assert not copying.run()


def test_where_pinned_memory_is_short_the_host_waits(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    device.short = True
    arrays, copying = StagingBuffers().copy_behind({"weight": OnDevice(device, "weight", 2.0)}, set())
    assert arrays["weight"][0] == 2.0
    assert "pinned host memory is short" in caplog.text
    copying.wait()
    assert copying.run()
    assert device.done[-1] == "host waits for all"
    assert not any("copies" in step for step in device.done)
