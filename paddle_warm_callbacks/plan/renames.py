"""Tables of names: how one library calls the tensors of a network that another calls otherwise.

Each is a ``rename`` for `match`: regular expression to replacement, applied one after another to the source's names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType


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


PADDLECLAS_RESNET50 = _resnet_bottleneck((3, 4, 6, 3))
PADDLECLAS_RESNET101 = _resnet_bottleneck((3, 4, 23, 3))
PADDLECLAS_RESNET152 = _resnet_bottleneck((3, 8, 36, 3))

# Batch norm's statistics. Linear weights of torch are transposed too, which no name can say: the reader does that.
TORCH_NORMS: Mapping[str, str] = MappingProxyType({r"running_mean$": "_mean", r"running_var$": "_variance"})
