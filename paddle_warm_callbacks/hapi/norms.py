"""Norm layers in a network that is partly frozen: their running statistics."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import paddle
from paddle.nn.layer.norm import _BatchNormBase

_WITH_STATISTICS = (_BatchNormBase, paddle.nn.BatchNorm)
_STATISTICS = ("_mean", "_variance")
_ITERATES = ("weight_u", "weight_v")


def moved_by_forward(network: Any) -> list[Any]:
    """Return what stands among ``network.parameters()`` and yet no optimizer may move: it moves in forward.

    These are the running statistics of batch norms, and the vectors that a spectral norm iterates on.
    """
    return [
        *(
            getattr(norm, part)
            for norm in _of_kind(network, _WITH_STATISTICS).values()
            for part in _STATISTICS
        ),
        *(
            getattr(norm, part)
            for norm in _of_kind(network, (paddle.nn.SpectralNorm,)).values()
            for part in _ITERATES
        ),
    ]


class NormGuard:
    """Keep batch norms that are frozen as in evaluation, until closed.

    So they run although every ``train_batch`` calls ``network.train()``, and also where the user told one to use the
    batch's statistics always (``use_global_stats=False``). Paddle's other norms keep no running statistics.

    Args:
        network: The Layer.
        trainable: Structured names of the parameters that are ever trained: the user froze the others.
    """

    def __init__(self, network: Any, trainable: Collection[str]) -> None:
        self._network = network
        self._norms = _of_kind(network, _WITH_STATISTICS)
        self._deciding = _deciding(network, self._norms, trainable)
        self._users_statistics = {name: norm._use_global_stats for name, norm in self._norms.items()}
        self._frozen: set[int] = set()
        self._hooks = [norm.register_forward_pre_hook(self._before) for norm in self._norms.values()]

    def apply(self, wanted: Collection[str], *, freeze: bool) -> None:
        """Freeze, if ``freeze``, the norms none of whose deciding parameters is in ``wanted``; thaw the others."""
        self._frozen = set()
        for name, norm in self._norms.items():
            frozen = freeze and not any(parameter in wanted for parameter in self._deciding[name])
            norm._use_global_stats = True if frozen else self._users_statistics[name]
            if frozen:
                self._frozen.add(id(norm))

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


def _of_kind(network: Any, kinds: tuple[type, ...]) -> dict[str, Any]:
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
