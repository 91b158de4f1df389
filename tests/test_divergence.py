"""What becomes of members that diverge: epochs that they lose, and weights that they go back to."""

import re
import warnings

import numpy as np
import pytest
from data import classifier
from sklearn.exceptions import ConvergenceWarning
from trainings import noisy_table

from skdnn import DeepBinaryClassifier

# The rows are -1 and 1, and the label is the sign. A step of gradient descent from W = 0, which is
# wrong for nobody, moves W by half the learning rate, and after it all rows are answered right: W
# stands still. Validation rows of 1e30 make W from 3.4e8 on overflow in float32.
OVERFLOW = np.finfo(np.float32).max / 1e30


def rows_of(size):
    return np.array([[size], [-size]] * 4), np.array([1, 0] * 4)


def fit_losing(n_lost, n_epochs, *, params=None, **parameters):
    """Fit a network that loses so many epochs at first, if its first weights are zero."""
    settings = {"learning_rate_init": 1.5 * OVERFLOW * 2.0**n_lost, "alpha": 0.0}
    model = classifier(
        (), solver="gd", initialization="zeros", dtype="float32", early_stopping=True, **parameters
    )
    X, y = rows_of(1.0)
    X_val, y_val = rows_of(1e30)
    if params is not None:
        model.set_params(max_iter=1, warm_start=True, learning_rate_init=1e-30)
        model.fit(X, y, X_val=X_val, y_val=y_val)
        model.params_[...] = params
    model.set_params(max_iter=n_epochs, **settings)
    return model.fit(X, y, X_val=X_val, y_val=y_val)


@pytest.mark.parametrize("n_lost", [1, 2, 5])
def test_epoch_whose_loss_is_not_finite_is_taken_back_and_the_rate_halved(n_lost):
    """It is of no loss in the history, and the rates of the next ones are halved."""
    message = rf"stopped being finite in {n_lost} epochs?.*half the learning rate.*StandardScaler"
    with pytest.warns(ConvergenceWarning, match=message):
        model = fit_losing(n_lost, n_lost + 2)
    history, rate = model.history_, model.learning_rate_init
    expected = [*[np.nan] * n_lost, np.log(2.0), 0.0]
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-6)
    np.testing.assert_array_equal(np.isnan(history["validation_loss"]), np.isnan(expected))
    halved = [rate * 0.5 ** min(n, n_lost) for n in range(n_lost + 2)]
    np.testing.assert_allclose(history["learning_rate"], halved)
    np.testing.assert_allclose(model.params_, [[0.75 * OVERFLOW, 0.0]])
    assert model.best_iter_ == n_lost + 1


def test_loss_that_is_never_finite_raises():
    message = r"diverged.*in epoch 6 at learning rate.*No better weights.*learning_rate_init="
    with pytest.raises(ValueError, match=message):
        fit_losing(6, 10)


def test_lost_epochs_of_one_member_leave_the_others_alone():
    """The first has nothing to learn, the third takes a step of the whole rate."""
    params = np.array([[40.0, 0.0], [0.0, 0.0], [-40.0, 0.0]])
    with pytest.warns(ConvergenceWarning, match="stopped being finite in 3 epochs"):
        model = fit_losing(1, 4, params=params, n_members=3)
    rate = model.learning_rate_init
    np.testing.assert_allclose(model.params_[:, 0], [40.0, rate / 4.0, rate / 4.0], rtol=1e-6)
    np.testing.assert_allclose(
        np.array(model.history_["learning_rate"][1:]) / rate,
        [1.0, np.mean([1.0, 0.5, 0.5]), *[np.mean([1.0, 0.5, 0.25])] * 2],
    )


def test_lost_epoch_neither_counts_as_waiting_nor_as_the_best():
    """Two epochs of waiting are two that were not lost: after the best, which is the third."""
    with pytest.warns(ConvergenceWarning, match="stopped being finite in 2 epochs"):
        model = fit_losing(2, 20, n_iter_no_change=2, tol=1e-4)
    assert (model.best_iter_, model.n_iter_) == (3, 5)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_lost_epoch_takes_the_optimizer_back_too(momentum):
    """The velocity that a lost epoch gave is lost with it."""
    settings = {"momentum": momentum, "nesterovs_momentum": False, "batch_size": 8}
    ends = []
    for n_lost in (0, 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = fit_losing(n_lost, n_lost + 1, **settings).set_params(solver="sgd")
        ends.append(model.params_)
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_members_that_lose_epochs_together_equal_members_that_lose_them_alone(early_stopping):
    """At rates at which some do and others do not."""
    X, y = noisy_table(100)
    X = X.astype(np.float32)
    n_lost = set()

    def fit(model, X=X, y=y):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            try:
                model.fit(X, y, **({"X_val": X, "y_val": y} if early_stopping else {}))
            except ValueError as error:
                assert "diverged" in str(error)  # noqa: PT017
                return None
        found = re.search(r"finite in (\d+) epoch", "".join(str(w.message) for w in caught))
        n_lost.add(int(found[1]) if found else 0)
        return model

    def pose(n_members, params=None):
        model = classifier(
            (8, 8, 8), "relu", solver="gd", n_members=n_members, warm_start=True, alpha=0.0
        ).set_params(max_iter=1, learning_rate_init=1e-30, early_stopping=early_stopping)
        fit(model, X[:50], y[:50])  # of other rows no training is left to go on with
        if params is not None:
            model.params_[...] = params
        return model.set_params(max_iter=8)

    for rate in (1e1, 1e3, 1e5, 1e8, 1e11):
        first = pose(4).params_.copy()
        alone = [fit(pose(1, p).set_params(learning_rate_init=rate)) for p in first]
        survivors = [member for member in range(4) if alone[member] is not None]
        if survivors:
            together = pose(len(survivors), first[survivors])
            fit(together.set_params(learning_rate_init=rate))
            for place, member in enumerate(survivors):
                np.testing.assert_array_equal(together.params_[place], alone[member].params_[0])
    assert len(n_lost) > 1, "some should lose epochs and some not"


@pytest.mark.parametrize("learning_rate_init", [20.0, 100.0])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_units_that_overflow_out_of_fold_are_no_warning(learning_rate_init):
    """All warnings but that of scikit-learn's are errors here."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 5))
    y = X[:, 0] + rng.normal(size=200) > 0
    model = DeepBinaryClassifier(
        learning_rate_init=learning_rate_init,
        max_iter=4,
        n_members=3,
        calibration="temperature",
        random_state=0,
    ).fit(X, y)
    held_out = ~np.isnan(model.oof_decision_function_)
    assert held_out.any()
    assert np.isfinite(model.oof_decision_function_[held_out]).all()
    assert np.isfinite(model.decision_function(X)).all()
