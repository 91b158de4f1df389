"""Labels in any container: those of scikit-learn's classifiers, and columns of objects."""

from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from data import classifier, make_table
from numpy.testing import assert_array_equal

X, Y = make_table(40)
WORDS = pd.Series(np.take(["no", "yes"], Y))
THIRD = np.arange(40) == 3

LABELS = {
    "string": (WORDS.astype("string"), "yes"),
    "arrow string": (WORDS.astype(pd.ArrowDtype(pa.string())), "yes"),
    "category": (WORDS.astype("category"), "yes"),
    "polars string": (pl.Series(WORDS.tolist()), "yes"),
    "strings of any length": (np.array(WORDS, dtype=np.dtypes.StringDType()), "yes"),
    "objects of strings": (np.array(WORDS, dtype=object), "yes"),
    "nullable boolean": (pd.Series(Y == 1).astype("boolean"), True),
    "arrow boolean": (pd.Series(Y == 1).astype("bool[pyarrow]"), True),
    "nullable whole number": (pd.Series(Y).astype("Int64"), 1),
    "arrow array": (pa.array(Y), 1),
    "objects of booleans": (pd.Series(Y == 1).astype(object), True),
    "objects of NumPy's booleans": (np.array(list(Y == 1), dtype=object), True),
    "objects of whole numbers": (pd.Series(Y).astype(object), 1),
    "objects of numbers": (pd.Series([float(v) if i % 2 else v for i, v in enumerate(Y)]), 1),
    "column of objects": (pd.DataFrame({"y": (Y == 1).astype(object)}), True),
}


@pytest.mark.parametrize(("labels", "second"), LABELS.values(), ids=LABELS)
@pytest.mark.filterwarnings("ignore:A column-vector y was passed")
def test_labels_are_read_from_any_container(labels, second):
    estimator = classifier(max_iter=1).fit(X, labels)
    expected = classifier(max_iter=1).fit(X, Y)
    assert_array_equal(estimator.params_, expected.params_)
    assert estimator.classes_[1] == second
    assert estimator.score(X, labels) == expected.score(X, Y)
    parts = classifier(max_iter=1).partial_fit(X, labels, classes=np.unique(estimator.classes_))
    parts.partial_fit(X, labels)
    assert parts.classes_.tolist() == estimator.classes_.tolist()
    classifier(max_iter=1, early_stopping=True).fit(X, labels, X_val=X, y_val=labels)


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [(pd.Series(Y == 1).astype(object), bool), (pd.Series(Y).astype(object), int)],
    ids=["booleans", "whole numbers"],
)
def test_predictions_have_the_dtype_of_what_objects_are(labels, dtype):
    assert classifier(max_iter=1).fit(X, labels).predict(X).dtype == dtype


MISSING = {
    "string": WORDS.astype("string").where(~THIRD),
    "arrow string": WORDS.astype(pd.ArrowDtype(pa.string())).where(~THIRD),
    "category": WORDS.astype("category").where(~THIRD),
    "boolean": pd.Series(Y == 1).astype("boolean").where(~THIRD),
    "whole number": pd.Series(Y).astype("Int64").where(~THIRD),
    "arrow whole number": pd.Series(Y).astype("int64[pyarrow]").where(~THIRD),
    "object": pd.Series(Y == 1).astype(object).where(~THIRD, None),
    "object with NA": np.array([pd.NA if i == 3 else v for i, v in enumerate(Y)], object),
    "polars": pl.Series([None if i == 3 else v for i, v in enumerate(WORDS)]),
    "list": [None if i == 3 else v for i, v in enumerate(Y.tolist())],
}


@pytest.mark.parametrize("labels", MISSING.values(), ids=MISSING)
@pytest.mark.parametrize("encoder", [None, "auto"], ids=["no encoder", "encoder"])
def test_missing_labels_are_refused(labels, encoder):
    estimator = classifier(encoder=encoder)
    with pytest.raises(ValueError, match=r"y contains NaN"):
        estimator.fit(X, labels)
    with pytest.raises(ValueError, match=r"y contains NaN"):
        estimator.partial_fit(X, labels, classes=[0, 1])
    with pytest.raises(ValueError, match=r"y_val.* contains NaN"):
        classifier(early_stopping=True).fit(X, Y, X_val=X, y_val=labels)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([1 if v else "a" for v in Y], r"\['int', 'str'\]"),
        ([Decimal(int(v)) for v in Y], r"\['Decimal'\]"),
        ([frozenset([v]) for v in Y], r"\['frozenset'\]"),
    ],
    ids=["mixed", "decimals", "sets"],
)
def test_objects_that_are_no_labels_are_refused(labels, words):
    objects = np.empty(len(labels), dtype=object)
    objects[:] = labels
    with pytest.raises(ValueError, match=f"y must have labels of one type.*{words}"):
        classifier().fit(X, objects)
