"""When training stops, and which weights it keeps, by scores that are written down."""

import numpy as np
import pytest
from data import classifier, make_table
from sklearn.exceptions import ConvergenceWarning

from skdnn import DeepBinaryClassifier


class Script:
    """A scorer that has its scores by epoch, then by member; the first are those of no training."""

    def __init__(self, *epochs):
        scores = [score for epoch in epochs for score in np.atleast_1d(epoch)]
        self.scores, self.n_calls = scores, 0

    def __call__(self, estimator, X, y):
        self.n_calls += 1
        return float(self.scores[self.n_calls - 1])


def fit_by_script(script, *, n_members=1, before=-9.0, **parameters):
    """Fit by validation rows, for as many epochs as the script has scores."""
    X, y = make_table(80)
    settings = {"max_iter": len(script), "tol": 0.15, "n_members": n_members, **parameters}
    settings["early_stopping"] = True
    model = classifier((), scoring=Script([before] * n_members, *script), **settings)
    return model.fit(X[:60], y[:60], X_val=X[60:], y_val=y[60:])


@pytest.mark.parametrize(
    ("losses", "n_epochs"),
    [
        ([5.0, 4.0, 3.0, 2.0, 1.0, 0.0], 6),
        ([5.0, 5.0, 5.0, 5.0], 3),
        ([5.0, 6.0, 4.0, 4.5, 4.5, 0.0], 5),
        ([5.0, 4.9, 4.8, 4.7], 3),  # every step is compared with the best just before it
        ([5.0, np.nan, np.nan, 5.0, 5.0, 0.0], 5),  # what is not a number counts for nothing
        ([5.0, np.inf, 4.0, 3.0], 4),
    ],
)
@pytest.mark.filterwarnings("ignore:The loss was still falling")
def test_training_stops_after_epochs_without_enough_progress(losses, n_epochs):
    """By at least 0.15 above the best score, or two epochs of waiting are counted."""
    assert fit_by_script(-np.array(losses), n_iter_no_change=2).n_iter_ == n_epochs


@pytest.mark.filterwarnings("ignore:The loss was still falling")
def test_progress_of_exactly_tol_counts():
    assert fit_by_script([0.0, 0.5, 1.0], tol=0.5, n_iter_no_change=1).n_iter_ == 3


def test_epoch_may_be_the_best_and_no_progress():
    model = fit_by_script([-1.0, -0.99, -0.98, -0.985, 0.0], n_iter_no_change=3)
    assert (model.n_iter_, model.best_iter_) == (4, 3)
    assert model.best_validation_score_ == -0.98


def test_nothing_is_waited_for_without_end():
    assert fit_by_script([1.0] * 30, n_iter_no_change=np.inf).n_iter_ == 30


def test_weights_are_those_of_the_best_epoch():
    model = fit_by_script([1.0, 3.0, 2.0, 3.0])
    assert model.best_iter_ == 2
    sooner = fit_by_script([1.0, 3.0])
    np.testing.assert_array_equal(model.params_, sooner.params_)
    assert (model.params_ != fit_by_script([1.0, 3.0, 4.0]).params_).any()


def test_member_that_stops_keeps_its_best_weights_while_others_go_on():
    """What it would reach afterwards does not count, and the history is of the others."""
    script = [[4.0, 4.0], [3.0, 5.0], [3.0, 6.0], [9.0, 7.0], [9.0, 8.0]]
    with pytest.warns(ConvergenceWarning, match="still falling"):
        model = fit_by_script(script, n_members=2, n_iter_no_change=2)
    assert model.n_iter_ == 5
    assert model.validation_scores_ == [4.0, 4.0, 4.5, 7.0, 8.0]
    first, second = (fit_by_script([[i, i] for i in range(n)], n_members=2) for n in (1, 5))
    np.testing.assert_array_equal(model.params_[0], first.params_[0])
    np.testing.assert_array_equal(model.params_[1], second.params_[1])


@pytest.mark.parametrize("afterwards", [-9.0, -np.inf, np.nan])
def test_score_of_a_member_that_has_stopped_counts_for_nothing(afterwards):
    script = [[4.0, 4.0], [3.0, 5.0], [3.0, 6.0], [afterwards, 7.0], [afterwards, 8.0]]
    with pytest.warns(ConvergenceWarning, match="still falling"):
        model = fit_by_script(script, n_members=2, n_iter_no_change=2)
    assert model.validation_scores_ == [4.0, 4.0, 4.5, 7.0, 8.0]


@pytest.mark.parametrize(("n_samples", "n_epochs"), [(80, 20), (300, 20), (301, 17)])
def test_members_that_are_judged_together_stop_together(n_samples, n_epochs):
    """After 3 epochs, 6 of few rows, and 0.35 of the 10 until the last progress."""
    X, y = make_table(n_samples)
    script = Script(0.0, *range(1, 11), *[10.0] * 30)
    model = classifier((), scoring=script, n_members=5, max_iter=40, n_iter_no_change="auto")
    model.set_params(early_stopping=True, tol=0.01).fit(X, y)
    assert (model.n_iter_, model.best_iter_) == (n_epochs, 10)


@pytest.mark.parametrize(("n_iter_no_change", "n_epochs"), [(3, 4), ("auto", 11)])
def test_training_loss_is_watched_without_validation_rows(n_iter_no_change, n_epochs):
    """And the last weights are kept. No fall is enough here; the first loss is one."""
    X, y = make_table()
    model = classifier(tol=1e9, n_iter_no_change=n_iter_no_change, max_iter=20).fit(X, y)
    assert model.n_iter_ == model.best_iter_ == n_epochs
    last = classifier(max_iter=n_epochs).fit(X, y)
    np.testing.assert_array_equal(model.params_, last.params_)


def test_schedule_that_has_an_end_is_not_cut_short():
    X, y = make_table()
    settings = {"tol": 1e9, "n_iter_no_change": 1, "max_iter": 6}
    assert classifier(learning_rate="cosine", **settings).fit(X, y).n_iter_ == 6


def test_loss_that_is_still_falling_is_told():
    X, y = make_table()
    with pytest.warns(ConvergenceWarning, match=r"max_iter=3 .*learning_rate_init=0\.01"):
        classifier(n_iter_no_change=5, max_iter=3).fit(X, y)


def test_score_that_is_no_number_before_training_is_refused():
    with pytest.raises(ValueError, match=r"scoring gives nan .* before training"):
        fit_by_script([1.0], before=np.nan)


def test_defaults_stop_early_and_keep_the_best_epoch():
    X, y = make_table(300)
    model = DeepBinaryClassifier(random_state=0, hidden_layer_sizes=(16,)).fit(X, y)
    assert model.n_iter_ < 64
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert model.best_iter_ == 1 + np.argmax(model.validation_scores_)


# Rates that fall where the score stands still.

ADAPTIVE = {"learning_rate": "adaptive", "solver": "gd", "learning_rate_init": 1.0}


def test_adaptive_divides_the_rate_by_five_on_a_plateau():
    """After two epochs without progress, and again after two more."""
    with pytest.warns(ConvergenceWarning, match="max_iter=7"):
        model = fit_by_script([0.0, *[1.0] * 6], n_iter_no_change=2, **ADAPTIVE)
    expected = [1.0, 1.0, 1.0, 1.0, 0.2, 0.2, 0.04]
    np.testing.assert_allclose(model.history_["learning_rate"], expected)


def test_adaptive_lowers_the_rate_of_the_member_on_a_plateau_only():
    """The history has the mean of the rates of 1/5 and 1."""
    script = [[0.0, 0.0], [0.0, 1.0], [0.0, 2.0], [0.0, 3.0]]
    with pytest.warns(ConvergenceWarning, match="still falling"):
        model = fit_by_script(script, n_members=2, n_iter_no_change=2, **ADAPTIVE)
    np.testing.assert_allclose(model.history_["learning_rate"], [1.0, 1.0, 1.0, 0.6])


def test_adaptive_stops_when_the_rate_has_become_too_small():
    """At a millionth: nine divisions by five."""
    model = fit_by_script([1.0] * 30, n_iter_no_change=1, **ADAPTIVE)
    assert model.n_iter_ == 11
    assert model.history_["learning_rate"][-1] == pytest.approx(5.0**-9)
