"""Show a run in VisualDL as one curve, however often it was interrupted."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Union

from paddle_warm_callbacks.arguments import require_int
from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.hapi import lr, proof
from paddle_warm_callbacks.hapi.callback import FitCallback
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.hapi.gradients import GradientNorm
from paddle_warm_callbacks.logs.jsonl import JsonlLog
from paddle_warm_callbacks.logs.vdl import VisualDLLog
from paddle_warm_callbacks.secrets import redacted, redacted_values

logger = logging.getLogger("paddle_warm_callbacks")

# Curves whose steps are epochs.
_BY_EPOCH = "epoch/"

Log = Union[JsonlLog, VisualDLLog]

# Points are written out before each checkpoint, at the end of each epoch, and after so long for those who watch; many
# at a time, for between two steps of training the first costs five times as much as those that follow it.
_SECONDS_UNSEEN = 1.0


class WarmVisualDL(FitCallback):
    """Log training and evaluation by global step, the learning rates in use, stages, checkpoints and the start.

    After a resume the same curves go on: what the interrupted process logged beyond its checkpoint is taken out of the
    files first, so that no step is there twice, and none is missing. The same values go to ``metrics.jsonl`` in the
    directory, one JSON object a line; without VisualDL installed they go only there, and a warning says so once.

    A run that starts anew in a directory with logs replaces them; give each run a directory of its own.

    Tags: ``train/<metric>``, ``eval/<metric>``, and both again by epochs completed instead of global steps,
    ``epoch/train_<metric>``, ``epoch/eval_<metric>``; ``lr/<group>`` (with the stage's factor; 0 for a frozen group),
    ``stage/index``, ``stage/trainable_share``, ``checkpoint/seconds_blocked``, ``checkpoint/seconds_to_durable``,
    ``checkpoint/bytes``, ``throughput/steps_per_second``, ``throughput/data_wait_share`` and, if asked for, both of
    each rank (``throughput/rank_1/data_wait_share``), ``train/gradient_norm``; with a mirror
    ``checkpoint/seconds_to_mirror``, ``checkpoint/bytes_to_mirror``, ``checkpoint/passed_over_by_mirror`` and
    ``checkpoint/mirror_lag`` (seconds for which the mirror had lacked something at a commit); texts ``start/report``,
    ``start/stages``, ``start/lineage``; and the hyper-parameters, with the last values of the metrics of evaluation (of
    training, where there is none).

    Pictures of samples come from :class:`SamplePredictions`. A picture of the network VisualDL draws from Paddle 2.6
    alone, ``LogWriter.add_graph``: it wants a file that Paddle 3 no longer writes.

    Example:
        >>> board = WarmVisualDL("runs/defects/vdl", hparams={"augmentation": "flips"})

    Args:
        log_dir: Directory of the run's logs; open it, or the one above to compare runs, with
            ``visualdl --logdir <log_dir>``.
        log_freq: Global steps between two points of the training curves, at least 1.
        histograms: Log the distribution of each trainable parameter after every epoch.
        gradient_norm: Log the L2 norm over all gradients, unscaled and not yet clipped, at the optimizer's first step
            from each logged one on.
        rank_throughput: On several ranks, log the throughput of each: which one keeps the others waiting for its data.
            The ranks exchange a message at each logged step. Without it, rank 0's is logged. No effect on one rank.
        hparams: Settings by which this run is compared with others: name to number or text. Those that the script
            hands to ``fit`` and to our callbacks are there without it.
        texts: Texts to show beside the start's, such as the resolved configuration: name to text.

    Raises:
        InvalidArgumentError: A wrong argument, at once. In ``fit``: the directory cannot be written to.
    """

    # Before the checkpoint of the same step: what a resume goes on from has been logged by then.
    order = 70

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        *,
        log_freq: int = 10,
        histograms: bool = False,
        gradient_norm: bool = False,
        rank_throughput: bool = False,
        hparams: Mapping[str, str | float] | None = None,
        texts: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._directory = proof.local_directory(log_dir, "WarmVisualDL(log_dir)")
        self._log_freq = require_int(log_freq, "WarmVisualDL(log_freq=)", at_least=1)
        self._histograms = histograms
        self._wants_norm = gradient_norm
        self._of_each_rank = rank_throughput
        self._hparams = _mapping(hparams, "hparams", (int, float, str), "number or text")
        self._texts = _mapping(texts, "texts", (str,), "text")
        self._norm: GradientNorm | None = None
        self._logs: list[Log] = []
        self._unwritten: list[tuple[str, int, float, float]] = []

    def fit_started(self, loop: FitLoop) -> None:
        """Open the logs at the position training starts at."""
        self._since = (time.monotonic(), loop.progress.global_step, loop.seconds_awaiting)
        if loop.ranks.rank:
            return  # rank 0 logs: its own losses, and what is averaged or gathered over all
        self._open(loop)
        loop.board.before_commit.append(self._flush)
        self._points_seen = self._pictures_seen = 0
        if self._wants_norm:
            self._norm = GradientNorm(loop.network, loop.optimizer)

    def fit_ready(self, loop: FitLoop) -> None:
        """Log how training starts."""
        if not self._logs:
            return
        for log in self._logs:
            log.hparams(redacted_values({**loop.board.hparams, **self._hparams}), loop.metric_tags)
            for tag, text in {**loop.board.texts, **self._texts}.items():
                log.text(tag, loop.progress.global_step, redacted(text))
        self._flush()

    def step_starting(self, loop: FitLoop) -> None:
        """Ask for the gradient's norm where the step will be logged."""
        if self._norm is not None and (loop.progress.global_step + 1) % self._log_freq == 0:
            self._norm.request()

    def step_ended(self, loop: FitLoop, logs: dict[str, Any]) -> None:
        """Log every ``log_freq``-th step, by its number in the run."""
        step = loop.progress.global_step
        norm = None if self._norm is None else self._norm.take()
        if norm is not None:
            self._scalar("train/gradient_norm", step, norm)
        if step % self._log_freq:
            return
        self._throughput(loop, step)
        if not self._logs:
            return
        self._numbers("train/", step, logs)
        for group, rate in lr.effective_lr(loop).items():
            self._scalar(f"lr/{group}", step, rate)
        for tag, value in loop.board.measures.items():
            self._scalar(tag, step, value)
        self._points(loop)
        if time.monotonic() - self._flushed > _SECONDS_UNSEEN:
            self._flush()

    def epoch_completed(self, loop: FitLoop, logs: dict[str, Any], eval_logs: dict[str, Any] | None) -> None:
        """Log the evaluation, at the global step it was made after, and both logs by epoch."""
        if not self._logs:
            return
        step = loop.progress.global_step
        self._numbers("eval/", step, eval_logs or {})
        self._numbers(_BY_EPOCH + "train_", loop.progress.epoch, logs)
        self._numbers(_BY_EPOCH + "eval_", loop.progress.epoch, eval_logs or {})
        if self._histograms:
            for name, parameter in loop.network.named_parameters():
                if not parameter.stop_gradient:
                    for log in self._logs:
                        log.histogram(f"parameters/{name}", step, parameter.numpy().ravel())
        self._points(loop)
        self._flush()

    def fit_closed(self, loop: FitLoop) -> None:
        """Log the last checkpoints, and close the files."""
        if self._norm is not None:
            self._norm.close()
            self._norm = None
        if self._logs:
            self._points(loop)
            self._flush()
        for log in self._logs:
            log.close()
        self._logs = []

    def _open(self, loop: FitLoop) -> None:
        reached, inside_epoch = loop.progress.global_step, loop.progress.step_in_epoch > 0
        resumed, epochs = loop.resumed_from is not None, loop.progress.epoch

        def keep(tag: str, step: int) -> bool:
            if tag.startswith(_BY_EPOCH):
                return resumed and step <= epochs
            # Inside an epoch the evaluation of this very step is still to come.
            return resumed and (
                step < reached or (step == reached and not (inside_epoch and tag[:5] == "eval/"))
            )

        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._logs = [JsonlLog(self._directory, keep)]
        except OSError as error:
            raise InvalidArgumentError(
                "the logs cannot be written there",
                where="WarmVisualDL(log_dir)",
                received=f"{self._directory}: {type(error).__name__}: {error.strerror}",
                expected="a directory that this process may write to",
                remedy="choose another log_dir, or check permissions and room on the disk",
            ) from error
        try:
            self._logs.append(VisualDLLog(self._directory, keep))
        except ImportError as missing:
            logger.warning(
                "logging to %s only: VisualDL cannot be imported (%s); pip install 'paddle-warm-callbacks[visualdl]'",
                self._directory / "metrics.jsonl",
                missing,
            )

    def _points(self, loop: FitLoop) -> None:
        points = loop.board.points[self._points_seen :]
        self._points_seen += len(points)
        for tag, step, value in points:
            self._scalar(tag, step, value)
        pictures = loop.board.pictures[self._pictures_seen :]
        self._pictures_seen += len(pictures)
        for tag, step, picture in pictures:
            for log in self._logs:
                log.image(tag, step, picture)

    def _throughput(self, loop: FitLoop, step: int) -> None:
        now, (then, steps, awaited) = time.monotonic(), self._since
        self._since = (now, step, loop.seconds_awaiting)
        seconds = max(now - then, 1e-9)  # of a clock that is coarse
        of_rank = [(step - steps) / seconds, (loop.seconds_awaiting - awaited) / seconds]
        self._speeds("throughput", step, of_rank)
        if self._of_each_rank and loop.ranks.many:
            of_ranks = loop.ranks.agree(f"the throughput of each rank at step {step}", of_rank, list)
            for rank, speeds in enumerate(of_ranks):
                self._speeds(f"throughput/rank_{rank}", step, speeds)

    def _speeds(self, prefix: str, step: int, speeds: Sequence[float]) -> None:
        for name, speed in zip(("steps_per_second", "data_wait_share"), speeds):
            self._scalar(f"{prefix}/{name}", step, speed)

    def _numbers(self, prefix: str, step: int, logs: Mapping[str, Any]) -> None:
        for name, value in logs.items():
            parts = value if isinstance(value, (list, tuple)) else [value]
            if name in ("step", "steps", "batch_size") or not all(
                isinstance(part, (int, float)) for part in parts
            ):
                continue
            for number, part in enumerate(parts):
                self._scalar(prefix + (name if len(parts) == 1 else f"{name}_{number}"), step, float(part))

    def _scalar(self, tag: str, step: int, value: float) -> None:
        if self._logs:
            self._unwritten.append((tag, step, float(value), time.time()))

    def _flush(self) -> None:
        self._flushed = time.monotonic()
        # A checkpoint may be taken, and flush, on another thread while training waits for data.
        points, self._unwritten = self._unwritten, []
        for log in self._logs:
            for tag, step, value, at in points:
                log.scalar(tag, step, value, at)
            log.flush()


def _mapping(given: Any, argument: str, kinds: tuple[type, ...], expected: str) -> dict[str, Any]:
    if given is None:
        return {}
    if isinstance(given, Mapping) and all(
        isinstance(name, str) and isinstance(value, kinds) for name, value in given.items()
    ):
        return dict(given)
    raise InvalidArgumentError(
        f"not {argument}",
        where=f"WarmVisualDL({argument}=)",
        received=repr(given),
        expected=f"a mapping from name to {expected}",
    )
