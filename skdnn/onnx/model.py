"""A fitted classifier as nodes, from its columns to labels and probabilities.

Tables are encoded in float64.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from onnx import ModelProto, helper

from .. import __version__
from ..estimator.encoders import Encoder, OwnEncoder
from ..preprocessing import TabularEncoder
from ..preprocessing.categories import FIRST_LEVEL, MISSING, UNKNOWN, Category
from ..preprocessing.scaling import ENDLESS, LARGE, SATURATION, Scaling, SparseScaler
from ..utils import check_feature_names_in
from . import MISSING_STRING
from .network import (
    BOOL,
    DOUBLE,
    FLOAT,
    INT64,
    LARGEST_INT64,
    ML_OPSET,
    OPSET,
    STRING,
    Graph,
    write_network,
)

LABEL, PROBABILITIES = "label", "probabilities"
"""The names of the outputs."""

READ_AS_MISSING = (MISSING_STRING, "None", "nan", "<NA>")
"""That, and what onnxruntime makes of None, NaN and pandas' NA in an array of objects."""


class Input(NamedTuple):
    """A tensor of some columns of a table, (n_samples, n_columns)."""

    name: str
    type: int  # of TensorProto
    n_columns: int


def make_model(model: Any) -> ModelProto:
    """Return the whole model of a classifier whose encoder is one of ours."""
    inputs, classes = describe_inputs(model), read_classes(model.classes_)
    prefix = "skdnn"
    while any(tensor.name.startswith(prefix) for tensor in inputs):
        prefix += "_"
    graph = Graph(prefix, [], [])
    logits = write_classifier(graph, model, inputs, classes)
    graph.node("Sigmoid", logits, name=PROBABILITIES)
    label_type = {"i": INT64, "f": DOUBLE, "b": BOOL, "U": STRING}[classes.dtype.kind]
    outputs = [
        helper.make_tensor_value_info(LABEL, label_type, ["n_samples"]),
        helper.make_tensor_value_info(PROBABILITIES, DOUBLE, ["n_samples", 2]),
    ]
    tensors = [
        helper.make_tensor_value_info(name, kind, ["n_samples", n_columns])
        for name, kind, n_columns in inputs
    ]
    proto = helper.make_model_gen_version(
        helper.make_graph(graph.nodes, type(model).__name__, tensors, outputs, graph.initializers),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
    )
    sign(proto, model)
    return proto


def sign(proto: ModelProto, model: Any) -> None:
    """Write the producer, its version and the names of the features into a model."""
    proto.producer_name, proto.producer_version = "skdnn", __version__
    names = check_feature_names_in(model).tolist()
    helper.set_model_props(proto, {"feature_names": json.dumps(names)})


def is_unicode(text: str) -> bool:
    """Say whether a text can be written in UTF-8, as ONNX does: without lone surrogates."""
    return text.encode("utf-8", "ignore").decode() == text


def read_classes(classes: np.ndarray) -> np.ndarray:
    """Return the classes in a dtype that a tensor has.

    Raises
    ------
    ValueError
        If they are neither integers of 64 bits nor floats, booleans or strings.
    """
    labels = classes.tolist()
    if classes.dtype == object and len(set(map(type, labels))) == 1:
        classes = np.array(labels)
    kind = classes.dtype.kind
    # An array of strings leaves out NULs at their end.
    is_text = kind == "U" and classes.tolist() == labels and all(map(is_unicode, labels))
    if kind == "b" or is_text:
        return classes
    if kind in "iuf" and (kind != "u" or classes.max() <= LARGEST_INT64):
        return classes.astype(np.float64 if kind == "f" else np.int64)
    raise ValueError(
        "The classes must be integers of 64 bits, floats, booleans or strings of UTF-8 without a "
        f"NUL at the end to be written as ONNX, got {labels!r}."
    )


def describe_inputs(model: Any) -> list[Input]:
    """Return the inputs of a model: one for all columns, or one for each if some hold strings."""
    encoder, n_features = model._encoder, model.n_features_in_
    types: list[int] = [DOUBLE] * n_features
    if isinstance(encoder, TabularEncoder):
        types = [find_type(encoder, j) for j in range(n_features)]
    if STRING not in types:
        return [Input("X", DOUBLE, n_features)]
    names = check_feature_names_in(model).tolist()
    unfit = {
        name
        for name in names
        if name in (LABEL, PROBABILITIES, "") or not is_unicode(name) or names.count(name) > 1
    }
    if unfit:
        raise ValueError(
            "Columns become inputs of their names, which must be texts of UTF-8 that are not "
            "empty and differ from each other and from the outputs "
            f"{LABEL!r} and {PROBABILITIES!r}; rename {sorted(unfit)!r} before fit."
        )
    return [Input(name, kind, 1) for name, kind in zip(names, types, strict=True)]


def find_type(encoder: TabularEncoder, column: int) -> int:
    """Return the type of tensor that holds a column: strings, or numbers as float64.

    Raises
    ------
    ValueError
        If no tensor holds its levels.
    """
    category = encoder._categories.get(column)
    if category is None:
        return DOUBLE
    if category.is_empty:  # and never read
        return STRING
    types, levels, reason = sorted(category.types), category.levels, ""
    if types not in (["str"], ["number"]):
        reason = f"of the types {', '.join(types)}, and tensors hold either strings or numbers"
    elif MISSING_STRING in levels:
        reason = f"{MISSING_STRING!r}, which stands for a missing value"
    elif types == ["str"] and not all(map(is_unicode, levels)):
        reason = "that UTF-8 cannot write"
    elif types == ["number"] and len(set(map(float, levels))) < len(levels):
        reason = "that are numbers too close to each other for float64"
    if reason:
        raise ValueError(
            f"Column {encoder._labels[column]!r} cannot be written as ONNX: it has levels "
            f"{reason}. Give it other names of levels, all of them strings, before fit."
        )
    return STRING if types == ["str"] else DOUBLE


def write_classifier(
    graph: Graph, model: Any, inputs: list[Input], classes: np.ndarray, label: str = LABEL
) -> str:
    """Write a fitted classifier, from its columns to a tensor of the name `label`.

    Returns
    -------
    logits : str
        The tensor (n_samples, 2) of float64 of which the probabilities are the sigmoid.
    """
    matrix, numbers = write_encoder(graph, model._encoder, inputs, model.n_features_in_)
    x = graph.cast(matrix, DOUBLE if model.params_.dtype == np.float64 else FLOAT)
    logits = graph.cast(write_network(graph, model._predictor.network, model.params_, x), DOUBLE)
    if len(model.params_) == 1:  # whose logit may be too large for a probability below 1
        logit = graph.node("ReduceSum", logits, np.array([0]), keepdims=0)
    else:
        of_second, of_first = (  # the sum of the members' probabilities of each class
            graph.node("ReduceSum", graph.node("Sigmoid", z), np.array([0]), keepdims=0)
            for z in (logits, graph.node("Neg", logits))
        )
        logit = graph.node("Sub", graph.node("Log", of_second), graph.node("Log", of_first))
    logit = graph.node("Div", logit, model.temperature_)
    if numbers is not None:  # a graph cannot raise an error: NaN where a number is not finite
        zeros = graph.node("Mul", numbers, 0.0)
        zero = graph.node("ReduceSum", zeros, np.array([1]), keepdims=0)
        logit = graph.node("Add", logit, zero)
    is_second = graph.node("Greater", logit, 0.0)
    if classes.dtype == bool:
        graph.node("Identity", is_second, name=label)
    else:
        second, first = map(graph.constant, classes[::-1])
        graph.node("Where", is_second, second, first, name=label)
    column = graph.node("Unsqueeze", logit, np.array([1]))
    return graph.node("Mul", column, np.array([[-1.0, 1.0]]))


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
        From left to right.
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
    n_features = len(encoder._marks) if isinstance(encoder, OwnEncoder) else n_features
    found = sum(tensor.n_columns for tensor in inputs)
    if found != n_features:
        raise ValueError(
            f"The inputs must have the {n_features} columns that the model was fitted to, got "
            f"{found}; change initial_types."
        )
    if isinstance(encoder, TabularEncoder):
        return _write_tabular(graph, encoder, inputs)
    x = matrix = _take(graph, inputs, range(n_features))
    if isinstance(encoder, SparseScaler):
        scaled = _clip_smoothly(graph, graph.node("Div", x, encoder.sizes_), LARGE)
        matrix = graph.node("Where", np.isfinite(encoder.sizes_), scaled, x)
    elif isinstance(encoder, OwnEncoder) and encoder._order is not None:
        matrix = graph.node("Gather", x, encoder._order, axis=1)
    return matrix, x


def _take(
    graph: Graph, inputs: Sequence[Input], columns: Sequence[int], *, is_text: bool = False
) -> str:
    """Return some columns, in ascending order, as one tensor of strings or of float64."""
    parts, start = [], 0
    for tensor in inputs:
        own = [j - start for j in columns if start <= j < start + tensor.n_columns]
        start += tensor.n_columns
        if not own:
            continue
        if (tensor.type == STRING) != is_text:
            expected, found = ("strings", "numbers") if is_text else ("numbers", "strings")
            raise ValueError(
                f"The input {tensor.name!r} must be a tensor of {expected}, as in the fit of the "
                f"model, and not of {found}."
            )
        part = tensor.name
        if len(own) < tensor.n_columns:
            part = graph.node("Gather", part, np.array(own), axis=1)
        parts.append(part if tensor.type in (DOUBLE, STRING) else graph.cast(part, DOUBLE))
    return graph.concat(parts, axis=1)


def _write_tabular(
    graph: Graph, encoder: TabularEncoder, inputs: Sequence[Input]
) -> tuple[str, str | None]:
    parts, places, n_out = [], [], len(encoder.source_features_)
    if encoder._numeric:
        x, scaling = _take(graph, inputs, encoder._numeric), encoder._scaling
        is_missing = graph.node("IsNaN", x)
        parts.append(_write_numbers(graph, scaling, x, is_missing))
        places += encoder._places.tolist()
        if scaling.has_missing.any():
            of_flags = np.flatnonzero(scaling.has_missing)
            flags = graph.node("Gather", graph.cast(is_missing, DOUBLE), of_flags, axis=1)
            parts.append(graph.node("Sub", flags, scaling.missing[of_flags]))
            places += encoder._missing_places.tolist()
    read = list(encoder._numeric)
    for j, own in encoder._category_places.items():
        category = encoder._categories[j]
        is_text = find_type(encoder, j) == STRING
        read += [] if is_text else [j]
        row = _write_row(graph, category, _take(graph, inputs, [j], is_text=is_text), is_text)
        parts.append(graph.node("GatherND", category.table, row))
        places += range(n_out)[own]
    empty = sorted(set(range(n_out)) - set(places))
    if empty:  # columns without any value in `fit`
        n_samples = graph.node("Gather", graph.node("Shape", inputs[0].name), np.array([0]))
        shape = graph.node("Concat", n_samples, np.array([len(empty)]), axis=0)
        parts.append(graph.node("Expand", np.zeros((1, 1)), shape))
    matrix = graph.node("Gather", graph.concat(parts, axis=1), np.argsort(places + empty), axis=1)
    if not read:
        return matrix, None
    numbers = _take(graph, inputs, sorted(read))
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


def _write_row(graph: Graph, category: Category, x: str, is_text: bool) -> str:
    """Write the row of its table for each value x of a category, (n_samples, 1)."""
    rows = {level: row for row, level in enumerate(category.levels, FIRST_LEVEL)}
    if is_text:
        rows = dict.fromkeys(READ_AS_MISSING, MISSING) | rows
        return graph.node(
            "LabelEncoder",
            x,
            domain="ai.onnx.ml",
            keys_strings=list(rows),
            values_int64s=list(rows.values()),
            default_int64=UNKNOWN,
        )
    levels = np.array([[*rows]], np.float64)
    flags = graph.node("Concat", graph.node("IsNaN", x), graph.node("Equal", x, levels), axis=1)
    rows_of_flags = np.array([MISSING, *rows.values()], np.float64)[:, np.newaxis]
    row = graph.node("MatMul", graph.cast(flags, DOUBLE), rows_of_flags)  # or 0, which is UNKNOWN
    return graph.cast(row, INT64)
