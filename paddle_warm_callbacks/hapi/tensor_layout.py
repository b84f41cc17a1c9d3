"""Where a run's tensors are: enumerated once, and again only when one has come or gone.

Walking a ResNet50 and its optimizer takes a millisecond, as long as a twentieth of the copy of everything it holds, and
looking whether anything has changed a third of that. A save that training is not to feel cannot afford the one, and has
the other done by the thread that copies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import chain, compress
from operator import attrgetter, is_, methodcaller
from typing import Any, NamedTuple

import paddle

from paddle_warm_callbacks.checkpoint.contents import Elsewhere
from paddle_warm_callbacks.hapi import freezing, norms, optimizer_state
from paddle_warm_callbacks.hapi.trained import Trained

# An Elsewhere stands for what another rank has copied.
Arrays = dict[str, Any]

# What a copy is kept under: a persistable buffer and a parameter of an optimizer's have the same structured name.
_MODEL, _EXTRA = "model@", "extra@"
_values, _frozen = methodcaller("values"), attrgetter("stop_gradient")


class Arranged(NamedTuple):
    """Copies of a run's tensors, by what they are; not to be changed, for later saves get the same dictionaries.

    Attributes:
        model: By structured name, as ``network.state_dict()``.
        optimizer: See :func:`optimizer_state.native_arrays`.
        extra: By structured name, what ``state_dict()`` leaves out.
    """

    model: Arrays
    optimizer: dict[str, Any]
    extra: Arrays


class TensorLayout:
    """The tensors of a network, of its loss and of their optimizer, by name.

    Args:
        network: The Layer.
        optimizer: Its optimizer.
        trained: The network and the loss.

    Attributes:
        persistable: ``network.state_dict()``: parameters and persistable buffers, by structured name.
        transient: Other buffers, and all of the loss, by structured name.
        slots: Accumulators and master weights.
        key_table: See :func:`optimizer_state.key_table`.
        generated_names: Paddle's own name of each tensor in ``persistable``.
        digest: Of names, shapes and dtypes of ``persistable`` and of the loss's tensors.
        named: All of these tensors, each under a name of its own: what a checkpoint copies.
        volatile: Which of ``named`` a forward pass may change in place: buffers, running statistics, and tensors that
            are not trained in layers other than Paddle's own. What else there is, only an optimizer changes so.
        in_loss: The loss's parameters, by name.
        averaged: Structured names of the network's parameters that an optimizer may move: by gradients averaged over
            all ranks of a run, on each of which they are the same.
        same_on_ranks: Those of ``named`` that are the same on all ranks: parameters; what the optimizer has of them.
    """

    def __init__(self, network: Any, optimizer: Any, trained: Trained) -> None:
        self._network = network
        self._optimizer = optimizer
        self.persistable: dict[str, Any] = dict(network.state_dict())
        buffers = dict(network.named_buffers())
        beside = trained.beside_the_model()
        self.transient = {name: tensor for name, tensor in beside.items() if tensor._is_initialized()}
        moved_by_forward = set(map(id, norms.moved_by_forward(network)))
        self.in_loss = trained.parameters_of_loss()
        self._trained = {
            name: parameter
            for name, parameter in trained.named_parameters()
            if id(parameter) not in moved_by_forward
        }
        self._parameters = list(self._trained.values())
        self.slots = tuple(optimizer_state.slots(trained, optimizer))
        self.key_table = optimizer_state.key_table(self.slots)
        hashed = {**self.persistable, **trained.of_loss()}
        shapes = sorted((name, tuple(t.shape), str(t.dtype)) for name, t in hashed.items())
        self.digest = hashlib.sha256(repr(shapes).encode()).hexdigest()[:16]
        self.generated_names = {name: tensor.name for name, tensor in self.persistable.items()}
        self.named: Mapping[str, Any] = {
            **{_MODEL + name: tensor for name, tensor in self.persistable.items()},
            **{_slot_name(slot): slot.tensor for slot in self.slots},
            **{_EXTRA + name: tensor for name, tensor in self.transient.items()},
        }
        layers = list(network.named_sublayers(include_self=True))
        changed = buffers.keys() | _changed_by_forward(layers, moved_by_forward)
        self.volatile = frozenset({_MODEL + name for name in changed} | {_EXTRA + n for n in self.transient})
        self.averaged = frozenset(freezing.trainable_sizes(network))
        self.same_on_ranks = (
            [_MODEL + name for name in self.persistable if name in self.averaged],
            [_slot_name(slot) for slot in self.slots if slot.parameter in self.averaged],
        )
        self._layers = [layer for _, layer in (*layers, *trained.layers_of_loss())]
        self._parts = [
            part for layer in self._layers for part in (layer._parameters, layer._buffers, layer._sub_layers)
        ]
        # A buffer that holds nothing yet may be filled in place.
        self._lasts = len(beside) == len(self.transient) and all(map(_plain_state_dict, self._layers))
        self._of_own_layers = [
            p
            for layer in self._layers
            if not _is_paddles(layer)
            for p in layer._parameters.values()
            if p is not None
        ]
        self._arranged: tuple[Arrays, Arranged] | None = None
        self._frozen = list(map(_frozen, self._of_own_layers))
        self._in_optimizer = list(self._owned())
        self._in_layers = self._layers_identities()

    @classmethod
    def of(
        cls,
        network: Any,
        optimizer: Any,
        trained: Trained,
        last: TensorLayout | None,
        *,
        glance: bool = False,
    ) -> TensorLayout:
        """Return ``last`` if it still holds, else a new one.

        Args:
            network: The Layer.
            optimizer: Its optimizer.
            trained: The network and the loss.
            last: One made earlier, or None.
            glance: Look only whether the optimizer holds others, as it does when a layer has been thawed; whether the
                layers do is left to :meth:`holds`.
        """
        if last is not None and last._is_of(network, optimizer) and (glance or last._holds_entirely()):
            return last
        return cls(network, optimizer, trained)

    def holds(self) -> bool:
        """Return whether the layers hold the same tensors still; on any thread."""
        try:
            return self._in_layers == self._layers_identities()
        except RuntimeError:  # a dictionary is just changing its size
            return False

    def take_with_gradient(self) -> Callable[[], list[str]]:
        """Find out which parameters have a gradient, be it zero; return what names them, on any thread."""
        # Called by the class: to look the method up on each of them takes longer than to call it.
        gradients = map(paddle.Tensor._grad_ivar, self._parameters)
        found = [gradient is not None for gradient in gradients]
        return lambda: list(compress(self._trained, found))

    def _is_of(self, network: Any, optimizer: Any) -> bool:
        same = self._network is network and self._optimizer is optimizer and self._lasts
        return same and all(map(is_, self._in_optimizer, self._owned())) and self._as_many_owned()

    def _holds_entirely(self) -> bool:
        return self._frozen == list(map(_frozen, self._of_own_layers)) and self.holds()

    # What is gone is still held here, layers and tensors, so that nothing new can have an old one's identity.

    def _owned(self) -> Iterable[Any]:
        """Yield what the optimizer holds: compared as it comes, no number made of it, for a save to be over soon."""
        owned = chain.from_iterable(map(_values, self._optimizer._accumulators.values()))
        return chain(owned, optimizer_state.masters(self._optimizer).values())

    def _as_many_owned(self) -> bool:
        held = sum(map(len, self._optimizer._accumulators.values()))
        return held + len(optimizer_state.masters(self._optimizer)) == len(self._in_optimizer)

    def _layers_identities(self) -> list[Any]:
        return [
            list(map(len, self._parts)),
            list(chain.from_iterable(self._parts)),
            list(map(id, chain.from_iterable(map(_values, self._parts)))),
        ]

    def arranged(self, copied: Arrays) -> Arranged:
        """Return the copies of ``named``, under the same names, by what they are; what is missing is an Elsewhere."""
        if self._arranged is None or self._arranged[0] is not copied:
            held = {name: copied[name] if name in copied else Elsewhere(name) for name in self.named}
            by_slot = {(slot.parameter, slot.kind): held[_slot_name(slot)] for slot in self.slots}
            parts = Arranged(
                {name: held[_MODEL + name] for name in self.persistable},
                optimizer_state.native_arrays(self.slots, by_slot),
                {name: held[_EXTRA + name] for name in self.transient},
            )
            self._arranged = copied, parts
        return self._arranged[1]


def _slot_name(slot: optimizer_state.Slot) -> str:
    return f"optimizer@{slot.kind}@{slot.parameter}"


def _plain_state_dict(layer: Any) -> bool:
    """Return whether what ``state_dict()`` returns of ``layer`` is a matter of the tensors it holds alone."""
    overridden = type(layer).state_dict is not paddle.nn.Layer.state_dict
    return not (overridden or getattr(layer, "_state_dict_hooks", None))


def _is_paddles(layer: Any) -> bool:
    return type(layer).__module__.startswith("paddle.nn.")


def _changed_by_forward(layers: list[tuple[str, Any]], statistics: Collection[int]) -> set[str]:
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, layer in layers
        for name, parameter in layer._parameters.items()
        if parameter is not None
        and (id(parameter) in statistics or (parameter.stop_gradient and not _is_paddles(layer)))
    }
