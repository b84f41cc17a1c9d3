"""How wrong a map of probabilities is: cross entropy and Dice of the pixels that count."""

from __future__ import annotations

from typing import Any

import paddle

_ENTROPY = 2.0  # weight of the cross entropy beside Dice
_EPSILON = 1e-6


class ProbabilityMapLoss(paddle.nn.Layer):  # type: ignore[misc]  # Paddle is untyped
    """``2 * cross entropy + Dice`` of the pixels that count.

    ``forward(probability, text, counts)``, float32 [batch, 1, height, width] each; what comes after is ignored. The
    cross entropy is a mean over pixels, ``Dice = 1 - 2 * sum(probability * text) / (sum(probability) + sum(text))``.

    DB itself takes only the hardest pixels of paper. A network that starts from scratch then stands still for a hundred
    steps: those pixels are right beside the texts. DB's second and third term, of a threshold map, are not here: the
    networks of paddlex have no branch for it, since it plays no part in detecting.
    """

    def forward(self, probability: Any, text: Any, counts: Any, *_: Any) -> Any:
        safe = probability.clip(_EPSILON, 1 - _EPSILON)
        entropy = paddle.nn.functional.binary_cross_entropy(safe, text, reduction="none")
        mean = (entropy * counts).sum() / (counts.sum() + _EPSILON)
        found, there = probability * counts, text * counts
        dice = 1 - 2 * (found * there).sum() / (found.sum() + there.sum() + _EPSILON)
        return _ENTROPY * mean + dice
