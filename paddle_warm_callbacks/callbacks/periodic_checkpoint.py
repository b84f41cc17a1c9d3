"""Write checkpoints while ``fit`` runs: when a policy says so, on a signal, and at the end."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from paddle_warm_callbacks.arguments import require_choice
from paddle_warm_callbacks.checkpoint.in_flight import SaveEvent
from paddle_warm_callbacks.checkpoint.mirror_writer import Mirror
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.errors import CheckpointWriteError, InvalidArgumentError
from paddle_warm_callbacks.hapi import optimizer_state, proof, same_weights, training_state
from paddle_warm_callbacks.hapi.callback import FitCallback
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.hapi.preemption import SignalFlag, signals_named
from paddle_warm_callbacks.hapi.save_decisions import SaveDecisions
from paddle_warm_callbacks.hapi.saves import Saves
from paddle_warm_callbacks.plan.metric_names import of_unknown
from paddle_warm_callbacks.plan.retention import KeepLatest, RetentionPolicy
from paddle_warm_callbacks.plan.saving import EveryNEpochs, SaveMoment, SavePolicy, widened
from paddle_warm_callbacks.progress import Progress
from paddle_warm_callbacks.secrets import redacted_values

logger = logging.getLogger("paddle_warm_callbacks")


class PeriodicCheckpoint(FitCallback):
    """Save the whole state of training, atomically and in the background, and keep what a policy keeps.

    Training hardly notices: the state is copied in memory while the next forward and backward pass run, and only what
    would change it, the optimizer's step or a ``set_value``, waits until that is done. Where this cannot be, training
    waits for the copy: with an optimizer that is not one of Paddle's own, and once a network was seen to change its
    parameters in place in its forward pass. Where layers were added, or tensors have moved in memory, since the save
    before, a save within an epoch may be of the next step. It also waits for what is left of the write before: one
    checkpoint is in flight at a time. A checkpoint counts once it is committed: written, flushed to disk and renamed
    into place. It never falls inside a gradient-accumulation window: the save waits for the window's end. The last
    state of a normal end is always saved. One that is due after an epoch's last step is taken at the epoch's end; where
    an evaluation comes between, at both, and the second takes the first one's place.

    Example:
        >>> checkpoints = PeriodicCheckpoint("runs/defects", save=EveryNEpochs(1), keep=KeepLatest(3))

    Args:
        run_dir: Directory of the run; made if it is not there. One live process may write to it. Or any fsspec URL:
            checkpoints are then written to a directory of the cache, and copied to the URL as to a mirror.
        save: When to save: policies joined with ``|``.
        keep: What to keep: policies joined with ``|``. The newest checkpoint stays whatever they say.
        mirror: URL that each committed checkpoint is copied to, behind training; any fsspec URL. Or a :class:`Mirror`,
            which says besides what stays there, and how fast it may be sent. None: no copy.
        metadata: Plain values stored with each checkpoint; ``"labels"``, a list in the head's order, lets a later
            ``HeadTransplant`` find them. The device and the script's git commit are there without it.
        save_on_signal: Save at the next step's end when SIGTERM or SIGUSR1 comes, at once while data is awaited, then
            stop training; during an evaluation the state before it is saved at once. Or the names of other signals:
            ``("SIGTERM", "SIGUSR2")``.
        on_error: ``"raise"`` ends training at the save after a failed one; ``"warn"`` logs it and goes on.
        layout: ``"native"``: ``model.pdparams`` and ``model.pdopt`` of its own in each checkpoint, which Paddle reads
            without this package. ``"shards"``: tensors that are as they were in the checkpoint before are not written
            again but shared with it on disk, as while a backbone is frozen, nor sent again to a mirror, to which
            ``"native"`` sends whole files; each directory still holds all it needs, and ``paddle-warm export`` makes a
            ``.pdparams`` of it. On several ranks, all that can write to rank 0's
            ``run_dir`` write their shares of each checkpoint side by side; in ``"native"``, rank 0 writes alone.

    Attributes:
        events: One :class:`SaveEvent` for each committed checkpoint of this fit that this rank has written to: seconds
            blocked, seconds to durable, bytes.
        waited: How many saves of this fit had to wait for the write before theirs; a wait that is felt is logged.
        preempted_by: Name of the signal that ended training, or None.

    Raises:
        InvalidArgumentError: A wrong argument, at once.
        RunDirectoryBusyError: In ``fit``: another live process writes there.
        CheckpointWriteError: In ``fit``: a save failed; earlier checkpoints are intact.
    """

    order = 80

    def __init__(
        self,
        run_dir: str | os.PathLike[str],
        *,
        save: SavePolicy = EveryNEpochs(1),  # noqa: B008  # immutable
        keep: RetentionPolicy = KeepLatest(3),  # noqa: B008  # immutable
        mirror: Mirror | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        save_on_signal: bool | Sequence[str] = True,
        on_error: str = "raise",
        layout: str = "native",
    ) -> None:
        super().__init__()
        _require(save, SavePolicy, "save=", "EveryNEpochs(1) | EveryNSteps(500)")
        _require(keep, RetentionPolicy, "keep=", 'KeepLatest(3) | KeepBest("acc")')
        require_choice(on_error, "PeriodicCheckpoint(on_error=)", choices=("raise", "warn"))
        place, own_url = proof.run_place(run_dir, "PeriodicCheckpoint(run_dir)")
        if own_url is not None and mirror is not None:
            raise InvalidArgumentError(
                "a run at a URL has its mirror there",
                where="PeriodicCheckpoint(mirror=)",
                received=repr(mirror),
                expected="no mirror=, or a run_dir on this machine",
            )
        self._store = CheckpointStore(place, layout=layout)
        self._layout = layout
        self._save = save
        self._keep = keep
        self._mirror = proof.mirror_of(Mirror.of(mirror if own_url is None else own_url))
        self._metadata: dict[str, Any] = redacted_values(dict(metadata or {}))
        signals = signals_named(save_on_signal, "PeriodicCheckpoint(save_on_signal=)")
        self._signal = SignalFlag(signals) if signals else None
        self._raises = on_error == "raise"
        self._extremes: dict[str, tuple[float, float]] = {}
        self.events: list[SaveEvent] = []
        self.waited = 0
        self.preempted_by: str | None = None
        self._from: Progress | None = None  # while fit trains, where it began

    def state_dict(self) -> dict[str, Any]:
        """Return the lowest and highest value of each metric evaluated so far."""
        return {"extremes": {name: list(pair) for name, pair in self._extremes.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what an interrupted run has seen."""
        self._extremes = {name: (low, high) for name, (low, high) in state["extremes"].items()}

    # -- one fit -----------------------------------------------------------------------------------------------------

    def set_params(self, params: dict[str, Any]) -> None:
        """Join the fit, with a witness where ``prove`` asks for one."""
        super().set_params(params)
        proof.Witness.join_if_asked(self.loop)
        if self.loop is not None:
            run_dir = self._store.run_dir.resolve()
            self.loop.run_dirs.add(run_dir)
            if self._mirror is not None:
                self.loop.mirrors[run_dir] = self._mirror.url

    def fit_opened(self, loop: FitLoop) -> None:
        """Refuse what cannot work before anything is trained, and have the loader's position recorded."""
        optimizer_state.refuse_unknown(loop.optimizer)
        strangers = loop.trained.strangers(loop.optimizer)
        if strangers:
            logger.warning(
                "PeriodicCheckpoint: %d parameters of the optimizer are in neither the network nor its loss, and are "
                "not saved: %s",
                len(strangers),
                ", ".join(strangers[:5]),
            )
        same_weights.warn_of_the_loss(loop.ranks, loop.trained)
        self._decisions = SaveDecisions(loop.ranks, self._save, self._signal)
        self._started = time.monotonic()
        self._waiting_for_window = self.waited = 0
        self._owed = False
        self._at_rest: dict[str, Any] | None = None
        self._saves = Saves(
            self._store,
            loop.board,
            keep=self._keep,
            mirror=self._mirror,
            layout=self._layout,
            metadata=self._metadata,
            raises=self._raises,
        )
        self.events = self._saves.events
        self.preempted_by = None
        self._from = None
        if loop.ranks.rank == 0:
            self._lock = self._store.lock()
        _ = loop.position

    def fit_started(self, loop: FitLoop) -> None:
        """Open the run directory for writing, from the position training starts at."""
        if loop.resumed_from is not None:
            self._saves.last = SaveMoment(loop.progress, loop.progress.step_in_epoch == 0, 0.0)
        self._saves.open(loop)
        self._from = loop.progress
        if loop.ranks.rank == 0:
            wanted = self._keep.metrics | self._save.metrics
            for sentence in of_unknown(wanted, loop.metric_names, evaluates=loop.evaluates):
                logger.warning("PeriodicCheckpoint: %s", sentence)
        if loop.ranks.many and self._save.on_exception:
            logger.warning("save=OnException() has no effect on several ranks: none can save for the others")
        if self._signal is not None:
            self._signal.install(self._save_while_waiting, with_parent=loop.ranks.many)
            loop.wrap_worker_init(self._signal.worker_init)

    def fit_ready(self, loop: FitLoop) -> None:
        """Remember what everyone's ``on_epoch_begin`` may change: it is called again for an epoch without a step."""
        if loop.progress.step_in_epoch == 0:
            self._remember_at_rest(loop)

    def step_starting(self, loop: FitLoop) -> None:
        """Stop before this step if a signal came while its data was awaited: the state is saved as it is."""
        if loop.ranks.many or self._signal is None or self._signal.received is None:
            return
        if self._saved_here(loop):
            self._decisions.boundary_passed()
            self._stop(loop)

    def step_ended(self, loop: FitLoop, logs: dict[str, Any]) -> None:
        """Save if one is due, and after a signal: save and stop."""
        self._at_rest = None
        self._decisions.boundary_passed()
        stopping = self._decisions.stop_for is not None
        again = self._take_torn(loop)
        at_end = loop.progress.step_in_epoch == loop.steps_per_epoch
        evaluated = at_end and loop.evaluation_follows(loop.progress.epoch)
        if stopping or again or self._owed or self._due(loop, epoch_completed=False):
            if loop.window_open:
                self._waiting_for_window += 1
            if loop.window_open or (at_end and not evaluated and not stopping):
                self._owed = True  # the epoch's end comes at once, and its state is the one to go on from
                return
            self._commit(loop, _numbers(logs, "train_"), epoch_completed=False, behind=not stopping)
        if stopping:
            self._stop(loop)
        if evaluated:
            self._remember_at_rest(loop)

    def on_eval_batch_end(self, step: int, logs: Any = None) -> None:
        """Save the state before this evaluation if a signal comes within it: there may be no time for the rest."""
        loop = self.loop
        if loop is None:
            return
        self._decisions.boundary_passed()
        if self._decisions.stop_for is None or self._at_rest is None:
            return
        if not self._saved_here(loop):
            self._commit(loop, {}, epoch_completed=False, counters=self._at_rest)
        self._at_rest = None
        self._saves.wait()

    def epoch_completed(self, loop: FitLoop, logs: dict[str, Any], eval_logs: dict[str, Any] | None) -> None:
        """Save if one is due now that the epoch's evaluation, schedulers and callbacks are behind."""
        self._at_rest = None
        self._decisions.boundary_passed()
        stopping = self._decisions.stop_for is not None
        evaluated = _numbers(eval_logs or {}, "")
        due = self._due(loop, epoch_completed=True, metrics=evaluated) or self._owed
        self._extremes = widened(self._extremes, evaluated)
        metrics = {**_numbers(logs, "train_"), **evaluated}
        if stopping or due:
            self._commit(loop, metrics, epoch_completed=True, behind=not stopping)
        if stopping:
            self._stop(loop)
        else:
            self._remember_at_rest(loop)

    def fit_ended(self, loop: FitLoop, logs: dict[str, Any]) -> None:
        """Save the last state, unless that is what was saved last."""
        self._decisions.training_ended()
        self._saves.wait()
        if loop.ranks.agree("whether the last copy was worthless", self._saves.take_torn(), any):
            self._saves.forget_last()
        if not loop.stopping and not self._saved_here(loop):
            self._commit(loop, _numbers(logs, ""), epoch_completed=loop.progress.step_in_epoch == 0)
        if loop.ranks.many:
            self._saves.wait()  # a failure now can still be told to the others
        self._from = None

    def interrupted(self, loop: FitLoop) -> None:
        """Save the last whole step's state if a policy wants it; what goes wrong with that hides no exception."""
        self._saves.wait_for_copy()
        self._take_torn(loop)
        if self._saved_here(loop) or not self._save.on_exception or loop.window_open or loop.ranks.many:
            return
        logger.warning(
            "an exception is ending fit: saving the state after step %d", loop.progress.global_step
        )
        try:
            at_boundary = loop.progress.step_in_epoch == 0
            self._commit(loop, {}, epoch_completed=at_boundary, counters=self._at_rest)
            self._saves.wait()
        except CheckpointWriteError as error:
            logger.error("a checkpoint was lost: %s", error)

    def fit_closed(self, loop: FitLoop) -> None:
        """Wait until what was saved is durable; give signal handlers and the run directory back."""
        try:
            if hasattr(self, "_saves"):
                self._saves.close(loop)
            if self._from not in (None, loop.progress) and loop.ranks.rank == 0:
                self._saves.say_where_a_rerun_goes_on(loop)
        finally:
            if self._signal is not None:
                self._signal.uninstall()
            if hasattr(self, "_lock"):
                self._lock.release()

    # -- saving ------------------------------------------------------------------------------------------------------

    def _moment(
        self, loop: FitLoop, epoch_completed: bool, metrics: Mapping[str, float] | None = None
    ) -> SaveMoment:
        seconds = time.monotonic() - self._started
        return SaveMoment(loop.progress, epoch_completed, seconds, metrics or {}, self._extremes)

    def _due(
        self, loop: FitLoop, *, epoch_completed: bool, metrics: Mapping[str, float] | None = None
    ) -> bool:
        return self._decisions.due(self._moment(loop, epoch_completed, metrics), self._saves.last)

    def _saved_here(self, loop: FitLoop) -> bool:
        """Return whether the newest checkpoint is of this very position."""
        last = self._saves.last
        return last is not None and last.progress == loop.progress

    def _remember_at_rest(self, loop: FitLoop) -> None:
        """Keep what callbacks and evaluation may change before the next step, for a save that comes within them."""
        if self._signal is not None or self._save.on_exception:
            self._at_rest = training_state.capture_counters(loop)

    def _commit(
        self,
        loop: FitLoop,
        metrics: dict[str, float],
        *,
        epoch_completed: bool,
        counters: dict[str, Any] | None = None,
        behind: bool = False,
    ) -> None:
        """Save this state; blocks for the write before it and, unless ``behind``, the copy."""
        waited, self._waiting_for_window, self._owed = self._waiting_for_window, 0, False
        self._decisions.saved()
        self._saves.begin(loop)
        self.waited = self._saves.waited
        self._saves.commit(
            loop,
            self._moment(loop, epoch_completed),
            metrics,
            counters=counters,
            behind=behind,
            metadata={"waited_for_accumulation_window": waited} if waited else {},
        )

    def _take_torn(self, loop: FitLoop) -> bool:
        """Return whether to save now because the last copy was worthless, on which nothing was saved.

        On several ranks, where one rank alone knows that, it has all of them save at a boundary to come.
        """
        if not self._saves.take_torn():
            return False
        if loop.ranks.many:
            self._decisions.save_again()
            return False
        self._saves.forget_last()
        return True

    def _save_while_waiting(self) -> None:
        """Save at once if a signal comes while training waits for data; called in the thread that reads signals."""
        loop = self.loop
        if loop is None:
            return
        if loop.ranks.many:
            self._decisions.signal_came()  # no rank can save for the others: all do at one boundary
            return
        with loop.between_steps:
            if not loop.awaiting_batch or loop.window_open:
                return  # a step is running: its end is the next occasion
            try:
                self._saves.wait()
                self._take_torn(loop)
                if not self._saved_here(loop):
                    at_boundary = loop.progress.step_in_epoch == 0
                    self._commit(loop, {}, epoch_completed=at_boundary, counters=self._at_rest)
                self._saves.wait()
            except CheckpointWriteError as error:
                logger.error("a checkpoint was lost: %s", error)

    def _stop(self, loop: FitLoop) -> None:
        self._saves.wait()
        loop.ranks.agree("the commit before stopping")
        self.preempted_by = self._decisions.stop_for
        logger.warning(
            "%s: the state is committed, training stops; %s",
            self.preempted_by,
            "run the same command again to go on"
            if loop.goes_on_when_rerun
            else 'to go on, add WarmStartCallback(run_dir=…, resume_from="latest") and run the command again',
        )
        loop.stop_now()


def _numbers(logs: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """Return what can be compared of a dictionary of logs: the loss, by its first part, and the metrics."""
    numbers = {}
    for name, value in logs.items():
        first = value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value
        if name not in ("step", "batch_size", "steps") and isinstance(first, (int, float)):
            numbers[prefix + name] = float(first)
    return numbers


def _require(value: Any, kind: type, argument: str, example: str) -> None:
    if not isinstance(value, kind):
        raise InvalidArgumentError(
            "not a policy",
            where=f"PeriodicCheckpoint({argument})",
            received=repr(value),
            expected=f"a {kind.__name__}",
            remedy=f"for example {argument}{example}",
        )
