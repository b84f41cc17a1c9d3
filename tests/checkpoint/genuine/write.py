"""Write files with Paddle, for tests that read them without it: ``python tests/checkpoint/genuine/write.py <folder>``.

The files in this folder were written by it, under Paddle 2.6.2, 3.0.0 and 3.3.1.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np


def arrays() -> dict[str, np.ndarray[Any, Any]]:
    """Return one array of each kind that a network holds; bfloat16 as its bits."""
    ramp = np.arange(12, dtype=np.float32).reshape(3, 4) / 7
    return {
        "float32": ramp,
        "float64": ramp.astype(np.float64),
        "float16": ramp.astype(np.float16),
        "bfloat16": (np.arange(12, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16),
        "int64": np.arange(5) - 2,
        "int8": np.arange(3, dtype=np.int8) - 1,
        "bool": np.array([True, False, True]),
        "complex64": (ramp + 1j).astype(np.complex64),
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "large": np.arange(5000, dtype=np.float32),
    }


def expected() -> dict[str, Any]:
    """Return what reading each file should give, by the file's stem."""
    some = arrays()
    return {
        "state": some,
        "optimizer": {
            "linear_0.w_0_moment1_0": some["float32"],
            "LR_Scheduler": {
                "last_epoch": 3,
                "last_lr": 0.1,
                "verbose": False,
                "other": None,
                "list": [1, -2, 2**40],
            },
        },
        "master": {
            "linear_0.w_0_fp32_master_0_moment1_0": some["float32"],
            "master_weights": {"linear_0.w_0": some["float32"]},
            "LR_Scheduler": {"last_epoch": 3, "last_lr": 0.1},
        },
        "nested": {
            "list": [some["float32"], 3, "é", (1, 2.5)],
            "plain": some["int64"],
            "rate": np.float64(0.1),
        },
        "tensor": some["float32"],
    }


def inference_weights() -> dict[str, np.ndarray[Any, Any]]:
    """Return the weights of the network that is exported for inference, by structured name."""
    shapes = {
        "conv.weight": (4, 3, 3, 3), "bn.weight": (4,), "bn.bias": (4,), "bn._mean": (4,), "bn._variance": (4,),
        "fc.weight": (4, 5), "fc.bias": (5,), "scale": (1,),
    }  # fmt: skip
    random = np.random.RandomState(0)
    return {name: random.rand(*shape).astype(np.float32) for name, shape in shapes.items()}


def inference_network() -> Any:
    """Return the network, with those weights."""
    import paddle

    class Net(paddle.nn.Layer):  # type: ignore[misc]  # Paddle is untyped
        def __init__(self) -> None:
            super().__init__()
            self.conv = paddle.nn.Conv2D(3, 4, 3, bias_attr=False)
            self.bn = paddle.nn.BatchNorm2D(4)
            self.fc = paddle.nn.Linear(4, 5)
            self.register_buffer("scale", paddle.zeros([1]))

        def forward(self, x: Any) -> Any:
            return self.fc(self.bn(self.conv(x)).mean([2, 3])) * self.scale

    network = Net()
    network.set_state_dict(inference_weights())
    return network


def export(folder: Path) -> None:
    """Write that network's inference model."""
    import paddle

    network = inference_network()
    network.eval()
    spec = [paddle.static.InputSpec([None, 3, 8, 8], "float32")]
    paddle.jit.save(
        paddle.jit.to_static(network, input_spec=spec, full_graph=True), str(folder / "inference")
    )
    program = folder / "inference.pdmodel"
    if program.exists():
        program.write_bytes(_without_call_stacks(program.read_bytes()))


def _without_call_stacks(program: bytes) -> bytes:
    """Leave out where each operator was made: paths of the machine that exports."""
    from paddle.base.proto import framework_pb2

    described = framework_pb2.ProgramDesc.FromString(program)
    for block in described.blocks:
        for operator in block.ops:
            kept = [attribute for attribute in operator.attrs if attribute.name != "op_callstack"]
            del operator.attrs[:]
            operator.attrs.extend(kept)
    data: bytes = described.SerializeToString(deterministic=True)
    return data


def main(folder: Path) -> None:
    """Write every file with the Paddle that is installed, in protocols 2, 3 and 4."""
    import paddle

    some = arrays()

    def tensor(name: str, kind: str = "float32") -> Any:
        exact = some["bfloat16"].astype(np.uint32) << 16
        made = paddle.to_tensor(exact.view(np.float32) if kind == "bfloat16" else some[kind])
        made = made.astype("bfloat16") if kind == "bfloat16" else made
        made.name = name
        return made

    objects = expected()
    objects["state"] = {kind: tensor(f"generated_{kind}", kind) for kind in some}
    objects["tensor"] = tensor("w")
    objects["nested"]["list"][0] = tensor("w")
    for stem in ("optimizer", "master"):
        for key, value in objects[stem].items():
            if isinstance(value, np.ndarray):
                objects[stem][key] = tensor(key)
    objects["master"]["master_weights"]["linear_0.w_0"] = tensor("linear_0.w_0_fp32_master_0")
    for protocol in (2, 3, 4):
        for stem, value in objects.items():
            paddle.save(value, str(folder / f"{stem}-{protocol}.pdparams"), protocol=protocol)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    export(Path(sys.argv[1]))
