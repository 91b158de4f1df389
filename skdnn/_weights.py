"""Weights of rows, of which only the ratios count: what the encoder sums up does not depend on
their unit, nor on the order of the rows.
"""

from __future__ import annotations

import numpy as np

ROUNDING = 1e-9
"""Sums of weights that differ by less than this share are equal, however they were rounded."""


def order_rows(weights: np.ndarray | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the rows of weight above 0 in ascending order of their weights, and these.

    No order stands for all rows as they are, and no weights stand for equal ones. The largest is
    brought near 1 by a power of two, which rounds nothing, so that no sum overflows or vanishes.
    """
    if weights is None:
        return None, None
    order = np.argsort(weights, kind="stable")  # so that no sum depends on the order of the rows
    order = order[np.count_nonzero(weights == 0.0) :]
    weights = weights[order]
    if weights[0] == weights[-1]:
        return order, None
    return order, np.ldexp(weights, -np.frexp(weights[-1])[1])


def find_share(is_in: np.ndarray, weights: np.ndarray | None) -> float:
    """Return how much of the weight is in some rows, from 0 to 1."""
    if weights is None:
        return float(np.count_nonzero(is_in) / len(is_in))
    return float(weights[is_in].sum() / weights.sum())
