"""What a model trains: its network, and its loss, which may be a Layer with parameters and buffers of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import paddle

from paddle_warm_callbacks.hapi import freezing

# No structured name of a network has this sign.
_LOSS = "loss@"


class Trained:
    """Name all parameters of a ``paddle.Model``: those of its loss, ``loss@scale``, behind the network's.

    A model's file holds the network alone, for other tools; what the loss has is saved beside it.
    """

    def __init__(self, model: Any) -> None:
        self._network = model.network
        self._loss = model._loss if isinstance(model._loss, paddle.nn.Layer) else paddle.nn.Layer()

    def named_parameters(self) -> Iterator[tuple[str, Any]]:
        """Yield each parameter with its name."""
        yield from self._network.named_parameters()
        for name, parameter in self._loss.named_parameters():
            yield _LOSS + name, parameter

    def beside_the_model(self) -> dict[str, Any]:
        """Return, by name, the tensors that ``network.state_dict()`` lacks, as far as they hold anything yet."""
        persistable = self._network.state_dict()
        tensors = {name: t for name, t in self._network.named_buffers() if name not in persistable}
        of_loss = {**dict(self._loss.named_buffers()), **self._loss.state_dict()}
        tensors.update((_LOSS + name, tensor) for name, tensor in of_loss.items())
        return {name: tensor for name, tensor in tensors.items() if tensor is not None}

    def of_loss(self) -> dict[str, Any]:
        """Return the loss's tensors by name."""
        return {name: t for name, t in self.beside_the_model().items() if name.startswith(_LOSS)}

    def layers_of_loss(self) -> list[tuple[str, Any]]:
        """Return the loss and the Layers in it, each with its name."""
        return list(self._loss.named_sublayers(include_self=True))

    def parameters_of_loss(self) -> dict[str, Any]:
        """Return the loss's parameters by name; their gradients the next step adds to: hapi clears the network's."""
        return {_LOSS + name: parameter for name, parameter in self._loss.named_parameters()}

    def trained_in_loss(self) -> dict[str, Any]:
        """Return the loss's parameters that an optimizer moves, by name.

        They are outside of DataParallel, which is around the network: on several ranks nobody averages their gradients.
        """
        return {_LOSS + name: p for name, p in self._loss.named_parameters() if not p.stop_gradient}

    def same_on_all_ranks(self) -> dict[str, Any]:
        """Return, by name, the parameters that must be the same on all ranks: each moves by an averaged gradient."""
        movable = freezing.trainable_sizes(self._network)
        of_network = {name: p for name, p in self._network.named_parameters() if name in movable}
        return {**of_network, **self.trained_in_loss()}

    def strangers(self, optimizer: Any) -> list[str]:
        """Return Paddle's names of the parameters that ``optimizer`` updates and that are in neither."""
        ours = {parameter.name for _, parameter in self.named_parameters()}
        return [p.name for p in optimizer._parameter_list or () if p.name not in ours]
