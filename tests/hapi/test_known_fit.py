"""The calling fit is found; one that is not known is refused, with a way on."""

from __future__ import annotations

from typing import Any

import paddle
import pytest

from paddle_warm_callbacks.errors import InvalidArgumentError, UnsupportedFitError
from paddle_warm_callbacks.hapi import known_fit
from tests.hapi.fits import Points, StartAt, linear_model


def test_no_number_of_epochs_is_told_with_the_setting_that_is_missing() -> None:
    with pytest.raises(InvalidArgumentError, match="no number of epochs") as caught:
        linear_model().fit(Points(), batch_size=4, epochs=None, callbacks=[StartAt()], verbose=0)
    assert "training: {epochs: 30}" in caught.value.remedy


def test_a_model_without_an_optimizer_is_told_so() -> None:
    model = paddle.Model(paddle.nn.Linear(3, 2))
    model.prepare(loss=paddle.nn.CrossEntropyLoss())
    with pytest.raises(InvalidArgumentError, match="nothing to train with") as caught:
        model.fit(Points(), batch_size=4, callbacks=[StartAt()], verbose=0)
    assert "model.prepare(" in caught.value.remedy


def test_static_mode_is_refused() -> None:
    paddle.enable_static()
    try:
        with pytest.raises(UnsupportedFitError, match="static graph mode"):
            known_fit.refuse_unknown()
    finally:
        paddle.disable_static()


def test_a_fit_we_do_not_know_is_refused_with_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def another_fit(self: Any, *args: Any) -> None:
        """Stand in for a fit of a future Paddle."""

    monkeypatch.setattr(paddle.Model, "fit", another_fit)
    with pytest.raises(UnsupportedFitError, match="not one we know") as caught:
        known_fit.refuse_unknown()
    assert paddle.__version__ in caught.value.where
    assert "epochs that remain" in caught.value.remedy
