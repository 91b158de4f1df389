"""Write fitted models as ONNX, to run them in onnxruntime and other tools, without Python too.

Importing this module registers `DeepBinaryClassifier` and `TabularEncoder` with skl2onnx, if that
is installed, so that it converts pipelines with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..classifier import DeepBinaryClassifier
from ..estimator.encoders import OwnEncoder
from ..preprocessing.columns import Table, open_columns

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["MISSING_STRING", "make_inputs", "to_onnx"]

MISSING_STRING = ""
"""What stands for a missing value in a tensor of strings, which has none of its own."""


DTYPES = {
    "tensor(double)": np.float64,
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
"""The dtypes of tensors of numbers."""


def to_onnx(
    model: DeepBinaryClassifier, initial_types: Sequence[tuple[str, Any]] | None = None
) -> ModelProto:
    """Write a fitted classifier as an ONNX model.

    The whole model is written: scaling, missing values, categories, embeddings, every member of the
    ensemble, and the temperature. Its probabilities differ by less than 1e-5 from those of
    `predict_proba`.

    Parameters
    ----------
    model : DeepBinaryClassifier
        Fitted.
    initial_types : list of (str, type), default=None
        Names and types of the inputs, as skl2onnx takes them, for a model whose encoder is a
        transformer of the user's own. None is one input "X" with all columns, of float64, or of
        float32 if the encoder has a SimpleImputer, which onnxruntime has for that alone.

    Returns
    -------
    onnx_model : onnx.ModelProto
        Save it by ``onnx.save(onnx_model, path)``, or give ``onnx_model.SerializeToString()`` to
        ``onnxruntime.InferenceSession``.

    Raises
    ------
    ImportError
        If onnx is not installed; or skl2onnx, for an encoder of the user's own.
    TypeError
        If `model` is another estimator, or a formula of the user's own, such as an activation, does
        what no graph can do.
    ValueError
        If classes, names or levels of columns cannot be written, or an encoder of the user's own.

    See Also
    --------
    make_inputs : What a session takes, from a table.
    skl2onnx.convert_sklearn : Convert pipelines, this classifier among their steps.

    Notes
    -----
    **Inputs**. A table of numbers is one tensor "X" of float64, of shape (n_samples, n_features),
    and so are booleans and categories that are numbers; NaN is a missing value. If some columns
    hold strings, each column is an input of its own name and of shape (n_samples, 1): strings, or
    float64 for the others. A missing string is the empty one, `MISSING_STRING`. So are "None",
    "nan" and "<NA>", what onnxruntime makes of None, NaN and pandas' NA in an array of objects,
    unless the column has a level of that name. A level that is the empty string is an error here.

    **Outputs**. "label", of shape (n_samples,) and the type of `classes_`, and "probabilities", of
    shape (n_samples, 2), float64. Where our own models raise an error, as for infinity in X, a
    graph cannot: the probabilities of such a row are NaN, and its label is the first class.

    **Versions**. The operators are those of ONNX 13 and ai.onnx.ml 2, the first ones that have what
    is needed; every later runtime reads them. The scaling is computed in float64, the network in
    the dtype of its weights.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skdnn import DeepBinaryClassifier
    >>> from skdnn.onnx import to_onnx
    >>> X, y = make_classification(n_samples=60, random_state=0)
    >>> model = DeepBinaryClassifier(max_iter=2, random_state=0).fit(X, y)
    >>> [output.name for output in to_onnx(model).graph.output]
    ['label', 'probabilities']
    """
    if not isinstance(model, DeepBinaryClassifier):
        raise TypeError(
            f"to_onnx takes a DeepBinaryClassifier, got a {type(model).__name__}. Convert a "
            "pipeline, or another estimator around it, by skl2onnx.convert_sklearn."
        )
    check_is_fitted(model)
    is_own = isinstance(model._encoder, OwnEncoder)
    for package in ("onnx", "skl2onnx") if is_own else ("onnx",):
        if find_spec(package) is None:
            raise ImportError(f"to_onnx needs {package}: pip install skdnn[onnx].")
    if is_own:
        from .converter import convert

        return convert(model, initial_types)
    if initial_types is not None:
        raise ValueError(
            "initial_types are for models with an encoder of the user's own, got some for one "
            "whose inputs go by its table. Leave them at None."
        )
    from .model import make_model

    return make_model(model)


def make_inputs(session: Any, X: Any) -> dict[str, np.ndarray]:
    """Return the inputs of a session of onnxruntime for a table.

    `to_onnx` describes them, for other languages.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        Of a model that `to_onnx` has written.
    X : array-like or DataFrame of shape (n_samples, n_features)
        Its columns in the order of the fit.

    Returns
    -------
    inputs : dict of str to ndarray
        The arrays by name, for ``session.run(None, inputs)``.

    Raises
    ------
    ValueError
        If X is no table, has another number of columns, or strings where the model has numbers, or
        the reverse.

    See Also
    --------
    to_onnx : Write the model.

    Examples
    --------
    >>> from onnxruntime import InferenceSession
    >>> from sklearn.datasets import make_classification
    >>> from skdnn import DeepBinaryClassifier
    >>> from skdnn.onnx import make_inputs, to_onnx
    >>> X, y = make_classification(n_samples=60, random_state=0)
    >>> model = DeepBinaryClassifier(max_iter=2, random_state=0).fit(X, y)
    >>> session = InferenceSession(to_onnx(model).SerializeToString())
    >>> label, probabilities = session.run(None, make_inputs(session, X))
    >>> probabilities.shape
    (60, 2)
    """
    table, inputs = open_columns(X), session.get_inputs()
    n_columns = sum(tensor.shape[1] for tensor in inputs)
    if len(table.labels) != n_columns:
        raise ValueError(
            f"X must have the {n_columns} columns of the model, got {len(table.labels)}."
        )
    columns = iter(range(n_columns))
    return {
        tensor.name: _read_columns(table, list(islice(columns, tensor.shape[1])), tensor.type)
        for tensor in inputs
    }


def _read_columns(table: Table, columns: list[int], kind: str) -> np.ndarray:
    """Return some columns of a table as a tensor of this type."""
    is_text = kind == "tensor(string)"
    for column in columns:  # "1" is not the level 1
        levels = [] if table.has_floats[column] and not is_text else table.levels(column).values
        others = [value for value in levels if isinstance(value, str) != is_text]
        if others:
            raise ValueError(
                f"Column {table.labels[column]!r} of X must hold "
                f"{'strings' if is_text else 'numbers'}, got {others[0]!r}."
            )
    if not is_text:
        return table.numbers(columns).astype(DTYPES[kind])
    texts = [
        np.array([*values, MISSING_STRING], dtype=object)[codes]  # -1 is a missing value
        for values, codes in map(table.levels, columns)
    ]
    return np.column_stack(texts)


if find_spec("onnx") is not None and find_spec("skl2onnx") is not None:
    from .converter import register

    register()
