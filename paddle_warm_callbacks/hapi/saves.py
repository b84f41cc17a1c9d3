"""The saves of one fit: its state captured, handed to a writer behind training, and waited for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from paddle_warm_callbacks.checkpoint.in_flight import SaveEvent
from paddle_warm_callbacks.checkpoint.mirror_writer import Mirror
from paddle_warm_callbacks.checkpoint.shares import ShareContents, ShareWriter
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.checkpoint.writer import BackgroundWriter
from paddle_warm_callbacks.errors import CheckpointWriteError, RankError
from paddle_warm_callbacks.hapi import rank_state, run_directory, training_state
from paddle_warm_callbacks.hapi.board import Board
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.hapi.overlap import OverlappedCopies
from paddle_warm_callbacks.hapi.same_weights import Comparison
from paddle_warm_callbacks.hapi.save_contents import contents_of
from paddle_warm_callbacks.hapi.save_costs import SaveCosts
from paddle_warm_callbacks.hapi.shares import WRITING, Shares, agreeing
from paddle_warm_callbacks.hapi.staging import Copying
from paddle_warm_callbacks.plan.retention import RetentionPolicy
from paddle_warm_callbacks.plan.saving import SaveMoment

logger = logging.getLogger("paddle_warm_callbacks")

_SECONDS_WORTH_SAYING = 0.1


class Saves:
    """Save the state of one fit when told to: :meth:`begin`, then :meth:`commit`.

    On several ranks each has one, and all are told at the same boundary: rank 0 writes, those above it write what the
    layout has them write, and all compare their parameters behind training, before anything is written.

    Args:
        store: Of the run directory; on rank 0 its lock is held.
        board: Gets what each checkpoint cost.
        keep: What stays after each commit.
        mirror: Where each committed checkpoint is copied to, or None.
        layout: Of the store.
        metadata: The user's, stored with each checkpoint.
        raises: Whether a checkpoint that was lost ends training; if not, it is logged.

    Attributes:
        last: When the newest checkpoint was taken, be it durable yet or not; None: there is none.
        waited: How many saves had to wait for the write before theirs.
    """

    def __init__(
        self,
        store: CheckpointStore,
        board: Board,
        *,
        keep: RetentionPolicy,
        mirror: Mirror | None,
        layout: str,
        metadata: Mapping[str, Any],
        raises: bool,
    ) -> None:
        self._store = store
        self._keep = keep
        self._mirror = mirror
        self._layout = layout
        self._metadata = {**training_state.provenance(), **metadata}
        self._raises = raises
        self._costs = SaveCosts(board)
        self._copies = OverlappedCopies()
        self._shares: Shares | None = None
        self._writer: BackgroundWriter | ShareWriter | None = None
        self._began = 0.0
        self._apart = False
        self._last_but_one: SaveMoment | None = None
        self.last: SaveMoment | None = None
        self.waited = 0

    @property
    def events(self) -> list[SaveEvent]:
        """One for each committed checkpoint; grows while checkpoints are written."""
        return self._costs.events

    def open(self, loop: FitLoop) -> None:
        """Begin on rank 0, and find out which ranks write."""
        rank = loop.ranks.rank
        to_mirror = run_directory.begin(self._store, loop.resumed_from, self._mirror) if rank == 0 else None
        agree = agreeing(loop.ranks) if loop.ranks.many else None
        if loop.ranks.many:
            together = self._layout == "shards"
            self._shares = Shares.of(loop.ranks, self._store.run_dir) if together else Shares(rank, [0])
        if rank == 0:
            self._writer = BackgroundWriter(
                self._store,
                keep=self._keep,
                mirror=self._mirror,
                on_commit=self._committed,
                on_mirrored=self._costs.mirrored,
                agree=agree,
            )
            if to_mirror is not None:
                self._writer.copy(to_mirror)
        else:
            assert agree is not None, "a rank above 0 is one of several"
            self._writer = ShareWriter(self._store.run_dir, rank, agree, self._committed)
        self._copies.open(loop.optimizer)

    def begin(self, loop: FitLoop) -> None:
        """Wait until the checkpoint before is durable: its buffers are the ones that the next copy goes into.

        Raises:
            CheckpointWriteError: That checkpoint was lost.
            RankError: The ranks' parameters differed then, or a rank has failed.
        """
        self._began = time.monotonic()
        for prepare in loop.board.before_commit:
            prepare()
        busy, began = self._writer is not None and self._writer.busy, time.monotonic()
        try:
            self.wait()
        except RankError:
            if (
                self._apart
            ):  # as on every rank, and none is to hear of another's end before it has raised this itself
                loop.ranks.agree("the end of ranks that differ")
            raise
        if busy:
            self.waited += 1
            seconds = time.monotonic() - began
            level = logging.INFO if seconds >= _SECONDS_WORTH_SAYING else logging.DEBUG
            logger.log(level, "a save waited %.2f s for the one before it to be durable", seconds)
        if self.take_torn():  # what was to be saved then is superseded by what is saved now
            self.forget_last()

    def commit(
        self,
        loop: FitLoop,
        moment: SaveMoment,
        metrics: Mapping[str, float],
        *,
        counters: dict[str, Any] | None,
        behind: bool,
        metadata: Mapping[str, Any],
    ) -> None:
        """Copy the state and hand it to the writer.

        Args:
            loop: Between two steps.
            moment: Of this save.
            metrics: Their values here.
            counters: All of the state but tensors, where it was remembered; None: as it is now.
            behind: Whether training may go on while the tensors are copied.
            metadata: Stored with this checkpoint alone.

        Raises:
            CheckpointWriteError: An earlier checkpoint was lost; this one was not taken.
        """
        self._last_but_one, self.last = self.last, moment
        glance = self._may_glance(loop, behind=behind and not moment.epoch_completed)
        where = training_state.layout(loop, glance=glance)
        taken = training_state.take_counters(loop, where) if counters is None else lambda: counters
        # Filled in as the arrays are, behind training.
        state = rank_state.gathered(loop, taken()) if loop.ranks.many else {}
        tensors, copying = self._copies.capture(
            loop, where, behind=behind, shares=self._shares, glance=glance
        )
        if isinstance(self._writer, ShareWriter):
            share = ShareContents(tensors.mine, loop.progress.global_step)
            submit = partial(self._writer.submit, share)
        else:
            assert self._writer is not None, "commit comes after open"
            contents = contents_of(
                loop,
                tensors,
                state,
                epoch_completed=moment.epoch_completed,
                metrics=metrics,
                metadata={**self._metadata, **metadata},
            )
            submit = partial(self._writer.submit, contents)
        comparison = self._looking(loop, copying) if loop.ranks.many else None
        self._costs.handed_over(time.monotonic() - self._began, copying)

        def ready() -> bool:
            whole = self._ready(copying, comparison)
            state.update({} if state else taken())
            return whole

        self._guarded(lambda: self._submit(partial(submit, ready=ready), copying))
        self._costs.training_goes_on(time.monotonic() - self._began)

    def take_torn(self) -> bool:
        """Return whether nothing was saved of the last copy.

        It was worthless, which is said once; or the ranks' parameters differ, which :meth:`begin` raises on each.
        """
        return self._copies.take_torn() or self._apart

    def forget_last(self) -> None:
        """Count the checkpoint before the last as the last: the last copy was worthless."""
        self.last = self._last_but_one

    def wait_for_copy(self) -> None:
        """Block while a copy is being made."""
        self._copies.wait()

    def wait(self) -> None:
        """Block until what was saved is durable on this machine.

        Raises:
            CheckpointWriteError: It was lost.
        """
        if self._writer is not None:
            self._guarded(self._writer.wait)

    def close(self, loop: FitLoop) -> None:
        """Wait until all is durable, at the mirror too, and give threads and memory back, whatever is raised.

        Raises:
            CheckpointWriteError: A checkpoint, or its copy to the mirror, was lost.
        """
        try:
            if self._writer is not None:
                self._guarded(self._writer.close)
        finally:
            self._copies.close()
            loop.layout = None  # it knows the copies

    def say_where_a_rerun_goes_on(self, loop: FitLoop) -> None:
        """Log what is left of a run that an exception has ended; once :meth:`close` has made it durable."""
        newest = self.events[-1].name if self.events else getattr(loop.resumed_from, "name", None)
        logger.warning(
            "an exception has ended fit after step %d; %s",
            loop.progress.global_step,
            "no checkpoint had been taken: run again, it begins anew"
            if newest is None
            else f"the newest checkpoint is {newest}: the same command, run again, goes on from there",
        )

    def _may_glance(self, loop: FitLoop, *, behind: bool) -> bool:
        """Return whether the thread that copies may find out that this step's tensors are not those of the save before.

        It is the next step's state that is saved then, which the end of an epoch and other ranks cannot wait for.
        """
        at_end = loop.progress.step_in_epoch == loop.steps_per_epoch
        return self._copies.may_glance(behind=behind) and not at_end and not loop.ranks.many

    def _submit(self, submit: Callable[[], None], copying: Copying | None) -> None:
        submit()
        if copying is not None:
            self._copies.hold_for(copying)

    def _looking(self, loop: FitLoop, copying: Copying | None) -> Comparison:
        """Have the parameters looked at, for a comparison with those of the other ranks: now, or with the copy."""
        when = f"at the save of step {loop.progress.global_step}"
        comparison = Comparison(loop.ranks, loop.trained, when)
        if copying is None:
            comparison.look()
        else:
            copying.beside(comparison.look, comparison.parameters.values())
        return comparison

    def _ready(self, copying: Copying | None, comparison: Comparison | None) -> bool:
        """Return, on the writer's thread, whether what was copied is to be written."""
        whole = copying is None or self._copies.run(copying)
        if comparison is not None:
            try:
                comparison.require(whole=whole, among=WRITING)
            finally:
                self._apart = comparison.differ
        return whole

    def _committed(self, event: SaveEvent) -> None:
        self._costs.committed(event, None if self._writer is None else self._writer.mirror_lag())

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except CheckpointWriteError as error:
            if self._raises:
                raise
            logger.error("a checkpoint was lost, training goes on: %s", error)
