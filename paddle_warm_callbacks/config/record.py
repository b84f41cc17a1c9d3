"""A run's configuration beside its training: shown, and compared with the checkpoint's at a resume."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from omegaconf import OmegaConf

from paddle_warm_callbacks.config.schema import Config
from paddle_warm_callbacks.config.structure import find, structure_of
from paddle_warm_callbacks.hapi.callback import FitCallback
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.plan.config_changes import NOT_OURS, ConfigChange, config_changes

logger = logging.getLogger("paddle_warm_callbacks")

# Where a checkpoint's metadata has the configuration.
METADATA = "config"


class ConfigRecord(FitCallback):
    """Say at a resume which settings are not what they were, key by key, and what each change means.

    The changes are in the report of the start too, and so in the checkpoints that follow.

    Args:
        config: The configuration as plain values, as each checkpoint's metadata has it.

    Attributes:
        changes: Those that the last ``fit`` found; None if it resumed nothing.
    """

    order = 5  # behind WarmStartCallback, before those whose settings are told of

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self._config = dict(config)
        self.changes: tuple[ConfigChange, ...] | None = None

    def fit_opened(self, loop: FitLoop) -> None:
        """Compare, once a resume has been made."""
        self.changes = None
        loop.board.texts["start/config"] = OmegaConf.to_yaml(OmegaConf.create(self._config))
        if loop.resumed_from is None:
            return
        saved = loop.resumed_from.manifest.metadata.get(METADATA)
        if not isinstance(saved, Mapping):
            logger.info("configuration: %s was saved without one", loop.resumed_from.name)
            return
        self.changes = config_changes(saved, self._config, meaning_of)
        told = "\n".join(f"  {change}" for change in self.changes)
        if told:
            logger.warning("configuration, changed since %s:\n%s", loop.resumed_from.name, told)
            loop.board.texts["start/config_changes"] = told
        else:
            logger.info("configuration: as when %s was saved", loop.resumed_from.name)
        if loop.report is not None:
            notes = tuple(f"configuration, {change}" for change in self.changes)
            loop.report = replace(loop.report, notes=(*loop.report.notes, *notes))


_SETTINGS = structure_of(Config)


def meaning_of(key: str) -> str:
    """Return what it means for a resume that the setting at ``key`` is another."""
    node = find(_SETTINGS, key)
    return NOT_OURS if node is None else node.metadata["on_resume"] or NOT_OURS
