"""Bins of piecewise-linear embeddings, cut for each member where the labels of its rows change.

The cuts are those of a small decision tree on one feature, found for all members and features at
once from counts of the classes in fine bins. The labels of the rows that a member holds out are not
used; their values are, as in the encoder.
"""

from __future__ import annotations

import numpy as np

from ..nn import NumericEmbedding
from ..nn.network import Network
from ..utils import ROUNDING, cut_rows
from .folds import Folds
from .rows import Rows

MOST_ROWS = 20_000
"""Rows that the cuts are computed from, at equal steps: more would hardly move the cuts."""

N_FINE = 256
"""Number of fine bins of equal weight; cuts lie between them."""

MOST_FEATURES = 64
"""Features whose cuts are found at once: counts for more would take much memory."""


MARGIN = 1e-3
"""Share of the range that the outer bins reach beyond it."""

NARROWEST = 1e-4
"""Width of a bin at least: in float32 steeper functions would be lost in rounding."""


def fit_bins(network: Network, params: np.ndarray, rows: Rows, folds: Folds | None) -> None:
    """Let the piecewise-linear functions of each member rise within bins of its own rows.

    Parameters
    ----------
    network : Network
        Nothing happens to one without a piecewise-linear NumericEmbedding.
    params : ndarray of shape (n_members, n_params)
        Changed in place.
    rows : Rows
        To train on.
    folds : Folds or None
        Rows that each member holds out.
    """
    piecewise: dict[str, list[int]] = {}
    for member in range(len(params)):
        for path, layer, _ in network.of_member(member).walk(network.n_in):
            if isinstance(layer, NumericEmbedding) and layer.kind == "piecewise_linear":
                piecewise.setdefault(path, []).append(member)
    for path, members in piecewise.items():
        w, b = network.layout.view(params, f"{path}w"), network.layout.view(params, f"{path}b")
        for features in cut_rows(w.shape[1], n_values=MOST_FEATURES):
            cuts = find_cuts(rows, features, w.shape[2], folds, members)
            slopes = 1.0 / np.maximum(np.diff(cuts, axis=-1), NARROWEST)
            # Functions without cuts are constant.
            w[members, features] = np.nan_to_num(slopes)
            b[members, features] = np.nan_to_num(-cuts[..., :-1] * slopes, nan=-1.0)


def find_cuts(
    rows: Rows, features: slice, n_bins: int, folds: Folds | None, members: list[int]
) -> np.ndarray:
    """Cut some features into bins, each time where it tells the classes apart best.

    A cut of a bin of weight n, of which p is of the second class, into two lowers the sum of the
    Gini impurities, each times its weight, by twice ``p_1^2 / n_1 + p_2^2 / n_2 - p^2 / n``.

    Parameters
    ----------
    rows : Rows
    features : slice
    n_bins : int
    folds : Folds or None
    members : list of int
        The members to find cuts for.

    Returns
    -------
    cuts : ndarray of shape (n_members, n_features, n_bins + 1)
        In ascending order, from a little below the least value to a little above the greatest one,
        so that no row lies where a function begins to rise. Not a number at the end, where fewer
        bins are of any use; all are for a constant feature.
    """
    edges, n, p = _count(rows, features, folds, members)
    is_cut = _choose_cuts(n, p, n_bins - 1)
    cuts = np.full((*n.shape[:2], n_bins + 1), np.nan)
    least, greatest = edges[:, 0], edges[:, -1]
    margin = MARGIN * (greatest - least)
    for member, feature in np.ndindex(n.shape[:2]):
        if margin[feature] > 0.0:
            inner = edges[feature, 1:][is_cut[member, feature]]
            ends = least[feature] - margin[feature], greatest[feature] + margin[feature]
            cuts[member, feature, : len(inner) + 2] = ends[0], *inner, ends[1]
    return cuts


def _choose_cuts(n: np.ndarray, p: np.ndarray, n_cuts: int) -> np.ndarray:
    """Say after which fine bins to cut, for the weight up to the end of each: same shapes.

    One cut after the other: that of the bin, and in the place, where it gains most.
    """
    is_cut = np.zeros(n.shape, dtype=bool)
    n_total, p_total = n[..., -1:], p[..., -1:]
    positions = np.arange(n.shape[-1])
    # Of the bin that each fine one lies in: what is before it, and what is at its end.
    n_start, p_start = np.zeros_like(n), np.zeros_like(p)
    n_end, p_end = n_start + n_total, p_start + p_total
    for _ in range(n_cuts):
        n_1, n_2, p_1, p_2 = n - n_start, n_end - n, p - p_start, p_end - p
        with np.errstate(invalid="ignore", divide="ignore"):
            gain = p_1**2 / n_1 + p_2**2 / n_2 - (p_end - p_start) ** 2 / (n_end - n_start)
        gain = np.where((n_1 > 0.0) & (n_2 > 0.0), gain, 0.0)
        best = gain.argmax(axis=-1)[..., np.newaxis]
        gain, start, n_best, p_best = np.take_along_axis(
            np.stack([gain, n_start, n, p]), best[np.newaxis], axis=-1
        )
        is_same = (n_start == start) & (gain > ROUNDING * n_total)
        is_left, is_right = is_same & (positions <= best), is_same & (positions > best)
        is_cut |= is_left & (positions == best)
        n_end, p_end = np.where(is_left, n_best, n_end), np.where(is_left, p_best, p_end)
        n_start, p_start = np.where(is_right, n_best, n_start), np.where(is_right, p_best, p_start)
    return is_cut


def _count(
    rows: Rows, features: slice, folds: Folds | None, members: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the edges of fine bins, and the weight up to each one's end, in all and of class 1.

    The shapes are (n_features, N_FINE + 1) and twice (n_members, n_features, N_FINE).
    """
    some = np.linspace(0, len(rows) - 1, min(len(rows), MOST_ROWS)).astype(np.intp)
    X = rows.X[some, features]
    n_features = X.shape[1]
    y = rows.y[some].astype(np.float64)
    weight = rows.weights[some].astype(np.float64)
    weight_of_second = weight * y
    n_folds = 1 if folds is None else len(folds.holders)
    fold = np.zeros(len(y), np.intp) if folds is None else folds.of_row[some].astype(np.intp)
    fold[fold < 0] = n_folds  # of all members
    edges = np.empty((n_features, N_FINE + 1))
    counts = np.empty((2, n_folds + 1, n_features, N_FINE))
    for j in range(n_features):
        order = X[:, j].argsort()
        x = X[order, j].astype(np.float64)
        edges[j] = _cut_finely(x, weight[order])
        starts = np.searchsorted(x, edges[j, 1:-1])  # where all fine bins but the first begin
        fine_bin = np.repeat(np.arange(N_FINE), np.diff(starts, prepend=0, append=len(x)))
        place = fold[order] * N_FINE + fine_bin
        for count, weights in zip(counts, (weight, weight_of_second), strict=True):
            of_place = np.bincount(place, weights[order], minlength=(n_folds + 1) * N_FINE)
            count[:, j] = of_place.reshape(n_folds + 1, N_FINE)
    totals = counts.sum(axis=1)
    own = np.stack([totals] * len(members), axis=1)
    if folds is not None:
        for i, member in enumerate(members):
            own[:, i] -= counts[:, np.flatnonzero(folds.holders[:, member])].sum(axis=1)
    n, p = own.cumsum(axis=-1)
    return edges, n, p


def _cut_finely(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the edges of fine bins of about equal weight, halfway between neighbouring values.

    The values are in ascending order. Where there are fewer of them than bins, the last edges are
    all the greatest one.
    """
    total = np.cumsum(weight)
    # A little less than a whole number of rows: equal weights, of any size, are to be the same.
    shares = np.arange(1, N_FINE) / N_FINE - ROUNDING
    ends = x[np.searchsorted(total, shares * total[-1])]
    ends = np.unique(ends[ends < x[-1]])
    edges = np.full(N_FINE + 1, x[-1])
    edges[0] = x[0]
    edges[1 : len(ends) + 1] = 0.5 * (ends + x[np.searchsorted(x, ends, side="right")])
    return edges
