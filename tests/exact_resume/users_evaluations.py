"""Scripts whose evaluations carry something from one to the next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import paddle
from paddle.io import BatchSampler, DataLoader, DistributedBatchSampler

from tests.exact_resume.cells import BATCH_SIZE
from tests.exact_resume.training_script import Samples
from tests.exact_resume.users_fit import Fit, loader, model, persistent, script


@script("evaluation in workers that persist")
def _(fit: Fit) -> Any:
    return fit(model(), persistent(), eval_data=persistent(samples=10))


@script("the same, training in none", slow=True)
def _(fit: Fit) -> Any:
    return fit(model(), loader(workers=0), eval_data=persistent(samples=10))


@script("evaluation on the train loader, whose workers persist")
def _(fit: Fit) -> Any:
    data = persistent()
    return fit(model(), data, eval_data=data)


class Evaluates(paddle.callbacks.Callback):  # type: ignore[misc]
    """Evaluate on a loader at each epoch's end; the evaluation has the same callbacks, so not within itself."""

    def __init__(self, on: Any) -> None:
        super().__init__()
        self.on = on

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.evaluate(self.on, verbose=0)


@script("a callback evaluates on the train loader, whose workers persist", kills=["mid-epoch", "last step"])
def _(fit: Fit) -> Any:
    data = persistent()
    return fit(model(), data, Evaluates(data))


@script("a callback evaluates on the evaluation's loader, whose workers persist", slow=True)
def _(fit: Fit) -> Any:
    data = persistent(samples=10)
    return fit(model(), persistent(), Evaluates(data), eval_data=data)


class TwoOfThree(BatchSampler):  # type: ignore[misc]
    """Two batches of three each time, chosen by a generator of its own."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(4)
        self.batch_size = BATCH_SIZE

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[list[int]]:
        yield from self.rng.permutation(3 * BATCH_SIZE).reshape(3, -1)[:2].tolist()


@script("evaluation on a part that the sampler's own generator chooses")
def _(fit: Fit) -> Any:
    part = DataLoader(Samples(3 * BATCH_SIZE, False), batch_sampler=TwoOfThree())
    return fit(model(), loader(workers=0), eval_data=part)


@script("evaluation in an order that a distributed sampler counts epochs for", slow=True)
def _(fit: Fit) -> Any:
    data = Samples(10, False)
    sampler = DistributedBatchSampler(data, 3, num_replicas=1, rank=0, shuffle=True)
    return fit(model(), loader(workers=0), eval_data=DataLoader(data, batch_sampler=sampler))
