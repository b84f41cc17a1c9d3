"""What a running fit is known by: its counts are Paddle's own."""

from __future__ import annotations

from typing import Any

import pytest

from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.progress import Progress
from tests.hapi.fits import STEPS, Points, Recorder, StartAt, fit, linear_model


@pytest.mark.parametrize("evaluated", [False, True])
@pytest.mark.parametrize("at", [1, 3, 4, 6, 8])
def test_num_iters_counts_what_was_done_before_as_paddle_counts(at: int, evaluated: bool) -> None:
    class Stop(StartAt):
        """Remember the position and the count after ``at`` steps."""

        def step_ended(self, loop: FitLoop, logs: dict[str, Any]) -> None:
            super().step_ended(loop, logs)
            if loop.progress.global_step == at:
                self.left_at = (loop.progress, loop.iters_done)

    class Continue(StartAt):
        def fit_opened(self, loop: FitLoop) -> None:
            super().fit_opened(loop)
            loop.iters_before = control.left_at[1]

    options: dict[str, Any] = {"num_iters": 8, **({"eval_data": Points()} if evaluated else {})}
    control, heard = Stop(), Recorder()
    fit(linear_model(), control, heard, **options)
    if not hasattr(control, "left_at"):
        return  # with evaluations, which count too, there are fewer steps
    continued, heard_then = Continue(control.left_at[0]), Recorder()
    fit(linear_model(), continued, heard_then, **options)
    assert continued.events[-1] == control.events[-1]
    assert heard_then.heard[-2:] == heard.heard[-2:]


class Asked(StartAt):
    """What the fit says of itself at each step's end."""

    def __init__(self) -> None:
        super().__init__()
        self.windows: list[bool] = []

    def step_ended(self, loop: FitLoop, logs: dict[str, Any]) -> None:
        self.windows.append(loop.window_open)
        self.follows = [loop.evaluation_follows(epoch) for epoch in range(4)]
        self.tags = loop.metric_tags


def test_a_window_is_open_until_its_last_step_or_the_epochs() -> None:
    asked = Asked()
    fit(linear_model(), asked, epochs=2, accumulate_grad_batches=2)
    assert asked.windows == [True, False, False] * 2


def test_evaluations_follow_as_fit_makes_them_and_judge_the_run() -> None:
    asked, heard = Asked(), Recorder()
    fit(linear_model(), asked, heard, epochs=4, eval_data=Points(), eval_freq=3)
    events = [event for event, _ in heard.heard if event in ("epoch_end", "eval_end")]
    assert asked.follows == [True, False, False, True]
    assert events == ["epoch_end", "eval_end", "epoch_end", "epoch_end", "epoch_end", "eval_end"]
    assert asked.tags == ["eval/loss", "eval/acc"]
    fit(linear_model(), asked)
    assert asked.follows == [False] * 4
    assert asked.tags == ["train/loss", "train/acc"]


@pytest.mark.parametrize(
    ("at", "epochs", "says"),
    [(Progress(6, 2, 0), 3, ""), (Progress(6, 2, 0), 2, "fit(epochs=2)"), (Progress(6, 1, STEPS), 2, "")],
)
def test_it_knows_when_nothing_is_left(at: Progress, epochs: int, says: str) -> None:
    class Left(StartAt):
        def fit_ready(self, loop: FitLoop) -> None:
            self.left = loop.nothing_left

    left, heard = Left(at), Recorder()
    fit(linear_model(), left, heard, epochs=epochs)
    assert (says in left.left) if says else (left.left == "")
    assert bool(left.left) == (heard.heard == [("train_begin", None), ("train_end", None)])
