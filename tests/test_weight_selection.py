"""What a user is told at the end: of trainings that failed, and of no others."""

import warnings

import numpy as np
import pandas as pd
import pytest
from data import classifier, make_separable, make_table
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss

from skdnn import DeepBinaryClassifier


def tables_with_little_to_say():
    """Yield tables in which nothing, or nearly nothing, can be learned."""
    rng = np.random.default_rng(0)
    for n, n_positive in ((5, 1), (12, 6), (40, 2), (300, 30)):
        y = rng.permutation(np.arange(n) < n_positive)
        flag = (rng.random((n, 1)) < 0.3).astype(float)
        flag[:2, 0] = 0.0, 1.0
        named = {
            "constant": np.full((n, 2), 7.5),
            "one flag": flag,
            "the label": y.astype(float).reshape(-1, 1),
            "noise": rng.normal(size=(n, 3)),
            "copies": rng.normal(size=(3, 2))[rng.integers(0, 3, n)],
            "one category": pd.DataFrame({"c": np.take(["a", "b"], flag[:, 0].astype(int))}),
        }
        for name, X in named.items():
            yield pytest.param(X, y, id=f"{name}, {n_positive} of {n}")


@pytest.mark.parametrize(("X", "y"), list(tables_with_little_to_say()))
@pytest.mark.filterwarnings("ignore:In columns")
def test_tables_with_little_to_say_are_no_failure_of_training(X, y):
    """Warnings are errors."""
    model = DeepBinaryClassifier(random_state=0).fit(X, y)
    assert np.isfinite(model.predict_proba(X)).all()


def test_noise_of_dropout_is_no_divergence():
    """The loss of a batch is then many times that of predictions."""
    X, y = make_separable(60)
    settings = {"dropout": 0.9, "learning_rate_init": 0.5, "max_iter": 30, "alpha": 0.0}
    model = classifier((32, 32), "relu", early_stopping=True, n_members=3, **settings).fit(X, y)
    assert max(model.history_["loss"][-10:]) > 2.0
    assert log_loss(y, model.predict_proba(X)) < 0.5


@pytest.mark.parametrize("n_members", [1, 5])
@pytest.mark.parametrize("rate", [10.0, 1e3])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_rates_that_are_far_too_high_are_told(n_members, rate, early_stopping):
    X, y = make_table()
    settings = {"n_members": n_members, "early_stopping": early_stopping, "dropout": 0.2}
    model = classifier((8, 8), "relu", solver="sgd", learning_rate_init=rate, **settings)
    with pytest.warns(ConvergenceWarning, match=r"learning_rate_init|answers the same"):
        model.fit(X, y)


def test_death_of_the_last_weights_is_not_said_of_those_kept():
    X, y = make_table()
    settings = {"solver": "sgd", "learning_rate_init": 3.0, "early_stopping": True, "max_iter": 20}
    model = classifier((8, 8), "relu", **settings)
    with pytest.warns(ConvergenceWarning, match="In the end .* kept are those of epoch") as caught:
        model.fit(X, y)
    assert f"epoch {model.best_iter_}." in str(caught[0].message)
    assert np.ptp(model.decision_function(X)) > 0.0


@pytest.mark.parametrize("rate", [0.5, 1.0, 3.0, 10.0])
def test_weights_that_are_best_on_few_rows_and_useless_are_told(rate):
    """Two or three validation rows may like what has learned nothing."""
    X, y = make_classification(300, 10, flip_y=0.1, random_state=0)
    X, y = X[:40], y[:40]
    settings = {"encoder": None, "n_members": 1, "early_stopping": True, "max_iter": 15}
    model = DeepBinaryClassifier(learning_rate_init=rate, random_state=0, **settings)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
    assert caught or log_loss(y, model.predict_proba(X)) < 3.0
