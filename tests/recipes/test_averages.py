"""``export --ema`` finds the average under the names by which the detection recipe keeps it."""

from __future__ import annotations

from paddle_warm_callbacks.checkpoint import averages
from paddle_warm_callbacks.hapi import training_state
from recipes.detection.ema import KEPT, EmaWeights


def test_the_recipe_and_the_command_agree_on_the_names() -> None:
    assert averages._KEPT == training_state._KEPT + KEPT
    assert EmaWeights.__name__ == averages._CALLBACK
