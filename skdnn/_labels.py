"""Labels, which are strings, booleans or numbers in any container, and their codes 0.0 and 1.0."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from .preprocessing.categories import is_missing
from .utils import is_masked

LABEL_TYPES = (bool, Integral, Real, str, bytes)
"""Types of labels. All labels must have one of them; a number may be whole or a boolean."""


def read_labels(y: Any, name: str = "y") -> Any:
    """Return labels; those in an array of objects get the dtype of their values.

    Raises
    ------
    ValueError
        If labels are missing, or of several types.
    """
    if is_masked(y):
        raise ValueError(f"{name} has masked, that is missing, labels; leave out their rows.")
    labels = np.asarray(y)
    if labels.dtype.kind == "T":  # NumPy's strings of any length
        y = labels = labels.astype(object)
    if labels.dtype != object or y is None or labels.ndim == 0:
        return y
    values = [v.item() if isinstance(v, np.generic) else v for v in labels.ravel().tolist()]
    if any(is_missing(value) for value in values):
        raise ValueError(
            f"{name} contains NaN, None or other missing labels; leave out their rows."
        )
    for accepted in LABEL_TYPES:
        if all(isinstance(value, accepted) for value in values):
            dtype = object if accepted in (str, bytes) else None
            return np.array(values, dtype).reshape(labels.shape)
    types = sorted({type(value).__name__ for value in values})
    raise ValueError(
        f"{name} must have labels of one type, numbers, booleans or strings, got {types!r}. Make "
        "strings of all of them, for instance."
    )


def encode_labels(
    y: np.ndarray, classes: np.ndarray | None, name: str = "y"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the two classes and y as 0.0 / 1.0.

    Raises
    ------
    ValueError
        If y is not a set of class labels, or has other than two classes.
    """
    if classes is None or not _are_known(y, classes):
        classes = _check_classes(y, classes, name)
    return classes, (y == classes[1]).astype(np.float64)


def _check_classes(y: np.ndarray, classes: np.ndarray | None, name: str) -> np.ndarray:
    """Return the two classes, which are those of y if they are not known."""
    kind = type_of_target(y, input_name=name, raise_unknown=True)
    if kind not in ("binary", "multiclass"):
        check_classification_targets(y)
    found = np.unique(y)
    if classes is None:
        classes = found
        if kind != "binary":
            raise ValueError(
                f"Only binary classification is supported. The type of the target is {kind}: "
                f"{name} has {len(found)} classes."
            )
    if len(classes) != 2:
        raise ValueError(
            f"DeepBinaryClassifier needs two classes, got {len(classes)} class: {classes!r}."
        )
    unknown = np.setdiff1d(found, classes)
    if len(unknown):
        raise ValueError(
            f"{name} has labels {unknown!r} that are not among the classes {classes!r}."
        )
    return classes


def _are_known(y: np.ndarray, classes: np.ndarray) -> bool:
    """Say without sorting whether all labels are among two classes of the same kind."""
    is_same_kind = y.dtype.kind == classes.dtype.kind and len(classes) == 2
    return is_same_kind and bool(((y == classes[0]) | (y == classes[1])).all())
