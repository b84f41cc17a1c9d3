"""What has changed in a script since its checkpoint, and what each change means for an exact resume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Why each of these cannot be bridged to the bit; the rest of a script's facts is reported and harmless.
_BREAKING = {
    "network": "the parameters saved do not fit the network",
    "optimizer": "another optimizer keeps other state",
    "learning_rate": "another kind of learning rate keeps other state",
    "accumulate_grad_batches": "positions inside an epoch mean other optimizer steps",
    "seed_samples": "the samples would be drawn from other seeds",
    "world_size": "each rank's random state and share of the data belong to its rank",
}
# These only matter to a position inside an epoch; at an epoch's boundary they are reported.
_BREAKING_WITHIN_EPOCH = {
    "batch_size": "the saved position counts batches of the old size",
    "dataset_length": "the order of the samples depends on their number",
    "steps_per_epoch": "the saved position counts steps of the old epoch",
    "sampler": "another sampler gives another order",
    "order": "another sampler gives another order",
    "shuffle": "the samples would come in another order",
}
# These end no run, and yet it is not the same run to the bit.
_ANOTHER_RUN = "in force: from here on training is not what it was before"
_INEXACT = {
    "paddle": "goes on, but kernels may round otherwise and generators draw otherwise",
    "metrics": "goes on, with new metrics counting from here",
    "world_size": "goes on with other batches, sums of gradients and draws; see the notes",
    "loss": _ANOTHER_RUN,
}
# Settings go by the part of the script that they belong to: what stands before the dot.
_SETTINGS = {
    "optimizer": _ANOTHER_RUN,
    "amp": _ANOTHER_RUN,
    "loss_scaling": "not in force: the checkpoint's scaler goes on",
}
# What was saved goes on, unless a WarmLRScaler says otherwise.
_RATE = "learning_rate"
_RATE_OF_CHECKPOINT = (
    "not in force: the checkpoint's goes on; WarmLRScaler(1.0, on_resume='reconfigure') takes the script's"
)
_HARMLESS = "harmless"
# Beside another number of ranks these are no obstacle where the rest of an epoch can be dealt anew.
_DEALT_ANEW = ("world_size", "steps_per_epoch", "batch_size")


@dataclass(frozen=True)
class Change:
    """One fact of the script that is not what it was when the checkpoint was saved.

    Attributes:
        fact: Its name.
        saved: Its value then.
        current: Its value now.
        reason: Why an exact resume is impossible, or None where the run goes on at the very next step.
        consequence: What the change means for a run that goes on.
    """

    fact: str
    saved: Any
    current: Any
    reason: str | None
    consequence: str = _HARMLESS

    @property
    def harmless(self) -> bool:
        """Whether the run goes on as the same run, with all that the script says in force."""
        return self.reason is None and self.consequence == _HARMLESS

    def __str__(self) -> str:
        meaning = self.reason or self.consequence
        return f"{self.fact}: {self.saved} when saved, {self.current} now ({meaning})"


def changes(
    saved: Mapping[str, Any],
    current: Mapping[str, Any],
    *,
    within_epoch: bool,
    redealt: bool = False,
    rate_of_script: bool = False,
) -> tuple[Change, ...]:
    """Compare the facts of a script with those of its checkpoint.

    Args:
        saved: Fact to value, from the checkpoint. A fact it lacks is not compared.
        current: Fact to value, now.
        within_epoch: Whether the checkpoint lies inside an epoch, so that its batches must be found again.
        redealt: Whether the number of ranks differs, and what is left of the epoch can be dealt to those there are now.
        rate_of_script: Whether a resumed run follows the script's learning rate, not the checkpoint's.

    Returns:
        The changes, breaking ones first and harmless ones last.

    >>> [str(c) for c in changes({"epochs": 5}, {"epochs": 9}, within_epoch=True)]
    ['epochs: 5 when saved, 9 now (harmless)']
    """
    breaking = {**_BREAKING, **(_BREAKING_WITHIN_EPOCH if within_epoch else {})}
    if redealt:
        breaking = {fact: reason for fact, reason in breaking.items() if fact not in _DEALT_ANEW}
    found = [
        Change(fact, saved[fact], value, breaking.get(fact), _consequence(fact, rate_of_script))
        for fact, value in current.items()
        if fact in saved and saved[fact] != value
    ]
    return tuple(sorted(found, key=lambda change: (change.reason is None, change.harmless)))


def _consequence(fact: str, rate_of_script: bool) -> str:
    part, dot, _ = fact.partition(".")
    if dot and part == _RATE:
        return _ANOTHER_RUN if rate_of_script else _RATE_OF_CHECKPOINT
    return _SETTINGS[part] if dot and part in _SETTINGS else _INEXACT.get(fact, _HARMLESS)
