"""What is recorded of each epoch."""

import warnings

import numpy as np
import pytest
from data import at_first_weights, classifier, make_table, make_weights
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("n_iter_no_change", [2, np.inf])
def test_history_has_one_value_of_each_kind_for_each_epoch(early_stopping, n_iter_no_change):
    X, y = make_table()
    settings = {"n_members": 5, "n_iter_no_change": n_iter_no_change, "tol": 0.1, "max_iter": 20}
    model = classifier(early_stopping=early_stopping, **settings).fit(X, y)
    history = model.history_
    kinds = {"loss", "penalty", "learning_rate", "seconds"}
    of_validation = {"validation_loss", "validation_score"}
    assert set(history) == (kinds | of_validation if early_stopping else kinds)
    assert {len(values) for values in history.values()} == {model.n_iter_}
    for values in history.values():
        assert all(type(value) is float for value in values)
    assert model.n_iter_ < 20 if n_iter_no_change == 2 else model.n_iter_ == 20
    assert model.t_ == model.n_iter_ * (96 if early_stopping else 120)


def test_history_goes_on_where_it_ended():
    X, y = make_table()
    model = classifier(max_iter=3, warm_start=True).fit(X, y)
    first = list(model.history_["loss"])
    model.fit(X, y)
    assert model.history_["loss"][:3] == first
    assert len(model.history_["loss"]) == 6
    assert model.history_["loss"][-1] < first[0]


def test_loss_of_the_first_epoch_in_one_batch_is_that_of_the_first_weights():
    """Weighted, averaged over the members, with the penalty apart."""
    X, y = make_table(60)
    weight = make_weights(60) + 0.5
    model = classifier(n_members=2, batch_size=60, max_iter=1, alpha=0.5)
    first = at_first_weights(model, X, y)
    model.fit(X, y, weight)
    losses = []
    for member in range(2):
        alone = at_first_weights(model, X, y)
        alone.params_[1 - member] = alone.params_[member]
        losses.append(log_loss(y, alone.predict_proba(X)[:, 1], sample_weight=weight))
    assert model.history_["loss"] == pytest.approx([np.mean(losses)])
    penalty = 0.25 / weight.sum() * sum((W**2).sum() for W in first.coefs_) / 2
    assert model.history_["penalty"] == pytest.approx([penalty])


def test_loss_of_an_epoch_is_the_mean_over_its_rows_whatever_the_batches():
    """A last batch of one row among batches of ten counts as one row."""
    X, y = make_table(61)
    losses = [
        classifier(batch_size=size, max_iter=1, learning_rate_init=1e-12).fit(X, y).loss_
        for size in (10, 61)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


@pytest.mark.parametrize("turns", [(False, True, False), (True, False, True)])
def test_columns_stay_of_equal_length_when_early_stopping_is_turned_on_or_off(turns):
    X, y = make_table()
    estimator = classifier(max_iter=2, warm_start=True, n_members=2)
    for is_on in turns:
        estimator.set_params(early_stopping=is_on).fit(X, y)
    history = estimator.history_
    assert {len(values) for values in history.values()} == {6}
    assert len(estimator.loss_curve_) == len(estimator.validation_scores_) == 6
    is_judged = np.isfinite(history["validation_loss"])
    np.testing.assert_array_equal(is_judged, np.repeat(turns, 2))
    np.testing.assert_array_equal(np.isfinite(estimator.validation_scores_), is_judged)
    assert np.isfinite(estimator.best_validation_score_)


def test_score_is_of_what_was_watched_when_that_changes():
    X, y = make_table()
    estimator = classifier(max_iter=2, warm_start=True, early_stopping=True)
    for scoring in ("loss", "roc_auc", "loss"):
        estimator.set_params(scoring=scoring).fit(X, y)
    assert {len(values) for values in estimator.history_.values()} == {6}
    scores = np.array(estimator.history_["validation_score"])
    is_loss = scores == -np.array(estimator.history_["validation_loss"])
    np.testing.assert_array_equal(is_loss, [True, True, False, False, True, True])
    assert estimator.validation_scores_ == scores.tolist()


def test_columns_stay_of_equal_length_when_the_solver_changes():
    X, y = make_table()
    estimator = classifier(max_iter=2, warm_start=True)
    for solver in ("adam", "lbfgs", "sgd"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.set_params(solver=solver).fit(X, y)
    assert {len(values) for values in estimator.history_.values()} == {6}
    assert np.isfinite(estimator.loss_curve_).all()
