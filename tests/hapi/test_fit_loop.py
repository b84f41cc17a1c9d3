"""A fit starts where it is told, everyone sees true numbers, and nothing stays behind."""

from __future__ import annotations

import builtins
import threading
from typing import Any

import paddle
import pytest
from paddle.hapi import model as hapi_model

from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.progress import Progress
from tests.hapi.fits import STEPS, Points, Recorder, StartAt, fit, linear_model

MID_EPOCH = Progress(global_step=STEPS + 1, epoch=1, step_in_epoch=1)


def shadowed() -> set[str]:
    """Return the builtins that the module of ``Model.fit`` has other things for."""
    return {name for name in vars(builtins).keys() & vars(hapi_model).keys() if not name.startswith("__")}


def test_a_cold_fit_runs_as_without_us() -> None:
    control, ours = Recorder(), Recorder()
    fit(linear_model(), control, eval_data=Points())
    fit(linear_model(), ours, StartAt(), eval_data=Points())
    assert ours.heard == control.heard


def test_a_fit_positioned_inside_an_epoch_continues_the_control() -> None:
    control, ours = Recorder(), Recorder()
    fit(linear_model(), control, eval_data=Points())
    fit(linear_model(), ours, StartAt(MID_EPOCH), eval_data=Points())
    begun = control.heard.index(("epoch_begin", 1))
    skipped_batch = ("batch_end", 0)
    expected = [("train_begin", None), *control.heard[begun:]]
    expected.remove(skipped_batch)
    assert ours.heard == expected


def test_our_events_carry_the_position() -> None:
    callback = StartAt(MID_EPOCH)
    fit(linear_model(), callback, epochs=2)
    assert callback.events == [
        ("opened", 1, 1, 4),
        ("started", 1, 1, 4),
        ("epoch", 1, 1, 4),
        ("step", 1, 2, 5),
        ("step", 1, 3, 6),
        ("completed", 2, 0, 6),
        ("ended", 2, 0, 6),
        ("closed", 2, 0, 6),
    ]


def test_all_steps_done_and_the_evaluation_to_come() -> None:
    recorder = Recorder()
    fit(linear_model(), recorder, StartAt(Progress(STEPS, 0, STEPS)), epochs=1, eval_data=Points())
    assert recorder.heard == [
        ("train_begin", None),
        ("epoch_begin", 0),
        ("epoch_end", 0),
        ("eval_end", None),
        ("train_end", None),
    ]


@pytest.mark.parametrize("eval_freq", [1, 2])
def test_epochs_are_completed_after_their_evaluation(eval_freq: int) -> None:
    callback = StartAt()
    fit(linear_model(), callback, epochs=3, eval_data=Points(), eval_freq=eval_freq)
    ends = [event for event, *_ in callback.events if event in ("completed", "evaluated")]
    assert ends == (["evaluated"] * 3 if eval_freq == 1 else ["evaluated", "completed", "evaluated"])


def test_a_finished_run_trains_nothing_and_ends_normally() -> None:
    recorder, data, evaluated = Recorder(), Points(), Points()
    fit(linear_model(), recorder, StartAt(Progress(9, 3, 0)), data=data, eval_data=evaluated)
    assert recorder.heard == [("train_begin", None), ("train_end", None)]
    assert data.asked == evaluated.asked == []


def test_the_progress_bar_counts_true_steps(capsys: pytest.CaptureFixture[str]) -> None:
    model = linear_model()
    model.fit(Points(), batch_size=4, epochs=2, callbacks=[StartAt(MID_EPOCH)], verbose=2, log_freq=1)
    printed = capsys.readouterr().out
    assert "Epoch 2/2" in printed
    assert "Epoch 1/2" not in printed
    assert "step 2/3" in printed
    assert "step 3/3" in printed
    assert "step 1/3" not in printed


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_in_a_step_closes_before_it_is_caught(error: type[BaseException]) -> None:
    class Failing(StartAt):
        def step_ended(self, loop: FitLoop, logs: dict[str, Any]) -> None:
            super().step_ended(loop, logs)
            raise error

    callback = Failing(MID_EPOCH)
    with pytest.raises(error):
        fit(linear_model(), callback)
    assert callback.events[-1][0] == "closed"
    assert [event for event, *_ in callback.events].count("closed") == 1
    assert shadowed() == set()


HOOKS = (
    *("on_epoch_begin", "on_train_batch_begin", "on_train_batch_end", "on_epoch_end"),
    *("on_eval_begin", "on_eval_batch_begin", "on_eval_batch_end", "on_eval_end", "on_train_end"),
)


@pytest.mark.parametrize("stopped", ["not", "here", "by an earlier fit"])
@pytest.mark.parametrize("hook", HOOKS)
def test_an_exception_in_any_hook_of_anyone_closes_before_it_is_caught(hook: str, stopped: str) -> None:
    class Failing(paddle.callbacks.Callback):  # type: ignore[misc]
        pass

    def fail(self: Any, *_: Any) -> None:
        if stopped == "here":
            self.model.stop_training = True
        raise RuntimeError

    setattr(Failing, hook, fail)
    callback, model = StartAt(), linear_model()
    model.stop_training = stopped == "by an earlier fit"  # fit never resets it
    with pytest.raises(
        RuntimeError
    ) as caught:  # kept, and its frames with it, as a notebook keeps the last one
        fit(model, Failing(), callback, eval_data=Points())
    assert caught.traceback
    assert callback.events[-1][0] == "closed"
    assert [event for event, *_ in callback.events].count("closed") == 1
    assert callback.loop is None
    assert shadowed() == set()


@pytest.mark.parametrize("evaluated", [False, True])
def test_stop_training_ends_fit_after_the_epoch_and_stays_set_as_without_us(evaluated: bool) -> None:
    class Stopping(paddle.callbacks.Callback):  # type: ignore[misc]
        at_end: bool | None = None

        def on_train_batch_end(self, step: int, logs: Any = None) -> None:
            self.model.stop_training = True

        def on_train_end(self, logs: Any = None) -> None:
            self.at_end = self.model.stop_training

    options = {"eval_data": Points()} if evaluated else {}
    control, ours, stopping, model = Recorder(), Recorder(), Stopping(), linear_model()
    fit(linear_model(), control, Stopping(), **options)
    callback = StartAt()
    fit(model, ours, stopping, callback, **options)
    assert ours.heard == control.heard
    assert stopping.at_end is model.stop_training is True
    assert callback.events[-2:] == [("ended", 1, 0, STEPS), ("closed", 1, 0, STEPS)]


def test_an_exception_before_training_leaves_nothing_armed() -> None:
    class Failing(paddle.callbacks.Callback):  # type: ignore[misc]
        def on_train_begin(self, logs: Any = None) -> None:
            raise RuntimeError

    callback = StartAt()
    with pytest.raises(RuntimeError):
        fit(linear_model(), callback, Failing())
    assert shadowed() == set()
    assert callback.events in ([], [("closed", 0, 0, 0)])


def test_stop_now_skips_the_rest_of_the_epoch_and_its_evaluation() -> None:
    class Stopping(StartAt):
        def step_ended(self, loop: FitLoop, logs: dict[str, Any]) -> None:
            super().step_ended(loop, logs)
            if loop.progress.global_step == 1:
                loop.stop_now()

    recorder, evaluated = Recorder(), Points()
    model = linear_model()
    fit(model, recorder, Stopping(), eval_data=evaluated)
    assert recorder.heard == [
        ("train_begin", None),
        ("epoch_begin", 0),
        ("batch_end", 0),
        ("train_end", None),
    ]
    assert evaluated.asked == []
    again = Recorder()
    fit(model, again)
    assert again.heard.count(("epoch_end", 2)) == 1, "a later fit must not be stopped by this one"


def test_evaluate_inside_a_callback_is_not_positioned() -> None:
    class Evaluating(paddle.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            evaluated = Points()
            self.model.evaluate(evaluated, batch_size=4, verbose=0)
            assert sorted(evaluated.asked) == list(range(12))

    callback = StartAt(MID_EPOCH)
    fit(linear_model(), Evaluating(), callback)
    assert callback.events[-1] == ("closed", 3, 0, 9)


def test_evaluate_and_predict_accept_our_callbacks_and_do_nothing() -> None:
    callback = StartAt()
    model = linear_model()
    model.evaluate(Points(), batch_size=4, verbose=0, callbacks=[callback])
    assert callback.events == []
    assert callback.loop is None


def test_four_fits_in_four_threads_do_not_meet() -> None:
    starts = [Progress(), MID_EPOCH, Progress(STEPS, 1, 0), Progress(2, 0, 2)]
    callbacks = [StartAt(start) for start in starts]
    models = [linear_model() for _ in starts]
    threads = [threading.Thread(target=fit, args=(m, c)) for m, c in zip(models, callbacks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for start, callback in zip(starts, callbacks):
        assert [event for event, *_ in callback.events].count("step") == 3 * STEPS - start.global_step
        assert callback.events[-1] == ("closed", 3, 0, 3 * STEPS)
