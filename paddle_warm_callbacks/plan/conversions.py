"""How other libraries write down a network that Paddle has too: other names, and matrices the other way round."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Conversion:
    """What makes one library's tensors another's.

    Attributes:
        rename: Regular expression to replacement, applied (``re.sub``) to each name, one after another.
        dropped: Regular expressions; tensors of such names (before renaming) have no counterpart.
        linear_transposed: The weights of linear layers are [out, in] there and [in, out] in Paddle.
    """

    rename: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    dropped: tuple[str, ...] = ()
    linear_transposed: bool = False

    def names(self, names: Iterable[str]) -> dict[str, str]:
        """Return old name to new, in order, without those that are dropped.

        >>> CONVERSIONS["torch"].names(["bn1.running_mean", "bn1.num_batches_tracked"])
        {'bn1.running_mean': 'bn1._mean'}
        """
        found = {}
        for name in names:
            if any(re.search(pattern, name) for pattern in self.dropped):
                continue
            renamed = name
            for pattern, replacement in self.rename.items():
                renamed = re.sub(pattern, replacement, renamed)
            found[name] = renamed
        return found


def _resnet_bottleneck(blocks: Sequence[int]) -> Mapping[str, str]:
    """Return PaddleClas names to ``paddle.vision`` names for a ResNet with ``blocks`` blocks in its four stages."""
    table = {r"^stem\.0\.conv\.": "conv1.", r"^stem\.0\.bn\.": "bn1."}
    number = 0
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            table[rf"^blocks\.{number}\."] = f"layer{stage}.{block}."
            number += 1
    for part in (0, 1, 2):  # of a bottleneck, from 1 in paddle.vision
        table[rf"^(layer\d\.\d+)\.conv{part}\.conv\."] = rf"\1.conv{part + 1}."
        table[rf"^(layer\d\.\d+)\.conv{part}\.bn\."] = rf"\1.bn{part + 1}."
    table[r"\.short\.conv\."] = ".downsample.0."
    table[r"\.short\.bn\."] = ".downsample.1."
    return MappingProxyType(table)


# By the name users give. A network must be built of the same layers: nothing here splits torch's in_proj_weight.
CONVERSIONS: Mapping[str, Conversion] = MappingProxyType(
    {
        "torch": Conversion(
            rename=MappingProxyType({r"running_mean$": "_mean", r"running_var$": "_variance"}),
            dropped=(r"num_batches_tracked$",),
            linear_transposed=True,
        ),
        "paddleclas-resnet50": Conversion(_resnet_bottleneck((3, 4, 6, 3))),
        "paddleclas-resnet101": Conversion(_resnet_bottleneck((3, 4, 23, 3))),
        "paddleclas-resnet152": Conversion(_resnet_bottleneck((3, 8, 36, 3))),
    }
)
