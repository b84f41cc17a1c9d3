"""The runs of a recipe: each in a run directory of its own, resumed if it was interrupted, none done twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paddle_warm_callbacks import (
    CheckpointStore,
    EveryNEpochs,
    HeadTransplant,
    KeepBest,
    KeepLatest,
    PeriodicCheckpoint,
    WarmStartCallback,
    WarmVisualDL,
)
from paddle_warm_callbacks.checkpoint.store import Checkpoint
from paddle_warm_callbacks.plan.saving import SavePolicy
from recipes.common.comparison import by_epoch


@dataclass(frozen=True)
class Start:
    """What a run starts warm from; a resume goes before it.

    Attributes:
        source: As :class:`WarmStartCallback` takes it; None: cold.
        head: How the rows of its head move.
        convert: As :class:`WarmStartCallback` takes it.
    """

    source: str | None = None
    head: HeadTransplant | None = None
    convert: str | None = None


class Stopped(Exception):
    """A signal has ended a run before its last epoch; what there is, is saved."""


class Runs:
    """Fit the runs of a recipe, and say what came of them.

    Args:
        output: Folder with a run directory for each, and their logs in ``vdl``.
        config: The recipe's configuration, a dataclass, which goes into each checkpoint.
    """

    def __init__(self, output: Path, config: Any) -> None:
        self.output = output
        self._config = config

    def fit(
        self,
        run: str,
        model: Any,
        data: tuple[Any, Any],
        *,
        epochs: int,
        labels: Sequence[str],
        trained_on: Path,
        start: Start,
        callbacks: Sequence[Any] = (),
        batch_size: int = 1,
        save: SavePolicy = EveryNEpochs(1),  # noqa: B008  # immutable
        best: str = "acc",
    ) -> Path:
        """Train one of the runs, or what is left of it; return its run directory.

        Args:
            run: Its name.
            model: Prepared.
            data: To train and to evaluate on, as ``Model.fit`` takes them.
            epochs: Of the whole run.
            labels: In the order of the head; kept in each checkpoint, where a later run finds them.
            trained_on: Where the data is from; kept likewise.
            start: What it starts from.
            callbacks: Those of this recipe alone.
            batch_size: Of data that is no loader.
            save: When to save.
            best: The metric whose best checkpoint is kept beside the newest.

        Raises:
            Stopped: A signal came, SIGTERM for one: the machine is to be given back, and what follows must not begin.
        """
        run_dir = self.output / run
        metadata = {"labels": list(labels), "data": str(trained_on), "config": asdict(self._config)}
        checkpoints = PeriodicCheckpoint(
            run_dir, save=save, keep=KeepLatest(1) | KeepBest(best), metadata=metadata
        )
        model.fit(
            *data,
            epochs=epochs,
            batch_size=batch_size,
            verbose=1,
            callbacks=[
                WarmStartCallback(
                    start.source,
                    run_dir=run_dir,
                    resume_from="latest",
                    head=start.head,
                    convert=start.convert,
                ),
                *callbacks,
                checkpoints,
                WarmVisualDL(self._logs(run), log_freq=5),
            ],
        )
        if checkpoints.preempted_by is not None:
            raise Stopped(checkpoints.preempted_by)
        return run_dir

    def newest(self, run: str) -> Checkpoint:
        """Return the newest checkpoint of a run that was fitted."""
        checkpoint = CheckpointStore(self.output / run).latest_verified()
        assert checkpoint is not None
        return checkpoint

    def curve(self, run: str, tag: str) -> list[float]:
        """Return the values of an evaluation's tag, one per epoch."""
        return by_epoch(self._logs(run), tag)

    @property
    def viewer(self) -> str:
        """The command that shows the logs of all runs."""
        return f"visualdl --logdir {self.output / 'vdl'} --language en"

    def _logs(self, run: str) -> Path:
        return self.output / "vdl" / run
