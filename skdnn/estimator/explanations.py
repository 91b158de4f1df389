"""Contributions of features to the logit of an estimator, gradients, and their integrals.

Contributions are integrals along the path from a background row to a row. The path is straight in
what the first hidden layer reads: numbers, flags and embeddings of a table are treated alike there,
and what follows is smooth, so that few points are enough.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
from scipy.sparse import csr_array, issparse
from sklearn.utils.validation import check_array

from ..nn import (
    Branch,
    CategoricalEmbedding,
    Concatenate,
    Context,
    Dense,
    FeatureScaling,
    Layer,
    Network,
    NumericEmbedding,
    Params,
    Sequential,
)
from ..preprocessing import TabularEncoder
from ..preprocessing.columns import make_dense, take_table
from ..training.prediction import Predictor, average_gradients, find_shares
from ..training.rows import Rows
from ..training.threads import limit_blas_threads
from ..utils import check_feature_names_in, cut_rows, fill_masked, find_stack_level
from .encoders import FLOATS, Encoder, OwnEncoder, encode
from .tables import name_in_errors, read_table, take_from

FEWEST_POINTS, MOST_POINTS, FEWEST_FOR_A_ROW = 8, 128, 64
"""Points on the path from a background row to a row, at first and at last, and from all of them."""

TOLERANCE, SMALLEST = 5e-3, 1e-4
"""Share of the sum of the absolute contributions, and logits, that they may miss the difference by
before the number of points is doubled."""

LINEAR = (Dense, FeatureScaling)
"""Layers behind which a straight path is straight: the sums of a first layer are computed once."""

PAIRS_AT_ONCE = 512
"""Pairs of a row and a background row in a block."""

SAMPLE_ROWS, SAMPLE_BACKGROUND, SAMPLE_POINTS = 128, 16, 4
"""Training rows that importances are taken from, how many of them are the background, and points
on the path between two."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """What each feature contributes to the logit of each row.

    ``values.sum(axis=1) + base_values`` is the logit, as `decision_function` returns it.

    Parameters
    ----------
    values : ndarray of shape (n_samples, n_features)
        The contributions, in logits: above 0 where the value of the feature speaks for
        ``classes_[1]``.
    base_values : ndarray of shape (n_samples,)
        The mean logit of the background, the same for each row.
    data : ndarray of shape (n_samples, n_features)
        The rows as they were given; of objects where they are not all numbers.
    feature_names : list of str
        The names of the features; x0, x1, ... where the table in `fit` had none.

    See Also
    --------
    DeepBinaryClassifier.explain : Makes one.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from skdnn import DeepBinaryClassifier
    >>> X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    >>> model = DeepBinaryClassifier(max_iter=5, random_state=0).fit(X, y)
    >>> explanation = model.explain(X[:3])
    >>> explanation.values.shape, explanation.feature_names[0]
    ((3, 30), 'mean radius')
    """

    values: np.ndarray
    base_values: np.ndarray
    data: np.ndarray
    feature_names: list[str]

    def to_shap(self) -> Any:
        """Return the same as a `shap.Explanation`, for the plots of that library.

        Returns
        -------
        explanation : shap.Explanation
            With the same values, base values, data and feature names.

        Raises
        ------
        ImportError
            If shap is not installed.
        """
        try:
            import shap
        except ImportError as error:
            raise ImportError(
                "to_shap needs the package shap, which draws its plots. Install it with "
                "`pip install skdnn[shap]`; values, base_values, data and feature_names are here "
                "without it."
            ) from error
        return shap.Explanation(
            self.values, self.base_values, self.data, feature_names=self.feature_names
        )


@limit_blas_threads(0)
def explain(estimator: Any, X: Any, background: Any) -> Explanation:
    """Return the contributions of `DeepBinaryClassifier.explain`."""
    encoder, predictor, params = estimator._encoder, estimator._predictor, estimator.params_
    matrix = _read_dense(estimator, X)
    reference = np.zeros((1, matrix.shape[1]), matrix.dtype)
    if background is not None:
        with name_in_errors("background"):
            reference = _read_dense(estimator, background)

    logits, base = (
        predictor.average(params, take_from(rows), rows.shape, estimator.n_jobs)
        for rows in (matrix, reference)
    )
    differences = logits - base.mean()
    paths = Paths(predictor, params)
    starts, values = paths.embed(reference), np.empty(matrix.shape)
    for rows in cut_rows(len(matrix), len(reference), PAIRS_AT_ONCE):
        values[rows] = paths.share_out(starts, paths.embed(matrix[rows]), differences[rows])
    _warn_of_rest(differences - values.sum(axis=1))
    names, data = check_feature_names_in(estimator).tolist(), _read_data(X)
    if isinstance(encoder, OwnEncoder):
        names, data = encoder.name_columns(), matrix
    by_feature = _sum_by_feature(values, encoder, len(names)) / estimator.temperature_
    base_values = np.full(len(data), base.mean() / estimator.temperature_)
    return Explanation(by_feature, base_values, data, names)


def _read_data(X: Any) -> np.ndarray:
    """Return a table as an array, whose numbers do not become strings beside others."""
    X = take_table(X)
    data = np.asarray(X)
    return np.array(X, dtype=object) if data.dtype.kind in "US" else data


def sample_rows(encoder: Encoder, rows: Rows) -> dict[str, np.ndarray]:
    """Return training rows to compute importances from, if features can be traced to columns.

    Rows are drawn at equal steps of the cumulative weight.
    """
    if isinstance(encoder, OwnEncoder) or issparse(rows.X):
        return {}
    totals, n_rows = np.cumsum(rows.weights, dtype=np.float64), min(len(rows), SAMPLE_ROWS)
    index = np.searchsorted(totals, (np.arange(n_rows) + 0.5) / n_rows * totals[-1])
    return {"_rows_to_explain": rows.X[index]}


@limit_blas_threads(0)
def find_importances(estimator: Any) -> None:
    """Compute importances from the rows that are kept for that, if there are any; delete these."""
    rows = getattr(estimator, "_rows_to_explain", None)
    if rows is None:
        return
    paths = Paths(estimator._predictor, estimator.params_)
    ends = paths.embed(rows)
    every = -(-len(rows) // SAMPLE_BACKGROUND)
    values = paths.integrate(ends[:, ::every], ends, SAMPLE_POINTS) / estimator.temperature_
    values = _sum_by_feature(values, estimator._encoder, estimator.n_features_in_)
    estimator._importances = np.abs(values).mean(axis=0)
    vars(estimator).pop("_rows_to_explain", None)  # unless another thread has done so


def read_importances(estimator: Any) -> np.ndarray:
    """Return `feature_importances_`, found when first asked for.

    Raises
    ------
    AttributeError
        If no training rows were kept.
    """
    find_importances(estimator)
    if not hasattr(estimator, "_importances"):
        raise AttributeError(
            "There is no feature_importances_ after partial_fit and from_mlp, for sparse tables, "
            "and with an encoder of your own, which does not say what it makes of which feature. "
            "Take explain, or sklearn.inspection.permutation_importance."
        )
    return estimator._importances


class Paths:
    """The paths of all members through a network, side by side.

    They are straight behind the embedding, whose units are each made of one column, and so behind
    the linear layers that follow, too. An end of a path is its units and what these layers make of
    them, side by side: an array of shape (n_members, n_rows, n_units + n_sums).

    Parameters
    ----------
    predictor : Predictor
    params : ndarray of shape (n_members, n_params)
    """

    def __init__(self, predictor: Predictor, params: np.ndarray) -> None:
        network = predictor.network
        self._network, self._params = network, params
        columns = find_columns(network.layers[0], network.n_in)
        self._columns = np.arange(network.n_in) if columns is None else columns
        self._n_first = n_linear = 0 if columns is None else 1
        while type(network.layers[n_linear]) in LINEAR and n_linear + 1 < len(network.layers):
            n_linear += 1
        self._n_linear = n_linear
        behind, self._params_behind = skip_layers(network, params, n_linear)
        self._predictor = Predictor(behind, predictor.executor)

    def _members(self) -> Iterator[tuple[Sequential, Sequential, Params]]:
        """Yield the embedding of each member, the linear layers behind it, and the parameters."""
        layout = self._network.layout
        for member, own in enumerate(self._params):
            layers = self._network.of_member(member).layers
            p = layout.unflatten(own[: layout.n_trainable], own[layout.n_trainable :])
            linear = Sequential(layers[self._n_first : self._n_linear])
            yield Sequential(layers[: self._n_first]), linear, p

    def embed(self, X: np.ndarray) -> np.ndarray:
        """Return rows as the ends of paths."""
        # BLAS multiplies a single row by another routine. It rounds differently, and equal values
        # of a row and a background row would differ: so the single row is taken twice.
        rows = X if len(X) > 1 else np.repeat(X, 2, axis=0)
        rows, ends = rows.astype(self._params.dtype, copy=False), []
        for embedding, linear, p in self._members():
            units = embedding.forward(rows, p, Context())
            ends.append(np.hstack([units, linear.forward(units, p, Context())])[: len(X)])
        return np.stack(ends)

    def share_out(
        self, starts: np.ndarray, ends: np.ndarray, differences: np.ndarray
    ) -> np.ndarray:
        """Return what each column contributes to the differences of the logits of some rows.

        As many points are taken as it needs; the little that then is left is shared out in
        proportion. Rows in which it is more are left as they are.
        """
        values = np.zeros((len(differences), self._network.n_in))
        is_open = np.ones(len(values), dtype=bool)
        n_points = max(FEWEST_POINTS, FEWEST_FOR_A_ROW // starts.shape[1])
        while is_open.any() and n_points <= MOST_POINTS:
            values[is_open] = self.integrate(starts, ends[:, is_open], n_points)
            rest, sizes = differences - values.sum(axis=1), np.abs(values).sum(axis=1)
            is_open = ~(np.abs(rest) <= TOLERANCE * sizes + SMALLEST)
            n_points *= 2
        share = np.where(is_open, 0.0, rest) / np.maximum(sizes, np.finfo(np.float64).tiny)
        return values + share[:, np.newaxis] * np.abs(values)

    def integrate(self, starts: np.ndarray, ends: np.ndarray, n_points: int) -> np.ndarray:
        """Return what each column contributes, in the mean over the starts: (n_ends, n_columns).

        ``(end - start) * integral of gradient(start + t (end - start)) dt`` for t from 0 to 1, by
        the quadrature of Gauss and Legendre, and summed over the units of each column.
        """
        n_units, n_ends = len(self._columns), ends.shape[1]
        nodes, weights = np.polynomial.legendre.leggauss(n_points)
        total = np.zeros((n_ends, n_units))
        for part in cut_rows(starts.shape[1], n_ends, PAIRS_AT_ONCE):
            start = starts[:, np.newaxis, part]
            delta = ends[:, :, np.newaxis] - start  # (n_members, n_ends, n_starts, ...)
            pairs = (len(delta), delta.shape[1] * delta.shape[2], -1)
            sums, way = start[..., n_units:], delta[..., n_units:]
            slopes: Any = 0.0
            for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):  # in (-1, 1)
                points = (sums + (0.5 + 0.5 * node) * way).reshape(pairs)
                logits, grads = self._predictor.input_gradients(self._params_behind, points)
                slopes += 0.5 * weight * find_shares(logits)[:, :, np.newaxis] * grads
            moves = delta[..., :n_units].reshape(pairs)
            for (_, linear, p), slope, move in zip(self._members(), slopes, moves, strict=True):
                slope = linear.backward(slope, move, p, Context())[0]
                total += (move * slope).reshape(n_ends, -1, n_units).sum(axis=1)
        return _sum_by(total / starts.shape[1], self._columns, self._network.n_in)


def skip_layers(network: Network, params: np.ndarray, n: int) -> tuple[Network, np.ndarray]:
    """Return a network without its first layers, and its parameters."""
    children = list(Sequential(network.layers).children(network.n_in))[n:]
    names, columns = [name for name, *_ in children], network.layout.columns
    kept = [c for path, c in columns.items() if path.partition(".")[0] in names]
    params = np.hstack([params[:, :0], *(params[:, c] for c in kept)])
    layers, others, n_in = network.layers[n:], network.other_layers[n:], children[0][2]
    return replace(network, layers=layers, other_layers=others, n_in=n_in), params


def find_columns(layer: Layer, n_in: int) -> np.ndarray | None:
    """Return, for each unit of a layer, the column that it is made of; None if it is of several."""
    branches = layer.branches if isinstance(layer, Concatenate) else (Branch(n_in, (layer,)),)
    found, start = [], 0
    for branch in branches:
        columns = np.arange(start, start + branch.n_columns)
        start += branch.n_columns
        match branch.layers:
            case ():
                found.append(columns)
            case (NumericEmbedding() as embedding,):  # which passes the numbers on, too
                found += [np.repeat(columns, embedding.n_units), columns]
            case (CategoricalEmbedding() as embedding,):
                found.append(np.repeat(columns, embedding.n_units))
            case _:
                return None
    return np.concatenate(found)


def _sum_by(values: np.ndarray, sources: np.ndarray, n_sources: int) -> np.ndarray:
    """Add up the columns that come from each source: (n_rows, n) -> (n_rows, n_sources)."""
    n = len(sources)
    return values @ csr_array((np.ones(n), (np.arange(n), sources)), shape=(n, n_sources))


def _sum_by_feature(values: np.ndarray, encoder: Encoder, n_features: int) -> np.ndarray:
    """Add up the columns that an encoder makes of each feature, where it says of which."""
    sources = getattr(encoder, "source_features_", None)
    return values if sources is None else _sum_by(values, sources, n_features)


def _read_dense(estimator: Any, X: Any) -> np.ndarray:
    """Return the matrix that enters the network; an encoder of the user's may make a sparse one."""
    matrix = read_table(estimator, X, estimator._encoder, accept_sparse=False)
    return matrix.toarray() if issparse(matrix) else matrix


def _warn_of_rest(rest: np.ndarray) -> None:
    """Warn of rows whose contributions do not add up."""
    n_open = np.count_nonzero(~(np.abs(rest) <= SMALLEST))
    if n_open:
        warnings.warn(
            f"The contributions of {n_open} of {len(rest)} rows miss the difference of the logits, "
            f"by {np.nanmax(np.abs(rest)):.3g} at most: {MOST_POINTS} points on the path from a "
            "background row do not do. Smooth activations, such as 'silu', take fewer; a layer of "
            "your own that looks up embeddings has no gradient.",
            UserWarning,
            stacklevel=find_stack_level(),
        )


def input_gradients(estimator: Any, X: Any, method: str, baseline: Any, steps: Any) -> np.ndarray:
    """Return the gradients of `DeepBinaryClassifier.input_gradients`."""
    encoder, predictor = estimator._encoder, estimator._predictor
    if isinstance(encoder, OwnEncoder):
        raise ValueError(
            f"input_gradients cannot see through the encoder {encoder.encoder!r}. Take `explain`, "
            "which answers by the columns that it makes; or put it before the classifier in a "
            "pipeline, and ask for gradients at the encoded rows."
        )
    X = make_dense(take_table(X))  # once, as it is read twice
    matrix = read_table(estimator, X, encoder, accept_sparse=False)
    dtype = np.result_type(matrix.dtype, estimator.params_)
    matrix, params = matrix.astype(dtype), estimator.params_.astype(dtype, copy=False)
    slopes = _read_slopes(encoder, X)

    def gradient(rows: np.ndarray) -> np.ndarray:
        return average_gradients(*predictor.input_gradients(params, rows)) / estimator.temperature_

    if method == "gradient":
        if baseline is not None:
            raise ValueError("baseline is for method='integrated'; method='gradient' has none.")
        values = gradient(matrix) * slopes
    elif method == "integrated":
        is_category = np.isnan(slopes[0])
        start = _encode_baseline(encoder, baseline, estimator.n_features_in_, is_category)
        way = np.where(is_category, 0.0, matrix - start).astype(dtype)
        values = integrate_gradients(gradient, matrix, way, steps)
        values[:, np.broadcast_to(is_category, way.shape[1:])] = np.nan
    else:
        raise ValueError(f"method must be 'gradient' or 'integrated', got {method!r}.")
    return _sum_by_feature(values, encoder, estimator.n_features_in_).astype(dtype, copy=False)


def _read_slopes(encoder: Encoder, X: Any) -> np.ndarray:
    """Return how fast each column that enters the network changes with its feature, NaN if not."""
    if encoder is None:
        return np.ones((1, 1))
    if not isinstance(encoder, TabularEncoder):
        X = check_array(X, dtype=FLOATS)
    return encoder._input_slopes(X)


def _encode_baseline(
    encoder: Encoder, baseline: Any, n_features: int, is_category: np.ndarray
) -> np.ndarray:
    """Return a baseline as it enters the network; None is zeros there, the median row."""
    if baseline is None:
        return np.zeros(len(is_category))
    start = np.array(fill_masked(baseline), dtype=object)
    is_read = np.ones(n_features, dtype=bool)
    if isinstance(encoder, TabularEncoder):
        is_read[encoder.source_features_[is_category]] = False
    numbers = np.full(n_features, np.nan)
    if start.shape == numbers.shape:
        with name_in_errors("baseline"):
            numbers[is_read] = start[is_read].astype(np.float64)
    if start.shape != numbers.shape or not np.isfinite(numbers[is_read]).all():
        raise ValueError(
            f"baseline must be one finite number for each of the {n_features} features, but for "
            f"categories, of which it is not read, got an array of shape {start.shape}."
        )
    row = numbers if is_read.all() else numbers.astype(object)
    return encode(encoder, row[np.newaxis])[0]


def integrate_gradients(
    gradient: Callable[[np.ndarray], np.ndarray], ends: np.ndarray, way: np.ndarray, steps: Any
) -> np.ndarray:
    """Return the mean gradient on the path to each row, times the way that it goes.

    ``(x - x') * mean_k gradient(x' + (k + 1/2) / steps (x - x'))``: the midpoint rule.
    """
    if not isinstance(steps, Integral) or steps < 1:
        raise ValueError(f"steps must be an integer of at least 1, got {steps!r}.")
    n_steps, total = int(steps), np.zeros(ends.shape)
    for k in range(n_steps):
        total += gradient(ends - way * ((n_steps - k - 0.5) / n_steps))
    return way * (total / n_steps)
