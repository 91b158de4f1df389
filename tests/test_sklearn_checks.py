"""The checks that scikit-learn publishes for third-party estimators, without expected failures.

One of them, `check_array_api_input`, skips itself where the environment variable SCIPY_ARRAY_API is
not set before SciPy is imported; it runs in a process of its own at the end of this file. Nothing
else may skip.
"""

import os
import subprocess
import sys
from unittest import SkipTest

import numpy as np
import pytest
from data import make_table
from sklearn.neural_network import MLPClassifier
from sklearn.utils.estimator_checks import (
    check_classifiers_predictions,
    check_dataframe_column_names_consistency,
    check_inplace_ensure_writeable,
    check_param_validation,
    parametrize_with_checks,
)

from skdnn import DeepBinaryClassifier

# The checks look at conduct and not at fits: they train briefly, and on unscaled tables.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

QUICK = {"learning_rate_init": 0.02, "max_iter": 25}

# Their table of whole numbers has some twenty distinct rows. Few networks hold out rows unlike all
# others then, and may find no epoch better than the first: they train to the end.
FEW = {"n_members": 2, "n_iter_no_change": np.inf, "early_stopping": False}

SETTINGS = {
    "default": DeepBinaryClassifier(),
    "deep": DeepBinaryClassifier((16, 16, 16), "relu", **FEW, **QUICK),
    "one member": DeepBinaryClassifier((16,), n_members=1, **QUICK),
    "no hidden layer": DeepBinaryClassifier((), n_members=1, learning_rate_init=0.2, max_iter=25),
    "dropout": DeepBinaryClassifier((32,), dropout=0.2, **FEW, **QUICK),
    "without encoder": DeepBinaryClassifier((16,), encoder=None, **QUICK),
    "sgd": DeepBinaryClassifier(
        (16,), solver="sgd", learning_rate="adaptive", learning_rate_init=0.1, max_iter=25
    ),
    "adamw": DeepBinaryClassifier((16,), solver="adamw", learning_rate="cosine", **QUICK),
    "early stopping": DeepBinaryClassifier((16,), early_stopping=True, n_members=2, **QUICK),
    "float64": DeepBinaryClassifier((16,), dtype="float64", **QUICK),
    "float32": DeepBinaryClassifier((16,), dtype="float32", **QUICK),
    "full batch, everything on": DeepBinaryClassifier(
        (16, 8),
        ["selu", "gelu"],
        initialization="orthogonal",
        n_members=3,
        dropout=[0.1, 0.05],
        alpha=0.1,
        weight_decay=0.01,
        solver="gd",
        learning_rate="one_cycle",
        learning_rate_init=0.5,
        max_grad_norm=5.0,
        max_iter=40,
        early_stopping=True,
        warm_start=True,
    ),
    "batch normalisation": DeepBinaryClassifier(
        (16, 8), normalization="batch", n_members=2, **QUICK
    ),
    "layer normalisation": DeepBinaryClassifier(
        (16, 8), normalization="layer", n_members=2, **QUICK
    ),
    "residual": DeepBinaryClassifier(
        (16, 16, 16), normalization="batch", residual=True, n_members=2, **QUICK
    ),
    "lbfgs": DeepBinaryClassifier((16,), solver="lbfgs", n_members=2, max_iter=50),
    "lbfgs, batch normalisation": DeepBinaryClassifier(
        (16,), solver="lbfgs", normalization="batch", max_iter=50
    ),
    "moving average": DeepBinaryClassifier((16,), ema_decay=0.9, n_members=2, **QUICK),
    "early stopping by a score": DeepBinaryClassifier(
        (16,), early_stopping=True, scoring="accuracy", n_members=2, **QUICK
    ),
    "early stopping by the accuracy": DeepBinaryClassifier(
        (16,), early_stopping=True, scoring=None, ema_decay=0.9, **QUICK
    ),
    "MLPClassifier's": DeepBinaryClassifier(**MLPClassifier().get_params()),
    "MLPClassifier's, lbfgs": DeepBinaryClassifier(
        **MLPClassifier((20,), solver="lbfgs", max_iter=50).get_params()
    ),
    "MLPClassifier's, sgd": DeepBinaryClassifier(
        **MLPClassifier(
            (20,),
            solver="sgd",
            learning_rate="adaptive",
            learning_rate_init=0.1,
            early_stopping=True,
            max_iter=50,
        ).get_params()
    ),
}


@parametrize_with_checks(list(SETTINGS.values()))
def test_estimator_keeps_conventions(estimator, check):
    try:
        check(estimator)
    except SkipTest as reason:
        if "SCIPY_ARRAY_API" not in str(reason):
            pytest.fail(f"skipped: {reason}")
        raise


@pytest.mark.parametrize("name", SETTINGS)
def test_column_names_are_remembered_and_compared(name):
    check_dataframe_column_names_consistency("DeepBinaryClassifier", SETTINGS[name])


@pytest.mark.parametrize("name", SETTINGS)
def test_parameters_of_wrong_type_or_value_are_named(name):
    check_param_validation("DeepBinaryClassifier", SETTINGS[name])


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("labels", [(0, 1), (-1, 1), ("no", "yes"), (False, True)], ids=str)
def test_predictions_agree_with_decisions(name, labels):
    X, y = make_table(60)
    check_classifiers_predictions(X, np.take(labels, y), "DeepBinaryClassifier", SETTINGS[name])


@pytest.mark.parametrize("name", SETTINGS)
def test_readonly_table_is_left_as_it_is(name):
    check_inplace_ensure_writeable("DeepBinaryClassifier", SETTINGS[name])


def test_array_api_input_passes_where_scipy_speaks_it():
    script = """
from sklearn.utils.estimator_checks import estimator_checks_generator
from skdnn import DeepBinaryClassifier

estimator = DeepBinaryClassifier((16,), n_iter_no_change=float("inf"), max_iter=5)
for estimator, check in estimator_checks_generator(estimator):
    if check.func.__name__ == "check_array_api_input":
        check(estimator)
        print("passed")
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
    )
    assert run.stdout == "passed\n", run.stderr
