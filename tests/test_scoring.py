"""Scores by the rows that members hold out: pooled, so that few rows of a class are enough."""

import re

import numpy as np
import pandas as pd
import pytest
from data import classifier, make_table, make_weights
from scipy.sparse import csr_matrix
from scipy.special import expit
from sklearn.base import is_classifier
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    fbeta_score,
    jaccard_score,  # noqa: F401 -- named by an error's advice
    log_loss,
    make_scorer,
    roc_auc_score,
)

from skdnn import DeepBinaryClassifier


def ensemble(**parameters):
    """Return a small classifier whose members hold out rows."""
    return classifier(**{"n_members": 5, "early_stopping": True, "max_iter": 6, **parameters})


def rare_table(n_positive=3, n_samples=90):
    """Return a table in which most members hold out no row of class 1."""
    X = np.random.default_rng(0).normal(size=(n_samples, 3))
    y = (np.arange(n_samples) < n_positive).astype(int)
    X[:, 0] += 1.5 * y
    return X, y


SCORES = {
    "roc_auc": roc_auc_score,
    "average_precision": average_precision_score,
    "accuracy": lambda y, z, sample_weight: accuracy_score(y, z > 0, sample_weight=sample_weight),
    None: lambda y, z, sample_weight: accuracy_score(y, z > 0, sample_weight=sample_weight),
    "balanced_accuracy": lambda y, z, sample_weight: balanced_accuracy_score(
        y, z > 0, sample_weight=sample_weight
    ),
    "f1": lambda y, z, sample_weight: f1_score(y, z > 0, sample_weight=sample_weight),
    "neg_log_loss": lambda y, z, sample_weight: -log_loss(y, expit(z), sample_weight=sample_weight),
    "neg_brier_score": lambda y, z, sample_weight: (
        -brier_score_loss(y, expit(z), sample_weight=sample_weight)
    ),
}
"""Scores of scikit-learn, of logits."""


def assert_best(model, y, score, weights=None):
    """Check that the best score is that of the logits of each row by who held it out."""
    logits = model.oof_decision_function_
    is_known = np.isfinite(logits)
    weights = None if weights is None else weights[is_known]
    expected = score(y[is_known], logits[is_known], sample_weight=weights)
    assert model.best_validation_score_ == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("scoring", SCORES, ids=str)
@pytest.mark.parametrize("n_members", [3, 5, 12])
def test_score_is_that_of_all_rows_together(scoring, n_members):
    X, y = make_table(90)
    model = ensemble(scoring=scoring, n_members=n_members).fit(X, y)
    assert_best(model, y, SCORES[scoring])
    assert model.history_["validation_score"] == model.validation_scores_
    assert len(set(model.validation_scores_)) > 1


@pytest.mark.parametrize("scoring", ["roc_auc", "f1", "neg_log_loss"])
@pytest.mark.parametrize("settings", [{}, {"class_weight": {0: 1.0, 1: 3.0}}], ids=str)
def test_score_weighs_rows_and_classes(scoring, settings):
    X, y = make_table(90)
    weights = make_weights(90) + 0.5
    model = ensemble(scoring=scoring, **settings).fit(X, y, weights)
    assert_best(model, y, SCORES[scoring], weights * np.where(y & bool(settings), 3.0, 1.0))


@pytest.mark.parametrize("scoring", SCORES, ids=str)
@pytest.mark.parametrize("n_members", [5, 11])
def test_rare_class_can_be_judged_by_any_score(scoring, n_members):
    X, y = rare_table()
    model = ensemble(scoring=scoring, n_members=n_members).fit(X, y)
    assert np.isfinite(model.validation_scores_).all()
    assert_best(model, y, SCORES[scoring])


def test_sparse_rows_are_scored_alike():
    X, y = rare_table(20)
    X[np.abs(X) < 0.5] = 0.0
    dense, sparse = (ensemble(scoring="roc_auc").fit(rows, y) for rows in (X, csr_matrix(X)))
    np.testing.assert_allclose(sparse.validation_scores_, dense.validation_scores_, rtol=1e-9)


def test_scorer_sees_each_row_once_as_it_was_given_and_a_fitted_estimator():
    """Merged rows are an affair of the training."""
    X, y = make_table(60)
    X, y = np.vstack([X, X[:30]]), np.append(y, y[:30])
    labels, seen = np.take(["no", "yes"], y), []

    def scorer(estimator, X, y):
        seen.append((X, y, estimator.predict_proba(X), estimator))
        return estimator.score(X, y)

    model = ensemble(scoring=scorer).fit(X, labels)
    assert len(seen) == 1 + 6  # before training too, to see whether it works
    for rows, given, proba, estimator in seen:
        np.testing.assert_array_equal(rows, X)
        np.testing.assert_array_equal(given, labels)
        assert proba.shape == (90, 2)
        assert isinstance(estimator, DeepBinaryClassifier)
        assert is_classifier(estimator)
        assert estimator.params_.shape == model.params_.shape
        assert estimator.classes_.tolist() == ["no", "yes"]
    best = seen[model.best_iter_][2]
    np.testing.assert_allclose(best[:, 1], expit(model.oof_decision_function_), rtol=1e-9)
    assert accuracy_score(labels, np.take(["no", "yes"], best[:, 1] > 0.5)) == (
        pytest.approx(model.best_validation_score_)
    )


@pytest.mark.parametrize("make", [np.asarray, csr_matrix], ids=["dense", "sparse"])
def test_scorer_may_ask_for_some_of_the_rows(make):
    X, y = make_table(60)
    answers = {}

    def scorer(estimator, X, y):
        whole = estimator.decision_function(X)
        index = np.array([7, 3, 3, 20])
        answers["some"] = estimator.decision_function(X[index]), whole[index]
        answers["copy"] = estimator.decision_function(X.copy()), whole
        answers["log"] = estimator.predict_log_proba(X)[:, 1], np.log(expit(whole))
        return 0.5

    ensemble(scoring=scorer, max_iter=1).fit(make(X), y)
    assert len(answers) == 3
    for actual, expected in answers.values():
        np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_scorer_may_name_the_columns():
    X, y = make_table(60)

    def scorer(estimator, X, y):
        frame = pd.DataFrame(X, columns=list("abcdef"))
        return roc_auc_score(y, estimator.predict_proba(frame)[:, 1])

    assert_best(ensemble(scoring=scorer).fit(X, y), y, roc_auc_score)


def test_scorer_that_asks_for_other_rows_is_told_why_not():
    def scorer(estimator, X, y):
        return estimator.score(X + 1.0, y)

    with pytest.raises(ValueError, match="for these rows only"):
        ensemble(scoring=scorer).fit(*make_table(60))


@pytest.mark.parametrize("scoring", ["f1", "average_precision", "jaccard"])
@pytest.mark.parametrize(
    "labels", [["no", "yes"], np.array(["no", "yes"], object), [0, 2]], ids=str
)
@pytest.mark.parametrize("n_members", [1, 5])
def test_score_that_needs_a_positive_label_says_how_to_name_it(scoring, labels, n_members):
    """And what it says works."""
    X, y = make_table(60)
    model, y = ensemble(scoring=scoring, n_members=n_members, max_iter=1), np.take(labels, y)
    with pytest.raises(ValueError, match="pos_label") as failure:
        model.fit(X, y)
    [advice] = re.findall(r"scoring=(make_scorer\(.*\))\.", str(failure.value))
    assert advice.endswith(f"pos_label={labels[1]!r})")
    if scoring == "f1":
        assert (
            advice == f"make_scorer(f1_score, response_method='predict', pos_label={labels[1]!r})"
        )
    model.set_params(scoring=eval(advice)).fit(X, y)
    assert np.isfinite(model.validation_scores_).all()


def test_positive_label_is_named_beside_what_else_a_scorer_was_told():
    X, y = make_table(60)
    model, y = ensemble(scoring=make_scorer(fbeta_score, beta=2)), np.take(["no", "yes"], y)
    with pytest.raises(ValueError, match=r"make_scorer\(fbeta_score, .*beta=2, pos_label='yes'\)"):
        model.fit(X, y)


def test_scorer_that_looks_for_the_columns_of_the_table_is_told_what_it_gets():
    frame = pd.DataFrame(make_table(60)[0], columns=list("abcdef"))

    def scorer(estimator, X, y):
        return X["a"].mean()

    model = ensemble(scoring=scorer, encoder="auto")
    with pytest.raises(
        ValueError, match=r"IndexError.*an array of float32 of shape \(60, 6\)"
    ) as e:
        model.fit(frame, make_table(60)[1])
    assert isinstance(e.value.__cause__, IndexError)


@pytest.mark.parametrize("n_members", [1, 5])
def test_merged_rows_need_no_scorer_that_takes_weights(n_members):
    X = np.arange(80).reshape(-1, 1) % 16 / 16.0
    y = (X[:, 0] > 0.5).astype(int)

    def scorer(estimator, X, y):
        return estimator.score(X, y)

    own = ensemble(scoring=scorer, n_members=n_members).fit(X, y)
    named = ensemble(scoring="accuracy", n_members=n_members).fit(X, y)
    assert own.validation_scores_ == pytest.approx(named.validation_scores_)
    with pytest.raises(ValueError, match="does not take sample_weight"):
        own.fit(X, y, np.sqrt(make_weights(80) + 1.0))  # whole ones would be rows again


def test_score_of_several_rows_of_a_kind_is_that_of_their_weight():
    """Up to which rows merging leaves each member to hold out."""
    X, y = make_table(60)
    times = make_weights(60) + 1
    settings = {"scoring": "accuracy", "alpha": 0.0, "batch_size": 1_000}
    one = ensemble(**settings).fit(X, y, times)
    other = ensemble(**settings).fit(X.repeat(times, axis=0), y.repeat(times))
    np.testing.assert_array_equal(one.params_, other.params_)
    assert one.validation_scores_ == pytest.approx(other.validation_scores_, rel=1e-12)


def test_scorer_made_by_hand_is_given_the_same():
    X, y = make_table(90)
    model = ensemble(scoring=make_scorer(f1_score, pos_label=0)).fit(X, y)
    score = f1_score(y, model.oof_decision_function_ > 0, pos_label=0)
    assert model.best_validation_score_ == pytest.approx(score)
