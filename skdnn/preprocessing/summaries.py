"""Summaries of columns: their distinct values, with their weights.

Summaries of the parts of a table are merged into that of the whole. Of levels nothing is lost, nor
of numbers as long as a column has at most `SKETCH_SIZE` distinct ones.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

SKETCH_SIZE = 4096
"""Distinct numbers that are kept of a part, or of several parts that were merged."""


class NumberSummary(NamedTuple):
    """The numbers of a column.

    A sketch is its rank, values in ascending order, and their weights. Sketches of the same rank
    are merged. One of more than `SKETCH_SIZE` values is cut down to so many, of equal weight, and
    has a rank more; of the sketches that a summary keeps, none has the rank of another. So each row
    goes through ``2 + log2(n_parts)`` cuts at most, each of which moves no quantile by more than
    ``1 / (2 * SKETCH_SIZE)`` of the weight that is in it.
    """

    missing: float  # weight of missing values
    sketches: list[tuple[int, np.ndarray, np.ndarray]]  # in descending order of ranks

    @classmethod
    def empty(cls) -> NumberSummary:
        """Return the summary of no rows."""
        return cls(0.0, [])

    def merge(self, part: NumberSummary, unit: float) -> NumberSummary:
        """Return the summary of these rows and of a part, one sketch with weights in this unit."""
        sketches, (rank, x, weights) = [*self.sketches], part.sketches[0]
        weights = weights if unit == 1.0 else weights * unit
        while True:
            if len(x) > SKETCH_SIZE:
                rank, (x, weights) = rank + 1, cut_down(x, weights)
            if not sketches or sketches[-1][0] > rank:
                sketches.append((rank, x, weights))
                return NumberSummary(self.missing + part.missing * unit, sketches)
            _, others, of_others = sketches.pop()
            x, weights = collect(np.append(others, x), np.append(of_others, weights))

    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the distinct values in ascending order, and their weights."""
        if len(self.sketches) == 1:
            return self.sketches[0][1:]
        _, values, weights = zip(*self.sketches, strict=True)
        return collect(np.concatenate(values), np.concatenate(weights))


class LevelSummary(NamedTuple):
    """The levels of a category column; the first entry of each array is for missing ones."""

    levels: list[Any]
    counts: np.ndarray  # (1 + n_levels,), rows
    totals: np.ndarray  # (1 + n_levels,), their weights

    @classmethod
    def empty(cls) -> LevelSummary:
        """Return the summary of no rows."""
        return cls([], np.zeros(1, np.intp), np.zeros(1))

    def merge(self, part: LevelSummary, unit: float) -> LevelSummary:
        """Return the summary of these rows and of a part, whose weights are in this unit."""
        places = {level: place for place, level in enumerate(self.levels, 1)}
        of_part = [0, *(places.setdefault(level, len(places) + 1) for level in part.levels)]
        counts, totals = np.zeros(len(places) + 1, np.intp), np.zeros(len(places) + 1)
        counts[: len(self.counts)], totals[: len(self.totals)] = self.counts, self.totals
        counts[of_part] += part.counts
        totals[of_part] += part.totals * unit
        return LevelSummary(list(places), counts, totals)


Summary = NumberSummary | LevelSummary


class Parts(NamedTuple):
    """What an encoder keeps of the parts of a table that it was fitted to."""

    summaries: dict[int, Any]  # column -> Summary
    unit: float  # of weights: a power of two next to those of the first part
    told: list[tuple[str, int]]  # warnings that were given, and their columns

    def pack(self) -> dict[str, Any]:
        """Return plain data."""
        summaries = [tuple(self.summaries[j]) for j in range(len(self.summaries))]
        return {"summaries": summaries, "unit": self.unit, "told": self.told}

    @classmethod
    def unpack(cls, packed: dict[str, Any]) -> Parts:
        """Return what was packed."""
        columns = enumerate(packed["summaries"])
        kinds = {2: NumberSummary, 3: LevelSummary}  # by the number of their fields
        summaries = {j: kinds[len(column)](*column) for j, column in columns}
        return cls(summaries, packed["unit"], packed["told"])


NO_PARTS = Parts({}, 1.0, [])
"""Before the first part."""


def summarize_numbers(x: np.ndarray, weights: np.ndarray | None) -> NumberSummary:
    """Summarize numbers, of which NaN are missing; x may be sorted.

    `weights` are above 0, in ascending order, and None for as many ones.
    """
    is_missing = np.isnan(x)
    n_missing = np.count_nonzero(is_missing)
    if weights is None:
        x.sort()  # in place, missing values last: a large table leaves no room for copies
        sketch = count_equal(x[: len(x) - n_missing])
        return NumberSummary(float(n_missing), [(0, *sketch)])
    values, totals = collect(x[~is_missing], weights[~is_missing])
    return NumberSummary(float(weights[is_missing].sum()), [(0, values, totals)])


def summarize_levels(
    levels: list[Any], codes: np.ndarray, weights: np.ndarray | None
) -> LevelSummary:
    """Summarize a category column, with weights as for `summarize_numbers`.

    Levels that no row has do not count; the code -1 is that of missing ones.
    """
    n_codes = len(levels) + 1
    counts = np.bincount(codes + 1, minlength=n_codes)
    totals = np.bincount(codes + 1, weights, minlength=n_codes)
    found = np.flatnonzero(counts[1:]).tolist()
    places = [0, *(code + 1 for code in found)]
    return LevelSummary([levels[code] for code in found], counts[places], totals[places])


def collect(x: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values of x in ascending order, and the sums of their weights."""
    order = np.argsort(x, kind="stable")
    x, weights = x[order], weights[order]
    starts = np.flatnonzero(find_starts(x))
    return x[starts], np.add.reduceat(weights, starts)


def count_equal(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values of a sorted array, and how often each occurs."""
    is_start = find_starts(x)
    if is_start.all():
        return x, np.broadcast_to(1.0, len(x))
    starts = np.flatnonzero(is_start)
    counts = np.full(len(starts), float(len(x)))
    counts[:-1] = starts[1:]
    counts -= starts
    return x[starts], counts


def find_starts(x: np.ndarray) -> np.ndarray:
    """Say of each value of a sorted array whether it is the first of those that equal it."""
    is_start = np.ones(len(x), dtype=bool)
    is_start[1:] = x[1:] != x[:-1]
    return is_start


def cut_down(x: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the middles of `SKETCH_SIZE` slices of equal weight, and the weights of these."""
    totals = np.cumsum(weights)
    middles = (np.arange(SKETCH_SIZE) + 0.5) * (totals[-1] / SKETCH_SIZE)
    places, counts = np.unique(np.searchsorted(totals, middles), return_counts=True)
    return x[places], counts * (totals[-1] / SKETCH_SIZE)
