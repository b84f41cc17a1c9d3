"""Gradients of layers trained in part, or behind frozen ones, where Paddle's kernels give none or wrong ones."""

from __future__ import annotations

from typing import Any

import paddle
from paddle.nn.layer.norm import _BatchNormBase, _InstanceNormBase
from paddle.nn.layer.rnn import RNNBase

from paddle_warm_callbacks.hapi import norms

# Asked for the gradients of some of a layer's parameters, their kernels compute none (batch norm), compute them wrongly
# and say nothing (instance norm), or fail (recurrent ones, which fail also when asked for an input's gradient alone).
_ALL_OR_NONE = (_BatchNormBase, paddle.nn.BatchNorm, _InstanceNormBase, RNNBase)
# Their backward fails on an input without a gradient: PReLU's by a segmentation fault, GroupNorm's before Paddle 3.3.
_NEEDING_AN_INPUTS_GRADIENT = (_InstanceNormBase, paddle.nn.GroupNorm, paddle.nn.PReLU)


class GradientGuard:
    """Have every trainable parameter get the gradient it would get in a network that is trained whole, until closed.

    What is computed beside it for a frozen parameter is left to nobody: no optimizer looks at it.

    Args:
        network: The Layer.
    """

    def __init__(self, network: Any) -> None:
        fixed = {id(tensor) for tensor in norms.moved_by_forward(network)}
        self._parameters: dict[int, list[Any]] = {}
        self._lent: dict[int, list[Any]] = {}
        self._hooks = []
        for layer in network.sublayers(include_self=True):
            if isinstance(layer, _ALL_OR_NONE):
                self._parameters[id(layer)] = [p for p in layer.parameters() if id(p) not in fixed]
                self._hooks += [
                    layer.register_forward_pre_hook(self._lend),
                    layer.register_forward_post_hook(self._take_back),
                ]
            if isinstance(layer, _NEEDING_AN_INPUTS_GRADIENT):
                self._hooks.append(layer.register_forward_pre_hook(_with_a_gradient))

    def close(self) -> None:
        """Take the hooks off."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _lend(self, layer: Any, inputs: Any) -> None:
        parameters = self._parameters[id(layer)]
        frozen = [parameter for parameter in parameters if parameter.stop_gradient]
        in_part = 0 < len(frozen) < len(parameters)
        if in_part or (isinstance(layer, RNNBase) and _may_need_a_gradient(inputs)):
            self._lent[id(layer)] = frozen
            for parameter in frozen:
                parameter.stop_gradient = False

    def _take_back(self, layer: Any, inputs: Any, outputs: Any) -> None:
        # What the optimizer looks at is the state between forward and step.
        for parameter in self._lent.pop(id(layer), ()):
            parameter.stop_gradient = True


def _may_need_a_gradient(inputs: Any) -> bool:
    """Return whether a tensor among a layer's positional arguments needs a gradient; those by keyword are not seen."""
    return not inputs or any(isinstance(value, paddle.Tensor) and not value.stop_gradient for value in inputs)


def _with_a_gradient(layer: Any, inputs: Any) -> Any:
    if not inputs or not inputs[0].stop_gradient or all(p.stop_gradient for p in layer.parameters()):
        return None
    given = inputs[0].detach()
    given.stop_gradient = False
    return (given, *inputs[1:])
