"""The ``Model.fit`` that is calling: found by its frame, for there is no public route, and refused if it is unknown."""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import Any

import paddle
from paddle.hapi.callbacks import CallbackList

from paddle_warm_callbacks.errors import InvalidArgumentError, UnsupportedFitError

# What fit and _run_one_epoch must look like for the gate to be right; semantically the same in Paddle 2.6, 3.0 and 3.3.
_FIT_LOCALS = (
    "train_loader",
    "eval_loader",
    "do_eval",
    "eval_freq",
    "epochs",
    "num_iters",
    "accumulate_grad_batches",
)
_FIT_CALLS = ("range", "_run_one_epoch", "stop_training", "on_epoch_begin", "on_epoch_end")
_EPOCH_LOCALS = ("data_loader", "callbacks", "mode", "logs")
_EPOCH_CALLS = ("enumerate", "_reset_metrics", "on_batch_end")


def calling_fit() -> tuple[Any, Any, dict[str, Any]] | None:
    """Return the callback list, the model and the locals of the ``Model.fit`` that is setting callbacks up.

    None when that is ``evaluate`` or ``predict``.
    """
    cbks: Any = None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if cbks is None and isinstance(frame.f_locals.get("self"), CallbackList):
            cbks = frame.f_locals["self"]
        if frame.f_code is paddle.Model.evaluate.__code__ or frame.f_code is paddle.Model.predict.__code__:
            return None
        if frame.f_code is paddle.Model.fit.__code__ and cbks is not None:
            return cbks, frame.f_locals["self"], frame.f_locals
        frame = frame.f_back
    return None


def epochs(given: Any) -> int:
    """Return what fit was given as ``epochs``; raises InvalidArgumentError where that is none."""
    if given is None:  # as a configuration has it that does not say
        raise InvalidArgumentError(
            "fit is to train for no number of epochs",
            where="Model.fit(epochs=)",
            received="None",
            expected="the total number of epochs",
            remedy="fit(epochs=30); where it comes from a configuration, set it there: training: {epochs: 30}",
        )
    return int(given)


def refuse_without_optimizer(model: Any) -> None:
    """Raise InvalidArgumentError for a model that was prepared to be evaluated only."""
    if model._optimizer is None:
        raise InvalidArgumentError(
            "the model has nothing to train with",
            where="Model.prepare(optimizer=)",
            received="None",
            expected="an optimizer",
            remedy="model.prepare(paddle.optimizer.Adam(parameters=model.parameters()), loss)",
        )


def refuse_unknown() -> None:
    """Raise UnsupportedFitError in static graph mode, or if this Paddle's ``Model.fit`` is not one the gate knows."""
    remedy = (
        "use a Paddle this release was tested with (2.6, 3.0, 3.3), or train without these callbacks and continue at "
        "epoch boundaries: load the checkpoint with Model.load and pass fit the epochs that remain"
    )
    if not paddle.in_dynamic_mode():
        raise UnsupportedFitError(
            "static graph mode is not supported",
            where="Model.fit",
            received="paddle.enable_static()",
            expected="dynamic graph mode, Paddle's default",
            remedy="call paddle.disable_static() before building the model",
        )
    for function, names, calls in (
        (paddle.Model.fit, _FIT_LOCALS, _FIT_CALLS),
        (paddle.Model._run_one_epoch, _EPOCH_LOCALS, _EPOCH_CALLS),
    ):
        code: CodeType = function.__code__
        missing = [n for n in names if n not in code.co_varnames] + [
            n for n in calls if n not in code.co_names
        ]
        if missing:
            raise UnsupportedFitError(
                f"this Model.{function.__name__} is not one we know how to position",
                where=f"paddle {paddle.__version__}, paddle.hapi.model.Model.{function.__name__}",
                received=f"no {', '.join(missing)} in it",
                expected="the fit of Paddle 2.6 to 3.3",
                remedy=remedy,
            )
