"""One schedule of every kind that Paddle has, nested ones, and a user's: each moves within twelve steps."""

from __future__ import annotations

from typing import Any, Callable

from paddle.optimizer import lr

STEPS = 12


class Halving(lr.LRScheduler):  # type: ignore[misc]  # Paddle is untyped
    """A user's: with a ``__call__`` of its own, compared by value and so without a hash, and with slots."""

    __slots__ = ("called",)

    def get_lr(self) -> float:
        return float(self.base_lr * 0.5 ** (self.last_epoch // 3))

    def __call__(self) -> float:
        return float(self.last_lr) + 0.001

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Halving) and other.base_lr == self.base_lr


def _by_two_thirds(epoch: int) -> float:
    return 2 / 3


SCHEDULES: dict[str, Callable[[], Any]] = {
    "NoamDecay": lambda: lr.NoamDecay(d_model=64, warmup_steps=5),
    "PiecewiseDecay": lambda: lr.PiecewiseDecay([3, 7], [0.1, 0.03, 0.01]),
    "NaturalExpDecay": lambda: lr.NaturalExpDecay(0.1, 0.2),
    "InverseTimeDecay": lambda: lr.InverseTimeDecay(0.1, 0.2),
    "PolynomialDecay": lambda: lr.PolynomialDecay(0.1, decay_steps=5, cycle=True),
    "LinearWarmup": lambda: lr.LinearWarmup(0.1, 4, 0.01, 0.1),
    "ExponentialDecay": lambda: lr.ExponentialDecay(0.1, 0.8),
    "MultiStepDecay": lambda: lr.MultiStepDecay(0.1, [2, 5, 8]),
    "StepDecay": lambda: lr.StepDecay(0.1, 4),
    "LambdaDecay": lambda: lr.LambdaDecay(0.1, lambda epoch: 1 / (epoch + 1)),
    "ReduceOnPlateau": lambda: lr.ReduceOnPlateau(0.1, patience=2, factor=0.5),
    "CosineAnnealingDecay": lambda: lr.CosineAnnealingDecay(0.1, T_max=8),
    "MultiplicativeDecay": lambda: lr.MultiplicativeDecay(0.1, _by_two_thirds),
    "OneCycleLR": lambda: lr.OneCycleLR(0.1, total_steps=STEPS + 4),
    "CyclicLR": lambda: lr.CyclicLR(0.01, 0.1, step_size_up=3, mode="exp_range", exp_gamma=0.9),
    "LinearLR": lambda: lr.LinearLR(0.1, total_steps=9),
    "CosineAnnealingWarmRestarts": lambda: lr.CosineAnnealingWarmRestarts(0.1, T_0=3, T_mult=2),
    "LinearWarmup(Cosine)": lambda: lr.LinearWarmup(lr.CosineAnnealingDecay(0.1, T_max=6), 4, 0.01, 0.1),
    "LinearWarmup(Piecewise)": lambda: lr.LinearWarmup(
        lr.PiecewiseDecay([2, 5], [0.1, 0.03, 0.01]), 3, 0, 0.1
    ),
    "a user's": lambda: Halving(0.1),
}


def advance(schedule: Any) -> None:
    """Step once; a plateau is told of a metric that does not get better."""
    schedule.step(1.0) if isinstance(schedule, lr.ReduceOnPlateau) else schedule.step()
