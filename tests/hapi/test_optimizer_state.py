"""Optimizer state finds its parameters by structured name, in any process, and continues to the bit."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks.hapi import optimizer_state

Make = Callable[[list[Any]], Any]

OPTIMIZERS: dict[str, Make] = {
    "SGD": lambda p: paddle.optimizer.SGD(0.1, parameters=p),
    "Momentum": lambda p: paddle.optimizer.Momentum(0.1, 0.9, parameters=p, weight_decay=1e-2),
    "Adam": lambda p: paddle.optimizer.Adam(0.1, parameters=p),
    "AdamW": lambda p: paddle.optimizer.AdamW(0.1, parameters=p, weight_decay=0.1),
    "Lamb": lambda p: paddle.optimizer.Lamb(0.1, parameters=p),
    "RMSProp": lambda p: paddle.optimizer.RMSProp(0.1, parameters=p, centered=True, momentum=0.5),
    "Adagrad": lambda p: paddle.optimizer.Adagrad(0.1, parameters=p),
    "Adamax": lambda p: paddle.optimizer.Adamax(0.1, parameters=p),
    "Adadelta": lambda p: paddle.optimizer.Adadelta(0.1, parameters=p),
    "named Adam": lambda p: paddle.optimizer.Adam(0.1, parameters=p, name="mine"),
}


def network() -> Any:
    paddle.seed(1)
    return paddle.nn.Sequential(paddle.nn.Linear(3, 4), paddle.nn.Linear(4, 2))


def step(net: Any, optimizer: Any, number: int) -> None:
    x = paddle.to_tensor(np.random.RandomState(number).normal(size=(5, 3)).astype("float32"))
    net(x).square().mean().backward()
    optimizer.step()
    optimizer.clear_grad()


def values(net: Any) -> list[bytes]:
    return [p.numpy().tobytes() for p in net.parameters()]


def captured(net: Any, optimizer: Any) -> dict[tuple[str, str], Any]:
    return {(s.parameter, s.kind): s.tensor.numpy() for s in optimizer_state.slots(net, optimizer)}


def fresh_copy(net: Any, make: Make) -> tuple[Any, Any]:
    paddle.nn.Linear(2, 2)  # another layer built first: every generated name is shifted
    other = network()
    other.set_state_dict({name: t.numpy() for name, t in net.state_dict().items()})
    return other, make(other.parameters())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_fresh_optimizer_continues_to_the_bit(name: str) -> None:
    net = network()
    optimizer = OPTIMIZERS[name](net.parameters())
    for number in range(3):
        step(net, optimizer, number)
    other, restored_optimizer = fresh_copy(net, OPTIMIZERS[name])
    forgetful, fresh_optimizer = fresh_copy(net, OPTIMIZERS[name])
    state = captured(net, optimizer)
    restored, reset = optimizer_state.restore(other, restored_optimizer, state)
    assert sorted(restored) == sorted({name for name, _ in state})
    assert reset == []
    for number in range(3, 6):
        step(net, optimizer, number)
        step(other, restored_optimizer, number)
        step(forgetful, fresh_optimizer, number)
    assert values(other) == values(net)
    if name != "SGD":  # which has no state to lose
        assert values(forgetful) != values(net)


def test_a_live_optimizer_is_put_back_in_place() -> None:
    net = network()
    optimizer = OPTIMIZERS["Adam"](net.parameters())
    step(net, optimizer, 0)
    state, weights = captured(net, optimizer), {n: t.numpy() for n, t in net.state_dict().items()}
    step(net, optimizer, 1)
    expected = values(net)
    step(net, optimizer, 2)
    assert values(net) != expected
    net.set_state_dict(weights)
    optimizer_state.restore(net, optimizer, state)
    step(net, optimizer, 1)
    assert values(net) == expected


def test_parameters_without_saved_state_start_fresh_even_in_a_live_optimizer() -> None:
    net = network()
    optimizer = OPTIMIZERS["Adam"](net.parameters())
    step(net, optimizer, 0)
    state = {key: value for key, value in captured(net, optimizer).items() if key[0].startswith("1.")}
    optimizer_state.restore(net, optimizer, state)
    assert {slot.parameter for slot in optimizer_state.slots(net, optimizer)} == {"1.weight", "1.bias"}
    step(net, optimizer, 1)
    assert {slot.parameter for slot in optimizer_state.slots(net, optimizer)} == {
        n for n, _ in net.named_parameters()
    }


def test_what_does_not_fit_is_reset_and_said() -> None:
    net = network()
    optimizer = OPTIMIZERS["Momentum"](net.parameters())
    step(net, optimizer, 0)
    state = captured(net, optimizer)
    state["gone.weight", "velocity"] = np.zeros(3, "float32")
    state["0.weight", "velocity"] = np.zeros((7, 7), "float32")
    restored, reset = optimizer_state.restore(net, optimizer, state)
    assert dict(reset)["gone.weight"] == "no such parameter in the network"
    assert "shape (7, 7)" in dict(reset)["0.weight"]
    assert sorted(restored) == ["0.bias", "1.bias", "1.weight"]


def test_another_optimizers_state_is_reset_and_said() -> None:
    net = network()
    momentum = OPTIMIZERS["Momentum"](net.parameters())
    step(net, momentum, 0)
    adam = OPTIMIZERS["Adam"](net.parameters())
    restored, reset = optimizer_state.restore(net, adam, captured(net, momentum))
    assert restored == []
    assert {reason for _, reason in reset} == {"this optimizer keeps no velocity"}


def test_the_native_file_is_what_paddle_would_write() -> None:
    net = network()
    scheduler = paddle.optimizer.lr.StepDecay(0.1, 2)
    optimizer = paddle.optimizer.Adam(scheduler, parameters=net.parameters())
    step(net, optimizer, 0)
    expected = optimizer.state_dict()
    native = {
        **optimizer_state.native_arrays(optimizer_state.slots(net, optimizer), captured(net, optimizer)),
        **optimizer_state.native_schedule(optimizer),
    }
    assert set(native) == set(expected)
    assert native["LR_Scheduler"] == expected["LR_Scheduler"]
    for key in set(native) - {"LR_Scheduler"}:
        assert np.asarray(native[key]).tobytes() == expected[key].numpy().tobytes()
    table = optimizer_state.key_table(optimizer_state.slots(net, optimizer))
    again = optimizer_state.by_structured_name(native, table)
    assert {k: v.tobytes() for k, v in again.items()} == {
        k: v.tobytes() for k, v in captured(net, optimizer).items()
    }


def test_master_weights_are_state() -> None:
    def half_precision() -> tuple[Any, Any]:
        net = network()
        net.to(dtype="bfloat16")
        # SGD is the one optimizer with a bfloat16 kernel on a CPU.
        return net, paddle.optimizer.SGD(1e-3, parameters=net.parameters(), multi_precision=True)

    def half_step(net: Any, optimizer: Any) -> None:
        for parameter in net.parameters():
            parameter.grad = paddle.ones_like(parameter)
        optimizer.step()

    net, optimizer = half_precision()
    half_step(net, optimizer)
    state = captured(net, optimizer)
    assert set(state) == {(name, optimizer_state.MASTER) for name, _ in net.named_parameters()}
    native = optimizer_state.native_arrays(optimizer_state.slots(net, optimizer), state)
    masters = optimizer._master_weights
    assert {key: name for key, (name, _) in native["master_weights"].items()} == {
        parameter.name: masters[parameter.name].name for parameter in net.parameters()
    }
    other, fresh = half_precision()
    other.set_state_dict({name: t.numpy() for name, t in net.state_dict().items()})
    restored, reset = optimizer_state.restore(other, fresh, state)
    assert (len(restored), reset) == (4, [])
    for _ in range(3):
        half_step(net, optimizer)
        half_step(other, fresh)
    again, continued = captured(other, fresh), captured(net, optimizer)
    assert {key: value.tobytes() for key, value in again.items()} == {
        key: value.tobytes() for key, value in continued.items()
    }


def schedules() -> dict[str, Callable[[], Any]]:
    lr = paddle.optimizer.lr
    return {
        "float": lambda: 0.1,
        "StepDecay": lambda: lr.StepDecay(0.1, 2),
        "nested warm-up": lambda: lr.LinearWarmup(lr.CosineAnnealingDecay(0.1, 10), 3, 0.0, 0.1),
        "CosineAnnealingWarmRestarts": lambda: (
            lr.CosineAnnealingWarmRestarts(0.1, 2, 2)
            if hasattr(lr, "CosineAnnealingWarmRestarts")
            else lr.NoamDecay(8, 4, 0.1)
        ),
        "OneCycle": lambda: lr.OneCycleLR(0.1, 12),
        "Cyclic": lambda: lr.CyclicLR(0.01, 0.1, 3),
    }


@pytest.mark.parametrize("name", schedules())
def test_learning_rates_continue(name: str) -> None:
    def optimizer() -> Any:
        return paddle.optimizer.SGD(schedules()[name](), parameters=network().parameters())

    def rates(of: Any, steps: int) -> list[float]:
        found = []
        for _ in range(steps):
            found.append(of.get_lr())
            if name != "float":
                of._learning_rate.step()
        return found

    one, other = optimizer(), optimizer()
    rates(one, 5)
    if name == "float":
        one.set_lr(0.03)
    optimizer_state.restore_learning_rate(other, optimizer_state.capture_learning_rate(one))
    assert rates(other, 5) == rates(one, 5)


def test_a_float_that_differs_from_the_tensor_in_use_stays_so() -> None:
    net = network()
    optimizer = OPTIMIZERS["SGD"](net.parameters())
    step(net, optimizer, 0)
    optimizer._learning_rate = 0.05  # what the ReduceLROnPlateau callback does; the steps go on with 0.1
    other, fresh = fresh_copy(net, OPTIMIZERS["SGD"])
    optimizer_state.restore_learning_rate(fresh, optimizer_state.capture_learning_rate(optimizer))
    assert fresh.get_lr() == 0.05
    step(net, optimizer, 1)
    step(other, fresh, 1)
    assert values(other) == values(net)


def test_a_float_assigned_between_a_resume_and_its_first_step_does_not_count() -> None:
    net = network()
    optimizer = OPTIMIZERS["SGD"](net.parameters())
    step(net, optimizer, 0)
    other, fresh = fresh_copy(net, OPTIMIZERS["SGD"])
    optimizer_state.restore_learning_rate(fresh, optimizer_state.capture_learning_rate(optimizer))
    for each in (optimizer, fresh):
        each._learning_rate = 0.05  # ReduceLROnPlateau, in the evaluation that a resume begins with
    step(net, optimizer, 1)
    step(other, fresh, 1)
    assert values(other) == values(net)
