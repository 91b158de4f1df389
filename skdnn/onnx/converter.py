"""Converters of our estimators for skl2onnx."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto
from skl2onnx import convert_sklearn, update_registered_converter
from skl2onnx._parse import _parse_sklearn, _parse_sklearn_classifier
from skl2onnx.common.data_types import (
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
    guess_proto_type,
)

from ..classifier import DeepBinaryClassifier
from ..estimator.encoders import OwnEncoder
from ..preprocessing import TabularEncoder
from .encoders import write_encoder
from .graph import ML_OPSET, OPSET, Graph, Input
from .model import read_classes, sign, write_classifier

ALIAS = "SkdnnDeepBinaryClassifier"


def convert(
    model: DeepBinaryClassifier, initial_types: Sequence[tuple[str, Any]] | None
) -> ModelProto:
    """Convert a classifier with an encoder of the user's own.

    Raises
    ------
    TypeError
        If a formula of the user's own cannot be written.
    ValueError
        If skl2onnx cannot convert the encoder.
    """
    if initial_types is not None:
        return _convert(model, initial_types)
    shape = [None, model.n_features_in_]
    proto = _convert(model, [("X", DoubleTensorType(shape))])
    if any(node.op_type == "Imputer" for node in proto.graph.node):
        # onnxruntime has this operator for float32 alone.
        return _convert(model, [("X", FloatTensorType(shape))])
    return proto


def _convert(model: DeepBinaryClassifier, initial_types: Sequence[tuple[str, Any]]) -> ModelProto:
    try:
        proto = convert_sklearn(
            model, initial_types=initial_types, options={id(model): {"zipmap": False}}
        )
    except TypeError:  # about a formula, or about initial_types
        raise
    except Exception as error:
        raise ValueError(
            f"skl2onnx cannot convert the encoder {model.encoder_!r}: {error}"
        ) from error
    sign(proto, model)
    return proto


def register() -> None:
    """Tell skl2onnx how to convert our estimators."""
    update_registered_converter(
        DeepBinaryClassifier,
        ALIAS,
        _describe_classifier,
        _convert_classifier,
        parser=_parse_classifier,
        options={
            "zipmap": [True, False, "columns"],
            "output_class_labels": [False, True],
            "nocl": [False],  # labels are those of the model
            "raw_scores": [True, False],
        },
    )
    update_registered_converter(
        TabularEncoder, "SkdnnTabularEncoder", _describe_encoder, _convert_encoder
    )


def _parse_classifier(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    """Parse the user's own encoder before its classifier."""
    if isinstance(model._encoder, OwnEncoder):
        inputs = _parse_sklearn(scope, model.encoder_, inputs, custom_parsers)
    return _parse_sklearn_classifier(scope, model, inputs, custom_parsers)


def _classes(model: Any) -> np.ndarray:
    """Return the classes for skl2onnx: booleans as integers."""
    classes = read_classes(model.classes_)
    return classes.astype(np.int64) if classes.dtype == bool else classes


def _describe_classifier(operator: Any) -> None:
    n_samples = operator.inputs[0].get_first_dimension()
    is_text = _classes(operator.raw_operator).dtype.kind == "U"
    label, scores = operator.outputs
    label.type = (StringTensorType if is_text else Int64TensorType)([n_samples])
    is_double = isinstance(operator.inputs[0].type, DoubleTensorType)
    scores.type = (DoubleTensorType if is_double else FloatTensorType)([n_samples, 2])


def _describe_encoder(operator: Any) -> None:
    n_columns = len(operator.raw_operator.source_features_)
    operator.outputs[0].type = DoubleTensorType(
        [operator.inputs[0].get_first_dimension(), n_columns]
    )


def _convert_classifier(scope: Any, operator: Any, container: Any) -> None:
    model, graph = operator.raw_operator, _open_graph(scope, container)
    label, scores = operator.outputs
    result = write_classifier(
        graph, model, _read_inputs(operator), _classes(model), label.full_name
    )
    if not container.get_options(model, {"raw_scores": False})["raw_scores"]:
        result = graph.node("Sigmoid", result)
    graph.node("Cast", result, to=guess_proto_type(scores.type), name=scores.full_name)
    _close_graph(graph, container)


def _convert_encoder(scope: Any, operator: Any, container: Any) -> None:
    encoder, graph = operator.raw_operator, _open_graph(scope, container)
    matrix, _ = write_encoder(graph, encoder, _read_inputs(operator), encoder.n_features_in_)
    graph.node("Identity", matrix, name=operator.outputs[0].full_name)
    _close_graph(graph, container)


def _open_graph(scope: Any, container: Any) -> Graph:
    """Return a graph whose names are new to the converted one.

    Raises
    ------
    ValueError
        If that one has older operators than ours.
    """
    opset = container.target_opset_any_domain("")
    if opset < OPSET:
        raise ValueError(f"target_opset must be at least {OPSET}, got {opset}.")
    return Graph(scope.get_unique_variable_name("skdnn"))


def _close_graph(graph: Graph, container: Any) -> None:
    """Add the nodes and constants to the converted graph."""
    container.nodes.extend(graph.nodes)
    container.initializers.extend(graph.initializers)
    container.node_domain_version_pair_sets |= {("", OPSET), ("ai.onnx.ml", ML_OPSET)}


def _read_inputs(operator: Any) -> list[Input]:
    return [
        Input(variable.full_name, guess_proto_type(variable.type), variable.type.shape[1])
        for variable in operator.inputs
    ]
