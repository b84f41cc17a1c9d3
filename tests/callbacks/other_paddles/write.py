"""Write the run directory of this folder that the installed Paddle and the layout are named after.

PYTHONPATH=. python tests/callbacks/other_paddles/write.py [shards]
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import paddle

from paddle_warm_callbacks import EveryNSteps, KeepLatest, PeriodicCheckpoint
from tests.callbacks.runs import Interrupted, Losses, fit, model


def main(layout: str) -> None:
    """Train to the middle of an epoch, and leave one checkpoint."""
    suffix = "" if layout == "native" else f"-{layout}"
    run_dir = Path(__file__).with_name(f"paddle-{paddle.__version__}{suffix}")
    shutil.rmtree(run_dir, ignore_errors=True)
    saver = PeriodicCheckpoint(
        run_dir,
        save=EveryNSteps(2),
        keep=KeepLatest(1),
        metadata={"labels": ["a", "b", "c"]},
        layout=layout,
    )
    try:
        fit(model(), saver, Losses(fail_after=(1, 0)), epochs=3)
    except Interrupted:
        (run_dir / ".lock").unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else "native")
