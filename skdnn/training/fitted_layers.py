"""What layers take from the labels before training: bins of numbers, statistics of categories.

Bins of piecewise-linear embeddings are cut for each member where the labels of its rows change. The
cuts are those of a small decision tree on one feature, found for all members and features at once
from counts of the classes in fine bins. The labels of the rows that a member holds out are not
used; their values are, as in the encoder.

Target encoding: an embedding of a level of few rows overfits. Two numbers are computed for each
level instead from a member's own rows, and stand in a lookup table that training does not change.
No row of training sees its own label in them: rows are in parts, and the codes of a part read a
table of all other parts. New rows, whose codes are as the encoder makes them, read the table of all
rows.
"""

from __future__ import annotations

import numpy as np

from ..nn import CategoricalEmbedding, NumericEmbedding
from ..nn.network import Network
from ..utils import ROUNDING, cut_rows
from .rows import Rows
from .state import TrainingState, make_stream

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

N_PARTS = 5
"""Parts of the rows; 10 and 20 are no better."""

N_TABLES = 1 + N_PARTS
"""Tables of a column, one after the other: of all rows, and for each part of all others."""

N_STATISTICS = 2
"""Numbers for each level."""

SMOOTHING = 2.0
"""Rows with the mean of all labels that are added to those of each level; 1 to 6 are as good."""


def fit_bins(network: Network, params: np.ndarray, rows: Rows) -> None:
    """Let the piecewise-linear functions of each member rise within bins of its own rows.

    Parameters
    ----------
    network : Network
        Nothing happens to one that does not begin with a piecewise-linear NumericEmbedding; others
        have inputs that are no columns of the table.
    params : ndarray of shape (n_members, n_params)
        Changed in place.
    rows : Rows
        To train on.
    """
    piecewise: dict[str, list[int]] = {}
    for member in range(len(params)):
        layers = network.of_member(member).walk(network.n_in)
        path, first, _ = next(item for item in layers if not any(item[1].children(item[2])))
        if isinstance(first, NumericEmbedding) and first.kind == "piecewise_linear":
            piecewise.setdefault(path, []).append(member)
    some = np.linspace(0, len(rows) - 1, min(len(rows), MOST_ROWS)).astype(np.intp)
    y, weight = rows.y[some].astype(np.float64), rows.weights[some].astype(np.float64)
    own = np.tile(weight, (len(params), 1))
    if rows.is_held_out is not None:
        own[rows.is_held_out[:, some]] = 0.0
    for path, members in piecewise.items():
        w, b = network.layout.view(params, f"{path}w"), network.layout.view(params, f"{path}b")
        for features in cut_rows(w.shape[1], n_values=MOST_FEATURES):
            cuts = find_cuts(rows.X[some, features], y, weight, own[members], w.shape[2])
            slopes = 1.0 / np.maximum(np.diff(cuts, axis=-1), NARROWEST)
            # Functions without cuts are constant.
            w[members, features] = np.nan_to_num(slopes)
            b[members, features] = np.nan_to_num(-cuts[..., :-1] * slopes, nan=-1.0)


def find_cuts(
    X: np.ndarray, y: np.ndarray, weight: np.ndarray, own: np.ndarray, n_bins: int
) -> np.ndarray:
    """Cut features into bins, each time where it tells the classes apart best.

    A cut of a bin of weight n, of which p is of the second class, into two lowers the sum of the
    Gini impurities, each times its weight, by twice ``p_1^2 / n_1 + p_2^2 / n_2 - p^2 / n``.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    y, weight : ndarray of shape (n_samples,)
    own : ndarray of shape (n_members, n_samples)
        The weights, and zeros for rows that a member holds out.
    n_bins : int

    Returns
    -------
    cuts : ndarray of shape (n_members, n_features, n_bins + 1)
        In ascending order, from a little below the least value to a little above the greatest one,
        so that no row lies where a function begins to rise. Not a number at the end, where fewer
        bins are of any use; all are for a constant feature.
    """
    n_members, n_features = len(own), X.shape[1]
    cuts = np.full((n_members, n_features, n_bins + 1), np.nan)
    edges, own = np.empty((n_features, N_FINE + 1)), np.stack([own, own * y])
    totals = np.empty((2, n_members, n_features, N_FINE))  # up to the end of each fine bin
    for j in range(n_features):
        order = X[:, j].argsort()
        x = X[order, j].astype(np.float64)
        edges[j] = _cut_finely(x, weight[order])
        ends, place = np.unique([*x.searchsorted(edges[j, 1:-1]), len(x)], return_inverse=True)
        in_bins = np.add.reduceat(own.take(order, axis=-1), [0, *ends[:-1]], axis=-1)
        totals[:, :, j] = in_bins.cumsum(axis=-1)[..., place]
    is_cut = _choose_cuts(totals[0], totals[1], n_bins - 1)
    margin = MARGIN * (edges[:, -1] - edges[:, 0])
    for member, j in np.ndindex(n_members, n_features):
        if margin[j] > 0.0:
            inner = edges[j, 1:][is_cut[member, j]]
            first, last = edges[j, 0] - margin[j], edges[j, -1] + margin[j]
            cuts[member, j, : len(inner) + 2] = first, *inner, last
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


def fit_target_encoding(
    network: Network,
    columns: tuple[int, ...],
    state: TrainingState,
    rows: Rows,
) -> None:
    """Fill the tables of each member by the rows that it learns from, and let codes name parts.

    Parameters
    ----------
    network : Network
        Its first embeddings that are not trainable are filled.
    columns : tuple of int
        The columns of codes that these look up.
    state : TrainingState
        Its parameters are changed in place, those that are kept too.
    rows : Rows
        To learn from; codes of part k become ``code + (1 + k) * size`` in place.
    """
    if not columns:
        return
    tables = (  # from left to right; a layer of the user's own may have more
        (f"{path}E_{j}", size // N_TABLES)
        for path, layer, _ in network.of_member(0).walk(network.n_in)
        if isinstance(layer, CategoricalEmbedding) and not layer.trainable
        for j, size in enumerate(layer.sizes, start=1)
    )
    part = _choose_parts(rows, make_stream(state.seed, "parts"))
    weight = rows.weights.astype(np.float64)
    kept = [a for a in (state.params, state.ema_params, state.final_params) if a is not None]
    for column, (name, size) in zip(columns, tables, strict=False):
        place = part * size + rows.X[:, column].astype(np.intp)
        for member in range(network.n_members):
            own = weight if rows.is_held_out is None else weight * ~rows.is_held_out[member]
            n, s = (
                leave_out(np.bincount(place, w, minlength=N_PARTS * size).reshape(N_PARTS, size))
                for w in (own, own * rows.y)
            )
            for params in kept:
                table = network.layout.view(params, name)[member]
                table[...] = describe_levels(n, s).reshape(table.shape)
        rows.X[:, column] = place + size


def _choose_parts(rows: Rows, rng: np.random.Generator) -> np.ndarray:
    """Return the part of each row, the same for a group if there are more groups than parts."""
    unit = np.arange(len(rows))
    if rows.group is not None and rows.group.max() >= N_PARTS:
        unit = rows.group
    return rng.permutation(unit.max() + 1)[unit] % N_PARTS


def leave_out(counts: np.ndarray) -> np.ndarray:
    """Add up the counts of all parts, and those of all parts but one: (1 + n_parts, n_levels)."""
    others = [np.delete(counts, k, axis=0).sum(axis=0) for k in range(len(counts))]
    return np.stack([counts.sum(axis=0), *others])


def describe_levels(n: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Return two numbers for each level, of which n rows have labels that sum to s.

    With p the mean of all labels and a = `SMOOTHING`, they are how far the smoothed log-odds of the
    level are from those of all, ``log((s + a p) / (n - s + a (1 - p))) - log(p / (1 - p))``, and
    how much of this is known, ``n / (n + a)``. Both are 0 for a level without rows.

    Parameters
    ----------
    n, s : ndarray of shape (n_tables, n_levels)

    Returns
    -------
    statistics : ndarray of shape (n_tables, n_levels, 2)

    References
    ----------
    D. Micci-Barreca, "A preprocessing scheme for high-cardinality categorical attributes in
    classification and prediction problems", SIGKDD Explorations 3, 2001.
    """
    # By the rule of succession, so that p is neither 0 nor 1.
    p = (s.sum(axis=1, keepdims=True) + 1.0) / (n.sum(axis=1, keepdims=True) + 2.0)
    odds = (s + SMOOTHING * p) / (n - s + SMOOTHING * (1.0 - p))
    return np.stack([np.log(odds) - np.log(p / (1.0 - p)), n / (n + SMOOTHING)], axis=-1)
