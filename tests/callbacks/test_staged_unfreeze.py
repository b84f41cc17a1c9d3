"""What moves in each stage, beside the plan and beside the same fit without it; straight through and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddle_warm_callbacks import (
    EveryNSteps,
    InvalidArgumentError,
    PatternError,
    PeriodicCheckpoint,
    Progress,
    Stage,
    StagedUnfreeze,
    UnsupportedFitError,
    WarmLRScaler,
    WarmStartCallback,
)
from paddle_warm_callbacks.hapi.callback import FitCallback
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.hapi.lr import effective_lr
from paddle_warm_callbacks.plan.stages import StagePlan
from tests.callbacks.runs import STEPS, Interrupted, Losses, bits, fit
from tests.callbacks.staged import TWO, made

nn = paddle.nn
BODY = ("body.weight", "body.bias")
NORM = ("norm.weight", "norm.bias")
STATISTICS = ("norm._mean", "norm._variance")
HEAD = ("fc.weight", "fc.bias")
EVERYTHING = BODY + NORM + HEAD


def values(model: paddle.Model) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.network.state_dict().items()}


class Moved(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
    """The names of the tensors that each step moved."""

    def __init__(self) -> None:
        super().__init__()
        self.by_step: list[set[str]] = []

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        self.before = values(self.model)

    def on_train_batch_end(self, step: int, logs: Any = None) -> None:
        after = values(self.model)
        self.by_step.append({name for name in after if after[name] != self.before[name]})


class Rates(FitCallback):
    """The rates each step is made with, by group."""

    def __init__(self) -> None:
        super().__init__()
        self.by_step: list[dict[str, float]] = []

    def step_starting(self, loop: FitLoop) -> None:
        self.by_step.append(effective_lr(loop))


def moved(*callbacks: Any, epochs: int = 2, model: Any = None) -> list[set[str]]:
    seen = Moved()
    fit(model or made(), *callbacks, seen, epochs=epochs)
    return seen.by_step


OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"weight_decay": 0.1}),
    ("Momentum", {"weight_decay": 0.1}),
    ("Momentum", {"weight_decay": 0.1, "use_multi_tensor": True}),
    ("Adam", {}),
    ("Adam", {"use_multi_tensor": True}),
    ("AdamW", {"weight_decay": 0.1}),
    ("Lamb", {}),
]


@pytest.mark.parametrize(("optimizer", "options"), OPTIMIZERS)
def test_frozen_parameters_and_statistics_do_not_move_and_the_rest_does(
    optimizer: str, options: dict[str, Any]
) -> None:
    model = made(optimizer, **options)
    steps = moved(StagedUnfreeze(TWO), model=model)
    assert steps[:STEPS] == [set(HEAD)] * STEPS
    assert steps[STEPS:] == [set(EVERYTHING + STATISTICS)] * STEPS
    # Again, with the optimizer as it is after a fit, the other way round; and then without stages.
    other = moved(StagedUnfreeze([Stage(0, "body"), Stage(1, "fc")]), model=model)
    assert other == [set(BODY)] * STEPS + [set(HEAD)] * STEPS
    assert moved(model=model) == [set(EVERYTHING + STATISTICS)] * 2 * STEPS


@pytest.mark.parametrize("optimizer", ["Momentum", "Adam"])
def test_an_optimizer_of_many_tensors_at_once_does_what_it_does_one_by_one(optimizer: str) -> None:
    """As many tensors thaw as are frozen: listed once for all, the old would be moved by the gradients of the new."""
    ends = []
    for at_once in (False, True):
        paddle.seed(0)
        # Without a norm, behind which a bias has no gradient but rounding, which Adam makes large.
        network = nn.Sequential(("body", nn.Linear(3, 5)), ("act", nn.Sigmoid()), ("fc", nn.Linear(5, 3)))
        model = paddle.Model(network)
        built = getattr(paddle.optimizer, optimizer)(
            0.05, parameters=network.parameters(), use_multi_tensor=at_once
        )
        model.prepare(built, nn.CrossEntropyLoss())
        fit(model, StagedUnfreeze([Stage(0, "body"), Stage(1, "fc"), Stage(2, ".*")]), shuffle=False)
        ends.append({name: parameter.numpy() for name, parameter in network.named_parameters()})
    one_by_one, together = ends
    for name, value in one_by_one.items():
        assert together[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name  # its kernel rounds otherwise


def test_freeze_norm_off_lets_the_statistics_move() -> None:
    (first, *_) = moved(StagedUnfreeze([Stage(0, "fc", freeze_norm=False)]))
    assert first == {*HEAD, *STATISTICS}


PARTS = {"body": BODY, "norm": NORM, "fc": HEAD, "body|fc": BODY + HEAD, ".*": EVERYTHING, "weight$": None}


def names_of(pattern: str) -> set[str]:
    named = PARTS[pattern]
    return set(named) if named is not None else {name for name in EVERYTHING if name.endswith("weight")}


plans = st.tuples(
    st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=4),
    st.booleans(),
    st.lists(st.integers(1, 4), min_size=3, max_size=3),
)


@settings(max_examples=25, deadline=None)
@given(plans)
def test_each_step_moves_what_the_plan_says(plan: tuple[list[str], bool, list[int]]) -> None:
    patterns, by_step, gaps = plan
    starts = [sum(gaps[:number]) if by_step else number for number in range(len(patterns))]
    stages = [
        Stage(None, pattern, from_step=start) if by_step else Stage(start, pattern)
        for start, pattern in zip(starts, patterns)
    ]
    for step, found in enumerate(moved(StagedUnfreeze(stages), epochs=4)):
        at = StagePlan(stages).stage_at(Progress(step, step // STEPS, step % STEPS))
        trained = names_of(at.stage.trainable[0])
        expected = trained | (set(STATISTICS) if trained & set(NORM) else set())
        assert found == expected, (step, at.stage)


# Thawed, frozen again and thawed again, with moments in between.
BACK_AND_FORTH = [
    Stage(0, "body|fc"),
    Stage(1, "fc", lr_factor=0.5),
    Stage(2, ".*", lr_factor=0.1, rewarm_steps=4),
]


@pytest.mark.parametrize("after", [(epoch, step) for epoch in range(4) for step in range(STEPS)][:-1])
def test_a_run_resumed_in_any_stage_equals_the_uninterrupted_one(
    tmp_path: Path, after: tuple[int, int]
) -> None:
    def callbacks(run_dir: Path) -> list[Any]:
        return [
            WarmStartCallback(run_dir=run_dir, resume_from="latest"),
            StagedUnfreeze(BACK_AND_FORTH),
            PeriodicCheckpoint(run_dir, save=EveryNSteps(1)),
        ]

    straight = made()
    fit(straight, *callbacks(tmp_path / "straight"), epochs=4)
    with pytest.raises(Interrupted):
        fit(made(), *callbacks(tmp_path / "run"), Losses(fail_after=after), epochs=4)
    resumed = made()
    fit(resumed, *callbacks(tmp_path / "run"), epochs=4)
    assert bits(resumed) == bits(straight)
    assert accumulated(resumed) == accumulated(straight)


def accumulated(model: paddle.Model) -> dict[tuple[str, str], bytes]:
    names = {parameter.name: name for name, parameter in model.network.named_parameters()}
    return {
        (kind, names[owner]): tensor.numpy().tobytes()
        for kind, by_owner in model._optimizer._accumulators.items()
        for owner, tensor in by_owner.items()
    }


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW"])
def test_what_is_thawed_starts_as_a_fresh_optimizer_does(optimizer: str) -> None:
    """One step after the thaw, moments and bias correction are those of a first step."""

    def last_step(*stages: Stage) -> dict[tuple[str, str], bytes]:
        model = made(optimizer, learning_rate=1e-12)  # so that both see the same gradients
        fit(model, StagedUnfreeze(stages), epochs=2, num_iters=STEPS + 1, shuffle=False)
        return {
            (kind, name): value
            for (kind, name), value in accumulated(model).items()
            if name in BODY and "pow" in kind
        }

    thawed = last_step(*TWO)
    first = made(optimizer, learning_rate=1e-12)
    fit(first, epochs=1, num_iters=1, shuffle=False)
    expected = {key: value for key, value in accumulated(first).items() if key[1] in BODY and "pow" in key[0]}
    assert thawed == expected
    assert len(expected) == 4


def test_clipping_sees_only_what_is_trainable() -> None:
    """The head moves as far as where the body has no gradient at all, and farther than where all are clipped."""

    def head_after_one_step(*callbacks: Any, stop_body: bool = False) -> Any:
        clip = nn.ClipGradByGlobalNorm(1e-3)
        model = made("SGD", grad_clip=clip)
        if stop_body:
            for name, parameter in model.network.named_parameters():
                parameter.stop_gradient = parameter.stop_gradient or name not in HEAD
        start = model.network.fc.weight.numpy()
        fit(model, *callbacks, epochs=1, num_iters=1, shuffle=False)
        return np.abs(model.network.fc.weight.numpy() - start).sum()

    stage = StagedUnfreeze([Stage(0, "fc", freeze_norm=False)])
    alone = head_after_one_step(stop_body=True)
    assert head_after_one_step(stage) == alone
    assert head_after_one_step() < 0.99 * alone


def test_decay_chosen_by_parameter_stays_chosen() -> None:
    def model() -> paddle.Model:
        return made("AdamW", weight_decay=0.5, apply_decay_param_fun=lambda name: False)

    plain, staged = model(), model()
    fit(plain, epochs=1)
    fit(staged, StagedUnfreeze([Stage(0, ".*")]), epochs=1)
    assert bits(staged) == bits(plain)


def test_a_stage_scales_and_warms_the_rate_of_what_it_trains() -> None:
    rates = Rates()
    stages = [Stage(0, "fc", lr_factor=2.0), Stage(1, ".*", lr_factor=0.5, rewarm_steps=2)]
    scaler = WarmLRScaler(0.1, groups={"body|norm": 0.1, "fc": 1.0})
    fit(made(learning_rate=1.0), scaler, StagedUnfreeze(stages), rates, epochs=2)
    assert [rate["fc"] for rate in rates.by_step] == pytest.approx([0.2] * 3 + [0.05 / 2, 0.05, 0.05])
    assert [rate["body|norm"] for rate in rates.by_step] == pytest.approx(
        [0.0] * 3 + [0.005 / 2, 0.005, 0.005]
    )


def test_what_the_user_froze_stays_his(caplog: pytest.LogCaptureFixture) -> None:
    model = made()
    model.network.body.bias.stop_gradient = True
    steps = moved(StagedUnfreeze([Stage(0, "fc"), Stage(1, ".*")]), model=model, epochs=2)
    assert "body.bias" not in set().union(*steps)
    assert "came frozen" not in caplog.text
    named = moved(StagedUnfreeze([Stage(0, "fc"), Stage(1, [".*", "body"])]), model=model, epochs=2)
    assert "body.bias" in named[-1]
    assert "1 parameters that came frozen: body.bias" in caplog.text
    assert model.network.body.bias.stop_gradient


@pytest.mark.parametrize("ends", ["normally", "by an exception"])
def test_the_network_is_the_users_again(ends: str) -> None:
    model = made()
    before = {name: p.stop_gradient for name, p in model.network.named_parameters()}
    attributes = {
        name: dict(p.optimize_attr) for name, p in model.network.named_parameters() if name in EVERYTHING
    }
    failing = Losses(fail_after=(0, 1) if ends == "by an exception" else None)
    try:
        fit(model, StagedUnfreeze([Stage(0, "fc", lr_factor=0.1)]), failing, epochs=1)
    except Interrupted:
        assert ends == "by an exception"
    named = dict(model.network.named_parameters())
    assert {name: p.stop_gradient for name, p in named.items()} == before
    assert {name: named[name].optimize_attr for name in attributes} == attributes
    model.network.train()
    assert moved(model=model, epochs=1)[0] == set(EVERYTHING + STATISTICS)


def test_one_callback_serves_two_fits_and_two_networks() -> None:
    unfreeze = StagedUnfreeze(TWO)
    for _ in range(2):
        assert moved(unfreeze)[0] == set(HEAD)


def test_a_pattern_that_names_nothing_is_refused_before_the_first_step() -> None:
    seen = Moved()
    with pytest.raises(PatternError, match=r"fc\.weight"):
        fit(made(), StagedUnfreeze([Stage(0, "fc"), Stage(1, "fc.wieght")]), seen)
    assert seen.by_step == []


def test_what_the_optimizer_was_not_given_is_refused_before_the_first_step() -> None:
    """Built for the head alone, or before the head was exchanged, it would never move what is thawed."""
    head_only = made()
    head_only._optimizer = paddle.optimizer.Adam(0.05, parameters=head_only.network.fc.parameters())
    exchanged = made()
    exchanged.network.fc = nn.Linear(5, 3)
    for model, stranger in ((head_only, r"body\.weight"), (exchanged, r"fc\.weight")):
        seen = Moved()
        with pytest.raises(InvalidArgumentError, match=stranger):
            fit(model, StagedUnfreeze(TWO), seen)
        assert seen.by_step == []
    assert moved(StagedUnfreeze([Stage(0, "fc")]), model=head_only)[0] == set(HEAD)


def test_two_in_one_fit_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="2 StagedUnfreeze"):
        fit(made(), StagedUnfreeze(TWO), StagedUnfreeze([Stage(0, "body")]))


@pytest.mark.parametrize(
    ("later", "warns"),
    [
        (Stage(2, ".*"), True),
        (Stage(1, ".*"), False),
        (Stage(None, ".*", from_step=2 * STEPS), True),
        (Stage(None, ".*", from_step=2 * STEPS - 1), False),
    ],
)
def test_a_stage_that_fit_never_reaches_is_warned_of(
    caplog: pytest.LogCaptureFixture, later: Stage, warns: bool
) -> None:
    first = Stage(0, "fc") if later.from_step is None else Stage(None, "fc", from_step=0)
    fit(made(), StagedUnfreeze([first, later]), epochs=2)
    assert ("1 of 2 stages are never reached" in caplog.text) is warns


def test_stages_are_checked_when_the_callback_is_built() -> None:
    with pytest.raises(InvalidArgumentError):
        StagedUnfreeze([Stage(1, "fc")])
    for no_list in (Stage(0, "fc"), "fc", 3):
        with pytest.raises(InvalidArgumentError, match="a list of one Stage or more") as caught:
            StagedUnfreeze(no_list)  # type: ignore[arg-type]
        assert '[Stage(0, "fc"), ' in caught.value.remedy


def test_an_optimizer_over_parameter_groups_is_refused_with_what_does_the_same() -> None:
    model = made()
    groups = [{"params": model.network.parameters(), "learning_rate": 0.1}]
    model.prepare(paddle.optimizer.SGD(0.1, parameters=groups), nn.CrossEntropyLoss())
    with pytest.raises(UnsupportedFitError, match="WarmLRScaler"):
        fit(model, StagedUnfreeze(TWO))
