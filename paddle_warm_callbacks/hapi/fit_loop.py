"""The events of a running ``Model.fit``, after every other callback has had its own, and its way to where it starts.

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
from typing import Any, Callable

import paddle

from paddle_warm_callbacks.errors import in_a_line
from paddle_warm_callbacks.hapi import gate, known_fit, parallel, rng
from paddle_warm_callbacks.hapi.running_fit import RunningFit

logger = logging.getLogger("paddle_warm_callbacks")

# A paddle_warm_callbacks.hapi.callback.FitCallback: its hooks are what the loop tells. That module imports this one.
Listener = Any

_NO_MORE = object()
# What a seed is derived for, where Paddle's own generator cannot be saved.
_EPOCH, _STEP, _REST_OF_EPOCH = 0, 1, 2


class FitLoop(RunningFit, paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
    """One running ``Model.fit``: what is known of it, and the tail of its callbacks.

    Attributes:
        awaiting_batch: True while training waits for a batch.
        seconds_awaiting: How long training has waited for batches so far.
        between_steps: A lock: while another thread holds it, training does not go on from such a wait, so that with
            ``awaiting_batch`` True that thread may read the state.
    """

    def __init__(self, cbks: Any, model: Any, fit_locals: dict[str, Any]) -> None:
        paddle.callbacks.Callback.__init__(self)
        RunningFit.__init__(self, model, fit_locals)
        self.between_steps = threading.Lock()
        self.awaiting_batch = False
        self.seconds_awaiting = 0.0
        self._joined: list[Listener] = []
        self._hearing: dict[str, list[Callable[..., None]]] = {}
        self._stop_asked = False
        self._interruptible = True
        self._epoch_logs: dict[str, Any] = {}
        self._evaluating = False
        self._ended = False
        self._raised = ""
        self._closed = False
        # Weak, because the list holds this tail: a strong cycle would outlive fit until the next garbage collection.
        self._cbks = weakref.ref(cbks)
        self._finalizer = weakref.finalize(cbks, self._close)
        self._finalizer.atexit = False

    # -- joining ---------------------------------------------------------------------------------------------------

    @classmethod
    def join(cls, callback: Listener) -> FitLoop | None:
        """Return the loop of the ``Model.fit`` that is calling ``callback.set_params`` now, joined to it.

        Returns:
            None when the caller is ``evaluate`` or ``predict``.

        Raises:
            UnsupportedFitError: Static graph mode, or a ``Model.fit`` unlike those the gate knows.
            InvalidArgumentError: ``fit`` was given no number of epochs, or the model has no optimizer.
        """
        found = known_fit.calling_fit()
        if found is None:
            return None
        cbks, model, fit_locals = found
        known_fit.refuse_unknown()
        known_fit.refuse_without_optimizer(model)
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
            self.open_loaders()
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
        self.give_back()
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
