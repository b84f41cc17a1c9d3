"""Training scripts that try a resume: each draws, counts or iterates where a simpler one does not.

Each is what a user may well have. The package enters at one place, ``Fit``; all else is plain Paddle. Run again with
the same arguments a script resumes.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

import numpy as np
import paddle

from tests.exact_resume import users_draws, users_evaluations, users_loaders
from tests.exact_resume.cells import Cell
from tests.exact_resume.leave_out import ITEMS_OF_USERS, leave_out
from tests.exact_resume.recording import final_state
from tests.exact_resume.users_fit import SCRIPTS as SCRIPTS
from tests.exact_resume.users_fit import Fit

MODULES = (users_evaluations, users_draws, users_loaders)  # which have added theirs to SCRIPTS


def main(arguments: list[str]) -> None:
    """Run one script in ``--out``; write its steps as it goes and its final state when it is done."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--script", choices=SCRIPTS, required=True)
    parser.add_argument("--cell", type=Cell.from_json, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", required=True, help="name of the file of steps in --out")
    parser.add_argument("--with", dest="added", choices=["nothing", "ours"], required=True)
    parser.add_argument("--kill", action="store_true", help="die at the cell's moment, in the last fit")
    parser.add_argument("--leave-out", choices=ITEMS_OF_USERS, help="do not restore this item of the state")
    chosen = parser.parse_args(arguments)
    random.seed(1)
    np.random.seed(2)
    paddle.seed(3)
    if chosen.leave_out:
        leave_out(chosen.leave_out)
    chosen_script = SCRIPTS[chosen.script]
    fit = Fit(
        chosen.cell,
        chosen.out,
        chosen.out / chosen.steps,
        chosen.added,
        chosen_script.fits if chosen.kill else 0,
    )
    made = chosen_script.run(fit)
    np.savez(chosen.out / "final.npz", **final_state(made, list(fit.callbacks)))


if __name__ == "__main__":
    main(sys.argv[1:])
