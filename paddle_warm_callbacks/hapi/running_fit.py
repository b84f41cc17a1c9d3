"""What is known of a running ``Model.fit``: what it trains and on what, where it is, and what its start came to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import numpy as np
import paddle

from paddle_warm_callbacks.hapi import known_fit, parallel, rng, script_settings
from paddle_warm_callbacks.hapi.board import Board
from paddle_warm_callbacks.hapi.loader_position import LoaderPosition
from paddle_warm_callbacks.hapi.resting_loaders import RestingLoaders
from paddle_warm_callbacks.hapi.trained import Trained
from paddle_warm_callbacks.progress import Progress

if TYPE_CHECKING:
    from paddle_warm_callbacks.hapi.tensor_layout import TensorLayout
    from paddle_warm_callbacks.plan.report import RestoreReport


class RunningFit:
    """One running ``Model.fit`` as its callbacks know it.

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
        settings: What the script set of learning rate, optimizer, mixed precision and loss, before anything changed it.
        rate_of_script: Set by a callback before the start: a resume follows the script's learning rate.
        train_loader: What fit iterates; the user's DataLoader, or the one fit made.
        finished: Set by a resume when the run had been ended by a callback: nothing is left to train.
        stopping: True once :meth:`FitLoop.stop_now` was called.
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
        reseed_from: The run's seed, where Paddle's own generator cannot be saved and is seeded at each step; else None.
        layout: Where the tensors were when the state was last captured; see ``training_state``.
    """

    def __init__(self, model: Any, fit_locals: dict[str, Any]) -> None:
        self.model = model
        self.network = model.network
        self.trained = Trained(model)
        self.optimizer = model._optimizer
        self.settings = script_settings.settings(model)
        self.rate_of_script = False
        self.train_loader = fit_locals["train_loader"]
        self.epochs = known_fit.epochs(fit_locals["epochs"])
        self.num_iters: int | None = fit_locals["num_iters"]
        self.accumulate = int(fit_locals["accumulate_grad_batches"])
        self.steps_per_epoch: int | None = model._len_data_loader(self.train_loader)
        self._eval_freq = int(fit_locals["eval_freq"]) if fit_locals["do_eval"] else None
        self._eval_loader = fit_locals["eval_loader"]
        self._users_eval_init: tuple[Any, Any] | None = None
        self.metric_names: list[str] = model._metrics_name()
        self._position: LoaderPosition | None = None
        self._evaluation: RestingLoaders | None = None
        self.progress = Progress()
        self.iters_before = 0
        self._in_step = False
        self.finished = False
        self.stopping = False
        self.goes_on_when_rerun = False
        self.ranks = parallel.Ranks()
        self.reseed_from: int | None = None
        self.layout: TensorLayout | None = None
        self.kept_arrays: dict[str, np.ndarray[Any, Any]] = {}
        self.report: RestoreReport | None = None
        self.run_dirs: set[Path] = set()
        self.mirrors: dict[Path, str] = {}
        self.parent: str | None = None
        self.ancestry: list[dict[str, Any]] = []
        self.resumed_from: Any = None
        self.restored_counters: dict[str, Any] | None = None
        self.regrouped_from: Progress | None = None
        self.board = Board.of_script(
            self.optimizer, self.train_loader, epochs=self.epochs, accumulate=self.accumulate
        )

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
            self._evaluation = RestingLoaders(
                self._eval_loader if self.evaluates else None, but=self.train_loader
            )
            if not rng.paddle_state_is_whole():
                self.reseed_from = rng.paddle_seed()
        return self._position

    @property
    def evaluation(self) -> RestingLoaders:
        """What the evaluation's loader has come to; recorded from the same moment on as :attr:`position`."""
        _ = self.position
        assert self._evaluation is not None
        return self._evaluation

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

    def wrap_worker_init(self, wrapper: Callable[[Any], Callable[[int], None]]) -> None:
        """Have the worker processes of the train and evaluation loaders start with ``wrapper(worker_init_fn)``."""
        self.position.wrap_worker_init(wrapper)
        if getattr(self._eval_loader, "num_workers", 0):
            self._users_eval_init = (self._eval_loader, self._eval_loader.worker_init_fn)
            self._eval_loader.worker_init_fn = wrapper(self._eval_loader.worker_init_fn)

    def open_loaders(self) -> None:
        """Begin to record what is recorded of both loaders; everything is restored by now."""
        if self._position is not None:
            self._position.open()
            self.evaluation.open()

    def give_back(self) -> None:
        """Leave both loaders as the user had them; what the learning rate has come to is known to later fits."""
        script_settings.leave(self.optimizer, self.settings)
        if self._position is not None:
            self._position.close()
            self.evaluation.close()
        if self._users_eval_init is not None:
            loader, worker_init_fn = self._users_eval_init
            loader.worker_init_fn = worker_init_fn
