"""Norm layers in a network that is partly frozen: their running statistics, and two limits of Paddle's kernels."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import paddle
from paddle.nn.layer.norm import _BatchNormBase, _InstanceNormBase

_WITH_STATISTICS = (_BatchNormBase, paddle.nn.BatchNorm)
_STATISTICS = ("_mean", "_variance")
# Their backward fails on an input that needs no gradient, as behind a frozen layer; GroupNorm's up to Paddle 3.0.
_NEEDING_AN_INPUTS_GRADIENT = (_InstanceNormBase, paddle.nn.GroupNorm)


def statistics(network: Any) -> list[Any]:
    """Return the running statistics, which stand among ``network.parameters()``; no optimizer may move them."""
    return [
        getattr(norm, part) for norm in _norms(network, _WITH_STATISTICS).values() for part in _STATISTICS
    ]


class NormGuard:
    """Keep norm layers right while some parameters are frozen, until closed.

    - A frozen batch norm runs as in evaluation, although every ``train_batch`` calls ``network.train()``, and also
      where the user told it to use the batch's statistics always (``use_global_stats=False``).
    - A batch norm of which only the scale or only the shift is trained gets a gradient for it: Paddle computes both or
      none.
    - Instance and group norms behind frozen layers can be trained.

    Args:
        network: The Layer.
        trainable: Structured names of the parameters that are ever trained: the user froze the others.
    """

    def __init__(self, network: Any, trainable: Collection[str]) -> None:
        self._network = network
        self._norms = _norms(network, _WITH_STATISTICS)
        self._deciding = _deciding(network, self._norms, trainable)
        self._users_statistics = {name: norm._use_global_stats for name, norm in self._norms.items()}
        self._frozen: set[int] = set()
        self._companions: dict[int, Any] = {}
        self._hooks = []
        for norm in self._norms.values():
            self._hooks += [
                norm.register_forward_pre_hook(self._before),
                norm.register_forward_post_hook(self._after),
            ]
        for norm in _norms(network, _NEEDING_AN_INPUTS_GRADIENT).values():
            self._hooks.append(norm.register_forward_pre_hook(_with_a_gradient))

    def apply(self, wanted: Collection[str], *, freeze: bool) -> None:
        """Freeze, if ``freeze``, the norms none of whose deciding parameters is in ``wanted``; thaw the others."""
        self._frozen = set()
        self._companions = {}
        for name, norm in self._norms.items():
            frozen = freeze and not any(parameter in wanted for parameter in self._deciding[name])
            norm._use_global_stats = True if frozen else self._users_statistics[name]
            if frozen:
                self._frozen.add(id(norm))
            both = [parameter for parameter in (norm.weight, norm.bias) if parameter is not None]
            still = [parameter for parameter in both if parameter.stop_gradient]
            if len(both) == 2 and len(still) == 1:
                self._companions[id(norm)] = still[0]

    def close(self) -> None:
        """Give the user's settings back."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        for name, norm in self._norms.items():
            norm._use_global_stats = self._users_statistics[name]
            if id(norm) in self._frozen:
                norm.training = self._network.training

    def _before(self, layer: Any, inputs: Any) -> None:
        if id(layer) in self._frozen:
            layer.training = False
        if id(layer) in self._companions:
            self._companions[id(layer)].stop_gradient = False

    def _after(self, layer: Any, inputs: Any, outputs: Any) -> None:
        # What the optimizer looks at is the state between forward and step.
        if id(layer) in self._companions:
            self._companions[id(layer)].stop_gradient = True


def _with_a_gradient(layer: Any, inputs: Any) -> Any:
    first = inputs[0]
    if not first.stop_gradient or all(parameter.stop_gradient for parameter in layer.parameters()):
        return None
    given = first.detach()
    given.stop_gradient = False
    return (given, *inputs[1:])


def _norms(network: Any, kinds: tuple[type, ...]) -> dict[str, Any]:
    layers = network.named_sublayers(include_self=True)
    return {name: layer for name, layer in layers if isinstance(layer, kinds)}


def _deciding(
    network: Any, norms: Mapping[str, Any], trainable: Collection[str]
) -> dict[str, frozenset[str]]:
    """Return the parameters whose training thaws each norm: its own, else those of the last layer before it."""
    by_layer: dict[str, set[str]] = {}
    for name in trainable:
        by_layer.setdefault(name.rpartition(".")[0], set()).add(name)
    found, before = {}, frozenset[str]()
    for layer, _ in network.named_sublayers(include_self=True):
        before = frozenset(by_layer.get(layer, before))
        if layer in norms:
            found[layer] = before
    return found
