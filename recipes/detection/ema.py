"""PaddleDetection's moving average of the weights, in a ``fit`` that can be interrupted."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle

from paddle_warm_callbacks.hapi.callback import FitCallback
from paddle_warm_callbacks.hapi.fit_loop import FitLoop

KEPT = "ema@"  # what a checkpoint's arrays of the average begin with


class EmaWeights(FitCallback):
    """Keep ppdet's ``ModelEMA`` of the weights, save it in each checkpoint, and evaluate with it.

    A resumed run goes on with the same average to the bit. Checkpoints' ``model.pdparams`` holds the weights that are
    trained, also when one is written in the middle of an evaluation.

    Args:
        decay: Of the average, as ``ema_decay`` of PaddleDetection; 0 to 1.
        decay_type: As its ``ema_decay_type``: "threshold", "normal" or "exponential".
        evaluate: Whether evaluations use the average.
    """

    # Before the logs and the checkpoint of the same step.
    order = 60

    def __init__(
        self, *, decay: float = 0.9998, decay_type: str = "threshold", evaluate: bool = True
    ) -> None:
        super().__init__()
        self._decay = decay
        self._decay_type = decay_type
        self._evaluate = evaluate
        self._restored: dict[str, Any] | None = None
        self._trained: dict[str, Any] | None = None  # what the average has taken the place of

    def state_dict(self) -> dict[str, Any]:
        """Return the average's counts; its weights are among the checkpoint's arrays."""
        ema = self._ema
        return {"step": ema.step, "epoch": ema.epoch, "decay": getattr(ema, "_decay", None)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the counts over."""
        self._restored = state

    def weights(self) -> dict[str, Any]:
        """Return the average by structured name, corrected for its start at zero, as ppdet evaluates and saves it."""
        return {name: tensor.numpy() for name, tensor in self._ema.apply().items()}

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin an average; a resume gives its own."""
        from ppdet.optimizer import ModelEMA

        self._restored = None
        self._trained = None
        self._evaluating = False
        self._ema = ModelEMA(self.model.network, decay=self._decay, ema_decay_type=self._decay_type)

    def fit_started(self, loop: FitLoop) -> None:
        """Go on with the average of the checkpoint, if there is one, and be in every checkpoint from now on."""
        if self._restored is not None:
            kept = {n[len(KEPT) :]: a for n, a in loop.kept_arrays.items() if n.startswith(KEPT)}
            self._ema.resume(
                {name: paddle.to_tensor(array) for name, array in kept.items()}, self._restored["step"]
            )
            self._ema.epoch = self._restored["epoch"]
            self._ema._decay = self._restored["decay"]
        loop.board.before_commit.append(lambda: self._before_commit(loop))

    def step_ended(self, loop: FitLoop, logs: dict[str, Any]) -> None:
        """Move the average towards the weights, once for each step of the optimizer."""
        if not loop.window_open:
            self._ema.update()

    def on_eval_begin(self, logs: Any = None) -> None:
        """Evaluate with the average from here on."""
        # Before the first step ppdet's average is zero.
        self._evaluating = self._evaluate and self.loop is not None and self._ema.step > 0

    def on_eval_batch_begin(self, step: int, logs: Any = None) -> None:
        """Put the average in place, for the first batch and after a checkpoint has put it aside."""
        if self._evaluating and self._trained is None:
            live = self.model.network.state_dict()
            self._trained = {name: tensor.numpy() for name, tensor in live.items()}
            _fill(live, self.weights())

    def on_eval_end(self, logs: Any = None) -> None:
        """Put the trained weights back."""
        self._evaluating = False
        self._put_back()

    def fit_closed(self, loop: FitLoop) -> None:
        """Leave the trained weights in the network, also if an evaluation was left by an exception."""
        self._put_back()

    def _before_commit(self, loop: FitLoop) -> None:
        self._put_back()
        others = {n: a for n, a in loop.kept_arrays.items() if not n.startswith(KEPT)}
        own = {KEPT + name: tensor.numpy() for name, tensor in self._ema.state_dict.items()}
        loop.kept_arrays = {**others, **own}

    def _put_back(self) -> None:
        if self._trained is not None:
            _fill(self.model.network.state_dict(), self._trained)
            self._trained = None


def corrected(
    average: dict[str, np.ndarray[Any, Any]], counts: dict[str, Any], decay_type: str
) -> dict[str, Any]:
    """Return a checkpoint's average as ppdet's ``ModelEMA.apply`` returns it."""
    from ppdet.optimizer import ModelEMA

    ema = ModelEMA(_Arrays(average), ema_decay_type=decay_type)
    ema.resume({name: paddle.to_tensor(array) for name, array in average.items()}, counts["step"])
    ema._decay = counts["decay"]
    return {name: tensor.numpy() for name, tensor in ema.apply().items()}


class _Arrays(paddle.nn.Layer):  # type: ignore[misc]  # Paddle is untyped
    """Arrays where a network's weights are expected."""

    def __init__(self, arrays: dict[str, Any]) -> None:
        super().__init__()
        self._arrays = {name: paddle.to_tensor(array) for name, array in arrays.items()}

    def state_dict(self, *args: Any, **settings: Any) -> dict[str, Any]:
        return self._arrays


def _fill(live: dict[str, Any], weights: dict[str, Any]) -> None:
    for name, tensor in live.items():
        tensor.set_value(weights[name])
