"""What callbacks have counted is found again by class and number."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.hapi import callback_state


class Counting(paddle.callbacks.Callback):  # type: ignore[misc]
    def __init__(self, count: Any) -> None:
        super().__init__()
        self.count = count

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


def early_stopping() -> Any:
    callback = paddle.callbacks.EarlyStopping("acc", patience=7)
    callback.on_train_begin()
    return callback


def test_state_goes_to_the_same_class_and_number() -> None:
    states = callback_state.capture([Counting(1), Counting(np.arange(3)), paddle.callbacks.ProgBarLogger()])
    assert set(states) == {"Counting", "Counting#2"}
    first, second = Counting(0), Counting(0)
    assert callback_state.restore([paddle.callbacks.ProgBarLogger(), first, second], states) == []
    assert first.count == 1
    np.testing.assert_array_equal(second.count, np.arange(3))


def test_early_stopping_keeps_its_count_and_the_users_settings() -> None:
    stopping = early_stopping()
    stopping.wait_epoch, stopping.best_value, stopping.patience = 4, 0.75, 9
    states = callback_state.capture([stopping])
    fresh = early_stopping()
    callback_state.restore([fresh], states)
    assert (fresh.wait_epoch, fresh.best_value) == (4, 0.75)
    assert fresh.patience == 7, "the script's own setting, which may have been changed on purpose"


def test_reduce_lr_on_plateau_keeps_its_count() -> None:
    plateau = paddle.callbacks.ReduceLROnPlateau("loss")
    plateau.wait, plateau.best = 3, 0.5
    fresh = paddle.callbacks.ReduceLROnPlateau("loss")
    callback_state.restore([fresh], callback_state.capture([plateau]))
    assert (fresh.wait, fresh.best) == (3, 0.5)


def test_a_callback_gone_or_new_is_said() -> None:
    states = callback_state.capture([Counting(1)])
    assert "Counting, which is not among the callbacks now" in callback_state.restore([], states)[0]
    assert "EarlyStopping is new" in callback_state.restore([Counting(0), early_stopping()], states)[0]


def test_a_state_that_cannot_be_saved_is_refused_with_its_callback() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        callback_state.capture([Counting(object())])
    assert caught.value.where == "Counting.state_dict()"


def test_what_is_captured_does_not_follow_the_live_object() -> None:
    counting = Counting([1, 2])
    states = callback_state.capture([counting])
    counting.count.append(3)
    fresh = Counting(None)
    callback_state.restore([fresh], states)
    assert fresh.count == [1, 2]
