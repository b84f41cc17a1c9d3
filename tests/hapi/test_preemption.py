"""Signals become a flag, and everything is given back."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from paddle_warm_callbacks.hapi.preemption import SignalFlag


@pytest.fixture(autouse=True)
def _handlers_given_back() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before


def test_a_signal_raises_the_flag_and_does_not_end_the_process() -> None:
    flag = SignalFlag()
    flag.install(lambda: None)
    try:
        assert flag.received is None
        os.kill(os.getpid(), signal.SIGUSR1)
        assert flag.received == "SIGUSR1"
    finally:
        flag.uninstall()


def test_it_is_taken_down_while_a_worker_that_was_forked_meanwhile_lives_on() -> None:
    """As those of a loader with persistent workers do."""
    flag = SignalFlag()
    flag.install(lambda: None)
    worker = os.fork()
    if not worker:
        signal.pause()
        os._exit(0)
    try:
        flag.uninstall()
        assert os.waitpid(worker, os.WNOHANG) == (0, 0), "it lives"
    finally:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
    assert "paddle-warm-signals" not in {thread.name for thread in threading.enumerate()}


def test_a_handler_that_was_there_is_called_when_the_flag_is_taken_down() -> None:
    calls: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    try:
        flag = SignalFlag()
        flag.install(lambda: None)
        os.kill(os.getpid(), signal.SIGTERM)
        assert calls == [], "not before the checkpoint is written"
        flag.uninstall()
        assert calls == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_handler_whose_signal_did_not_come_is_not_called() -> None:
    calls: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    try:
        flag = SignalFlag()
        flag.install(lambda: None)
        os.kill(os.getpid(), signal.SIGUSR1)
        flag.uninstall()
        assert calls == []
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_second_use_starts_with_the_flag_down() -> None:
    flag = SignalFlag()
    flag.install(lambda: None)
    os.kill(os.getpid(), signal.SIGUSR1)
    flag.uninstall()
    flag.install(lambda: None)
    try:
        assert flag.received is None
    finally:
        flag.uninstall()


def test_outside_the_main_thread_it_says_so(caplog: pytest.LogCaptureFixture) -> None:
    flag = SignalFlag()
    thread = threading.Thread(target=flag.install, args=(lambda: None,))
    thread.start()
    thread.join()
    assert "main thread" in caplog.text
    flag.uninstall()


def test_what_is_to_be_done_at_once_is_done_while_the_main_thread_waits() -> None:
    done = threading.Event()
    flag = SignalFlag()
    flag.install(done.set)
    try:
        signal.raise_signal(signal.SIGUSR1)
        assert done.wait(10)
    finally:
        flag.uninstall()
    assert "paddle-warm-signals" not in {thread.name for thread in threading.enumerate()}


def test_workers_ignore_the_signals_and_still_run_the_users_function() -> None:
    started: list[int] = []
    users: Any = started.append
    flag = SignalFlag()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        flag.worker_init(users)(3)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        assert started == [3]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
