"""Types: signatures say what is checked; what is declared is there after a fit, and not before."""

import inspect
from types import UnionType
from typing import Annotated, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from data import classifier, make_table
from pandas import DataFrame

from skdnn import DeepBinaryClassifier, TabularEncoder
from skdnn.estimator.parameters import Parameters


def declared(estimator):
    """Return the fitted attributes that a class declares."""
    return {name for name in vars(estimator)["__annotations__"] if name.endswith("_")}


def test_constructor_has_the_types_that_are_checked():
    hints = get_type_hints(DeepBinaryClassifier.__init__)
    checked = get_type_hints(Parameters, include_extras=True)
    for name, hint in checked.items():
        assert hints[name] == (get_args(hint)[0] if get_origin(hint) is Annotated else hint), name


@pytest.mark.parametrize("estimator", [DeepBinaryClassifier, TabularEncoder])
def test_declared_attributes_come_with_a_fit(estimator):
    X, y = make_table()
    frame = DataFrame(X).add_prefix("x")
    unfitted = classifier() if estimator is DeepBinaryClassifier else estimator()
    assert [name for name in declared(estimator) if hasattr(unfitted, name)] == []
    fitted = unfitted.fit(frame, y)
    missing = {name for name in declared(estimator) if not hasattr(fitted, name)}
    assert missing <= {"oof_decision_function_"}  # which only ensembles have
    public = {name for name in vars(fitted) if name.endswith("_") and name[0] != "_"}
    assert public <= declared(estimator)


def test_declared_types_are_those_of_the_values():
    X, y = make_table(100)
    fitted = classifier(n_members=5, early_stopping=True, max_iter=2).fit(X, y)
    hints = get_type_hints(DeepBinaryClassifier)
    for name in declared(DeepBinaryClassifier) - {"feature_names_in_"}:
        union = get_args(hints[name]) if get_origin(hints[name]) is UnionType else (hints[name],)
        kinds = tuple(get_origin(kind) or kind for kind in union)
        assert isinstance(getattr(fitted, name), kinds), name
        if kinds == (np.ndarray,) and name != "classes_":
            [scalar] = get_args(get_args(hints[name])[1])
            assert np.issubdtype(getattr(fitted, name).dtype, scalar), name
    for method in ("decision_function", "predict", "predict_proba", "predict_log_proba"):
        signature = inspect.signature(getattr(fitted, method), eval_str=True)
        assert get_origin(signature.return_annotation) is np.ndarray
        assert isinstance(getattr(fitted, method)(X), np.ndarray)
