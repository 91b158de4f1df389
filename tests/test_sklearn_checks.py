"""The checks that scikit-learn publishes for third-party estimators, without expected failures.

One of them, `check_array_api_input`, needs the environment variable SCIPY_ARRAY_API, to be set
before SciPy is imported; it runs in a process of its own at the end of this file. Nothing may skip.
"""

import os
import subprocess
import sys
from unittest import SkipTest

import numpy as np
import pytest
from data import make_table, needs
from sklearn.base import clone
from sklearn.neural_network import MLPClassifier
from sklearn.utils.estimator_checks import (
    check_classifiers_predictions,
    check_dataframe_column_names_consistency,
    check_inplace_ensure_writeable,
    check_param_validation,
    estimator_checks_generator,
)

from skdnn import DeepBinaryClassifier, DeepBinaryClassifierCV

# The checks look at conduct and not at fits: they train briefly, and on unscaled tables.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

QUICK = {"n_members": 2, "learning_rate_init": 0.05, "max_iter": 10}

# Their table of whole numbers has some twenty distinct rows. Few networks hold out rows unlike all
# others then, and may find no epoch better than the first: they train to the end.
TO_THE_END = {"n_iter_no_change": np.inf, "early_stopping": False}

SETTINGS = {
    "default": DeepBinaryClassifier(),
    "one member": DeepBinaryClassifier((16,), **QUICK | {"n_members": 1}),
    "no hidden layer": DeepBinaryClassifier((), n_members=1, learning_rate_init=0.2, max_iter=25),
    "without encoder": DeepBinaryClassifier((16,), encoder=None, **QUICK),
    "full batch, everything on": DeepBinaryClassifier(
        (16, 8),
        ["selu", "gelu"],
        initialization="orthogonal",
        n_members=2,
        dropout=[0.1, 0.05],
        alpha=0.1,
        weight_decay=0.01,
        solver="gd",
        learning_rate="one_cycle",
        learning_rate_init=0.5,
        max_grad_norm=5.0,
        max_iter=20,
        early_stopping=True,
        validation_fraction=0.3,
    ),
    "residual, batch normalisation": DeepBinaryClassifier(
        (16, 16, 16), normalization="batch", residual=True, **QUICK
    ),
    "lbfgs": DeepBinaryClassifier((16,), solver="lbfgs", n_members=2, max_iter=50, warm_start=True),
    "lbfgs, batch normalisation": DeepBinaryClassifier(
        (16,), solver="lbfgs", normalization="batch", max_iter=50
    ),
    # Of few rows, the part that fewer members hold out says little of the accuracy.
    "early stopping by the accuracy, moving average": DeepBinaryClassifier(
        (16,), early_stopping=True, scoring=None, ema_decay=0.9, **QUICK | {"n_members": 5}
    ),
    "MLPClassifier's": DeepBinaryClassifier(**MLPClassifier().get_params()),
}

# Settings between those above; what they add is seen by .ci/run.
MORE_SETTINGS = {
    "sgd": DeepBinaryClassifier(
        (16,),
        n_members=2,
        solver="sgd",
        learning_rate="adaptive",
        learning_rate_init=0.2,
        max_iter=15,
    ),
    "dropout": DeepBinaryClassifier((32,), dropout=0.2, **TO_THE_END, **QUICK),
    "float32": DeepBinaryClassifier((16,), dtype="float32", **QUICK),
    "layer normalisation": DeepBinaryClassifier((16, 8), normalization="layer", **QUICK),
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
    "deep": DeepBinaryClassifier((16, 16, 16), "relu", **TO_THE_END, **QUICK),
    "adamw": DeepBinaryClassifier((16,), solver="adamw", learning_rate="cosine", **QUICK),
    "float64": DeepBinaryClassifier((16,), dtype="float64", **QUICK),
    "batch normalisation": DeepBinaryClassifier((16, 8), normalization="batch", **QUICK),
    "early stopping": DeepBinaryClassifier((16,), early_stopping=True, **QUICK),
    "moving average": DeepBinaryClassifier((16,), ema_decay=0.9, **QUICK),
    "early stopping by a score": DeepBinaryClassifier(
        (16,), early_stopping=True, scoring="accuracy", **QUICK | {"n_members": 5}
    ),
    "eight members": DeepBinaryClassifier(
        (16,), ema_decay=0.9, early_stopping=True, scoring=None, **QUICK | {"n_members": 8}
    ),
}

ALL_SETTINGS = [
    *((name, estimator, ()) for name, estimator in SETTINGS.items()),
    *((name, estimator, (pytest.mark.slow,)) for name, estimator in MORE_SETTINGS.items()),
]

with_all_settings = pytest.mark.parametrize(
    "estimator",
    [pytest.param(estimator, id=name, marks=marks) for name, estimator, marks in ALL_SETTINGS],
)


SMALL_POOL = DeepBinaryClassifierCV(
    DeepBinaryClassifier((16,), n_members=5, max_iter=10, learning_rate_init=0.05), n_candidates=2
)
BOOSTED = "pool with boosted trees"
POOLS = [
    ("pool", SMALL_POOL, ()),
    (BOOSTED, clone(SMALL_POOL).set_params(blend_boosting=True), (pytest.mark.slow,)),
    ("pool of the default", DeepBinaryClassifierCV(n_candidates=2), (pytest.mark.slow,)),
]

SAME_LABELS = needs("scikit-learn>=1.7", "the same two labels for a table in another order")


def all_checks():
    """Yield what `parametrize_with_checks` does, by the names of the settings, and with marks."""
    for name, estimator, marks in [*ALL_SETTINGS, *POOLS]:
        for instance, check in estimator_checks_generator(estimator):
            if check.func.__name__ == "check_array_api_input":
                continue
            words = ",".join(f"{key}={value}" for key, value in check.keywords.items())
            test_id = f"{name}-{check.func.__name__}({words})"
            is_of_weights = check.func.__name__.startswith("check_sample_weight_equivalence")
            if is_of_weights and name == BOOSTED:  # trees count rows in their leaves, not weight
                continue
            others = (SAME_LABELS,) if is_of_weights else ()
            yield pytest.param(instance, check, id=test_id, marks=(*others, *marks))


@pytest.mark.parametrize(("estimator", "check"), list(all_checks()))
def test_estimator_keeps_conventions(estimator, check):
    try:
        check(estimator)
    except SkipTest as reason:
        pytest.fail(f"skipped: {reason}")


@with_all_settings
def test_column_names_are_remembered_and_compared(estimator):
    check_dataframe_column_names_consistency("DeepBinaryClassifier", estimator)


@with_all_settings
def test_parameters_of_wrong_type_or_value_are_named(estimator):
    check_param_validation("DeepBinaryClassifier", estimator)


@with_all_settings
def test_predictions_agree_with_decisions(estimator):
    X, y = make_table(60)
    labels = np.array(["no", "yes"])[y]
    check_classifiers_predictions(X, labels, "DeepBinaryClassifier", estimator)


@pytest.mark.parametrize("labels", [(0, 1), (-1, 1), (False, True)], ids=str)
def test_predictions_agree_with_decisions_for_labels_of_any_kind(labels):
    X, y = make_table(60)
    estimator = SETTINGS["without encoder"]
    check_classifiers_predictions(X, np.take(labels, y), "DeepBinaryClassifier", estimator)


@with_all_settings
def test_readonly_table_is_left_as_it_is(estimator):
    check_inplace_ensure_writeable("DeepBinaryClassifier", estimator)


@needs("scikit-learn>=1.9", "this check for all estimators")
def test_array_api_input_passes_where_scipy_speaks_it():
    script = """
from sklearn.utils.estimator_checks import estimator_checks_generator
from skdnn import DeepBinaryClassifier, DeepBinaryClassifierCV

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
