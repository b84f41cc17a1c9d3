"""Run a user's script as ``python script.py …`` would, with every generator seeded first.

Started by ``prove`` in a process of its own. A script that seeds itself is not affected; one that does not would start
each of the compared runs from other weights, and there would be nothing to compare.
"""

from __future__ import annotations

import random
import runpy
import sys
from pathlib import Path

import numpy as np
import paddle

SEED = 20


def main() -> None:
    """Run the script named by the first argument with the rest as its own."""
    script = sys.argv[1]
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(script).resolve().parent)
    random.seed(SEED)
    np.random.seed(SEED)
    paddle.seed(SEED)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
