"""Networks of paddle.vision told by their tensors, whatever the number of outputs."""

from __future__ import annotations

import paddle
import pytest

from paddle_warm_callbacks.hapi.architectures import Architecture, architectures_of
from paddle_warm_callbacks.hapi.building import vision_architectures

# These have the tensors of another one, and differ in what they compute with them.
TWINS = {"shufflenet_v2_x1_0", "shufflenet_v2_swish"}
Shapes = dict[str, tuple[int, ...]]


def shapes_of(name: str, classes: int) -> Shapes:
    with paddle.LazyGuard():
        network = vision_architectures()[name](num_classes=classes)
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}


@pytest.mark.parametrize("name", vision_architectures())
def test_each_is_told_with_its_outputs(name: str) -> None:
    found = architectures_of(shapes_of(name, 7))
    assert {architecture.name for architecture in found} == (TWINS if name in TWINS else {name})
    assert {architecture.classes for architecture in found} == {7}


def test_the_default_number_of_outputs_is_told_too() -> None:
    assert architectures_of(shapes_of("alexnet", 1000)) == [Architecture("alexnet", 1000)]


@pytest.mark.parametrize(
    "change", ["a tensor more", "one less", "another width", "another number in one place"]
)
def test_what_is_not_quite_one_is_none(change: str) -> None:
    shapes = shapes_of("resnet18", 7)
    if change == "a tensor more":
        shapes["neck.weight"] = (3, 3)
    elif change == "one less":
        del shapes["layer4.1.bn2.bias"]
    elif change == "another width":
        shapes["layer4.1.conv2.weight"] = (512, 256, 3, 3)
    else:
        shapes["fc.bias"] = (8,)
    assert architectures_of(shapes) == []
