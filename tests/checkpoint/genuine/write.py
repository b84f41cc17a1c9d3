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
