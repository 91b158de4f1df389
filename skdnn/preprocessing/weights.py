"""Weights of rows for the encoder, whose sums depend neither on their unit nor on their order."""

from __future__ import annotations

import numpy as np


def order_rows(weights: np.ndarray | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the rows of weight above 0 in ascending order of their weights, and these.

    An order of None stands for all rows as they are, and weights of None for equal ones. The
    largest weight is brought near 1 by a power of two, so that no sum overflows or vanishes. A
    weight that becomes 0 by that is too small beside the largest to change any sum.
    """
    if weights is None:
        return None, None
    weights = np.ldexp(weights, -np.frexp(weights.max())[1])
    order = np.argsort(weights, kind="stable")  # so that no sum depends on the order of the rows
    order = order[np.count_nonzero(weights == 0.0) :]
    weights = weights[order]
    return order, None if weights[0] == weights[-1] else weights


def find_share(is_in: np.ndarray, weights: np.ndarray | None) -> float:
    """Return how much of the weight is in some rows, from 0 to 1."""
    if weights is None:
        return float(np.count_nonzero(is_in) / len(is_in))
    return float(weights[is_in].sum() / weights.sum())
