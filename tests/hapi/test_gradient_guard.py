"""Every parameter that is trained gets the gradient it has in a network trained whole, whatever else is frozen."""

from __future__ import annotations

import itertools
from typing import Any, Callable

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks.hapi.freezing import Freezer

nn = paddle.nn


class Twice(paddle.nn.Layer):  # type: ignore[misc]  # Paddle is untyped
    """A bilinear layer of one input."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Bilinear(4, 4, 3)

    def forward(self, x: Any) -> Any:
        return self.inner(x, 2 * x)


LAYERS: dict[str, tuple[Callable[[], Any], list[int]]] = {
    "Linear": (lambda: nn.Linear(4, 3), [5, 4]),
    "Bilinear": (Twice, [5, 4]),
    "Conv1D": (lambda: nn.Conv1D(3, 4, 3), [2, 3, 8]),
    "Conv2D": (lambda: nn.Conv2D(4, 4, 3, groups=4), [2, 4, 8, 8]),
    "Conv3D": (lambda: nn.Conv3D(3, 4, 3), [2, 3, 5, 5, 5]),
    "Conv2DTranspose": (lambda: nn.Conv2DTranspose(3, 4, 3), [2, 3, 5, 5]),
    "BatchNorm1D": (lambda: nn.BatchNorm1D(4), [6, 4]),
    "BatchNorm2D": (lambda: nn.BatchNorm2D(4), [2, 4, 5, 5]),
    "BatchNorm3D": (lambda: nn.BatchNorm3D(4), [2, 4, 3, 5, 5]),
    "InstanceNorm1D": (lambda: nn.InstanceNorm1D(4), [2, 4, 5]),
    "InstanceNorm2D": (lambda: nn.InstanceNorm2D(4), [2, 4, 5, 5]),
    "InstanceNorm3D": (lambda: nn.InstanceNorm3D(4), [2, 4, 3, 5, 5]),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), [2, 4, 5, 5]),
    "LayerNorm": (lambda: nn.LayerNorm(6), [2, 3, 6]),
    "PReLU": (lambda: nn.PReLU(4), [2, 4, 5, 5]),
    "SimpleRNN": (lambda: nn.SimpleRNN(4, 3), [2, 6, 4]),
    "GRU": (lambda: nn.GRU(4, 3), [2, 6, 4]),
    "LSTM": (lambda: nn.LSTM(4, 3, direction="bidirect"), [2, 6, 4]),
    "MultiHeadAttention": (lambda: nn.MultiHeadAttention(4, 2), [2, 6, 4]),
    "spectral_norm": (lambda: nn.utils.spectral_norm(nn.Conv2D(3, 4, 3)), [2, 3, 8, 8]),
}
# What Paddle does with each of them when it is trained in part, and no Freezer is at work; PReLU behind a frozen layer
# ends the process.
FAILING_ALONE = ("BatchNorm", "InstanceNorm", "SimpleRNN", "GRU", "LSTM")


class Gradients:
    """A layer between two others, and its gradients whichever of its parameters are trained."""

    def __init__(self, name: str) -> None:
        paddle.seed(0)
        build, self.shape = LAYERS[name]
        self.net = nn.Sequential(("before", nn.Identity()), ("layer", build()), ("after", nn.Identity()))
        self._start = {name: tensor.numpy() for name, tensor in self.net.state_dict().items()}
        freezer = Freezer(self.net)
        self.names = freezer.names
        freezer.close()

    def of(self, trained: Any, *, input_too: bool = True, freeze: bool = True) -> dict[str, Any]:
        """Return the gradients of ``trained`` and of the input; without ``freeze`` by ``stop_gradient`` alone."""
        for name, tensor in self.net.state_dict().items():
            tensor.set_value(self._start[name])
        self.net.clear_gradients()
        freezer = Freezer(self.net)
        if not freeze:
            freezer.close()
            for name, parameter in self.net.named_parameters():
                parameter.stop_gradient = name not in trained
        else:
            freezer.apply(trained, freeze_norm=False)
        given = paddle.to_tensor(np.random.default_rng(0).normal(1, 2, self.shape).astype("float32"))
        given.stop_gradient = not input_too
        made = self.net(given)
        output = made[0] if isinstance(made, tuple) else made
        weights = np.random.default_rng(1).normal(size=output.shape).astype("float32")
        (output * paddle.to_tensor(weights)).sum().backward()
        found = {name: p.grad for name, p in self.net.named_parameters() if name in trained}
        if input_too:
            found["input"] = given.grad
        freezer.close()
        return {name: None if gradient is None else gradient.numpy() for name, gradient in found.items()}


def parts(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return none, each one, each but one, and all."""
    ones = [(name,) for name in names]
    but_one = list(itertools.combinations(names, len(names) - 1)) if len(names) > 2 else []
    return [(), *ones, *but_one, *([names] if len(names) > 1 else [])]


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_trained_in_part_has_the_gradients_of_the_whole(name: str) -> None:
    gradients = Gradients(name)
    whole = gradients.of(gradients.names)
    for trained in parts(gradients.names):
        for input_too in (True, False):
            if not (trained or input_too):
                continue
            found = gradients.of(trained, input_too=input_too)
            assert set(found) == {*trained, *(["input"] if input_too else [])}
            for tensor, gradient in found.items():
                assert gradient is not None, (tensor, trained)
                assert gradient == pytest.approx(whole[tensor], abs=1e-5), (tensor, trained, input_too)


@pytest.mark.parametrize("name", [name for name in LAYERS if name.startswith(FAILING_ALONE)])
def test_alone_paddle_gives_none_or_wrong_ones_or_fails(name: str) -> None:
    gradients = Gradients(name)
    first = gradients.names[0]
    whole = gradients.of(gradients.names)[first]
    if name in ("SimpleRNN", "GRU", "LSTM"):
        with pytest.raises(Exception, match="tensor should not be null"):
            gradients.of([first], freeze=False)
    else:
        found = gradients.of([first], freeze=False)[first]
        assert found is None or not np.allclose(found, whole, atol=1e-3)


@pytest.mark.parametrize("name", ["BatchNorm2D", "InstanceNorm2D", "LSTM"])
def test_what_is_computed_for_a_frozen_parameter_is_nobodys(name: str) -> None:
    """The optimizer passes it over, and once thawed the parameter begins without it."""
    gradients = Gradients(name)
    first, second, *_ = gradients.names
    net = gradients.net
    optimizer = paddle.optimizer.SGD(
        0.1, parameters=[dict(net.named_parameters())[n] for n in gradients.names]
    )
    freezer = Freezer(net)
    freezer.apply([first], freeze_norm=False)
    before = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    made = net(paddle.rand(gradients.shape))
    (made[0] if isinstance(made, tuple) else made).square().sum().backward()
    optimizer.step()
    now = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    assert (now[first] != before[first]).any()
    assert (now[second] == before[second]).all()
    parameters = dict(net.named_parameters())
    assert parameters[second].stop_gradient
    assert parameters[second].grad is not None  # the control: there is something to pass over
    freezer.apply([second], freeze_norm=False)
    assert parameters[second].grad is None or not parameters[second].grad.numpy().any()
    freezer.close()
