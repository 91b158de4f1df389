"""L-BFGS: the minima that others find, its limits, and what it has in common with other solvers."""

import warnings
from copy import deepcopy

import numpy as np
import pytest
from data import at_first_weights, classifier, make_separable, make_table, make_weights
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier
from trainings import AfterEpoch, needs_callbacks


def lbfgs(*args, **parameters):
    """Return a classifier that has found its minimum, or says that it has not."""
    return classifier(*args, **{"solver": "lbfgs", "max_iter": 500, "tol": 1e-6, **parameters})


def fit_unfinished(estimator, *args, **kwargs):
    """Fit, and expect to hear that the minimum was not reached."""
    with pytest.warns(ConvergenceWarning, match="L-BFGS ended without converging"):
        return estimator.fit(*args, **kwargs)


def cost_of(estimator, X, y, weights=None):
    """Return the mean loss and the penalty, from the probabilities and the weights."""
    weights = np.ones(len(y)) if weights is None else weights
    loss = log_loss(y, estimator.predict_proba(X), sample_weight=weights)
    W = [W.ravel() for W in estimator.coefs_]
    return loss + 0.5 * estimator.alpha / weights.sum() * (np.concatenate(W) ** 2).sum()


# The same minimum as others.


@pytest.mark.parametrize("alpha", [1.0, 5.0, 20.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_members", [1, 2])
def test_no_hidden_layer_equals_logistic_regression(alpha, weighted, n_members):
    X, y = make_table(200)
    weights = make_weights(len(y)) + 0.5 if weighted else None
    network = lbfgs((), alpha=alpha, n_members=n_members, tol=1e-8).fit(X, y, weights)
    regression = LogisticRegression(C=1.0 / alpha, solver="newton-cholesky", tol=1e-12)
    regression.fit(X, y, weights)
    for params in network.params_:
        np.testing.assert_allclose(params[:6], regression.coef_[0], atol=1e-4)
        np.testing.assert_allclose(params[6], regression.intercept_[0], atol=1e-4)
    np.testing.assert_allclose(network.predict_proba(X), regression.predict_proba(X), atol=1e-4)


def test_iterations_are_those_of_scipy_on_the_same_cost():
    """With the cost and its gradient written down once more, by hand."""
    X, y = make_table()
    alpha = 2.0

    def cost(theta):
        W, b = theta[:6], theta[6]
        z = X @ W + b
        grad_z = (expit(z) - y) / len(y)
        value = (np.logaddexp(0.0, z) - y * z).mean() + 0.5 * alpha / len(y) * (W**2).sum()
        return value, np.r_[X.T @ grad_z + alpha / len(y) * W, grad_z.sum()]

    for n in (1, 3, 6):
        network = fit_unfinished(lbfgs((), alpha=alpha, initialization="zeros", max_iter=n), X, y)
        result = minimize(
            cost, np.zeros(7), jac=True, method="L-BFGS-B", options={"maxiter": n, "gtol": 1e-6}
        )
        np.testing.assert_allclose(network.params_[0], result.x, rtol=1e-9, atol=1e-12)
        assert network.loss_ == pytest.approx(result.fun, rel=1e-12)


def mlp_from(network, X, y):
    """Return an MLPClassifier that will start from the first weights of a network."""
    first = at_first_weights(network, X, y)
    peer = MLPClassifier(
        network.hidden_layer_sizes,
        network.activation,
        solver="lbfgs",
        alpha=network.alpha,
        tol=network.tol,
        max_iter=1,
        warm_start=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        peer.fit(X, y)
    peer.coefs_ = [W.copy() for W in first.coefs_]
    # The one step has moved the biases, which were zero.
    peer.intercepts_ = [np.where(np.abs(b) < 1e-200, 0.0, b) for b in first.intercepts_]
    return peer


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("hidden_layer_sizes", [(9,), (6, 5)])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_iterations_are_those_of_mlp_classifier(activation, hidden_layer_sizes, alpha):
    X, y = make_table()
    for n in (1, 2, 7):
        network = lbfgs(hidden_layer_sizes, activation, alpha=alpha, max_iter=n, batch_size=7)
        fit_unfinished(network, X, y)
        peer = mlp_from(network, X, y).set_params(max_iter=n)
        with pytest.warns(ConvergenceWarning):
            peer.fit(X, y)
        assert network.loss_ == pytest.approx(peer.loss_, rel=1e-8)
        np.testing.assert_allclose(network.predict_proba(X), peer.predict_proba(X), atol=1e-7)
        assert network.n_iter_ == peer.n_iter_ == n


def test_parameters_of_mlp_classifier_train_as_mlp_classifier_does():
    """With its `max_fun` come its first weights, from the same distributions."""
    X, y = make_table()
    mlp = MLPClassifier((9,), solver="lbfgs", random_state=0, alpha=20.0, max_iter=2_000).fit(X, y)
    network = classifier().set_params(**mlp.get_params()).fit(X, y)
    assert len(network.params_) == 1
    assert cost_of(network, X, y) == pytest.approx(mlp.loss_, rel=0.15)


# What it tells.


def test_history_is_the_cost_after_each_iteration():
    X, y = make_table()
    whole = fit_unfinished(lbfgs(alpha=1.0, max_iter=6), X, y)
    for n in range(1, 7):
        part = fit_unfinished(lbfgs(alpha=1.0, max_iter=n), X, y)
        assert part.loss_curve_ == whole.loss_curve_[:n]
        assert part.loss_ == pytest.approx(cost_of(part, X, y), rel=1e-12)
        penalty = 0.5 / len(y) * sum((W**2).sum() for W in part.coefs_)
        assert part.history_["penalty"][-1] == pytest.approx(penalty, rel=1e-12)
        assert part.best_iter_ == part.n_iter_ == n
        assert part.t_ == n * len(y)
    assert (np.diff(whole.loss_curve_) <= 0).all()


def test_minimum_is_reached_in_silence():
    X, y = make_table()
    estimator = lbfgs((3,), alpha=20.0).fit(X, y)
    assert estimator.n_iter_ < 500
    nudged = deepcopy(estimator)
    lowest = cost_of(estimator, X, y)
    rng = np.random.default_rng(0)
    for _ in range(20):
        nudged.params_ = estimator.params_ + 1e-2 * rng.normal(size=estimator.params_.shape)
        assert cost_of(nudged, X, y) > lowest


@pytest.mark.parametrize(
    ("limit", "message"),
    [({"max_iter": 3}, "max_iter=3"), ({"max_fun": 4}, "max_fun=4")],
    ids=str,
)
@pytest.mark.parametrize("n_members", [1, 3])
def test_limit_before_the_minimum_is_said(limit, message, n_members):
    X, y = make_table()
    estimator = lbfgs(**{"n_members": n_members, "initialization": "auto", **limit})
    with pytest.warns(ConvergenceWarning, match=message):
        estimator.fit(X, y)
    assert 0 < estimator.n_iter_ <= 4 * n_members
    assert np.isfinite(estimator.params_).all()


@pytest.mark.parametrize("n_members", [1, 3])
def test_limit_before_the_first_iteration_leaves_weights_to_predict_with(n_members):
    X, y = make_table()
    with pytest.warns(ConvergenceWarning, match="max_fun=1"):
        estimator = lbfgs(max_fun=1, n_members=n_members).fit(X, y)
    assert np.isfinite(estimator.predict_proba(X)).all()


def test_max_fun_is_counted_for_each_member():
    X, y = make_table()
    alone = fit_unfinished(lbfgs(max_fun=12), X, y)
    together = fit_unfinished(lbfgs(max_fun=12, n_members=3), X, y)
    np.testing.assert_array_equal(together.params_[0], alone.params_[0])


def test_tol_is_the_largest_slope_that_counts_as_none():
    X, y = make_table()
    n_iterations = []
    for tol in (1e-1, 1e-2, 1e-3):
        estimator = lbfgs((), alpha=0.0, tol=tol).fit(X, y)
        error = estimator.predict_proba(X)[:, 1] - y
        slopes = np.abs([*(X.T @ error / len(y)), error.mean()])
        assert slopes.max() <= tol
        n_iterations.append(estimator.n_iter_)
    assert n_iterations[0] < n_iterations[1] < n_iterations[2]


# Members.


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("normalization", [None, "batch"])
def test_members_together_equal_members_alone(early_stopping, normalization):
    """Member k alone is the first of a network that has its first weights."""
    X, y = make_table()
    settings = {
        "normalization": normalization,
        "early_stopping": early_stopping,
        "n_iter_no_change": 3,
        "alpha": 2.0,
        "max_iter": 40,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        together = lbfgs(n_members=3, **settings).fit(X, y)
        origins = at_first_weights(together, X, y).params_
        for k in range(3):
            alone = lbfgs(warm_start=True, **{**settings, "max_iter": 1}).fit(X, y)
            alone.params_[...] = origins[k]
            alone.set_params(max_iter=40).fit(X, y)
            np.testing.assert_array_equal(alone.params_[0], together.params_[k])
    assert len(np.unique(together.params_, axis=0)) == 3
    assert len(together.loss_curve_) <= 3 * 40
    assert {len(column) for column in together.history_.values()} == {together.n_iter_}


@needs_callbacks
@pytest.mark.parametrize("n_epochs", [2, 5, 7, 9, 12])
def test_members_that_a_callback_stops_leave_the_history_of_those_that_were_trained(n_epochs):
    """Each has five iterations; whoever had none takes the weights of another."""
    X, y = make_table()
    estimator = lbfgs(n_members=3, max_iter=5).set_callbacks(AfterEpoch(n_epochs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(X, y)
        origins = at_first_weights(estimator, X, y).params_
        curves, params = [], []
        for origin in origins:
            n_left = n_epochs - 5 * len(curves)
            if n_left <= 0:
                break
            alone = lbfgs(max_iter=1, warm_start=True).fit(X, y)
            alone.params_[...] = origin
            alone.set_params(max_iter=min(5, n_left)).fit(X, y)
            curves.append(alone.loss_curve_[1:])
            params.append(alone.params_[0])
    expected = np.concatenate(curves)
    np.testing.assert_allclose(estimator.loss_curve_, expected, rtol=1e-12)
    assert estimator.n_iter_ == estimator.best_iter_ == len(expected)
    for member in range(3):
        np.testing.assert_array_equal(estimator.params_[member], params[member % len(params)])


@needs_callbacks
def test_snapshots_of_members_in_turn_have_no_untrained_ones():
    X, y = make_table()

    class Looking(AfterEpoch):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
            if context.task_name == "epoch":
                self.seen.append((fitted_estimator, len(estimator.history_["loss"])))

    callback = Looking(0)
    callback.seen = []
    estimator = lbfgs(n_members=2, max_iter=4).set_callbacks(callback)
    fit_unfinished(estimator, X, y)
    lengths = [len(snapshot.loss_curve_) for snapshot, _ in callback.seen]
    assert lengths == [length for _, length in callback.seen] == [*range(1, 9)]
    for place, (snapshot, _) in enumerate(callback.seen):
        is_copy = np.array_equal(snapshot.params_[0], snapshot.params_[1])
        assert is_copy == (place < 4)
        assert snapshot.loss_ == snapshot.loss_curve_[-1]
    np.testing.assert_array_equal(callback.seen[-1][0].params_, estimator.params_)
    assert callback.seen[-1][0].loss_curve_ == estimator.loss_curve_


def test_converged_members_may_be_asked_to_go_on():
    """The gradient vanishes for some at once, and for others after another iteration."""
    X, y = make_table()
    for tol in (1e-3, 1e-4, 1e-5):
        estimator = lbfgs((3,), alpha=10.0, n_members=4, warm_start=True, tol=tol).fit(X, y)
        before = cost_of(estimator, X, y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.set_params(tol=0.7 * tol).fit(X, y)
        assert cost_of(estimator, X, y) <= before + 1e-3


def test_member_that_begins_at_its_minimum_is_no_divergence():
    X, y = make_table()
    estimator = lbfgs((), alpha=1.0, n_members=2, warm_start=True, tol=1e-5).fit(X, y)
    minimum = estimator.params_[0].copy()
    estimator.params_[1] += 1.0
    estimator.fit(X, y)
    np.testing.assert_allclose(estimator.params_[0], minimum, atol=1e-3)
    np.testing.assert_allclose(estimator.params_[1], minimum, atol=1e-3)


# Weights, validation, normalisation.


def test_weights_of_rows_are_repetitions():
    X, y = make_table()
    k = make_weights(len(y))
    settings = {"alpha": 2.0, "max_iter": 8}
    weighted = fit_unfinished(lbfgs(**settings), X, y, sample_weight=k)
    repeated = fit_unfinished(lbfgs(**settings), X.repeat(k, axis=0), y.repeat(k))
    np.testing.assert_array_equal(weighted.params_, repeated.params_)
    assert weighted.loss_ == pytest.approx(cost_of(weighted, X, y, k), rel=1e-12)


@pytest.mark.parametrize("scoring", ["loss", "roc_auc"])
def test_early_stopping_keeps_the_best_iteration_on_validation_rows(scoring):
    X, y = make_table(160)
    X, y, X_val, y_val = X[:100], y[:100], X[100:], y[100:]
    given = {"X_val": X_val, "y_val": y_val}
    settings = {
        "alpha": 0.0,
        "max_iter": 30,
        "early_stopping": "auto",
        "n_iter_no_change": 5,
        "scoring": scoring,
    }
    estimator = lbfgs((16,), **settings)
    with warnings.catch_warnings():  # the next test is about these
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(X, y, **given)
    best = int(np.argmax(estimator.validation_scores_))
    assert 0 < best < len(estimator.validation_scores_) - 1
    assert estimator.best_iter_ == best + 1
    assert estimator.n_iter_ == best + 1 + 5
    until_best = fit_unfinished(
        lbfgs((16,), **{**settings, "early_stopping": False, "max_iter": best + 1}), X, y
    )
    np.testing.assert_array_equal(estimator.params_, until_best.params_)
    loss = log_loss(y_val, estimator.predict_proba(X_val))
    assert estimator.history_["validation_loss"][best] == pytest.approx(loss, rel=1e-12)


def test_early_stopping_that_stopped_is_an_end_in_silence():
    """And a warm start that gains nothing keeps what there is, and says which epoch it is of."""
    X, y = make_table(160)
    X, y, X_val, y_val = X[:100], y[:100], X[100:], y[100:]
    settings = {"early_stopping": "auto", "n_iter_no_change": 5, "warm_start": True}
    estimator = lbfgs((16,), alpha=0.0, **settings).fit(X, y, X_val=X_val, y_val=y_val)
    n_first, best, params = estimator.n_iter_, estimator.best_iter_, estimator.params_.copy()
    assert best < n_first < 100
    estimator.fit(X, y, X_val=X_val, y_val=y_val)
    assert len(estimator.loss_curve_) == n_first + estimator.n_iter_ > n_first
    if estimator.best_iter_ == best:
        np.testing.assert_array_equal(estimator.params_, params)
    else:
        assert estimator.best_iter_ > n_first
        at_best = np.argmax(estimator.validation_scores_) + 1
        assert estimator.best_iter_ == at_best


def assert_statistics_are_those_of_all_rows(estimator, X, weights=None):
    """Check those of the one hidden layer, under the weights that are kept."""
    view = estimator._predictor.network.layout.view
    z = X @ estimator.coefs_[0] + estimator.intercepts_[0]
    mean = np.average(z, axis=0, weights=weights)
    variance = np.average((z - mean) ** 2, axis=0, weights=weights)
    for name, expected in (("running_mean", mean), ("running_variance", variance)):
        statistic = view(estimator.params_, f"batchnorm_1.{name}").ravel()
        np.testing.assert_allclose(statistic, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("early_stopping", [False, "auto"])
@pytest.mark.parametrize("max_iter", [1, 6])
def test_statistics_of_batch_normalisation_are_those_of_all_rows(
    weighted, early_stopping, max_iter
):
    X, y = make_table()
    weights = make_weights(len(y)) + 0.5 if weighted else None
    estimator = lbfgs((5,), normalization="batch", max_iter=max_iter, warm_start=True)
    estimator.set_params(early_stopping=early_stopping)
    given = {"X_val": X[:40], "y_val": y[:40]} if early_stopping else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for _ in range(2):
            estimator.fit(X, y, weights, **given)
            assert_statistics_are_those_of_all_rows(estimator, X, weights)


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_statistics_of_rows_before_are_forgotten(solver):
    X, y = make_table()
    estimator = lbfgs((5,), normalization="batch", max_iter=6, warm_start=True, solver=solver)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(X, y)
        estimator.set_params(solver="lbfgs").fit(X + 1.0, y)
    assert_statistics_are_those_of_all_rows(estimator, X + 1.0)


def test_float32_is_trained_in_float32():
    X, y = make_table(dtype=np.float32)
    estimator = lbfgs((6,), alpha=10.0, tol=1e-4).fit(X, y)
    assert estimator.params_.dtype == np.float32
    double = lbfgs((6,), alpha=10.0, tol=1e-4, dtype="float64").fit(X, y)
    assert cost_of(estimator, X, y) == pytest.approx(cost_of(double, X, y), rel=0.05)


def test_separable_rows_do_not_overflow():
    X, y = make_separable()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator = lbfgs(alpha=0.0, tol=1e-12).fit(X, y)
    assert estimator.score(X, y) == 1.0
    assert np.isfinite(estimator.params_).all()


@pytest.mark.parametrize("scale", [1e4, 1e150])
def test_unscaled_rows_are_never_learned_in_silence(scale):
    X, y = make_table()
    estimator = lbfgs((8,), "relu", max_iter=20)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            estimator.fit(X * scale, y)
        except ValueError as error:
            assert "diverged" in str(error)  # noqa: PT017
            return
    assert np.isfinite(estimator.params_).all()
    loss = log_loss(y, estimator.predict_proba(X * scale))
    assert loss < 2.0 or any(w.category is ConvergenceWarning for w in caught)


# What has no meaning with it.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dropout", 0.1),
        ("dropout", [0.2]),
        ("weight_decay", 0.1),
        ("ema_decay", 0.9),
        ("max_grad_norm", 1.0),
    ],
)
def test_parameter_without_effect_is_refused(name, value):
    X, y = make_table()
    estimator = lbfgs(**{name: value})
    with pytest.raises(ValueError, match=f"{name}=.*solver='lbfgs'"):
        estimator.fit(X, y)
    assert not hasattr(estimator, "params_")


@pytest.mark.parametrize(("name", "value"), [("dropout", [0.0]), ("weight_decay", 0.0)])
def test_parameter_of_no_effect_anyway_is_accepted(name, value):
    X, y = make_table()
    fit_unfinished(lbfgs(max_iter=2, **{name: value}), X, y)


def test_lbfgs_has_no_partial_fit():
    X, y = make_table()
    estimator = lbfgs()
    assert not hasattr(estimator, "partial_fit")
    with pytest.raises(AttributeError) as caught:
        estimator.partial_fit(X, y, classes=[0, 1])
    assert "lbfgs" in str(caught.value.__cause__)
    assert hasattr(estimator.set_params(solver="adam"), "partial_fit")


def test_defaults_are_a_single_network_without_dropout():
    X, y = make_table()
    estimator = lbfgs(n_members="auto", dropout="auto", max_iter=3)
    fit_unfinished(estimator, X, y)
    assert len(estimator.params_) == 1
    plain = fit_unfinished(lbfgs(max_iter=3), X, y)
    np.testing.assert_array_equal(estimator.params_, plain.params_)


# Time.


@pytest.mark.parametrize("n_members", [1, 3])
def test_max_time_ends_the_minimisation_and_a_warm_start_begins_there(n_members):
    X, y = make_table()
    settings = {"n_members": n_members, "max_iter": 8, "warm_start": True}
    first = fit_unfinished(lbfgs(**{**settings, "max_iter": 1}), X, y)
    estimator = lbfgs(max_time=1e-9, **settings)
    message = f"{n_members} of {8 * n_members} epochs, because max_time=1e-09 seconds"
    with pytest.warns(ConvergenceWarning, match=message):
        estimator.fit(X, y)
    assert estimator.n_iter_ == n_members
    np.testing.assert_array_equal(estimator.params_, first.params_)
    fit_unfinished(estimator.set_params(max_time=None), X, y)
    np.testing.assert_array_equal(
        estimator.params_, fit_unfinished(first.set_params(max_iter=8), X, y).params_
    )
    assert estimator.n_iter_ == 8 * n_members
    assert len(estimator.loss_curve_) == estimator.best_iter_ == 9 * n_members


@pytest.mark.parametrize("early_stopping", [False, True])
def test_warm_start_of_early_stopping_comes_to_weights_as_good_as_those_of_one_piece(
    early_stopping,
):
    """Five fits of one iteration each, and one of five."""
    X, y = make_table()
    settings = {"early_stopping": early_stopping, "warm_start": True, "n_iter_no_change": np.inf}
    estimator = lbfgs(max_iter=1, **settings)
    for n_done in range(1, 6):
        before = estimator.params_.copy() if n_done > 1 else None
        fit_unfinished(estimator, X, y)
        assert len(estimator.loss_curve_) == n_done
        assert 1 <= estimator.best_iter_ <= n_done
        is_best = estimator.best_iter_ == n_done
        assert is_best or np.array_equal(estimator.params_, before)
        assert is_best or early_stopping
    assert estimator.loss_curve_[-1] < estimator.loss_curve_[0]


def test_less_time_than_before_does_not_take_iterations_back():
    X, y = make_table()
    estimator = fit_unfinished(lbfgs(max_iter=5, warm_start=True), X, y)
    params, loss = estimator.params_.copy(), estimator.loss_
    with pytest.warns(ConvergenceWarning, match="max_time"):
        estimator.set_params(max_time=1e-9).fit(X, y)
    assert cost_of(estimator, X, y) <= loss
    assert not np.array_equal(estimator.params_, params)


def test_warm_start_under_another_penalty_begins_where_the_last_one_ended():
    """What the old penalty has led to is not to be repeated under the new one."""
    X, y = make_table()
    estimator = fit_unfinished(lbfgs(max_iter=5, warm_start=True), X, y)
    params = estimator.params_.copy()
    other = fit_unfinished(lbfgs(max_iter=5, warm_start=True, random_state=1), X, y)
    other.params_[...] = params
    fit_unfinished(estimator.set_params(alpha=20.0), X, y)
    assert estimator.n_iter_ == 5
    fit_unfinished(other.set_params(alpha=20.0), X, y)
    np.testing.assert_array_equal(estimator.params_, other.params_)


def test_advice_is_about_parameters_that_lbfgs_has():
    X, y = make_table()
    estimator = lbfgs((16,), early_stopping=True, n_iter_no_change=100, max_iter=3)
    with pytest.warns(ConvergenceWarning) as caught:
        estimator.fit(X, y)
    assert "learning_rate" not in str(caught[0].message)
