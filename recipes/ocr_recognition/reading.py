"""What a recogniser's output says, and how right it is: the CTC loss, greedy decoding, and the metric."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import paddle
from rapidfuzz.distance import Levenshtein

_EPSILON = 1e-9  # a probability of 0 has no logarithm


class CTCLoss(paddle.nn.Layer):  # type: ignore[misc]  # Paddle is untyped
    """Connectionist temporal classification of probabilities, the mean over the lines; blank is 0.

    ``forward(probabilities: [batch, time, 1 + characters], label: int64 [batch, length], used: int64 [batch, 1])``.
    Paddle's own takes the softmax of what it is given, and of logarithms of probabilities that is the probabilities.
    """

    def forward(self, probabilities: Any, label: Any, used: Any) -> Any:
        scores = paddle.log(probabilities + _EPSILON).transpose([1, 0, 2])
        steps = paddle.full([scores.shape[1]], scores.shape[0], dtype="int64")
        losses = paddle.nn.functional.ctc_loss(
            scores, label.astype("int32"), steps, used.reshape([-1]), blank=0, reduction="none"
        )
        return losses.mean()


def decode(best: Sequence[int]) -> list[int]:
    """Return the characters' places in one line's most likely places: repeats once, blanks (0) left out.

    >>> decode([0, 7, 7, 0, 7, 2])
    [7, 7, 2]
    """
    before = [0, *best]
    return [place for place, last in zip(best, before) if place not in (0, last)]


class LineAccuracy(paddle.metric.Metric):  # type: ignore[misc]  # Paddle is untyped
    """Share of lines read exactly (``acc``) and normalised edit distance (``edit``), over all lines and two kinds.

    ``edit`` is the mean of ``1 - distance / length of the longer text``. ``old_`` is of the lines all of whose
    characters are old, ``new_`` of the others.

    Args:
        old: Places in the dictionary, from 1, of the characters that the old model knew; none for one kind only.
    """

    def __init__(self, old: Collection[int] = ()) -> None:
        super().__init__()
        self._old = frozenset(old)
        self._kinds = ("", "old_", "new_") if old else ("",)
        self.reset()

    def reset(self) -> None:
        self.lines = [0.0] * len(self._kinds)
        self.exact = [0.0] * len(self._kinds)
        self.alike = [0.0] * len(self._kinds)

    def compute(self, probabilities: Any, *rest: Any) -> Any:
        label, used = rest[-2:]
        return probabilities.argmax(-1), label, used

    def update(self, best: Any, label: Any, used: Any) -> list[float]:
        for path, places, length in zip(np.asarray(best), np.asarray(label), np.asarray(used).ravel()):
            truth, read = places[:length].tolist(), decode(path.tolist())
            alike = Levenshtein.normalized_similarity(truth, read)
            kind = 1 if self._old.issuperset(truth) else 2
            for index in (0, kind) if self._old else (0,):
                self.lines[index] += 1
                self.exact[index] += truth == read
                self.alike[index] += alike
        return self.accumulate()

    def accumulate(self) -> list[float]:
        return [
            total[index] / max(self.lines[index], 1.0)
            for index in range(len(self._kinds))
            for total in (self.exact, self.alike)
        ]

    def name(self) -> list[str]:
        return [f"{kind}{what}" for kind in self._kinds for what in ("acc", "edit")]
