"""Summaries of columns: their distinct values, with their weights.

Summaries of the parts of a table are merged into that of the whole. Of levels nothing is lost, nor
of numbers as long as a column has at most `SKETCH_SIZE` distinct ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

SKETCH_SIZE = 4096
"""Distinct numbers that are kept of a part, or of several parts that were merged."""


class NumberSummary(NamedTuple):
    """The numbers of a column; that of no rows by itself.

    A sketch is its rank, values in ascending order, and their weights. Sketches of the same rank
    are merged. One of more than `SKETCH_SIZE` values is cut down to so many, of equal weight, and
    has a rank more; of the sketches that a summary keeps, none has the rank of another. So each row
    goes through ``2 + log2(n_parts)`` cuts at most, each of which moves no quantile by more than
    ``1 / (2 * SKETCH_SIZE)`` of the weight that is in it.
    """

    missing: float = 0.0  # weight of missing values
    sketches: Sequence[tuple[int, np.ndarray, np.ndarray]] = ()  # in descending order of ranks

    def merge(self, part: NumberSummary) -> NumberSummary:
        """Return the summary of these rows and of a part, which has one sketch."""
        sketches, (rank, x, weights) = [*self.sketches], part.sketches[0]
        while True:
            if len(x) > SKETCH_SIZE:
                rank, (x, weights) = rank + 1, cut_down(x, weights)
            if not sketches or sketches[-1][0] > rank:
                sketches.append((rank, x, weights))
                return NumberSummary(self.missing + part.missing, sketches)
            _, others, of_others = sketches.pop()
            x, weights = collect(np.append(others, x), np.append(of_others, weights))

    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the distinct values in ascending order, and their weights."""
        if len(self.sketches) == 1:
            return self.sketches[0][1:]
        _, values, weights = zip(*self.sketches, strict=True)
        return collect(np.concatenate(values), np.concatenate(weights))


class LevelSummary(dict[Any, tuple[int, float]]):
    """How many rows each level of a category column has, and their weight; None is missing."""

    def merge(self, part: LevelSummary) -> LevelSummary:
        """Return the summary of these rows and of a part."""
        merged = LevelSummary(self)
        for level, (count, weight) in part.items():
            n_rows, total = self.get(level, (0, 0.0))
            merged[level] = (n_rows + count, total + weight)
        return merged


Summary = NumberSummary | LevelSummary


def pack_summaries(summaries: list[Summary]) -> list[Any]:
    """Return summaries as plain data."""
    return [list(s.items()) if isinstance(s, LevelSummary) else tuple(s) for s in summaries]


def unpack_summaries(packed: list[Any]) -> list[Summary]:
    """Return what `pack_summaries` has packed."""
    return [LevelSummary(s) if isinstance(s, list) else NumberSummary(*s) for s in packed]


def summarize_numbers(x: np.ndarray, weights: np.ndarray | None) -> NumberSummary:
    """Summarize numbers, of which NaN are missing; their weights are above 0, and 1 if None."""
    values, totals = collect(x, weights)
    n_values = len(values) - int(np.isnan(values[-1]))  # NaN comes last
    return NumberSummary(
        float(totals[n_values:].sum()), [(0, values[:n_values], totals[:n_values])]
    )


def summarize_levels(
    levels: list[Any], codes: np.ndarray, weights: np.ndarray | None
) -> LevelSummary:
    """Summarize a category column, with weights as for `summarize_numbers`.

    Levels that no row has do not count; the code -1 is that of missing ones.
    """
    counts = np.bincount(codes + 1, minlength=len(levels) + 1).tolist()
    totals = np.bincount(codes + 1, weights, minlength=len(levels) + 1).tolist()
    found = zip([None, *levels], zip(counts, totals, strict=True), strict=True)
    return LevelSummary((level, sums) for level, sums in found if sums[0])


def collect(x: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values of x in ascending order, and the sums of their weights."""
    if weights is None:
        return np.unique(x, return_counts=True)
    values, places = np.unique(x, return_inverse=True)
    return values, np.bincount(places, weights)


def cut_down(x: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the middles of `SKETCH_SIZE` slices of equal weight, and the weights of these."""
    totals = np.cumsum(weights)
    middles = (np.arange(SKETCH_SIZE) + 0.5) * (totals[-1] / SKETCH_SIZE)
    places, counts = np.unique(np.searchsorted(totals, middles), return_counts=True)
    return x[places], counts * (totals[-1] / SKETCH_SIZE)
