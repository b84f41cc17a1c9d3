"""Scripts whose iteration is not the loader's own, or not its first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from paddle.io import DataLoader, DistributedBatchSampler, Subset

from tests.exact_resume.cells import BATCH_SIZE, TRAIN_SAMPLES
from tests.exact_resume.training_script import Samples
from tests.exact_resume.users_fit import Fit, loader, model, persistent, script


class Dimming(DataLoader):  # type: ignore[misc]
    """A loader that does something with each batch, as a subclass does for mixing or for moving to a device."""

    def __iter__(self) -> Iterator[Any]:
        for features, labels in super().__iter__():
            yield features * float(np.random.uniform(0.5, 1)), labels


@script("a loader's subclass iterates by itself", kills=["mid-epoch", "last step"])
def _(fit: Fit) -> Any:
    return fit(
        model(), Dimming(Samples(TRAIN_SAMPLES, True), batch_size=BATCH_SIZE, shuffle=True, num_workers=2)
    )


@script("a loader's subclass, and workers persist", kills=["mid-epoch", "last step"])
def _(fit: Fit) -> Any:
    data = Samples(TRAIN_SAMPLES, True)
    return fit(
        model(),
        Dimming(data, batch_size=BATCH_SIZE, shuffle=True, num_workers=2, persistent_workers=True),
    )


class Both:
    """A loader of the user's around two of Paddle's, as training on labelled and other samples has it."""

    def __init__(self, *loaders: Any) -> None:
        self.loaders = loaders

    def __len__(self) -> int:
        return len(self.loaders[0])

    def __iter__(self) -> Iterator[Any]:
        for (features, labels), (others, _) in zip(*self.loaders):
            yield features + 0.1 * others.mean(0) * float(np.random.random()), labels


@script("two loaders within one of the user's, and workers persist")
def _(fit: Fit) -> Any:
    data = Samples(TRAIN_SAMPLES, False)
    sampler = DistributedBatchSampler(data, BATCH_SIZE, num_replicas=1, rank=0, shuffle=True)
    train = Both(persistent(), DataLoader(data, batch_sampler=sampler))
    return fit(model(), train, eval_data=loader(False, workers=0, samples=10))


@script(
    "a batch is looked at before fit, and workers persist",
    kills=["mid-epoch", "last step"],
    like_without_ours=False,
)
def _(fit: Fit) -> Any:
    data = persistent()
    next(iter(data))
    return fit(model(), data)


@script("two fits on loaders whose workers persist", fits=2)
def _(fit: Fit) -> Any:
    train, evaluation, made = persistent(), persistent(samples=10), model()
    fit(made, train, eval_data=evaluation, epochs=2)
    return fit(made, train, eval_data=evaluation)


@script(
    "the folds of a cross-validation",
    slow=True,
    fits=3,
    kills=["after the first step", "mid-epoch", "evaluation"],
)
def _(fit: Fit) -> Any:
    folds = np.random.permutation(39).reshape(3, -1)
    for held_out in range(3):
        data = Samples(39, True)
        rest = np.concatenate([fold for number, fold in enumerate(folds) if number != held_out])
        made = fit(
            model(),
            Subset(data, rest.tolist()),
            eval_data=Subset(data, folds[held_out].tolist()),
            batch_size=BATCH_SIZE,
            epochs=2,
        )
    return made
