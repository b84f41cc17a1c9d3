"""Scale the learning rate of a warm start, and warm it up."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from paddle_warm_callbacks.arguments import require_choice
from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.hapi import optimizer_state, lr
from paddle_warm_callbacks.hapi.callback import FitCallback
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.plan.lr import ON_RESUME, LRGroups, ScalerSettings, after_resume

logger = logging.getLogger("paddle_warm_callbacks")


class WarmLRScaler(FitCallback):
    """Multiply the learning rate, a float or any scheduler's, by a constant and a warm-up.

    ``optimizer.get_lr()`` gives the scaled rate while ``fit`` runs. The formula is in
    :func:`paddle_warm_callbacks.plan.lr.effective_lr`.

    Example:
        >>> scaler = WarmLRScaler(0.2, warmup_steps=200, groups={"backbone": 0.1, "fc": 1.0})

    Args:
        factor: Above 0. A fifth to a tenth of a cold start's rate is usual.
        warmup_steps: Global steps over which the rate rises linearly; 0 for none.
        groups: Regular expression over structured names to a further factor; the first that is found in a name counts,
            1 where none is.
        on_resume: Which settings a resumed run follows: ``"keep"`` the checkpoint's; ``"reconfigure"`` the script's,
            its scheduler's too; ``"rewarm"`` the checkpoint's with the script's warm-up starting now; ``"extend"`` the
            checkpoint's with the script's scheduler, at the checkpoint's position.

    Raises:
        InvalidArgumentError: A wrong argument, at once.
        PatternError: A group is no regular expression, at once; in ``fit``: it names no parameter.
        UnsupportedFitError: In ``fit``: an optimizer with parameter groups.
    """

    order = 10

    def __init__(
        self,
        factor: float = 0.1,
        *,
        warmup_steps: int = 0,
        groups: Mapping[str, float] | None = None,
        on_resume: str = "keep",
    ) -> None:
        super().__init__()
        self._written = ScalerSettings(factor, warmup_steps, 0, LRGroups(groups).groups)
        self._on_resume = require_choice(on_resume, "WarmLRScaler(on_resume=)", choices=ON_RESUME)
        if on_resume == "rewarm" and not warmup_steps:
            raise InvalidArgumentError(
                "a re-warm needs steps",
                where='WarmLRScaler(on_resume="rewarm")',
                received="warmup_steps=0",
                expected="warmup_steps of at least 1",
            )
        self._settings = self._written
        self._saved: dict[str, Any] | None = None
        self._global: lr.GlobalFactor | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the settings in force, and the float that is scaled."""
        return {**vars(self._settings), "base": None if self._global is None else self._global.base}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the settings of an interrupted run; what is made of them, ``on_resume`` says."""
        self._saved = state

    def on_train_begin(self, logs: Any = None) -> None:
        """Remember the learning rate as the script built it: a resume is about to change it."""
        self._saved = None
        if self.loop is not None:
            self._of_script = optimizer_state.capture_learning_rate(self.loop.optimizer)

    def fit_started(self, loop: FitLoop) -> None:
        """Settle what to follow, and scale."""
        self._settings, base = self._written, None
        if loop.resumed_from is not None:
            before = float(loop.optimizer.get_lr())
            base = self._after_resume(loop)
        self._factors = lr.ParameterFactors.of(loop)
        names = [name for name, p in loop.network.named_parameters() if hasattr(p, "optimize_attr")]
        groups = LRGroups(dict(self._settings.groups))
        self._factors.set("groups", groups.factors(names))
        if groups.groups:
            labels = [groups.group_of(name) or "others" for name in names]
            self._factors.labels = {
                label: tuple(name for name, its in zip(names, labels) if its == label) for label in dict.fromkeys(labels)
            }
        self._global = lr.GlobalFactor(loop.optimizer, base)
        self.step_starting(loop)
        if loop.resumed_from is not None:
            logger.info(
                "learning rate on resume (%s): %g saved, %g now", self._on_resume, before, loop.optimizer.get_lr()
            )

    def step_starting(self, loop: FitLoop) -> None:
        """Set the factor of this step."""
        assert self._global is not None
        self._global.set(self._settings.factor_at(loop.progress))

    def fit_closed(self, loop: FitLoop) -> None:
        """Give the learning rate back unscaled."""
        if self._global is not None:
            self._global.close()
            self._factors.clear("groups")
            self._global = None

    def _after_resume(self, loop: FitLoop) -> float | None:
        """Choose the settings; return the unscaled float to go on with, or None for a scheduler."""
        saved, base = None, None
        if self._saved is not None:
            values = dict(self._saved)
            base = values.pop("base")
            saved = ScalerSettings(**values)
        chosen = after_resume(self._on_resume, saved, self._written, loop.progress)
        self._settings = chosen.settings
        if chosen.scheduler == "script":
            optimizer_state.move_learning_rate(loop.optimizer, self._of_script)
            return self._of_script.get("float")
        return base if "float" in self._of_script else None
