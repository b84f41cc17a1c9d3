"""Start a ``fit`` from what there is: the same run's checkpoint, another run's weights, or nothing."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from paddle_warm_callbacks.arguments import nearest, require_choice, require_int, require_number
from paddle_warm_callbacks.checkpoint.newest import best, newest_verified
from paddle_warm_callbacks.checkpoint.source import Source, open_checkpoint, open_source
from paddle_warm_callbacks.checkpoint.store import Checkpoint, CheckpointStore
from paddle_warm_callbacks.errors import InvalidArgumentError, SourceError
from paddle_warm_callbacks.hapi import pretrained, proof, rank_state, resume, training_state, warm_start
from paddle_warm_callbacks.hapi.callback import FitCallback, require_alone
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.patterns import compile_patterns
from paddle_warm_callbacks.plan.conversions import CONVERSIONS
from paddle_warm_callbacks.plan.report import RestoreReport
from paddle_warm_callbacks.plan.start import COLD, Start, choose_start
from paddle_warm_callbacks.plan.transplant import HeadTransplant

logger = logging.getLogger("paddle_warm_callbacks")


class WarmStartCallback(FitCallback):
    """Resume the run if it has a checkpoint, else start warm from ``source``, else start cold and say so.

    A resume continues at the very next step, with parameters, optimizer, learning rate, random state, data order,
    metrics and callbacks as they were: rerun the same command, with the same total ``epochs``. A warm start copies
    the weights that fit and begins at epoch 0. On several ranks, rank 0 finds and reads, and gives to the others.

    Example:
        >>> start = WarmStartCallback("resnet50.pdparams", run_dir="runs/defects", resume_from="latest")

    Args:
        source: Weights of another run: path or URL of a ``.pdparams`` or safetensors file, a ``Model.save`` prefix, the
            ``.pdiparams`` of an inference model of the same network, a checkpoint or a run directory;
            ``"registry://defects@production"``, a model of the registry whose root the environment variable
            ``PADDLE_WARM_CALLBACKS_REGISTRY`` names (or ``?root=s3://models/registry`` at the end); a state dict; a
            Layer or ``paddle.Model``; or ``"paddle.vision:resnet50"``, Paddle's pretrained file, from its cache if it
            is there. None: there are none.
        pretrained: The same, for where ``source`` is None: a resume goes before ``source``, that before ``pretrained``.
        run_dir: The run directory that ``PeriodicCheckpoint`` writes to; it too may be a URL.
        resume_from: None never resumes. ``"latest"`` resumes from the newest checkpoint that verifies, of ``run_dir``
            and of the mirror that ``PeriodicCheckpoint`` copies it to; ``"best"`` from the one that the ``KeepBest`` of
            ``run_dir`` names. With no checkpoint there the start is warm or cold. Any other string is the path or URL
            of a checkpoint or run directory, which must exist.
        head: How the rows of the head move by label, when classes or characters are added, removed or reordered.
        include: Regular expressions over the network's structured names; only those tensors are loaded.
        exclude: Regular expressions over the network's structured names; those tensors are not loaded.
        rename: Regular expression to replacement, applied to the source's names.
        convert: Whose names and matrices the source has: ``"torch"`` (PyTorch, timm), ``"paddleclas-resnet50"``, 101 or
            152; None: Paddle's.
        part: Key of the part with the weights, where a file is nested: ``"ema"``, ``"state_dict"``; dots go deeper.
        min_loaded: A warm start that would fill a smaller share of the network's elements (0 to 1) is an error.
        on_change: What to do when the script is not what it was and an exact resume is impossible: ``"raise"``, or
            ``"adapt"``: load what fits by name and repeat the interrupted epoch from its first step. Where the run can
            go on and yet not as the same (the optimizer's settings, mixed precision), or not with all that the script
            says (the learning rate: see ``WarmLRScaler(on_resume=)``), it does so with a warning that says which;
            ``"strict"`` raises then too.
        seed_samples: Draw each training sample with generators (Python's and NumPy's; in workers Paddle's too) seeded
            from this number, the epoch and the sample's index. A resume is exact without it; with it an augmentation
            depends on nothing else, and stays the same when ``num_workers`` changes. At least 0; None: not seeded.

    Attributes:
        report: After ``fit`` has begun, a :class:`RestoreReport`: what was loaded, transplanted, skipped, and why.

    Raises:
        InvalidArgumentError: A wrong argument, at once. In ``fit``: another WarmStartCallback is among the callbacks.
        SourceError: In ``fit``: the source or the checkpoint named is not there.
        RegistryError: In ``fit``: the registry has no such model, version or tag.
        CoverageError: In ``fit``: less than ``min_loaded`` of the network would be filled.
        RunDirectoryBusyError: In ``fit``: another live process writes to ``run_dir``, where a mirror's copy would go.
        NoUsableCheckpointError: In ``fit``: there are checkpoints and none verifies; never a silent cold start.
        ResumeChangedError: In ``fit``: the script was changed in a way that ``on_change`` refuses.
        UnsupportedFitError: In ``fit``: ``seed_samples``, and a loader without indices.
        RankError: In ``fit``, on several ranks: one has failed or is missing, or its script is not that of rank 0.
    """

    order = 0

    def __init__(
        self,
        source: Any = None,
        *,
        run_dir: str | os.PathLike[str] | None = None,
        resume_from: str | os.PathLike[str] | None = None,
        head: HeadTransplant | None = None,
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        rename: Mapping[str, str] | None = None,
        convert: str | None = None,
        part: str | None = None,
        min_loaded: float = 0.5,
        on_change: str = "raise",
        seed_samples: int | None = None,
        pretrained: Any = None,
    ) -> None:
        super().__init__()
        if resume_from is not None and not isinstance(resume_from, (str, os.PathLike)):
            raise InvalidArgumentError(
                "not a place to resume from",
                where="WarmStartCallback(resume_from=)",
                received=repr(resume_from),
                expected='"latest", "best", a path, a URL, or None',
                remedy='WarmStartCallback(run_dir="runs/defects", resume_from="latest")',
            )
        if resume_from in ("latest", "best") and run_dir is None:
            raise InvalidArgumentError(
                f"resume_from={resume_from!r} of which run?",
                where="WarmStartCallback(run_dir=)",
                received="None",
                expected="the run directory given to PeriodicCheckpoint",
                remedy=f'WarmStartCallback(run_dir="runs/defects", resume_from={resume_from!r})',
            )
        if source is None and pretrained is None and head is not None:
            raise InvalidArgumentError(
                "a head is transplanted from a source, and there is none",
                where="WarmStartCallback(source)",
                received="None",
                expected="where the old head is",
                remedy='WarmStartCallback("runs/old", head=…, run_dir="runs/new", resume_from="latest")',
            )
        if require_number(min_loaded, "WarmStartCallback(min_loaded=)", at_least=0) > 1:
            raise InvalidArgumentError(
                "min_loaded is a share",
                where="WarmStartCallback(min_loaded=)",
                received=repr(min_loaded),
                expected="0 to 1",
                remedy=f"for {min_loaded:g} percent write {min_loaded / 100:g}",
            )
        require_choice(on_change, "WarmStartCallback(on_change=)", choices=("raise", "adapt", "strict"))
        self._source = source
        self._pretrained = pretrained
        self._run_dir, self._mirror = None, None
        if run_dir is not None:
            self._run_dir, self._mirror = proof.run_place(run_dir, "WarmStartCallback(run_dir=)")
        self._resume_from = resume_from
        self._head = head
        self._include = None if include is None else compile_patterns(include, "WarmStartCallback(include=)")
        self._exclude = None if exclude is None else compile_patterns(exclude, "WarmStartCallback(exclude=)")
        self._rename = rename
        if convert is not None:
            require_choice(convert, "WarmStartCallback(convert=)", choices=tuple(CONVERSIONS))
        self._convert = convert
        self._part = part
        self._min_loaded = float(min_loaded)
        self._on_change = on_change
        self._seed_samples = seed_samples
        if seed_samples is not None:
            require_int(seed_samples, "WarmStartCallback(seed_samples=)", at_least=0)
        self._held: dict[str, Any] | None = None
        self._cost_reported = True
        self.report: RestoreReport | None = None

    def fit_opened(self, loop: FitLoop) -> None:
        """Restore what there is; runs once every callback has had its ``on_train_begin``."""
        require_alone(
            loop,
            WarmStartCallback,
            "a fit starts once: what one loads, the next would replace",
            expected="one, for the resume and the source: a run that is interrupted goes on, a new one starts warm",
            remedy='WarmStartCallback("old.pdparams", run_dir="runs/new", resume_from="latest")',
        )
        if self._seed_samples is not None:
            loop.position.seed_samples(self._seed_samples)
        self.report = loop.report = rank_state.started_together(loop, lambda: self._start(loop))
        self._cost_reported = self.report.kind != "resume"
        self._log(self.report)
        self._look_where_a_rerun_will(loop)
        loop.board.texts["start/report"] = self.report.to_text()
        if loop.parent is not None:
            loop.board.texts["start/lineage"] = (
                f"{loop.parent}: {self.report.resumed_from or self.report.source}"
            )

    def fit_ready(self, loop: FitLoop) -> None:
        """Say so if nothing is left to train; remember what an ``on_epoch_begin`` that comes again may change."""
        if loop.nothing_left and loop.ranks.rank == 0:
            logger.info("nothing is left to train: %s", loop.nothing_left)
        if loop.progress.step_in_epoch:
            self._held = training_state.capture_counted(loop, loop.others)

    def epoch_starting(self, loop: FitLoop) -> None:
        """Undo those changes: the uninterrupted run had them once."""
        if self._held is not None:
            training_state.restore_counted(loop, self._held, loop.others)
            self._held = None

    def step_starting(self, loop: FitLoop) -> None:
        """Report, once, what finding the position again has cost, where batches were loaded for it."""
        if self._cost_reported or loop.report is None:
            return
        self._cost_reported = True
        batches, seconds = loop.position.loaded_again
        if batches:
            note = f"{batches} batches were loaded again and dropped, in {seconds:.2f} s"
            # The loop's, to which others may have added notes.
            self.report = loop.report = replace(loop.report, notes=(*loop.report.notes, note))
            logger.info("%s", note)

    def _log(self, report: RestoreReport) -> None:
        in_detail = logger.isEnabledFor(logging.DEBUG)
        logger.info("%s", replace(report, warnings=()).to_text(layers=in_detail))
        for warning in report.warnings:
            logger.warning("%s", warning)

    def _look_where_a_rerun_will(self, loop: FitLoop) -> None:
        """Warn if a rerun will find nothing of this training where it looks: a likely slip of the pen."""
        if self._resume_from not in ("latest", "best") or self._run_dir is None:
            return
        loop.goes_on_when_rerun = self._run_dir.resolve() in loop.run_dirs
        if not loop.goes_on_when_rerun:
            written = ", ".join(map(str, sorted(loop.run_dirs))) or "nowhere: there is no PeriodicCheckpoint"
            logger.warning(
                "WarmStartCallback resumes from %s, but checkpoints go to %s. Rerun, this training will not go on: "
                "give both callbacks one run_dir",
                self._run_dir,
                written,
            )

    def _start(self, loop: FitLoop) -> RestoreReport:
        checkpoint = self._checkpoint(loop)
        start = self._choose(checkpoint)
        logger.info("%s", start.to_text())
        loop.board.texts["start/choice"] = start.to_text()
        if checkpoint is not None:
            return resume.resume(loop, checkpoint, on_change=self._on_change)
        if start.kind == COLD:
            return RestoreReport("cold")
        return self._warm(loop, self._pretrained if self._source is None else self._source)

    def _checkpoint(self, loop: FitLoop) -> Checkpoint | None:
        if self._resume_from is None:
            return None
        if self._resume_from in ("latest", "best"):
            assert self._run_dir is not None
            store = CheckpointStore(self._run_dir)
            mirror = self._mirror or loop.mirrors.get(self._run_dir.resolve())
            return best(store, mirror) if self._resume_from == "best" else newest_verified(store, mirror)
        try:
            return open_checkpoint(self._resume_from)
        except SourceError as error:
            text = os.fspath(self._resume_from)
            meant = None if "/" in text else nearest(text, ("latest", "best"))
            if meant is None:
                raise
            raise SourceError(
                "there is no checkpoint to resume from",
                where="WarmStartCallback(resume_from=)",
                received=repr(self._resume_from),
                expected="latest, best, or the path or URL of a checkpoint",
                remedy=f"did you mean {meant!r}?",
            ) from error

    def _choose(self, checkpoint: Checkpoint | None) -> Start:
        return choose_start(
            resume_from=None if self._resume_from is None else str(self._resume_from),
            run=str(self._run_dir),
            found=None if checkpoint is None else checkpoint.path,
            source=_in_words(self._source),
            pretrained=_in_words(self._pretrained),
        )

    def _warm(self, loop: FitLoop, given: Any) -> RestoreReport:
        file = given
        if isinstance(given, str) and given.startswith(pretrained.PREFIX):
            file = pretrained.find(given)
        source = open_source(file, part=self._part)
        if file is not given:
            source = replace(source, description=str(given))  # the name says more than a cache's file
        head = self._head
        if head is not None and head.old_labels is None:
            head = head.with_old_labels(_labels_of(source))
        loop.parent = None if source.checkpoint is None else source.checkpoint.digest
        loop.ancestry = source.ancestry
        tensors = source.tensors
        if source.generated_names:
            tensors = warm_start.under_structured_names(loop.network, tensors, source.description)
        report = warm_start.warm_start(
            loop.network,
            tensors,
            description=source.description,
            head=head,
            include=self._include,
            exclude=self._exclude,
            rename=self._rename,
            convert=self._convert,
            min_loaded=self._min_loaded,
        )
        report = replace(report, notes=(*report.notes, *_written_elsewhere(source)))
        if head is not None and head.moments:
            restored = warm_start.transplant_moments(
                loop.network, loop.optimizer, _accumulators_of(source), head
            )
            report = replace(report, optimizer_restored=tuple(restored))
        return report


def _in_words(source: Any) -> str | None:
    if source is None or isinstance(source, (str, os.PathLike)):
        return None if source is None else os.fspath(source)
    return f"a {type(source).__name__} in memory"


def _labels_of(source: Source) -> Sequence[str]:
    if source.labels is None:
        raise InvalidArgumentError(
            "the old labels are not known",
            where="HeadTransplant(old_labels)",
            received="None, and the source's metadata has no list under 'labels'",
            expected="the labels the source was trained on, in its order",
            remedy='pass old_labels=[…], or save with PeriodicCheckpoint(metadata={"labels": […]})',
        )
    return source.labels


def _written_elsewhere(source: Source) -> tuple[str, ...]:
    written = {} if source.checkpoint is None else source.checkpoint.manifest.writer
    now = training_state.versions()["paddle"]
    if written.get("paddle", now) == now:
        return ()
    return (f"written by Paddle {written['paddle']}, read by {now}",)


def _accumulators_of(source: Source) -> dict[tuple[str, str], Any]:
    if source.checkpoint is None:
        raise InvalidArgumentError(
            "the source has no optimizer state that is known by name",
            where="HeadTransplant(moments=True)",
            received=source.description,
            expected="a checkpoint or run directory of PeriodicCheckpoint",
        )
    return training_state.saved_accumulators(
        source.checkpoint.read_optimizer(), source.checkpoint.read_state()
    )
