"""Scale the learning rate of a warm start, and warm it up."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from paddle_warm_callbacks.checkpoint import jsonvalue
from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.hapi import lr, optimizer_state
from paddle_warm_callbacks.hapi.callback import FitCallback, require_alone
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.plan.lr import LRGroups, ScalerSettings, after_resume
from paddle_warm_callbacks.progress import Progress

logger = logging.getLogger("paddle_warm_callbacks")


class WarmLRScaler(FitCallback):
    """Multiply the learning rate, a float or any scheduler's, by a constant and a warm-up.

    ``optimizer.get_lr()`` gives the scaled rate while ``fit`` runs, and the user's own again after it. The formula is
    in :func:`paddle_warm_callbacks.plan.lr.effective_lr`. A float that another callback sets during ``fit`` is taken
    for the scaled rate.

    Example:
        >>> scaler = WarmLRScaler(0.2, warmup_steps=200, groups={"backbone": 0.1, "fc": 1.0})

    Args:
        factor: Above 0. A fifth to a tenth of a cold start's rate is usual.
        warmup_steps: Global steps over which the rate rises linearly; 0 for none.
        groups: Regular expression over structured names to a further factor; the first that is found in a name counts,
            1 where none is.
        on_resume: Which settings a resumed run follows: ``"keep"`` the checkpoint's; ``"reconfigure"`` the script's,
            its float or scheduler too; ``"rewarm"`` the checkpoint's with the script's warm-up starting now;
            ``"extend"`` the checkpoint's with the script's float or scheduler, at the checkpoint's position. Each logs
            the old and the new rate. Without a WarmLRScaler a resumed run keeps the checkpoint's, and warns if the
            script's is another.

    Raises:
        InvalidArgumentError: A wrong argument, at once. In ``fit``: there is another WarmLRScaler.
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
        if groups is not None and not isinstance(groups, Mapping):
            raise InvalidArgumentError(
                "not groups",
                where="WarmLRScaler(groups=)",
                received=repr(groups),
                expected="a mapping from regular expression to factor",
                remedy='for example groups={"backbone": 0.1, "fc": 1.0}',
            )
        self._written = ScalerSettings(factor, warmup_steps, 0, LRGroups(groups).groups)
        after_resume(on_resume, None, self._written, Progress())  # refuses now what it would refuse then
        self._on_resume = on_resume
        self._settings = self._written
        self._saved: dict[str, Any] | None = None
        self._global: lr.GlobalFactor | None = None
        self._factors: lr.ParameterFactors | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the settings in force, the rates in use, and what a float was before it was scaled."""
        state: dict[str, Any] = {
            "settings": dict(vars(self._settings)),
            "rates": None,
            "base": None,
            "scaled_by": 1.0,
        }
        if self._global is not None and self.loop is not None:
            state["rates"] = lr.effective_lr(self.loop)
            state["base"], state["scaled_by"] = self._global.base, self._global.factor
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the settings of an interrupted run; what is made of them, ``on_resume`` says."""
        self._saved = state

    def on_train_begin(self, logs: Any = None) -> None:
        """Remember the learning rate as the script built it: a resume is about to change it."""
        self._saved = None
        if self.loop is not None:
            self._of_script = optimizer_state.capture_learning_rate(self.loop.optimizer)
            chosen = after_resume(self._on_resume, None, self._written, Progress())
            self.loop.rate_of_script = chosen.scheduler == "script"

    def fit_started(self, loop: FitLoop) -> None:
        """Settle what to follow, and scale."""
        require_alone(
            loop,
            WarmLRScaler,
            "one WarmLRScaler would scale what another has scaled",
            remedy="multiply the factors, and join the groups",
        )
        self._settings = self._written
        self._rates_saved = {"all": float(loop.optimizer.get_lr())}
        base, scaled_by = self._after_resume(loop) if loop.resumed_from is not None else (None, 1.0)
        groups = LRGroups(dict(self._settings.groups))
        self._factors = lr.ParameterFactors.of(loop)
        self._factors.set("groups", groups.factors(self._factors.names))
        if groups.groups:
            self._factors.label({name: groups.group_of(name) or "others" for name in self._factors.names})
        self._global = lr.GlobalFactor(loop.optimizer, base, scaled_by)
        loop.board.hparams.update(lr_factor=self._settings.factor, warmup_steps=self._settings.warmup_steps)
        self.step_starting(loop)

    def fit_ready(self, loop: FitLoop) -> None:
        """Tell the rates of a resumed run, with every factor, that of its stage too."""
        if loop.resumed_from is not None:
            logger.info(
                "learning rate on resume (%s): %s when saved, %s now",
                self._on_resume,
                _shown(self._rates_saved),
                _shown(lr.effective_lr(loop)),
            )

    def step_starting(self, loop: FitLoop) -> None:
        """Set the factor of this step."""
        assert self._global is not None
        self._global.set(self._settings.factor_at(loop.progress))

    def fit_closed(self, loop: FitLoop) -> None:
        """Give the learning rate back unscaled."""
        if self._global is not None:
            self._global.close()
            self._global = None
        if self._factors is not None:
            self._factors.clear("groups")
            self._factors = None

    def _after_resume(self, loop: FitLoop) -> tuple[float | None, float]:
        """Choose the settings; return, for a float in use, its base and what scaled it."""
        state = self._saved if self._saved is not None else _state_in(loop.resumed_from, type(self).__name__)
        saved = None if state is None else ScalerSettings(**state["settings"])
        chosen = after_resume(self._on_resume, saved, self._written, loop.progress)
        self._settings = chosen.settings
        if replace(chosen.settings, warmup_from=0) != self._written:
            logger.warning(
                "WarmLRScaler(on_resume=%r) follows the checkpoint (%s), not the script (%s); to take the script's: "
                "on_resume='reconfigure', in YAML lr.on_resume",
                self._on_resume,
                "saved without a WarmLRScaler" if saved is None else _described(chosen.settings),
                _described(self._written),
            )
        if state is not None:
            self._rates_saved = state.get("rates") or {"all": state["rate"]}  # one, before there were all
        if chosen.scheduler == "script":
            optimizer_state.move_learning_rate(loop.optimizer, self._of_script)
            return None, 1.0
        if state is None or not self._restored(loop):
            return None, 1.0
        return state["base"], state["scaled_by"]

    def _restored(self, loop: FitLoop) -> bool:
        """Return whether the optimizer holds the checkpoint's learning rate; it may not where a resume had to adapt."""
        exact = self._saved is not None
        saved = None if exact else loop.resumed_from.read_state()["learning_rate"]
        return exact or saved == optimizer_state.capture_learning_rate(loop.optimizer)


def _state_in(checkpoint: Any, name: str) -> dict[str, Any] | None:
    """Return a callback's state from a checkpoint; a resume that had to adapt does not hand it out."""
    encoded = checkpoint.read_state()["callbacks"].get(name)
    return None if encoded is None else dict(jsonvalue.decode(encoded))


def _shown(rates: Mapping[str, float]) -> str:
    """Return the rates by group, or the one there is."""
    if rates.keys() == {"all"}:
        return f"{rates['all']:g}"
    return ", ".join(f"{label} {rate:g}" for label, rate in rates.items())


def _described(settings: ScalerSettings) -> str:
    return f"factor {settings.factor:g}, warmup_steps {settings.warmup_steps}, groups {dict(settings.groups)}"
