"""Stages read off real networks train the head first, and every layer in the end."""

from __future__ import annotations

from typing import Any

import paddle
import pytest

from paddle_warm_callbacks import (
    InvalidArgumentError,
    StagedUnfreeze,
    WarmLRScaler,
    fine_tune,
    stages_from_depth,
)
from paddle_warm_callbacks.hapi.freezing import trainable_sizes, trained_names
from paddle_warm_callbacks.plan.stages import StagePlan
from tests.hapi.fits import Points

HEADS = {
    "resnet18": {"fc.weight", "fc.bias"},
    "mobilenet_v1": {"fc.weight", "fc.bias"},
    "mobilenet_v3_large": {"classifier.3.weight", "classifier.3.bias"},
    "mobilenet_v2": {"classifier.1.weight", "classifier.1.bias"},
    "mobilenet_v3_small": {"classifier.3.weight", "classifier.3.bias"},
    "vgg11": {"classifier.6.weight", "classifier.6.bias"},
    "densenet121": {"out.weight", "out.bias"},
    "shufflenet_v2_x1_0": {"_fc.weight", "_fc.bias"},
    "AlexNet": {"_fc8.weight", "_fc8.bias"},
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("n", [2, 3, 4])
def test_networks_of_paddle_vision(name: str, n: int) -> None:
    network = getattr(paddle.vision.models, name)(num_classes=3)
    sizes = trainable_sizes(network)
    trained = [set(names) for names in StagePlan(stages_from_depth(network, n)).trainable_names(sizes)]
    assert trained[0] == HEADS[name]
    assert all(earlier < later for earlier, later in zip(trained, trained[1:]))
    assert trained[-1] == set(sizes)


class Net(paddle.nn.Layer):  # type: ignore[misc]  # Paddle is untyped
    """Three layers, deep enough for three rates."""

    def __init__(self) -> None:
        super().__init__()
        paddle.seed(0)
        self.stem, self.body, self.fc = (paddle.nn.Linear(2, 2) for _ in range(3))

    def forward(self, x: Any) -> Any:
        return self.fc(self.body(self.stem(x)))


class Moved(paddle.callbacks.Callback):  # type: ignore[misc]
    """How far each weight went in each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.by_epoch: list[dict[str, float]] = []

    def _weights(self) -> dict[str, Any]:
        return {name: p.numpy().copy() for name, p in self.model.network.named_parameters() if p.ndim == 2}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._before = self._weights()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        after = self._weights()
        self.by_epoch.append({name: float(abs(after[name] - self._before[name]).max()) for name in after})


def test_fine_tune_moves_the_head_alone_and_then_all_at_their_rates() -> None:
    network = Net()
    model = paddle.Model(network)
    # Adam moves each weight by about its rate in each step, whatever the gradient.
    model.prepare(paddle.optimizer.Adam(0.01, parameters=network.parameters()), paddle.nn.CrossEntropyLoss())
    recipe, moved = fine_tune(network, lr_mult=100, n=3), Moved()
    callbacks = [WarmLRScaler(1.0, groups=recipe.groups), StagedUnfreeze(recipe.stages), moved]
    model.fit(Points(), batch_size=12, epochs=2, shuffle=False, callbacks=callbacks, verbose=0)
    frozen, thawed = moved.by_epoch
    assert frozen == {"stem.weight": 0.0, "body.weight": 0.0, "fc.weight": pytest.approx(0.01, rel=0.05)}
    assert thawed["body.weight"] == pytest.approx(0.0005, rel=0.05)
    assert thawed["stem.weight"] == pytest.approx(0.00005, rel=0.05)


def test_what_the_user_froze_stays_frozen_in_stages_made_from_depth() -> None:
    network = paddle.vision.models.resnet18(num_classes=3)
    norms = {name for name, _ in network.named_parameters() if "bn" in name or "downsample.1" in name}
    for name, parameter in network.named_parameters():
        parameter.stop_gradient = parameter.stop_gradient or name in norms
    trained = [set(names) for names in trained_names(network, StagePlan(stages_from_depth(network, 4)))]
    assert all(earlier < later for earlier, later in zip(trained, trained[1:]))
    assert trained[-1] == set(trainable_sizes(network)) - norms
    assert trained_names(network, StagePlan(fine_tune(network).stages))[0] == ("fc.weight", "fc.bias")
    for parameter in network.parameters():
        parameter.stop_gradient = True
    with pytest.raises(InvalidArgumentError, match="the network is frozen"):
        stages_from_depth(network, 2)


def test_stages_can_be_changed_before_use() -> None:
    stages = stages_from_depth(Net(), 3)
    del stages[1]
    assert len(StagedUnfreeze(stages).plan(Net()).splitlines()) == 4
