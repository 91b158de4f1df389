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
from .model import Input, read_classes, sign, write_classifier, write_encoder
from .network import ML_OPSET, OPSET, Graph


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
    shape = [None, model.n_features_in_]
    types = initial_types or [("X", DoubleTensorType(shape))]
    options = {id(model): {"zipmap": False}}
    try:
        proto = convert_sklearn(model, initial_types=types, options=options)
    except TypeError:  # about a formula, or about initial_types
        raise
    except Exception as error:
        raise ValueError(
            f"skl2onnx cannot convert the encoder {model.encoder_!r}: {error}"
        ) from error
    if initial_types is None and any(node.op_type == "Imputer" for node in proto.graph.node):
        # onnxruntime has this operator for float32 alone.
        return convert(model, [("X", FloatTensorType(shape))])
    sign(proto, model)
    return proto


def register() -> None:
    """Tell skl2onnx how to convert our estimators."""
    update_registered_converter(
        DeepBinaryClassifier,
        "SkdnnDeepBinaryClassifier",
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


def _read_classes(model: Any) -> np.ndarray:
    """Return the classes for skl2onnx: booleans as integers."""
    classes = read_classes(model.classes_)
    return classes.astype(np.int64) if classes.dtype == bool else classes


def _describe_classifier(operator: Any) -> None:
    (X, *_), (label, scores) = operator.inputs, operator.outputs
    is_text = _read_classes(operator.raw_operator).dtype.kind == "U"
    label.type = (StringTensorType if is_text else Int64TensorType)([X.get_first_dimension()])
    kind = DoubleTensorType if isinstance(X.type, DoubleTensorType) else FloatTensorType
    scores.type = kind([X.get_first_dimension(), 2])


def _describe_encoder(operator: Any) -> None:
    n_columns = len(operator.raw_operator.source_features_)
    n_samples = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = DoubleTensorType([n_samples, n_columns])


def _convert_classifier(scope: Any, operator: Any, container: Any) -> None:
    model, (label, scores) = operator.raw_operator, operator.outputs
    graph, inputs = _open(scope, operator, container)
    result = write_classifier(graph, model, inputs, _read_classes(model), label.full_name)
    if not container.get_options(model, {"raw_scores": False})["raw_scores"]:
        result = graph.node("Sigmoid", result)
    graph.node("Cast", result, to=guess_proto_type(scores.type), name=scores.full_name)


def _convert_encoder(scope: Any, operator: Any, container: Any) -> None:
    graph, inputs = _open(scope, operator, container)
    encoder = operator.raw_operator
    matrix, _ = write_encoder(graph, encoder, inputs, encoder.n_features_in_)
    graph.node("Identity", matrix, name=operator.outputs[0].full_name)


def _open(scope: Any, operator: Any, container: Any) -> tuple[Graph, list[Input]]:
    """Return what writes to the converted graph, under names that are new to it, and the inputs.

    Raises
    ------
    ValueError
        If that graph has older operators than ours.
    """
    opset = container.target_opset_any_domain("")
    if opset < OPSET:
        raise ValueError(f"target_opset must be at least {OPSET}, got {opset}.")
    container.node_domain_version_pair_sets |= {("", OPSET), ("ai.onnx.ml", ML_OPSET)}
    inputs = [
        Input(variable.full_name, guess_proto_type(variable.type), variable.type.shape[1])
        for variable in operator.inputs
    ]
    prefix = scope.get_unique_variable_name("skdnn")
    return Graph(prefix, container.nodes, container.initializers), inputs
