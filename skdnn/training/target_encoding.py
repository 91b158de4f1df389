"""Target encoding: what a member's own rows say of the target for each level of a category.

An embedding of a level of few rows overfits. Two numbers are computed for each level instead, and
stand in a lookup table that training does not change. No row of training sees its own label in
them: rows are in parts, and the codes of a part read a table of all other parts. New rows, whose
codes are as the encoder makes them, read the table of all rows.
"""

from __future__ import annotations

import numpy as np

from ..nn import CategoricalEmbedding
from ..nn.network import Network
from .rows import Rows, Selection
from .state import TrainingState, make_stream

N_PARTS = 5
"""Parts of the rows; 10 and 20 are no better."""

N_TABLES = 1 + N_PARTS
"""Tables of a column, one after the other: of all rows, and for each part of all others."""

N_STATISTICS = 2
"""Numbers for each level."""

SMOOTHING = 2.0
"""Rows with the mean of all labels that are added to those of each level; 1 to 6 are as good."""


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
    is_selected = isinstance(rows.X, Selection)
    X, index = (rows.X.table, rows.X.index) if is_selected else (rows.X, slice(None))
    weight = rows.weights.astype(np.float64)
    kept = [a for a in (state.params, state.ema_params, state.final_params) if a is not None]
    for column, (name, size) in zip(columns, tables, strict=False):
        place = part * size + X[index, column].astype(np.intp)
        for member in range(network.n_members):
            own = weight if rows.is_held_out is None else weight * ~rows.is_held_out[member]
            n, s = (
                leave_out(np.bincount(place, w, minlength=N_PARTS * size).reshape(N_PARTS, size))
                for w in (own, own * rows.y)
            )
            for params in kept:
                table = network.layout.view(params, name)[member]
                table[...] = describe_levels(n, s).reshape(table.shape)
        X[index, column] = place + size


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
