"""Every schedule, users' too, interrupted and resumed by every ``on_resume``, beside the uninterrupted run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Callable

import paddle
import pytest
from paddle.optimizer import lr as paddle_lr

from paddle_warm_callbacks import WarmLRScaler
from paddle_warm_callbacks.plan.lr import ON_RESUME
from tests.callbacks.rates import Plateaus, Said, interrupt, made, resume, saving
from tests.callbacks.runs import fit
from tests.hapi.schedules import SCHEDULES

WARMUP = 2
INTERRUPTED = (1, 1)


class Cosine(paddle_lr.LRScheduler):  # type: ignore[misc]  # Paddle is untyped
    """A user's, whose rate follows from the position."""

    def get_lr(self) -> float:
        return float(self.base_lr * 0.5 * (1 + math.cos(math.pi * self.last_epoch / 12)))


class Shrinking(paddle_lr.LRScheduler):  # type: ignore[misc]
    """A user's, whose rate follows from the one before, and which remembers."""

    def __init__(self) -> None:
        self.shrunk, self.steps = 1.0, list[int]()
        super().__init__(0.1)

    def get_lr(self) -> float:
        if self.last_epoch > 0:
            self.shrunk *= 0.9
            self.steps.append(self.last_epoch)
        return float(self.base_lr * self.shrunk)


class Around(paddle_lr.LRScheduler):  # type: ignore[misc]
    """A user's around two of Paddle's, stepped with it."""

    def __init__(self) -> None:
        self.inner = paddle_lr.LinearWarmup(paddle_lr.OneCycleLR(0.1, total_steps=20), 3, 0, 0.1)
        super().__init__(0.1)

    def get_lr(self) -> float:
        return float(self.inner())

    def step(self, epoch: int | None = None) -> None:
        if hasattr(self, "last_lr"):
            self.inner.step()
        super().step(epoch)


ALL: dict[str, Callable[[], Any]] = {
    **SCHEDULES,
    "a user's by position": lambda: Cosine(0.1),
    "a user's by the one before": Shrinking,
    "a user's around Paddle's": Around,
}


def stepping(schedule: Any) -> tuple[Any, ...]:
    if not isinstance(schedule, paddle_lr.ReduceOnPlateau):
        return ()
    return Plateaus(), paddle.callbacks.LRScheduler(by_step=False, by_epoch=False)


QUICK = ("OneCycleLR", "LinearWarmup(Cosine)", "ReduceOnPlateau")


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK or name.startswith("a user's") else pytest.param(name, marks=pytest.mark.slow)
        for name in ALL
    ],
)
def test_each_goes_on_where_it_was(tmp_path: Path, name: str) -> None:
    """The script is the same, so "reconfigure" and "extend" change nothing; "rewarm" warms what comes now."""

    def scaled(**options: Any) -> tuple[Any, ...]:
        schedule = ALL[name]()
        return made(schedule), (WarmLRScaler(0.3, warmup_steps=WARMUP, **options), *stepping(schedule))

    control = Said()
    model, callbacks = scaled()
    fit(model, *callbacks, saving(tmp_path / "control"), control)
    rates = [rate for at, rate in control.rates.items() if at > INTERRUPTED]
    assert len({*control.rates.values()}) > 1
    for choice in ON_RESUME:
        model, callbacks = scaled()
        interrupt(model, tmp_path / choice, *callbacks, after=INTERRUPTED)
        said = Said()
        model, callbacks = scaled(on_resume=choice)
        resume(model, tmp_path / choice, callbacks[0], said, *callbacks[1:])
        now = list(said.rates.values())
        if choice == "keep":
            assert now == rates
        elif choice == "rewarm":
            warmed = [rate * min(1, (step + 1) / WARMUP) for step, rate in enumerate(rates)]
            assert now == pytest.approx(warmed)
        else:
            assert now == pytest.approx(rates), choice
