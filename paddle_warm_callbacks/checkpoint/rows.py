"""The rows of a head's tensor copied by label."""

from __future__ import annotations

import numpy as np

from paddle_warm_callbacks.checkpoint.numbers import Array, dtype_of, exact, rounded
from paddle_warm_callbacks.plan.transplant import RowMap


def transplanted(target: Array, source: Array, rows: RowMap, new_rows: str) -> Array:
    """Return ``target`` with the rows of ``rows`` copied from ``source``, and new ones filled as ``new_rows`` says.

    Args:
        target: What rows without an origin keep if ``new_rows`` is "init"; left as it is.
        source: Of the same dtype.
        rows: Which row comes from where.
        new_rows: "init", "zero", or "mean" of the old labels' rows in the same place.
    """
    filled = np.moveaxis(target.copy(), rows.axis, 0)
    old = np.moveaxis(source, rows.axis, 0)
    for index, origin in rows.pairs:
        filled[index] = old[origin]
    for index, peers in zip(rows.new, rows.peers):
        if new_rows == "zero":
            filled[index] = 0
        elif new_rows == "mean" and peers:
            filled[index] = rounded(exact(old[list(peers)]).mean(axis=0), dtype_of(target))
    return np.ascontiguousarray(np.moveaxis(filled, 0, rows.axis))
