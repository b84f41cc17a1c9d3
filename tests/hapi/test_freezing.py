"""What a frozen network does beside the same network unfrozen, and what the user gets back."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks import InvalidArgumentError, PatternError, Stage
from paddle_warm_callbacks.hapi.freezing import Freezer, trainable_sizes, trained_names
from paddle_warm_callbacks.plan.stages import StagePlan

nn = paddle.nn

NORMS: dict[str, tuple[Callable[..., Any], list[int]]] = {
    "BatchNorm1D": (lambda **options: nn.BatchNorm1D(3, data_format="NCL", **options), [4, 3, 5]),
    "BatchNorm2D": (lambda **options: nn.BatchNorm2D(3, **options), [4, 3, 5, 5]),
    "BatchNorm3D": (lambda **options: nn.BatchNorm3D(3, **options), [4, 3, 2, 5, 5]),
    "BatchNorm": (lambda **options: nn.BatchNorm(3, **options), [4, 3, 5, 5]),
}


def around(norm: Any) -> Any:
    paddle.seed(0)
    return nn.Sequential(("before", nn.Identity()), ("norm", norm), ("after", nn.Identity()))


def inputs(shape: list[int], seed: int = 0) -> Any:
    return paddle.to_tensor(np.random.default_rng(seed).normal(3, 2, shape).astype("float32"))


def statistics(net: Any) -> tuple[bytes, bytes]:
    return net.norm._mean.numpy().tobytes(), net.norm._variance.numpy().tobytes()


@pytest.mark.parametrize("options", [{}, {"use_global_stats": False}], ids=["default", "batch's always"])
@pytest.mark.parametrize("name", NORMS)
def test_a_frozen_norm_keeps_its_statistics_and_uses_them(name: str, options: dict[str, Any]) -> None:
    build, shape = NORMS[name]
    net = around(build(**options))
    freezer = Freezer(net)
    freezer.apply([], freeze_norm=True)
    net.train()
    before = statistics(net)
    net.norm.eval()
    net.norm._use_global_stats = None if name != "BatchNorm" else True
    as_evaluated = net.norm(inputs(shape)).numpy()
    freezer.apply([], freeze_norm=True)
    net.train()  # as each train_batch does
    assert net(inputs(shape)).numpy() == pytest.approx(as_evaluated)
    assert statistics(net) == before
    freezer.apply(["norm.weight"], freeze_norm=True)
    net.train()
    assert not np.allclose(net(inputs(shape)).numpy(), as_evaluated)
    assert statistics(net) != before


def test_freeze_norm_off_lets_the_statistics_of_frozen_norms_move() -> None:
    net = around(nn.BatchNorm2D(3))
    freezer = Freezer(net)
    freezer.apply([], freeze_norm=False)
    before = statistics(net)
    net.train()
    net(inputs([4, 3, 5, 5]))
    assert statistics(net) != before
    assert net.norm.weight.stop_gradient


def test_the_gradient_through_a_frozen_norm_is_that_of_its_running_statistics() -> None:
    net = around(nn.BatchNorm2D(3))
    net.norm._variance.set_value(np.full([3], 4.0, "float32"))
    freezer = Freezer(net)
    freezer.apply([], freeze_norm=True)
    net.train()
    given = inputs([4, 3, 5, 5])
    given.stop_gradient = False
    net(given).sum().backward()
    assert given.grad.numpy() == pytest.approx(np.full([4, 3, 5, 5], 0.5), rel=1e-4)
    freezer.close()
    net.train()
    given.clear_grad()
    net(given).sum().backward()
    assert given.grad.numpy() == pytest.approx(
        np.zeros([4, 3, 5, 5]), abs=1e-4
    )  # batch statistics take it out


def test_running_statistics_are_never_thawed() -> None:
    net = around(nn.BatchNorm2D(3))
    freezer = Freezer(net)
    assert freezer.names == ("norm.weight", "norm.bias")
    assert trainable_sizes(net) == {"norm.weight": 3, "norm.bias": 3}
    (everything,) = trained_names(net, StagePlan([Stage(0, ".*")]))
    freezer.apply(everything, freeze_norm=True)
    assert {name for name, p in net.named_parameters() if not p.stop_gradient} == {"norm.weight", "norm.bias"}
    with pytest.raises(PatternError, match="_mean"):
        trained_names(net, StagePlan([Stage(0, "norm._mean")]))


def test_what_a_spectral_norm_iterates_on_is_never_thawed() -> None:
    net = nn.Sequential(("norm", nn.SpectralNorm([4, 3])), ("fc", nn.Linear(3, 2)))
    assert set(dict(net.named_parameters())) - set(Freezer(net).names) == {"norm.weight_u", "norm.weight_v"}


def test_a_stage_that_trains_nothing_is_refused() -> None:
    net = nn.Linear(3, 3)
    for parameter in net.parameters():
        parameter.stop_gradient = True
    with pytest.raises(InvalidArgumentError, match="trains nothing"):
        trained_names(net, StagePlan([Stage(0, ".*")]))
    assert trained_names(net, StagePlan([Stage(0, "weight")])) == (("weight",),)


@pytest.mark.parametrize("part", ["conv", "fc"])
def test_a_norm_without_scale_and_shift_goes_with_the_layer_before_it(part: str) -> None:
    net = nn.Sequential(
        ("conv", nn.Conv2D(3, 3, 1)),
        ("norm", nn.BatchNorm2D(3, weight_attr=False, bias_attr=False)),
        ("flat", nn.Flatten()),
        ("fc", nn.Linear(3, 2)),
    )
    freezer = Freezer(net)
    freezer.apply([f"{part}.weight"], freeze_norm=True)
    before = statistics(net)
    net.train()
    net(inputs([4, 3, 1, 1]))
    assert (statistics(net) != before) is (part == "conv")


def test_layers_that_need_no_gradient_get_none() -> None:
    net = nn.Sequential(("body", nn.Linear(3, 3)), ("fc", nn.Linear(3, 2)))
    Freezer(net).apply(["fc.weight", "fc.bias"], freeze_norm=True)
    hidden = net.body(inputs([4, 3]))
    assert hidden.stop_gradient  # so no backward is computed below it
    net(inputs([4, 3])).sum().backward()
    assert net.body.weight.grad is None
    assert net.fc.weight.grad is not None


def test_dropout_in_frozen_blocks_stays_active() -> None:
    """Documented so: it belongs to training, not to what was learnt; a frozen norm beside it is as in evaluation."""
    net = nn.Sequential(("body", nn.Linear(3, 8)), ("drop", nn.Dropout(0.5)), ("fc", nn.Linear(8, 2)))
    freezer = Freezer(net)
    freezer.apply(["fc.weight", "fc.bias"], freeze_norm=True)
    net.train()
    x = inputs([4, 3])
    assert (net(x).numpy() != net(x).numpy()).any()
    net.eval()
    assert (net(x).numpy() == net(x).numpy()).all()  # the control


def test_the_user_gets_everything_back() -> None:
    net = around(nn.BatchNorm2D(3, use_global_stats=False))
    net.norm.weight.stop_gradient = True
    freezer = Freezer(net)
    freezer.apply([], freeze_norm=True)
    net.train()
    net(inputs([4, 3, 5, 5]))
    freezer.close()
    assert net.norm.training
    assert net.norm._use_global_stats is False
    assert (net.norm.weight.stop_gradient, net.norm.bias.stop_gradient) == (True, False)
    before = statistics(net)
    net.train()
    net(inputs([4, 3, 5, 5]))
    assert statistics(net) != before


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (".*", {"fc.weight", "fc.bias"}),
        ("body", {"body.weight", "body.bias"}),
        ("body|fc", {"body.weight", "body.bias", "fc.weight", "fc.bias"}),
    ],
)
def test_what_the_user_froze_stays_so_unless_it_is_named(pattern: str, expected: set[str]) -> None:
    net = nn.Sequential(("body", nn.Linear(3, 3)), ("fc", nn.Linear(3, 2)))
    for parameter in net.body.parameters():
        parameter.stop_gradient = True
    (trainable,) = trained_names(net, StagePlan([Stage(0, pattern)]))
    assert set(trainable) == expected


def test_synchronised_norms_are_frozen_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their kernel needs a GPU: what is looked at is how it would be called."""
    net = around(nn.SyncBatchNorm(3))
    as_test: list[bool] = []

    def kernel(x: Any, mean: Any, variance: Any, weight: Any, bias: Any, is_test: bool, *rest: Any) -> Any:
        as_test.append(is_test)
        return (x, *[None] * 5)

    monkeypatch.setattr(paddle._C_ops, "sync_batch_norm_", kernel)
    freezer = Freezer(net)
    for trainable in ([], ["norm.weight", "norm.bias"]):
        freezer.apply(trainable, freeze_norm=True)
        net.train()
        net(inputs([4, 3, 5, 5]))
    freezer.close()
    assert as_test == [True, False]


def test_master_weights_begin_when_a_layer_is_thawed() -> None:
    net = nn.Sequential(("body", nn.Linear(3, 3)), ("fc", nn.Linear(3, 2)))
    net.to(dtype="bfloat16")
    # SGD is the one optimizer with a bfloat16 kernel on a CPU.
    optimizer = paddle.optimizer.SGD(1e-3, parameters=net.parameters(), multi_precision=True)
    freezer = Freezer(net)
    bodies, masters = [], []
    for trainable in (["fc.weight", "fc.bias"], list(freezer.names)):
        freezer.apply(trainable, freeze_norm=True)
        bodies.append(net.body.weight.astype("float32").numpy())
        for parameter in net.parameters():
            if not parameter.stop_gradient:
                parameter.grad = paddle.ones_like(parameter)
        optimizer.step()
        optimizer.clear_grad()
        masters.append(set(optimizer._master_weights))
    assert masters[0] == {net.fc.weight.name, net.fc.bias.name}
    assert masters[1] == {parameter.name for parameter in net.parameters()}
    assert (bodies[0] == bodies[1]).all()
    # Made from the weights as they were thawed; the CPU's kernel then moves the weights and leaves the master alone.
    assert (optimizer._master_weights[net.body.weight.name].numpy() == bodies[1]).all()
    assert (net.body.weight.astype("float32").numpy() != bodies[1]).any()
