"""Where a run's tensors are: enumerated once, and again only when one has come or gone.

Walking a ResNet50 and its optimizer takes a millisecond, as long as a twentieth of the copy of everything it holds. A
save that training is not to feel cannot afford that; looking whether anything has changed takes a tenth.
"""

from __future__ import annotations

import hashlib
from typing import Any

import paddle

from paddle_warm_callbacks.hapi import freezing, norms, optimizer_state
from paddle_warm_callbacks.hapi.trained import Trained


class TensorLayout:
    """The tensors of a network, of its loss and of their optimizer, by name.

    Args:
        network: The Layer.
        optimizer: Its optimizer.
        trained: The network and the loss.

    Attributes:
        persistable: ``network.state_dict()``: parameters and persistable buffers, by structured name.
        transient: Other buffers, and all of the loss, by structured name.
        parameters: All that is trained, by structured name: the loss's are among them.
        slots: Accumulators and master weights.
        key_table: See :func:`optimizer_state.key_table`.
        digest: Of names, shapes and dtypes of ``persistable`` and of the loss's tensors.
        volatile: Structured names of what a forward pass may change in place: buffers, running statistics, and tensors
            that are not trained in layers other than Paddle's own. What else there is, only an optimizer changes so.
        averaged: Structured names of the network's parameters that an optimizer may move: by gradients averaged over
            all ranks of a run, on each of which they are the same.
    """

    def __init__(self, network: Any, optimizer: Any, trained: Trained) -> None:
        self._network = network
        self._optimizer = optimizer
        self.persistable: dict[str, Any] = dict(network.state_dict())
        buffers = dict(network.named_buffers())
        beside = trained.beside_the_model()
        self.transient = {name: tensor for name, tensor in beside.items() if tensor._is_initialized()}
        self.parameters = dict(trained.named_parameters())
        self.slots = tuple(optimizer_state.slots(trained, optimizer))
        self.key_table = optimizer_state.key_table(self.slots)
        named = {**self.persistable, **trained.of_loss()}
        shapes = sorted((name, tuple(t.shape), str(t.dtype)) for name, t in named.items())
        self.digest = hashlib.sha256(repr(shapes).encode()).hexdigest()[:16]
        layers = list(network.named_sublayers(include_self=True))
        self.volatile = buffers.keys() | _changed_by_forward(network, layers) | self.transient.keys()
        self.averaged = frozenset(freezing.trainable_sizes(network))
        every = [*layers, *trained.layers_of_loss()]
        self._parts = [
            part for _, layer in every for part in (layer._parameters, layer._buffers, layer._sub_layers)
        ]
        # A buffer that holds nothing yet may be filled in place.
        self._lasts = len(beside) == len(self.transient) and all(
            _plain_state_dict(layer) for _, layer in every
        )
        self._parameters = [p for p in self.persistable.values() if hasattr(p, "optimize_attr")]
        self._seen = self._identities()

    @classmethod
    def of(cls, network: Any, optimizer: Any, trained: Trained, last: TensorLayout | None) -> TensorLayout:
        """Return ``last`` if it still holds, else a new one."""
        holds = last is not None and last._holds(network, optimizer)
        return last if last is not None and holds else cls(network, optimizer, trained)

    def _holds(self, network: Any, optimizer: Any) -> bool:
        same = self._network is network and self._optimizer is optimizer
        return same and self._lasts and self._seen == self._identities()

    def _identities(self) -> list[Any]:
        # Tensors that are gone are still held here, so that no new one can have an old one's identity.
        tensors: list[Any] = [list(map(id, part.values())) for part in self._parts]
        tensors += [list(map(id, by_owner.values())) for by_owner in self._optimizer._accumulators.values()]
        tensors.append(list(map(id, optimizer_state.masters(self._optimizer).values())))
        tensors.append([p.stop_gradient for p in self._parameters])
        return tensors


def _plain_state_dict(layer: Any) -> bool:
    """Return whether what ``state_dict()`` returns of ``layer`` is a matter of the tensors it holds alone."""
    overridden = type(layer).state_dict is not paddle.nn.Layer.state_dict
    return not (overridden or getattr(layer, "_state_dict_hooks", None))


def _changed_by_forward(network: Any, layers: list[tuple[str, Any]]) -> set[str]:
    statistics = {id(tensor) for tensor in norms.moved_by_forward(network)}
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, layer in layers
        for name, parameter in layer._parameters.items()
        if parameter is not None
        and parameter.stop_gradient
        and (id(parameter) in statistics or not type(layer).__module__.startswith("paddle.nn."))
    }
