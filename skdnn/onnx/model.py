"""A fitted classifier as nodes, from its columns to labels and probabilities."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from onnx import ModelProto, helper

from .. import __version__
from ..preprocessing import TabularEncoder
from ..utils import check_feature_names_in
from .encoders import find_type, write_encoder
from .graph import (
    BOOL,
    DOUBLE,
    FLOAT,
    INT64,
    LARGEST_INT64,
    ML_OPSET,
    OPSET,
    STRING,
    Graph,
    Input,
    is_unicode,
)
from .network import write_network

LABEL, PROBABILITIES = "label", "probabilities"
"""The names of the outputs."""


def write_classifier(
    graph: Graph, model: Any, inputs: list[Input], classes: np.ndarray, label: str = LABEL
) -> str:
    """Write a fitted classifier, from its columns to a tensor of the name `label`.

    Returns
    -------
    logits : str
        The tensor (n_samples, 2) of float64 of which the probabilities are the sigmoid.
    """
    params, is_double = model.params_, model.params_.dtype == np.float64
    matrix, numbers = write_encoder(graph, model._encoder, inputs, model.n_features_in_)
    x = matrix if is_double else graph.cast(matrix, FLOAT)
    logits = write_network(graph, model._predictor.network, params, x)
    logit = _write_average(graph, logits if is_double else graph.cast(logits, DOUBLE), len(params))
    if model.temperature_ != 1.0:
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


def _write_average(graph: Graph, logits: str, n_members: int) -> str:
    """Write the logit of the members' mean probability: (n_members, n_samples) -> (n_samples,)."""
    if n_members == 1:
        return graph.node("Reshape", logits, np.array([-1]))
    of_first, of_second = (
        graph.node("ReduceSum", graph.node("Sigmoid", z), np.array([0]), keepdims=0)
        for z in (graph.node("Neg", logits), logits)
    )
    return graph.node("Sub", graph.node("Log", of_second), graph.node("Log", of_first))


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
        return classes.astype(np.float64 if classes.dtype.kind == "f" else np.int64)
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


def make_model(model: Any) -> ModelProto:
    """Return the whole model of a classifier whose encoder is one of ours."""
    inputs, classes = describe_inputs(model), read_classes(model.classes_)
    prefix = "skdnn"
    while any(tensor.name.startswith(prefix) for tensor in inputs):
        prefix += "_"
    graph = Graph(prefix)
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
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    proto = helper.make_model(
        helper.make_graph(graph.nodes, type(model).__name__, tensors, outputs, graph.initializers),
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets),
    )
    sign(proto, model)
    return proto


def sign(proto: ModelProto, model: Any) -> None:
    """Write the producer, its version and the names of the features into a model."""
    proto.producer_name, proto.producer_version = "skdnn", __version__
    names = check_feature_names_in(model).tolist()
    helper.set_model_props(proto, {"feature_names": json.dumps(names)})
