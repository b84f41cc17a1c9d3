"""What a training run was, in bits: one line a step while it runs, one file of arrays when it is done."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import paddle


class Recorder(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
    """Append the loss, metric and LR of each step and evaluation to a file: exact, and durable before the next.

    Args:
        path: Of the file.
        first_epoch: What epoch 0 is written as: a script that fits twice has two.
    """

    def __init__(self, path: Path, first_epoch: int = 0) -> None:
        super().__init__()
        self._first_epoch = first_epoch
        self._file = path.open("a", encoding="ascii")
        self._fsync = os.fsync  # kept, for a kill may count the calls that others make
        self._epoch = 0
        self._loss_before = "none"

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = self._first_epoch + epoch

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        # At this moment fit's logs are still those of the step before.
        self._loss_before = _exact(logs["loss"][0]) if "loss" in logs else "none"

    def on_train_batch_end(self, step: int, logs: Any = None) -> None:
        self._append(f"train {self._epoch} {step} before={self._loss_before}", logs)

    def on_eval_end(self, logs: Any = None) -> None:
        self._append(f"eval {self._epoch} -", logs)

    def _append(self, where: str, logs: Any) -> None:
        values = {"loss": logs["loss"][0], "acc": logs["acc"], "lr": self.model._optimizer.get_lr()}
        shown = " ".join(f"{name}={_exact(value)}" for name, value in values.items())
        self._file.write(f"{where} {shown}\n")
        self._file.flush()
        self._fsync(self._file.fileno())


def final_state(model: Any, callbacks: list[Any]) -> dict[str, Any]:
    """Return all that a finished run ended in, by structured names, as arrays that ``numpy.savez`` can write."""
    network, optimizer = model.network, model._optimizer
    structured = {parameter.name: name for name, parameter in network.named_parameters()}
    state: dict[str, Any] = {f"parameter {name}": _array(t) for name, t in network.state_dict().items()}
    state.update({f"buffer {name}": _array(tensor) for name, tensor in network.named_buffers()})
    for accumulator, tensors in optimizer._accumulators.items():
        for name, tensor in tensors.items():
            state[f"optimizer {structured[name]} {accumulator}"] = _array(tensor)
    for key, value in optimizer.state_dict().get("LR_Scheduler", {}).items():
        state[f"scheduler {key}"] = np.asarray(
            repr(value)
        )  # a nested dictionary, or None; repr keeps a float's bits
    state["lr"] = np.asarray(optimizer.get_lr())
    for callback in callbacks:
        for key, value in vars(callback).items():
            if isinstance(value, (int, float, np.ndarray, np.generic)):
                state[f"callback {type(callback).__name__} {key}"] = np.asarray(value)
    # What the generators give next is all that matters of their state.
    state["next draws numpy"] = np.random.random_sample(4)
    state["next draws python"] = np.asarray([random.random() for _ in range(4)])
    state["next draws paddle"] = _array(paddle.rand([4]))
    return state


def _exact(value: Any) -> str:
    return float(np.asarray(value).reshape(())).hex()


def _array(tensor: Any) -> Any:
    return np.asarray(tensor.numpy())
