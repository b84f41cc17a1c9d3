"""Settings are the same in two processes that set the same, and tell each change of them."""

from __future__ import annotations

from typing import Any, Callable

import paddle
import pytest
from paddle import nn
from paddle.optimizer import lr

from paddle_warm_callbacks.hapi import script_settings
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from tests.hapi.fits import StartAt, fit
from tests.hapi.schedules import SCHEDULES, advance

Build = Callable[[Any], Any]


def model(build: Build, **prepare: Any) -> paddle.Model:
    made = paddle.Model(nn.Linear(2, 2))
    prepare.setdefault("loss", nn.CrossEntropyLoss())
    made.prepare(build(made.parameters()), prepare.pop("loss"), paddle.metric.Accuracy(), **prepare)
    return made


def sgd(rate: Callable[[], Any] = lambda: 0.1, **arguments: Any) -> Build:
    return lambda parameters: paddle.optimizer.SGD(rate(), parameters=parameters, **arguments)


def of(kind: str, **arguments: Any) -> Build:
    return lambda parameters: getattr(paddle.optimizer, kind)(parameters=parameters, **arguments)


def decays(name: str) -> bool:
    return "bias" not in name


def warm_cosine(steps: int) -> Callable[[], Any]:
    return lambda: lr.LinearWarmup(lr.CosineAnnealingDecay(0.1, steps), 5, 0.0, 0.1)


CHANGED: dict[str, tuple[Build, Build, dict[str, tuple[str, str]]]] = {
    "a float": (sgd(lambda: 0.1), sgd(lambda: 0.2), {"learning_rate.value": ("0.1", "0.2")}),
    "a schedule's argument": (
        sgd(lambda: lr.StepDecay(0.1, 5, 0.5)),
        sgd(lambda: lr.StepDecay(0.1, 7, 0.5)),
        {"learning_rate.step_size": ("5", "7")},
    ),
    "one within another": (
        sgd(warm_cosine(100)),
        sgd(warm_cosine(200)),
        {"learning_rate.learning_rate.T_max": ("100", "200")},
    ),
    "a function": (
        sgd(lambda: lr.LambdaDecay(0.1, abs)),
        sgd(lambda: lr.LambdaDecay(0.1, bool)),
        {"learning_rate.lr_lambda": ("abs", "bool")},
    ),
    "the kind of decay": (
        sgd(weight_decay=0.1),
        sgd(weight_decay=paddle.regularizer.L1Decay(0.1)),
        {"optimizer.weight_decay": ("L2Decay(coeff=0.1)", "L1Decay(coeff=0.1)")},
    ),
    "clipping": (
        sgd(grad_clip=nn.ClipGradByGlobalNorm(1.0)),
        sgd(grad_clip=nn.ClipGradByNorm(2.0)),
        {"optimizer.grad_clip": ("ClipGradByGlobalNorm(clip_norm=1)", "ClipGradByNorm(clip_norm=2)")},
    ),
    "clipping at all": (
        sgd(),
        sgd(grad_clip=nn.ClipGradByValue(1.0)),
        {"optimizer.grad_clip": ("None", "ClipGradByValue(max=1, min=-1)")},
    ),
    "Momentum": (
        of("Momentum", momentum=0.9, weight_decay=0.1),
        of("Momentum", momentum=0.8, weight_decay=0.2, use_nesterov=True),
        {
            "optimizer.momentum": ("0.9", "0.8"),
            "optimizer.weight_decay": ("0.1", "0.2"),
            "optimizer.use_nesterov": ("False", "True"),
        },
    ),
    "Adam": (
        of("Adam", beta1=0.9, epsilon=1e-8),
        of("Adam", beta1=0.8, epsilon=1e-6),
        {"optimizer.beta1": ("0.9", "0.8"), "optimizer.epsilon": ("1e-08", "1e-06")},
    ),
    "AdamW": (
        of("AdamW", weight_decay=0.01, apply_decay_param_fun=decays),
        of("AdamW", weight_decay=0.1),
        {"optimizer.weight_decay": ("0.01", "0.1"), "optimizer.apply_decay_param_fun": ("decays", "None")},
    ),
    "Lamb": (
        of("Lamb", lamb_weight_decay=0.1),
        of("Lamb", lamb_weight_decay=0.01),
        {"optimizer.lamb_weight_decay": ("0.1", "0.01")},
    ),
}


@pytest.mark.parametrize("what", CHANGED)
def test_a_change_is_told_and_nothing_else_is(what: str) -> None:
    before, after, expected = CHANGED[what]
    saved, again, now = (script_settings.settings(model(build)) for build in (before, before, after))
    assert saved == again
    assert {name: (saved.get(name), now[name]) for name in now if saved.get(name) != now[name]} == expected


def test_mixed_precision_and_the_loss_are_told() -> None:
    plain = script_settings.settings(model(sgd()))
    mixed = script_settings.settings(
        model(sgd(), amp_configs={"level": "O1", "custom_white_list": {"b", "a"}})
    )
    scaled = script_settings.settings(model(sgd(), amp_configs={"level": "O1", "init_loss_scaling": 8.0}))
    smoothed = script_settings.settings(model(sgd(), loss=nn.CrossEntropyLoss(label_smoothing=0.1)))
    function = script_settings.settings(model(sgd(), loss=nn.functional.cross_entropy))
    assert (plain["amp.level"], mixed["amp.level"]) == ("O0", "O1")
    assert mixed["amp.lists"] == "{custom_white_list: [a, b]}"
    assert scaled["loss_scaling.init_loss_scaling"] == "8"
    assert len({plain["loss"], smoothed["loss"], function["loss"]}) == 3
    assert function["loss"] == "cross_entropy"


class Settings(StartAt):
    """What the fit takes the script to have set."""

    def fit_opened(self, loop: FitLoop) -> None:
        super().fit_opened(loop)
        self.found = loop.settings


class Advance(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
    """Step whatever schedule there is; a float becomes another."""

    def on_train_batch_end(self, step: int, logs: Any = None) -> None:
        rate = self.model._optimizer._learning_rate
        if isinstance(rate, float):
            self.model._optimizer.set_lr(rate / 2)
        else:
            advance(rate)


@pytest.mark.parametrize("rate", ["float", *SCHEDULES])
def test_a_second_fit_in_one_process_has_what_the_script_built(rate: str) -> None:
    trained = model(sgd() if rate == "float" else sgd(SCHEDULES[rate]))
    first, again, changed = Settings(), Settings(), Settings()
    stepping = paddle.callbacks.LRScheduler(by_step=False, by_epoch=False)
    fit(trained, first, Advance(), stepping, epochs=1)
    if rate == "float":
        assert trained._optimizer.get_lr() != 0.1, "or nothing would be shown"
    fit(trained, again, Advance(), stepping, epochs=1)
    assert again.found == first.found
    if rate == "float":
        trained._optimizer.set_lr(0.3)
    else:
        trained._optimizer.set_lr_scheduler(lr.ExponentialDecay(0.3, 0.9))
    fit(trained, changed, stepping)
    assert changed.found != first.found, "what the script itself sets between two fits is told"
