"""What every test runs under: the Paddle it was promised, no network, and nothing left behind."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import socket
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

HAS_PADDLE = importlib.util.find_spec("paddle") is not None
# The rooms of the package that import Paddle; what mirrors them is not collected where it is not installed.
_NEED_PADDLE = ("callbacks", "cli", "config", "exact_resume", "hapi", "ranks", "recipes")

collect_ignore = (
    [] if HAS_PADDLE else [room for room in _NEED_PADDLE if (Path(__file__).parent / room).is_dir()]
)


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to run on another Paddle than ``EXPECTED_PADDLE`` says ("none", or how its version begins)."""
    expected = os.environ.get("EXPECTED_PADDLE")
    found = version("paddlepaddle") if HAS_PADDLE else "none"
    if expected is not None and not found.startswith(expected):
        raise pytest.UsageError(f"EXPECTED_PADDLE={expected}, but this environment has {found}")
    # No deadline, for a timing is never a test; the same examples each time in CI, new ones for a developer.
    settings.register_profile("ours", deadline=None, derandomize="CI" in os.environ)
    settings.load_profile("ours")


@pytest.fixture(scope="session", autouse=True)
def _no_internet() -> Iterator[None]:
    """Let tests reach this machine only: whatever else they would need must be made by them, or shipped."""
    connect = socket.socket.connect

    def connect_locally(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(str(address[0])):
            raise AssertionError(f"a test tried to reach {address[0]}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_locally)
        yield


def _is_local(host: str) -> bool:
    if host in ("localhost", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def _fit_left_unpatched() -> Iterator[None]:
    """Fail any test after which a builtin is still shadowed in the module of ``Model.fit``."""
    yield
    hapi_model = sys.modules.get("paddle.hapi.model")
    left = sorted({"range", "enumerate"} & set(vars(hapi_model))) if hapi_model is not None else []
    assert not left, f"paddle.hapi.model still has {left} shadowed"
