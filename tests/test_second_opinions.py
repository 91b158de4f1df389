"""scikit-learn's own estimators, asked about the same problem: where both must agree, both do."""

import numpy as np
import pytest
from data import at_first_weights, classifier, make_table, make_weights
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler


def load_two_irises():
    X, y = load_iris(return_X_y=True)
    return X[y > 0], y[y > 0]


TABLES = {
    "breast cancer": (load_breast_cancer(return_X_y=True), 1.0),
    "iris": (load_two_irises(), 0.1),
    "synthetic": (make_table(400, 10), 10.0),
}


@pytest.mark.parametrize("weighted", [False, True], ids=["equal weights", "weights"])
@pytest.mark.parametrize(("table", "alpha"), TABLES.values(), ids=TABLES)
def test_no_hidden_layer_equals_logistic_regression(table, alpha, weighted):
    X, y = StandardScaler().fit_transform(table[0]), table[1]
    weights = make_weights(len(y)) + 0.5 if weighted else None
    network = classifier(
        (),
        alpha=alpha,
        solver="sgd",
        momentum=0.98,
        batch_size=len(y),
        learning_rate_init=0.3,
        max_iter=1_500,
    ).fit(X, y, sample_weight=weights)
    # Our cost is the sum of the losses plus alpha / 2 |W|^2; theirs, C times that sum plus 1/2.
    regression = LogisticRegression(C=1.0 / alpha, solver="newton-cholesky", tol=1e-10)
    regression.fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(network.coefs_[0], regression.coef_.T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(network.intercepts_[0], regression.intercept_, atol=1e-5)
    np.testing.assert_allclose(network.predict_proba(X), regression.predict_proba(X), atol=1e-5)


def test_class_weight_equals_that_of_logistic_regression():
    X, y = make_table(400)
    X, y = X[y.cumsum() < 60], y[y.cumsum() < 60]
    network = classifier(
        (), alpha=1.0, class_weight="balanced", solver="gd", learning_rate_init=1.0, max_iter=1_000
    ).fit(X, y)
    regression = LogisticRegression(
        class_weight="balanced", solver="newton-cholesky", tol=1e-10
    ).fit(X, y)
    np.testing.assert_allclose(network.coefs_[0], regression.coef_.T, atol=1e-5)


# MLPClassifier, from the same first weights.

# MLPClassifier adds Adam's epsilon before it corrects the bias of the second moment, we add it (as
# PyTorch does) afterwards: where epsilon is as good as nothing, both are the same.
ADAM = {"solver": "adam", "learning_rate_init": 0.01, "epsilon": 1e-14}

SOLVERS = {
    "adam": ADAM,
    "adam, other moments": {**ADAM, "beta_1": 0.5, "beta_2": 0.9},
    "sgd": {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.3},
    "momentum": {"solver": "sgd", "momentum": 0.9, "nesterovs_momentum": False},
    "nesterov": {"solver": "sgd", "momentum": 0.9, "nesterovs_momentum": True},
    "inverse scaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.5},
}


def follow(network, X, y):
    """Return the network and an MLPClassifier, trained from the same first weights in one way."""
    shared = set(MLPClassifier().get_params()) & set(network.get_params())
    shared -= {"max_fun"}  # for "lbfgs" only, and None is not for MLPClassifier
    peer = MLPClassifier(**{name: getattr(network, name) for name in shared})
    # One epoch at a rate of nothing makes the attributes that the first weights then go into.
    peer.set_params(n_iter_no_change=10_000, warm_start=True)
    peer.set_params(learning_rate_init=1e-300, max_iter=1).fit(X, y)
    unlearned = at_first_weights(network, X, y)
    peer.coefs_ = [W.copy() for W in unlearned.coefs_]
    peer.intercepts_ = [b.copy() for b in unlearned.intercepts_]
    peer.t_, peer.loss_curve_ = 0, []
    peer.set_params(learning_rate_init=network.learning_rate_init, max_iter=network.max_iter)
    return network.fit(X, y), peer.fit(X, y)


def assert_same_course(network, peer, X):
    assert len(network.loss_curve_) == network.max_iter
    np.testing.assert_allclose(network.loss_curve_, peer.loss_curve_, rtol=1e-8, atol=1e-8)
    assert network.loss_curve_[-1] < 0.99 * network.loss_curve_[0]
    ours, theirs = (m.coefs_ + m.intercepts_ for m in (network, peer))
    for ours_of_layer, theirs_of_layer in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(ours_of_layer, theirs_of_layer, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(network.predict_proba(X), peer.predict_proba(X), atol=1e-7)


# MLPClassifier says at the end of every fit that it has not converged.
never_converged = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")


@never_converged
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("settings", SOLVERS.values(), ids=SOLVERS)
def test_full_batches_follow_mlp_classifier(settings, activation):
    X, y = make_table()
    settings = {"learning_rate_init": 0.05, **settings}
    network = classifier(
        (9, 7), activation, alpha=0.5, batch_size=len(y), shuffle=False, max_iter=60, **settings
    )
    assert_same_course(*follow(network, X, y), X)


@never_converged
@pytest.mark.parametrize("hidden_layer_sizes", [(1,), (12,), (6, 5, 4, 3)])
def test_networks_of_any_depth_follow_mlp_classifier(hidden_layer_sizes):
    X, y = make_table()
    network = classifier(hidden_layer_sizes, "tanh", alpha=0.0, batch_size=len(y), shuffle=False)
    network.set_params(max_iter=30, **ADAM)
    assert_same_course(*follow(network, X, y), X)


@never_converged
@pytest.mark.parametrize("settings", SOLVERS.values(), ids=SOLVERS)
def test_mini_batches_follow_mlp_classifier(settings):
    X, y = make_table()
    # Without a penalty, which MLPClassifier weighs by the batch and we by the table.
    network = classifier(
        (9,), alpha=0.0, batch_size=25, shuffle=False, **{"learning_rate_init": 0.02, **settings}
    )
    network.set_params(max_iter=20)
    assert_same_course(*follow(network, X, y), X)


@never_converged
def test_weights_follow_repeated_rows_of_mlp_classifier():
    X, y = make_table()
    k = make_weights(len(y))
    network = classifier(
        (9,), alpha=0.5, batch_size=int(k.sum()), shuffle=False, max_iter=60, **ADAM
    )
    repeated, peer = follow(network, X.repeat(k, axis=0), y.repeat(k))
    weighted = classifier(**network.get_params()).fit(X, y, sample_weight=k)
    assert_same_course(repeated, peer, X)
    assert_same_course(weighted, peer, X)
