"""PaddleDetection's moving average of the weights, in a ``fit`` that can be interrupted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
        return {
            "decay": ema.decay,
            "decay_type": ema.ema_decay_type,
            "step": ema.step,
            "epoch": ema.epoch,
            "last_decay": getattr(ema, "_decay", None),
        }

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
            kept = kept_average(loop.kept_arrays)
            self._ema = average_of(loop.network, kept, self._restored)
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


def kept_average(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return the average among a checkpoint's kept arrays, by structured name; empty if there is none."""
    return {name[len(KEPT) :]: array for name, array in arrays.items() if name.startswith(KEPT)}


def average_of(network: Any, arrays: Mapping[str, Any], counts: Mapping[str, Any]) -> Any:
    """Return ppdet's ``ModelEMA`` of a network as a checkpoint holds it.

    Args:
        network: Of the run.
        arrays: The average's, by structured name.
        counts: :meth:`EmaWeights.state_dict`.
    """
    from ppdet.optimizer import ModelEMA

    ema = ModelEMA(network, decay=counts["decay"], ema_decay_type=counts["decay_type"])
    ema.resume({name: paddle.to_tensor(array) for name, array in arrays.items()}, counts["step"])
    ema.epoch = counts["epoch"]
    ema._decay = counts["last_decay"]  # ppdet forgets it, and could not evaluate before the next update
    return ema


def _fill(live: dict[str, Any], weights: dict[str, Any]) -> None:
    for name, tensor in live.items():
        tensor.set_value(weights[name])
