"""Staged training beside what it must equal to the bit: an optimizer that starts at the thaw, an uninterrupted run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from paddle_warm_callbacks import (
    EveryNSteps,
    PeriodicCheckpoint,
    Stage,
    StagedUnfreeze,
    WarmLRScaler,
    WarmStartCallback,
)
from paddle_warm_callbacks.hapi import optimizer_state
from tests.callbacks.runs import BATCH, SAMPLES, STEPS, Interrupted, Losses, Points, bits, fit

nn = paddle.nn


def made(optimizer: str, rate: Any = 0.05, **options: Any) -> paddle.Model:
    """Return a prepared model with a norm, dropout, and a layer that Paddle cannot train behind frozen ones."""
    paddle.seed(0)
    network = nn.Sequential(
        ("body", nn.Linear(3, 5)),
        ("norm", nn.BatchNorm1D(5)),
        ("act", nn.Sigmoid()),
        ("drop", nn.Dropout(0.3)),
        ("middle", nn.Linear(5, 5)),
        ("slope", nn.PReLU()),
        ("fc", nn.Linear(5, 3)),
    )
    model = paddle.Model(network)
    built = getattr(paddle.optimizer, optimizer)(rate, parameters=network.parameters(), **options)
    model.prepare(built, nn.CrossEntropyLoss(), paddle.metric.Accuracy())
    return model


class Weights(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
    """Every tensor after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.after: list[dict[str, bytes]] = []

    def on_train_batch_end(self, step: int, logs: Any = None) -> None:
        self.after.append(bits(self.model))


def by_hand(
    optimizer: str, options: dict[str, Any], *, from_the_start: bool = False
) -> Iterator[dict[str, bytes]]:
    """Train the head for an epoch, then all: with one optimizer for the head and one for the rest, made at the thaw.

    ``from_the_start`` makes the second with the first, and has it see gradients of zero until then.
    """
    model = made(optimizer, **options)
    network, loss_of = model.network, nn.CrossEntropyLoss()
    head = network.fc.parameters()
    rest = [p for p in network.parameters() if not (p.stop_gradient or any(p is of_head for of_head in head))]
    kind = getattr(paddle.optimizer, optimizer)
    of_head, of_rest = kind(0.05, parameters=head, **options), None
    points = [Points()[index] for index in range(SAMPLES)]
    for step in range(3 * STEPS):
        first = (step % STEPS) * BATCH
        x, label = (paddle.to_tensor(np.stack(part)) for part in zip(*points[first : first + BATCH]))
        thawed = step >= STEPS
        network.train()
        network.norm.training = thawed
        if of_rest is None and (thawed or from_the_start):
            of_rest = kind(0.05, parameters=rest, **options)
        loss_of(network(x), label).backward()
        if not thawed:
            for parameter in rest:
                parameter.clear_gradient(True)
        of_head.step()
        if of_rest is not None:
            of_rest.step()
        network.clear_gradients()
        yield bits(model)


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ("Adam", {}),
        ("Adam", {"amsgrad": True}),
        ("AdamW", {"weight_decay": 0.1}),
        ("Momentum", {"weight_decay": 0.1}),
        ("NAdam", {}),
        ("RAdam", {}),
        ("Lamb", {}),
    ],
)
def test_what_thaws_moves_as_by_an_optimizer_that_starts_at_the_thaw(
    optimizer: str, options: dict[str, Any]
) -> None:
    if not hasattr(paddle.optimizer, optimizer) or ("amsgrad" in options and paddle.__version__ < "3"):
        pytest.skip("this Paddle has none")
    seen, staged = Weights(), StagedUnfreeze([Stage(0, "fc"), Stage(1, ".*")])
    fit(made(optimizer, **options), staged, seen, shuffle=False)
    assert seen.after == list(by_hand(optimizer, options))


def test_the_bits_tell_an_optimizer_that_started_earlier() -> None:
    late, early = list(by_hand("Adam", {})), list(by_hand("Adam", {}, from_the_start=True))
    assert late[:STEPS] == early[:STEPS]
    assert late[STEPS] != early[STEPS]


OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("Momentum", {"weight_decay": 0.1, "use_multi_tensor": True}),
    ("Adam", {}),
    ("Adam", {"use_multi_tensor": True}),
    ("AdamW", {"weight_decay": 0.1}),
    ("Lamb", {}),
    ("RMSProp", {}),
    ("Adagrad", {}),
]
PATTERNS = ("body", "norm", "fc", "body|fc", ".*", "weight$", r"norm\.bias", "middle|slope", "fc|slope")
EPOCHS = 4
stages_drawn = st.lists(
    st.tuples(st.sampled_from(PATTERNS), st.sampled_from([1.0, 0.1]), st.sampled_from([0, 3]), st.booleans()),
    min_size=1,
    max_size=4,
)


@settings(max_examples=12, deadline=None)
@given(
    drawn=stages_drawn,
    by_step=st.booleans(),
    gaps=st.lists(st.integers(1, 4), min_size=3, max_size=3),
    optimizer=st.sampled_from(OPTIMIZERS),
    accumulate=st.sampled_from([1, 2]),
    frozen=st.sampled_from([None, "body.bias", "norm.weight"]),
    guard=st.sampled_from(["", "watch", "best"]),
    after=st.integers(0, EPOCHS * STEPS - 2),
    scheduled=st.booleans(),
    scaled=st.booleans(),
    every=st.sampled_from([1, 2]),
)
def test_any_plan_interrupted_anywhere_goes_on_to_the_bit(
    drawn: list[tuple[str, float, int, bool]],
    by_step: bool,
    gaps: list[int],
    optimizer: tuple[str, dict[str, Any]],
    accumulate: int,
    frozen: str | None,
    guard: str,
    after: int,
    scheduled: bool,
    scaled: bool,
    every: int,
) -> None:
    assume(not (by_step and guard))
    starts = [sum(gaps[:number]) if by_step else number for number in range(len(drawn))]
    stages = [
        Stage(
            None if by_step else start,
            pattern,
            from_step=start if by_step else None,
            lr_factor=factor,
            rewarm_steps=rewarm,
            freeze_norm=freeze_norm,
        )
        for start, (pattern, factor, rewarm, freeze_norm) in zip(starts, drawn)
    ]
    guards: dict[str, dict[str, Any]] = {
        "": {},
        "watch": {"watch": Points()},
        "best": {"restore_best_between_stages": True, "monitor": "loss", "mode": "max"},
    }

    def model() -> paddle.Model:
        rate = paddle.optimizer.lr.CosineAnnealingDecay(0.05, 7) if scheduled else 0.05
        of = made(optimizer[0], rate, **optimizer[1])
        if frozen is not None:
            dict(of.network.named_parameters())[frozen].stop_gradient = True
        return of

    def run(of: paddle.Model, run_dir: Path, *more: Any) -> paddle.Model:
        fit(
            of,
            WarmStartCallback(run_dir=run_dir, resume_from="latest"),
            StagedUnfreeze(stages, **guards[guard]),
            *([WarmLRScaler(0.5, warmup_steps=4, groups={"fc": 2.0})] if scaled else []),
            PeriodicCheckpoint(run_dir, save=EveryNSteps(every)),
            *more,
            epochs=EPOCHS,
            accumulate_grad_batches=accumulate,
            eval_data=Points(),
        )
        return of

    with tempfile.TemporaryDirectory() as folder:
        straight = run(model(), Path(folder) / "straight")
        with pytest.raises(Interrupted):
            run(model(), Path(folder) / "cut", Losses(divmod(after, STEPS)))
        resumed = run(model(), Path(folder) / "cut")
    assert bits(resumed) == bits(straight)
    assert accumulated(resumed) == accumulated(straight)


def accumulated(of: paddle.Model) -> dict[tuple[str, str], bytes]:
    return {
        (slot.parameter, slot.kind): slot.tensor.numpy().tobytes()
        for slot in optimizer_state.slots(of.network, of._optimizer)
    }
