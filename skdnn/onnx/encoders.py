"""Encoders of tables as nodes, in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..estimator.encoders import Encoder, OwnEncoder
from ..preprocessing import TabularEncoder
from ..preprocessing.categories import FIRST_LEVEL, MISSING, UNKNOWN, Category
from ..preprocessing.scaling import ENDLESS, LARGE, SATURATION, Scaling, SparseScaler
from . import MISSING_STRING
from .graph import BOOL, DOUBLE, FLOAT, STRING, Graph, Input, is_unicode

READ_AS_MISSING = (MISSING_STRING, "None", "nan", "<NA>")
"""That, and what onnxruntime makes of None, NaN and pandas' NA in an array of objects."""


class Columns:
    """The columns of a table as tensors.

    Parameters
    ----------
    graph : Graph
    inputs : sequence of Input
        From left to right.
    n_columns : int
        How many columns they must have together.

    Raises
    ------
    ValueError
        If they have another number of them.
    """

    def __init__(self, graph: Graph, inputs: Sequence[Input], n_columns: int) -> None:
        self._graph, self._inputs = graph, inputs
        found = sum(tensor.n_columns for tensor in inputs)
        if found != n_columns:
            raise ValueError(
                f"The inputs must have the {n_columns} columns that the model was fitted to, got "
                f"{found}; change initial_types."
            )

    def numbers(self, columns: Sequence[int]) -> str:
        """Return some columns, in ascending order, as one tensor of float64."""
        parts, start = [], 0
        for tensor in self._inputs:
            own = [j - start for j in columns if start <= j < start + tensor.n_columns]
            start += tensor.n_columns
            if not own:
                continue
            if tensor.type == STRING:
                raise ValueError(
                    f"The input {tensor.name!r} must be a tensor of numbers, as in the fit of the "
                    "model, and not of strings."
                )
            part = tensor.name
            if len(own) < tensor.n_columns:
                part = self._graph.node("Gather", part, np.array(own), axis=1)
            parts.append(part if tensor.type == DOUBLE else self._graph.cast(part, DOUBLE))
        return self._graph.concat(parts, axis=1)

    def strings(self, column: int) -> str:
        """Return a column of strings, (n_samples, 1)."""
        for tensor in self._inputs:
            if column < tensor.n_columns:
                break
            column -= tensor.n_columns
        if tensor.type != STRING:
            raise ValueError(
                f"The input {tensor.name!r} must be a tensor of strings, as in the fit of the "
                "model, and not of numbers."
            )
        if tensor.n_columns == 1:
            return tensor.name
        return self._graph.node("Gather", tensor.name, np.array([column]), axis=1)

    def zeros(self, n_columns: int) -> str:
        """Return columns of zeros."""
        n_samples = self._graph.node("Shape", self._inputs[0].name)
        n_samples = self._graph.node("Gather", n_samples, np.array([0]))
        shape = self._graph.concat([n_samples, self._graph.constant(np.array([n_columns]))], axis=0)
        return self._graph.node("Expand", np.zeros((1, 1)), shape)


def write_encoder(
    graph: Graph, encoder: Encoder, inputs: Sequence[Input], n_features: int
) -> tuple[str, str | None]:
    """Write the matrix that enters the network, in float64.

    Parameters
    ----------
    graph : Graph
    encoder : TabularEncoder, SparseScaler, OwnEncoder or None
        Fitted. What an OwnEncoder returns is the input.
    inputs : sequence of Input
    n_features : int
        Of the table that `encoder` was fitted to.

    Returns
    -------
    matrix : str
        The tensor (n_samples, n_in).
    numbers : str or None
        Numbers of the table that have to be finite: NaN or infinity among them is an error of our
        own models. None if there are none.

    Raises
    ------
    ValueError
        If the inputs do not suit the encoder, or if a column has levels that cannot be written.
    """
    if isinstance(encoder, OwnEncoder):
        n_features = len(encoder._marks)
    columns = Columns(graph, inputs, n_features)
    if isinstance(encoder, TabularEncoder):
        return _write_tabular(graph, encoder, columns)
    x = matrix = columns.numbers(range(n_features))
    if isinstance(encoder, SparseScaler):
        scaled = _clip_smoothly(graph, graph.node("Div", x, encoder.sizes_), LARGE)
        matrix = graph.node("Where", np.isfinite(encoder.sizes_), scaled, x)
    elif isinstance(encoder, OwnEncoder) and encoder._order is not None:
        matrix = graph.node("Gather", x, encoder._order, axis=1)
    return matrix, x


def _write_tabular(
    graph: Graph, encoder: TabularEncoder, columns: Columns
) -> tuple[str, str | None]:
    parts, places = [], []
    if encoder._numeric:
        x, scaling = columns.numbers(encoder._numeric), encoder._scaling
        is_missing = graph.node("IsNaN", x)
        parts.append(_write_numbers(graph, scaling, x, is_missing))
        places += encoder._places
        if encoder._missing_places:
            of_flags = np.flatnonzero(scaling.has_missing)
            flags = graph.node("Gather", graph.cast(is_missing, DOUBLE), of_flags, axis=1)
            parts.append(graph.node("Sub", flags, scaling.missing[of_flags]))
            places += encoder._missing_places
    for j, category in encoder._categories.items():
        row = _write_row(graph, category, columns, j, find_type(encoder, j))
        parts.append(graph.node("GatherND", category.table, row))
        places += range(len(encoder.source_features_))[encoder._category_places[j]]
    empty = sorted(set(range(len(encoder.source_features_))) - set(places))
    if empty:  # columns without any value in `fit`
        parts.append(columns.zeros(len(empty)))
    matrix, order = graph.concat(parts, axis=1), np.argsort(places + empty)
    if (np.diff(order) != 1).any():
        matrix = graph.node("Gather", matrix, order, axis=1)
    of_numbers = [j for j in encoder._categories if find_type(encoder, j) == DOUBLE]
    read = sorted([*encoder._numeric, *of_numbers])
    if not read:
        return matrix, None
    numbers = columns.numbers(read)
    return matrix, graph.node("Where", graph.node("IsNaN", numbers), 0.0, numbers)


def _write_numbers(graph: Graph, scaling: Scaling, x: str, is_missing: str) -> str:
    """Write `Scaling.encode`."""
    u = graph.node("Div", graph.node("Sub", x, scaling.center), scaling.spread)
    encoded = _clip_smoothly(graph, u, SATURATION)
    if scaling.is_step.any():
        step = graph.node("Sub", graph.node("Clip", u, 0.0, 1.0), scaling.mean)
        encoded = graph.node("Where", scaling.is_step, graph.node("Mul", step, 2.0), encoded)
    return graph.node("Where", is_missing, 0.0, encoded)


def _clip_smoothly(graph: Graph, u: str, limit: float) -> str:
    """Write ``u / sqrt(1 + (u / limit)^2)``."""
    u = graph.node("Clip", u, -ENDLESS, ENDLESS)
    share = graph.node("Mul", u, 1.0 / limit)
    square = graph.node("Add", graph.node("Mul", share, share), 1.0)
    return graph.node("Div", u, graph.node("Sqrt", square))


def find_type(encoder: TabularEncoder, column: int) -> int:
    """Return the type of tensor that holds a column: strings, or numbers as float64.

    Raises
    ------
    ValueError
        If no tensor holds its levels.
    """
    category = encoder._columns[column]
    if not isinstance(category, Category):
        return DOUBLE
    if category.is_empty:  # and never read
        return STRING
    types, levels, reason = sorted(category.types), category.levels, ""
    if types == ["str"]:
        if MISSING_STRING in levels:
            reason = f"{MISSING_STRING!r}, which stands for a missing value"
        elif not all(map(is_unicode, levels)):
            reason = "that UTF-8 cannot write"
        else:
            return STRING
    elif types != ["number"]:
        reason = f"of the types {', '.join(types)}, and tensors hold either strings or numbers"
    elif len(set(map(float, levels))) < len(levels):
        reason = "that are numbers too close to each other for float64"
    else:
        return DOUBLE
    raise ValueError(
        f"Column {encoder._labels[column]!r} cannot be written as ONNX: it has levels {reason}. "
        "Give it other names of levels, all of them strings, before fit."
    )


def _write_row(graph: Graph, category: Category, columns: Columns, column: int, kind: int) -> str:
    """Write the row of its table for each value of a category, (n_samples, 1)."""
    rows = {level: row for row, level in enumerate(category.levels, FIRST_LEVEL)}
    if kind == STRING:
        keys = dict.fromkeys(READ_AS_MISSING, MISSING) | rows
        return graph.node(
            "LabelEncoder",
            columns.strings(column),
            domain="ai.onnx.ml",
            keys_strings=list(keys),
            values_int64s=list(keys.values()),
            default_int64=UNKNOWN,
        )
    x = columns.numbers([column])
    others = graph.node("Where", graph.node("IsNaN", x), np.array(MISSING), np.array(UNKNOWN))
    if not rows:
        return others
    is_level = graph.cast(graph.node("Equal", x, np.array([*rows], np.float64)), FLOAT)
    row = graph.node("Add", graph.node("ArgMax", is_level, axis=1), np.array(FIRST_LEVEL))
    is_known = graph.cast(graph.node("ReduceSum", is_level, np.array([1]), keepdims=1), BOOL)
    return graph.node("Where", is_known, row, others)
