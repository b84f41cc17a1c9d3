"""Where a running ``Model.fit`` is: its position, its loader, and events that come after every other callback.

A callback joins from ``set_params``, the last call before ``on_train_begin``: :meth:`FitLoop.join` finds the calling
``Model.fit`` by walking the frames (there is no public route) and puts one tail callback at the end of its list. The
tail sees each event last, so what it reports has Paddle's own ``LRScheduler`` behind it, and it passes the gate
(:mod:`paddle_warm_callbacks.hapi.gate`) only when everyone's ``on_train_begin`` has succeeded.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Callable

import numpy as np
import paddle
from paddle.hapi.callbacks import CallbackList

from paddle_warm_callbacks.errors import InvalidArgumentError, UnsupportedFitError, in_a_line
from paddle_warm_callbacks.hapi import gate, parallel, rng
from paddle_warm_callbacks.hapi.board import Board
from paddle_warm_callbacks.hapi.loader_position import LoaderPosition
from paddle_warm_callbacks.hapi.trained import Trained
from paddle_warm_callbacks.progress import Progress

if TYPE_CHECKING:
    from paddle_warm_callbacks.hapi.tensor_layout import TensorLayout
    from paddle_warm_callbacks.plan.report import RestoreReport

logger = logging.getLogger("paddle_warm_callbacks")

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
# A paddle_warm_callbacks.hapi.callback.FitCallback: its hooks are what the loop tells. That module imports this one.
Listener = Any

_NO_MORE = object()
# What a seed is derived for, where Paddle's own generator cannot be saved.
_EPOCH, _STEP, _REST_OF_EPOCH = 0, 1, 2


class FitLoop(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
    """One running ``Model.fit``, seen from its callbacks.

    Attributes:
        model: The ``paddle.Model`` being fitted.
        network: Its Layer, never the DataParallel around it.
        trained: The network, and its loss where that is a Layer: whose parameters the optimizer updates.
        optimizer: Its optimizer.
        progress: The position of the next step; kept by the loop, set by a resume.
        epochs: Number of epochs fit will have run in the end, as fit computed it (``num_iters`` included).
        steps_per_epoch: Length of the train loader, or None when it has none.
        num_iters: The argument of fit: stop after so many batches, or None.
        iters_before: How many of those an interrupted run had already used; set by a resume.
        accumulate: ``accumulate_grad_batches``; gradients of so many steps are summed.
        train_loader: What fit iterates; the user's DataLoader, or the one fit made.
        finished: Set by a resume when the run had been ended by a callback: nothing is left to train.
        stopping: True once :meth:`stop_now` was called.
        goes_on_when_rerun: Whether the same script, run again, resumes from the checkpoints of this fit.
        report: What the start restored, once ``WarmStartCallback`` has acted; else None.
        metric_names: Those of the losses and metrics, as fit logs them.
        board: What callbacks have to show.
        kept_arrays: Arrays that callbacks want in each checkpoint and back on a resume, by a name of their own that no
            buffer of the network has; replaced, never changed in place.
        run_dirs: The run directories that checkpoints of this fit go to, resolved.
        mirrors: Of each run directory that checkpoints of this fit go to: the URL that they are copied to.
        parent: Digest of the manifest of the checkpoint or model that the weights come from, or None.
        ancestry: What the weights come from, what those came from, and so on; the nearest first. A resumed run's is its
            own: going on is no descent.
        resumed_from: The checkpoint that was resumed, or None; on a rank above 0 it may lie where only rank 0 sees it.
        restored_counters: What an exact resume has read of that checkpoint beside tensors; None on a rank above 0.
        regrouped_from: The position saved, where a resume goes on with another number of ranks; else None.
        ranks: The ranks of the run; connected for the time of the fit.
        layout: Where the tensors were when the state was last captured; see ``training_state``.
        awaiting_batch: True while training waits for a batch.
        seconds_awaiting: How long training has waited for batches so far.
        between_steps: A lock: while another thread holds it, training does not go on from such a wait, so that with
            ``awaiting_batch`` True that thread may read the state.
    """

    def __init__(self, cbks: Any, model: Any, fit_locals: dict[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.network = model.network
        self.trained = Trained(model)
        self.optimizer = model._optimizer
        self.progress = Progress()
        self.report: RestoreReport | None = None
        self.run_dirs: set[Path] = set()
        self.mirrors: dict[Path, str] = {}
        self.parent: str | None = None
        self.ancestry: list[dict[str, Any]] = []
        self.kept_arrays: dict[str, np.ndarray[Any, Any]] = {}
        self.resumed_from: Any = None
        self.restored_counters: dict[str, Any] | None = None
        self.regrouped_from: Progress | None = None
        self.ranks = parallel.Ranks()
        self.reseed_from: int | None = None
        self.layout: TensorLayout | None = None
        self.finished = False
        self.goes_on_when_rerun = False
        self.stopping = False
        self._stop_asked = False
        self.train_loader = fit_locals["train_loader"]
        self.epochs = _epochs(fit_locals["epochs"])
        self.num_iters: int | None = fit_locals["num_iters"]
        self.iters_before = 0
        self.metric_names: list[str] = model._metrics_name()
        self._in_step = False
        self._interruptible = True
        self.accumulate = int(fit_locals["accumulate_grad_batches"])
        self.steps_per_epoch: int | None = model._len_data_loader(self.train_loader)
        self.board = Board.of_script(
            self.optimizer, self.train_loader, epochs=self.epochs, accumulate=self.accumulate
        )
        self._eval_freq = int(fit_locals["eval_freq"]) if fit_locals["do_eval"] else None
        self._eval_loader = fit_locals["eval_loader"]
        self._users_eval_init: tuple[Any, Any] | None = None
        self._joined: list[Listener] = []
        self._hearing: dict[str, list[Callable[..., None]]] = {}
        self._position: LoaderPosition | None = None
        # Weak, because the list holds this tail: a strong cycle would outlive fit until the next garbage collection.
        self._cbks = weakref.ref(cbks)
        self.between_steps = threading.Lock()
        self.awaiting_batch = False
        self.seconds_awaiting = 0.0
        self._finalizer = weakref.finalize(cbks, self._close)
        self._finalizer.atexit = False
        self._epoch_logs: dict[str, Any] = {}
        self._evaluating = False
        self._ended = False
        self._raised = ""
        self._closed = False

    # -- joining ---------------------------------------------------------------------------------------------------

    @classmethod
    def join(cls, callback: Listener) -> FitLoop | None:
        """Return the loop of the ``Model.fit`` that is calling ``callback.set_params`` now, joined to it.

        Returns:
            None when the caller is ``evaluate`` or ``predict``.

        Raises:
            UnsupportedFitError: Static graph mode, or a ``Model.fit`` unlike those the gate knows.
            InvalidArgumentError: ``fit`` was given no number of epochs.
        """
        found = _calling_fit()
        if found is None:
            return None
        cbks, model, fit_locals = found
        _refuse_unknown_fit()
        loop = next((c for c in cbks.callbacks if isinstance(c, cls)), None)
        if loop is None:
            loop = cls(cbks, model, fit_locals)
            # A new list, for the old one is being iterated by this very call of set_params.
            cbks.callbacks = [*cbks.callbacks, loop]
        loop._add(callback)
        return loop

    def join_once(self, callback: Listener) -> None:
        """Let ``callback`` hear our events too, unless one of its class does already; Paddle's it does not hear."""
        if not any(type(joined) is type(callback) for joined in self._joined):
            self._add(callback)

    @property
    def callbacks(self) -> list[Any]:
        """All callbacks of this fit in calling order, Paddle's own included, this tail excluded."""
        cbks = self._cbks()
        return [] if cbks is None else [c for c in cbks.callbacks if c is not self]

    @property
    def others(self) -> list[Any]:
        """The callbacks of this fit that are not ours."""
        return [callback for callback in self.callbacks if callback not in self._joined]

    @property
    def logs(self) -> dict[str, Any]:
        """The one dictionary that ``_run_one_epoch`` uses for its logs: live, shared by train and evaluation."""
        shared = paddle.Model._run_one_epoch.__defaults__[0]
        assert isinstance(shared, dict)
        return shared

    @property
    def evaluates(self) -> bool:
        """Whether fit evaluates after some of its epochs."""
        return self._eval_freq is not None

    @property
    def metric_tags(self) -> list[str]:
        """The losses and metrics by which this run is judged: of its evaluations, or else of training."""
        prefix = "eval/" if self.evaluates else "train/"
        return [prefix + name for name in self.metric_names]

    @property
    def window_open(self) -> bool:
        """True while gradients of an unfinished accumulation window are waiting for their optimizer step."""
        step = self.progress.step_in_epoch
        return step % self.accumulate != 0 and step != self.steps_per_epoch

    @property
    def iters_done(self) -> int:
        """Batches counted against ``num_iters`` so far; as Paddle counts them, those of evaluations are among them."""
        if self.num_iters is None:
            return 0
        left = getattr(self.model, "num_iters", None) or 0  # deleted by Paddle when it has come to 0
        return self.num_iters - left + (1 if self._in_step and left else 0)

    def evaluation_follows(self, epoch: int) -> bool:
        """Return whether fit evaluates after epoch ``epoch`` (from 0), by its ``eval_freq``."""
        return self._eval_freq is not None and epoch % self._eval_freq == 0

    @property
    def position(self) -> LoaderPosition:
        """The train loader's position; from the first use on it is recorded, so use it before training starts."""
        if self._position is None:
            self._position = LoaderPosition(self.train_loader)
            if not rng.paddle_state_is_whole():
                self.reseed_from = rng.paddle_seed()
        return self._position

    def wrap_worker_init(self, wrapper: Callable[[Any], Callable[[int], None]]) -> None:
        """Have the worker processes of the train and evaluation loaders start with ``wrapper(worker_init_fn)``."""
        self.position.wrap_worker_init(wrapper)
        if getattr(self._eval_loader, "num_workers", 0):
            self._users_eval_init = (self._eval_loader, self._eval_loader.worker_init_fn)
            self._eval_loader.worker_init_fn = wrapper(self._eval_loader.worker_init_fn)

    def stop_now(self) -> None:
        """End training after the current step: no ``on_epoch_end`` or evaluation follows, ``on_train_end`` does."""
        self.stopping = True
        self.model.stop_training = True

    # -- the gate --------------------------------------------------------------------------------------------------

    def _epoch_numbers(self, epochs: int) -> Iterator[int]:
        """Stand in for ``range(epochs)``.

        The iterator lives on fit's own stack, so the interpreter drops it, and runs the ``finally``, the moment an
        exception or Ctrl-C leaves fit: nothing waits for a garbage collection or a traceback to go away.
        """
        completed = False
        try:
            if self.nothing_left:
                yield from self._nothing_left()
            else:
                for epoch in range(self.progress.epoch, epochs):
                    yield epoch
                    if self._stop_asked:
                        break
            self._unmute()
            self.model.stop_training = self.model.stop_training or self._stop_asked
            self._close_if_the_end_fails()
            completed = True
        finally:
            if not completed:
                self._unmute()
                self._interrupt()
                self._close()

    def _take_over_stop(self) -> None:
        """Have the epoch numbers end, rather than fit break out of them: an iterator left early means an exception."""
        if self.model.stop_training:
            self.model.stop_training = False
            self._stop_asked = True

    def _close_if_the_end_fails(self) -> None:
        """Have an exception in someone's ``on_train_end``, which keeps it from us, close too."""
        cbks = self._cbks()
        if cbks is not None:
            cbks.callbacks = _Attended(cbks.callbacks, self._close)

    def _interrupt(self) -> None:
        """Tell our callbacks, once, of an exception that is ending fit between two steps."""
        if self._interruptible:
            self._interruptible = False
            self._tell("interrupted")

    @property
    def nothing_left(self) -> str:
        """Why there is nothing to train, and what would change that; empty if there is something."""
        if self.finished:
            return (
                "a callback has ended this run, as EarlyStopping does; to train on, start another from it: "
                "WarmStartCallback(source=…) with a new run_dir"
            )
        if self._no_iters_left and self.progress.step_in_epoch == 0:
            return f"num_iters={self.num_iters} is used up; to train on, pass fit a greater one"
        if self.progress.epoch >= self.epochs:
            return (
                f"{self.progress.epoch} epochs are done, and fit(epochs={self.epochs}) asks for no more; to train on, "
                "pass a greater number, those done included"
            )
        return ""

    @property
    def _no_iters_left(self) -> bool:
        return self.num_iters is not None and self.iters_before >= self.num_iters

    def _nothing_left(self) -> Iterator[int]:
        # fit would end in UnboundLocalError over its local `logs` if its loop never ran: give it one pass in which no
        # callback hears anything and neither loader is asked for a batch.
        self._mute()
        self._take_over_stop()
        yield self.epochs - 1

    def _mute(self) -> None:
        cbks = self._cbks()
        if cbks is not None and cbks.callbacks:
            self._muted, cbks.callbacks = cbks.callbacks, []
            for _ in ("train", "eval"):
                self._arm_epoch(lambda _loader: iter(()))

    def _unmute(self) -> None:
        cbks = self._cbks()
        if cbks is not None and not cbks.callbacks:
            cbks.callbacks = self._muted
            gate.disarm(cbks)

    def _arm_epoch(self, replacement: Callable[[Any], Any]) -> None:
        gate.arm("enumerate", paddle.Model._run_one_epoch.__code__, "callbacks", self._cbks(), replacement)

    def _numbered_batches(self, loader: Any) -> Iterator[tuple[int, Any]]:
        """Stand in for ``enumerate(data_loader)`` of one training epoch."""
        first = self.progress.step_in_epoch
        if self._no_iters_left:  # what is left of this epoch is its end, and its evaluation
            self.model.stop_training = True
            self._reseed(_REST_OF_EPOCH, self.progress.epoch)
            return
        self._reseed(_EPOCH, self.progress.epoch)
        unpositioned = self._position is None and first == 0
        batches = iter(loader if unpositioned else self.position.batches(loader, self.progress.epoch, first))
        ended = False
        try:
            for step, data in enumerate(self._awaited(batches), first):
                self._reseed(_STEP, self.progress.global_step)
                self._tell("step_starting")
                if not self.stopping:
                    self._in_step = True
                    yield step, data
                    self._in_step = False
                if self.stopping:
                    self._mute()
                    self._take_over_stop()
                    return
            ended = True
        except GeneratorExit:
            self._interruptible = False  # raised within a step: the tensors may be between two steps
            raise
        except BaseException:
            self._interrupt()  # raised by the loading of data
            raise
        finally:
            self._in_step = False
            self._reseed(_REST_OF_EPOCH, self.progress.epoch)
            if self._position is not None:
                self._position.epoch_over()
            # An exception in a step leaves the loader's worker processes behind; hapi never ends them.
            if (
                not ended
                and hasattr(batches, "_try_shutdown_all")
                and not getattr(loader, "_persistent_workers", False)
            ):
                batches._try_shutdown_all()

    def _reseed(self, what: int, number: int) -> None:
        if self.reseed_from is not None:
            rng.reseed(self.reseed_from, what, number)

    def _awaited(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Say when the state is at rest, and wait, once a batch has come, for whoever is reading it."""
        while True:
            self.awaiting_batch = True
            began = time.perf_counter()
            try:
                data = next(batches, _NO_MORE)
            finally:
                with self.between_steps:
                    self.awaiting_batch = False
                self.seconds_awaiting += time.perf_counter() - began
            if data is _NO_MORE:
                return
            yield data

    # -- events, each received after all other callbacks had theirs -------------------------------------------------

    def on_train_begin(self, logs: Any = None) -> None:
        """Let our callbacks restore, then start, and pass the gate to the position they set."""
        try:
            self.ranks = parallel.connect()
            self._tell("fit_opened")
            self._tell("fit_started")
            self._tell("fit_ready")
            self.ranks.agree("the first step")
        except BaseException:
            self._close()
            raise
        if self._no_iters_left:
            del self.model.num_iters
        elif self.num_iters is not None:
            self.model.num_iters = self.num_iters - self.iters_before
        gate.arm("range", paddle.Model.fit.__code__, "cbks", self._cbks(), self._epoch_numbers)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Pass the gate to the first batch of what is left of the epoch."""
        self._tell("epoch_starting")
        for callback in self.callbacks:
            if isinstance(callback, paddle.callbacks.ProgBarLogger):
                callback.train_step = self.progress.step_in_epoch  # it counts by itself, from 0 in each epoch
        self._arm_epoch(self._numbered_batches)

    def on_train_batch_end(self, step: int, logs: Any = None) -> None:
        """Count the step."""
        self.progress = self.progress.after_step()
        self._tell("step_ended", self._own(logs))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Complete the epoch, unless its evaluation is still to come."""
        self._epoch_logs = self._own(logs)
        self._evaluating = self.evaluation_follows(epoch)
        if not self._evaluating:
            self._complete_epoch(None)
            self._take_over_stop()

    def on_eval_end(self, logs: Any = None) -> None:
        """Complete the epoch that this evaluation belongs to."""
        if self._evaluating:
            self._evaluating = False
            self._complete_epoch(self._own(logs))
            self._take_over_stop()

    def on_train_end(self, logs: Any = None) -> None:
        """Tell our callbacks the normal end, and undo."""
        try:
            self._tell("fit_ended", self._own(logs))
            self.ranks.agree("the end of fit")
            self._ended = True
        finally:
            self._close()

    def _own(self, logs: dict[str, Any] | None) -> dict[str, Any]:
        """Copy this model's values; all models of a process share Paddle's one dictionary, and leave theirs in it."""
        return {name: logs[name] for name in self.metric_names if name in logs} if logs else {}

    def _complete_epoch(self, eval_logs: dict[str, Any] | None) -> None:
        self.progress = self.progress.after_epoch()
        self._tell("epoch_completed", self._epoch_logs, eval_logs)
        if self.ranks.many:
            # A callback that stops on its rank's own loss would leave the others waiting in the next step for ever.
            stops = bool(self.model.stop_training)
            self.model.stop_training = self.ranks.agree(f"the end of epoch {self.progress.epoch}", stops, any)

    def _add(self, callback: Listener) -> None:
        self._joined.append(callback)
        self._joined.sort(key=lambda joined: joined.order)
        self._hearing = {}

    def _tell(self, hook: str, *args: Any) -> None:
        # Looked up once per fit: this is done several times at every step.
        if hook not in self._hearing:
            self._hearing[hook] = [
                getattr(callback, hook) for callback in self._joined if callback.hears(hook)
            ]
        try:
            for hear in self._hearing[hook]:
                hear(self, *args)
        except BaseException as error:
            self._raised = in_a_line(error)
            raise

    def _close(self) -> None:
        """Undo everything, once; the first failure is raised after all have had their turn."""
        if self._closed:
            return
        self._closed = True
        self._finalizer.detach()
        cbks = self._cbks()
        if cbks is not None:
            gate.disarm(cbks)
        if self._position is not None:
            self._position.close()
        if self._users_eval_init is not None:
            loader, worker_init_fn = self._users_eval_init
            loader.worker_init_fn = worker_init_fn
        if self.stopping:
            self.model.stop_training = False  # fit never resets it: a later fit would end after one epoch
        already_failing = sys.exc_info()[1] is not None
        first: Exception | None = None
        for callback in reversed(self._joined):
            try:
                callback.fit_closed(self)
            except Exception as error:  # every callback must get its turn to undo
                logger.error("%s could not close: %s", type(callback).__name__, error)
                first = first or error
            callback.loop = None
        self.ranks.close(self._failure(first))
        if first is not None and not already_failing:
            raise first

    def _failure(self, first: Exception | None) -> str | None:
        """Return in a line what ends this fit, for other ranks; None for a normal end."""
        failure = sys.exc_info()[1] or first
        if failure is None and self._ended:
            return None
        # In a generator that is dropped, what was raised by others than our callbacks is out of sight.
        if self._raised or failure is None or isinstance(failure, GeneratorExit):
            return self._raised or "an exception ended its fit"
        return in_a_line(failure)


class _Attended(list):  # type: ignore[type-arg]  # of callbacks, which are untyped
    """A list that calls ``abandoned`` when someone who iterates it is stopped by an exception."""

    def __init__(self, items: list[Any], abandoned: Callable[[], None]) -> None:
        super().__init__(items)
        self._abandoned = abandoned

    def __iter__(self) -> Iterator[Any]:
        whole = False
        try:
            yield from super().__iter__()
            whole = True
        finally:
            if not whole:
                self._abandoned()


def _calling_fit() -> tuple[Any, Any, dict[str, Any]] | None:
    """Return the callback list, the model and the locals of the ``Model.fit`` that is setting callbacks up."""
    cbks: Any = None
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if cbks is None and isinstance(frame.f_locals.get("self"), CallbackList):
            cbks = frame.f_locals["self"]
        if frame.f_code is paddle.Model.evaluate.__code__ or frame.f_code is paddle.Model.predict.__code__:
            return None
        if frame.f_code is paddle.Model.fit.__code__ and cbks is not None:
            return cbks, frame.f_locals["self"], frame.f_locals
        frame = frame.f_back
    return None


def _epochs(given: Any) -> int:
    if given is None:  # as a configuration has it that does not say
        raise InvalidArgumentError(
            "fit is to train for no number of epochs",
            where="Model.fit(epochs=)",
            received="None",
            expected="the total number of epochs",
            remedy="fit(epochs=30); where it comes from a configuration, set it there: training: {epochs: 30}",
        )
    return int(given)


def _refuse_unknown_fit() -> None:
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
