"""Training: the steps that it takes, what it averages, and that it never fails in silence."""

import re
import time

import numpy as np
import pytest
from data import at_first_weights, classifier, make_table, make_weights
from scipy.sparse import csr_matrix
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_info, threadpool_limits
from trainings import AfterEpoch, needs_callbacks, noisy_table, outcome_of

from skdnn import DeepBinaryClassifier

# Steps.


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("batch_size", [7, 20, 60, 1000])
def test_steps_are_those_of_gradient_descent_by_hand(batch_size, is_weighted):
    """Batches in the order of the rows, the last one shorter; a heavy row is heavy in its batch."""
    X, y = noisy_table()
    weight = np.random.default_rng(0).exponential(size=60) if is_weighted else np.ones(60)
    settings = {"solver": "sgd", "momentum": 0.0, "shuffle": False, "batch_size": batch_size}
    model = classifier((), alpha=0.0, learning_rate_init=0.5, max_iter=2, **settings)
    W, b = (a[0].copy() for a in (at_first_weights(model, X, y).coefs_, [np.zeros(1)]))
    model.fit(X, y, weight if is_weighted else None)
    weight = weight / weight.mean()
    for _ in range(2):
        for start in range(0, 60, batch_size):
            rows = slice(start, start + batch_size)
            error = weight[rows] * (expit(X[rows] @ W[:, 0] + b) - y[rows])
            W[:, 0] -= 0.5 * X[rows].T @ error / len(error)
            b -= 0.5 * error.mean()
    np.testing.assert_allclose(model.coefs_[0], W, rtol=1e-9)
    np.testing.assert_allclose(model.intercepts_[0], b, rtol=1e-9)


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_shuffled_batches_have_each_row_once_an_epoch(n_members, weighted):
    """A rate that is next to none adds up the gradients of all rows, in whatever order."""
    X, y = noisy_table()
    weight = make_weights(60) + 0.5 if weighted else None
    settings = {"solver": "sgd", "momentum": 0.0, "alpha": 0.0, "learning_rate_init": 1e-6}
    moves = []
    for shuffle, batch_size in ((True, 12), (False, 60)):
        model = classifier(n_members=n_members, max_iter=1, shuffle=shuffle, **settings)
        model.set_params(batch_size=batch_size)
        first = at_first_weights(model, X, y).params_
        moves.append((model.fit(X, y, weight).params_ - first) / (60 / batch_size))
    np.testing.assert_allclose(*moves, rtol=1e-4, atol=1e-12)


def test_each_member_and_epoch_has_an_order_of_its_own():
    """From the same weights each comes to others, unless the rows stay in order."""
    X, y = noisy_table()
    for shuffle in (True, False):
        settings = {"solver": "sgd", "momentum": 0.0, "batch_size": 10, "shuffle": shuffle}
        model = classifier(n_members=2, warm_start=True, **settings)
        model.partial_fit(X, y, classes=[0, 1])
        first, ends = model.params_[0].copy(), []
        for _ in range(3):
            model.params_[...] = first
            ends += model.partial_fit(X, y).params_.tolist()
        assert len({tuple(end) for end in ends}) == (6 if shuffle else 1)


@pytest.mark.parametrize("solver", ["gd", "adam"])
def test_rows_are_left_as_they_are(solver):
    X, y = noisy_table()
    weight = make_weights(60) + 0.5
    copies = [array.copy() for array in (X, y, weight)]
    classifier(solver=solver, dropout=0.2, n_members=2).fit(X, y, weight)
    for array, copy in zip((X, y, weight), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "gd", "learning_rate_init": 0.5},
        {"solver": "sgd", "momentum": 0.0},
        {"solver": "sgd", "momentum": 0.9, "nesterovs_momentum": False},
        {"solver": "sgd", "momentum": 0.8},
        {"solver": "rmsprop"},
        {"solver": "adam", "beta_1": 0.85, "beta_2": 0.99},
        {"solver": "adamw"},
        {"solver": "nadam"},
    ],
    ids=str,
)
def test_training_lowers_the_loss(settings):
    X, y = noisy_table(200)
    settings = {"learning_rate_init": 0.02, "max_iter": 15, "n_members": 2, **settings}
    model = classifier((10,), "relu", **settings).fit(X, y)
    assert model.history_["loss"][-1] < 0.95 * model.history_["loss"][0]


def test_part_without_weight_is_no_error_and_changes_nothing():
    """Momentum and decay aside, there is nothing to learn from it."""
    X, y = noisy_table()
    model = classifier(solver="sgd", momentum=0.0, alpha=0.0).partial_fit(X, y, classes=[0, 1])
    before = model.params_.copy()
    for _ in range(3):
        model.partial_fit(X, y, sample_weight=np.zeros(60))
    np.testing.assert_array_equal(model.params_, before)
    assert model.history_["loss"][1:] == [0.0] * 3


# Threads.

THREADS = {
    **{solver: {"solver": solver} for solver in ("gd", "sgd", "rmsprop", "adam", "nadam")},
    "decay": {"solver": "adamw", "max_grad_norm": 0.1, "alpha": 1.0},
    "dropout and average": {"dropout": 0.3, "ema_decay": 0.9},
    "batch normalisation": {"normalization": "batch", "hidden_layer_sizes": (7, 7)},
    "layer normalisation": {"normalization": "layer", "activation": "gelu", "residual": True},
    "without shuffling": {"shuffle": False, "activation": "relu"},
    "by rows seen": {"solver": "sgd", "learning_rate": "invscaling"},
    "focal": {"loss": "focal", "learning_rate": "cosine"},
    "embedding": {"encoder": "auto", "numeric_embedding": "mixed"},
}


@pytest.mark.parametrize("setting", THREADS.values(), ids=THREADS)
@pytest.mark.parametrize("kind", ["rows", "folds", "sparse", "float32"])
def test_training_does_not_depend_on_the_number_of_threads(setting, kind):
    """To the last bit; a second fit goes on from the first one's optimizer and random streams."""
    X, y = make_table(50)
    if "encoder" in setting and kind == "sparse":
        pytest.skip("sparse tables have no embedding")
    X = csr_matrix(X) if kind == "sparse" else X
    parameters = {"max_iter": 2, "batch_size": 16, "n_members": 5, "warm_start": True, **setting}
    parameters |= {"early_stopping": kind == "folds"}
    parameters |= {"dtype": "float32"} if kind == "float32" else {}
    models = []
    for n_jobs in ((1, 1), (2, 2), (3, 5)):
        model = classifier(**parameters)
        for n in n_jobs:
            with threadpool_limits(8, user_api="blas"):
                model.set_params(n_jobs=n).fit(X, y)
        models.append(model)
    for other in models[1:]:
        np.testing.assert_array_equal(other.params_, models[0].params_)
        for name in set(other.history_) - {"seconds"}:
            np.testing.assert_equal(other.history_[name], models[0].history_[name], err_msg=name)


def test_members_share_the_threads_and_a_large_network_leaves_them_to_blas(monkeypatch):
    """However many threads there are: BLAS rounds differently where it takes several."""
    monkeypatch.setattr("skdnn.training.threads.SMALL_PRODUCT", 20_000)
    X, y = make_table(20)
    wide = {"hidden_layer_sizes": (2000,), "batch_size": 20}
    for n_members, setting, expected in ((2, wide, 1), (1, wide, 2), (1, {}, 1)):
        seen: list[int] = []

        class Looking:
            """An activation that is no formula, and that sees how many threads BLAS has."""

            def value(self, z, seen=seen):
                blas = [i for i in threadpool_info() if i["user_api"] == "blas"]
                seen.extend(info["num_threads"] for info in blas)
                return np.tanh(np.asarray(z))

            def derivative(self, z):
                return 1.0 - np.tanh(np.asarray(z)) ** 2

        model = classifier(n_members=n_members, max_iter=1, learning_rate_init=1e-6, **setting)
        with threadpool_limits(2, user_api="blas"):
            model.set_params(activation=Looking()).fit(X, y)
        assert set(seen[-3:]) == {expected}  # the first ones try the formula out


# The moving average of the weights.


def averaged_by_hand(weights, decay):
    """Return the mean of the weights after each step, the newer the heavier."""
    shares = decay ** np.arange(len(weights))[::-1]
    return np.tensordot(shares / shares.sum(), np.array(weights), axes=1)


@pytest.mark.parametrize("decay", [0.1, 0.7, 0.999])
@pytest.mark.parametrize("normalization", [None, "batch"])
@pytest.mark.parametrize("n_members", [1, 3])
def test_average_is_predicted_with_and_the_steps_do_not_know_of_it(decay, normalization, n_members):
    X, y = make_table()
    settings = {"batch_size": len(y), "n_members": n_members, "dropout": 0.2}
    settings["normalization"] = normalization
    weights = [classifier(max_iter=n, **settings).fit(X, y).params_ for n in range(1, 7)]
    averaged = classifier(max_iter=6, ema_decay=decay, **settings).fit(X, y)
    expected = averaged_by_hand(weights, decay)
    np.testing.assert_allclose(averaged.params_, expected, rtol=1e-10, atol=1e-13)
    by_hand = classifier(max_iter=1, **settings).fit(X, y)
    by_hand.params_[...] = expected
    np.testing.assert_allclose(averaged.predict_proba(X), by_hand.predict_proba(X), rtol=1e-9)
    plain = classifier(max_iter=6, **settings).fit(X, y)
    assert averaged.history_["loss"] == plain.history_["loss"]


def test_average_moves_at_each_step_and_not_each_epoch():
    """In order, an epoch of four batches is four parts of a stream."""
    X, y = make_table()
    settings = {"solver": "sgd", "batch_size": 30, "shuffle": False}
    plain, weights = classifier(alpha=0.0, **settings), []
    for start in range(0, 120, 30):
        rows = slice(start, start + 30)
        weights.append(plain.partial_fit(X[rows], y[rows], classes=[0, 1]).params_.copy())
    averaged = classifier(alpha=0.0, ema_decay=0.9, max_iter=1, **settings).fit(X, y)
    expected = averaged_by_hand(weights, 0.9)
    np.testing.assert_allclose(averaged.params_, expected, rtol=1e-10, atol=1e-13)


def test_average_of_one_step_is_the_weights():
    X, y = make_table()
    settings = {"batch_size": len(y), "max_iter": 1}
    averaged = classifier(ema_decay=0.999, **settings).fit(X, y)
    plain = classifier(**settings).fit(X, y)
    np.testing.assert_allclose(averaged.params_, plain.params_, rtol=1e-15)


def test_average_is_what_early_stopping_judges_and_keeps():
    X, y = make_table(180)
    X, y, X_val, y_val = X[:120], y[:120], X[120:], y[120:]
    settings = {"batch_size": len(y), "ema_decay": 0.8, "learning_rate_init": 0.005}
    averages = [classifier((32,), max_iter=n, **settings).fit(X, y) for n in range(1, 31)]
    expected = [log_loss(y_val, estimator.predict_proba(X_val)) for estimator in averages]
    best = int(np.argmin(expected))
    assert 0 < best < 29, "the validation rows should have a best epoch in between"
    stopped = classifier((32,), max_iter=30, early_stopping="auto", **settings)
    stopped.fit(X, y, X_val=X_val, y_val=y_val)
    np.testing.assert_allclose(stopped.history_["validation_loss"], expected, rtol=1e-9)
    np.testing.assert_array_equal(stopped.params_, averages[best].params_)
    assert stopped.best_iter_ == best + 1


def test_partial_fit_goes_on_from_the_last_weights_and_not_from_their_average():
    X, y = make_table()
    averaged, plain = classifier(ema_decay=0.9), classifier()
    weights = []
    for start in (0, 30, 30, 60, 90):
        X_part, y_part = X[start : start + 30], y[start : start + 30]
        averaged.partial_fit(X_part, y_part, classes=[0, 1])
        weights.append(plain.partial_fit(X_part, y_part, classes=[0, 1]).params_.copy())
        expected = averaged_by_hand(weights, 0.9)
        np.testing.assert_allclose(averaged.params_, expected, rtol=1e-10, atol=1e-13)
    assert averaged.loss_curve_ == plain.loss_curve_


# Failures.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "setting",
    [
        *({"activation": name} for name in ("identity", "relu", "tanh", "logistic", "softplus")),
        {"momentum": 0.0},
        {"hidden_layer_sizes": (10, 10, 10)},
        {"early_stopping": True},
        {"batch_size": 1},
        {"batch_size": 120},
        {"solver": "gd"},
    ],
    ids=str,
)
def test_divergence_is_never_silent(dtype, setting):
    """At a learning rate of a million: said with epoch, rate and advice; weights stay finite."""
    X, y = noisy_table(120)
    settings = {"solver": "sgd", "learning_rate_init": 1e6, "n_iter_no_change": 10, "tol": 1e-4}
    model = classifier((10,), "relu", n_members=2, max_iter=10, dtype=dtype, **settings)
    message = outcome_of(lambda: model.set_params(**setting).fit(X, y))
    assert message.startswith(("Training", "The loss stopped being finite"))
    assert "epoch" in message
    assert "learning rate" in message
    assert "learning_rate_init=1000000.0" in message
    assert "StandardScaler" in message
    assert not hasattr(model, "params_") or np.isfinite(model.params_).all()


@pytest.mark.parametrize("max_iter", [1, 2])
def test_divergence_in_the_last_step_is_not_silent_either(max_iter):
    """The loss of an epoch is measured before its last step; that step can ruin the weights."""
    X, y = noisy_table(120)
    model = classifier((10,), "relu", solver="gd", learning_rate_init=1e6, max_iter=max_iter)
    message = outcome_of(lambda: model.fit(X, y))
    assert message.startswith("Training") or log_loss(y, model.predict_proba(X)) < 2.0


def test_heavy_weights_are_not_taken_for_divergence():
    """A part of a table may weigh ten times as much as its rows count; its loss is ten-fold."""
    X, y = noisy_table(200)
    estimator = DeepBinaryClassifier(
        (8,), encoder=None, n_members=1, dropout=0.0, learning_rate_init=0.01, random_state=0
    )
    for _ in range(20):
        estimator.partial_fit(X, y, classes=[0, 1], sample_weight=np.full(200, 10.0))
    assert estimator.history_["loss"][-1] < 0.9 * estimator.history_["loss"][0]


def test_surprising_row_teaches_what_it_has_to_teach():
    """One row at a time, a label against the odds costs much, and is no sign of divergence."""
    settings = {"encoder": None, "n_members": 1, "learning_rate_init": 0.1}
    estimator = DeepBinaryClassifier((), random_state=0, **settings)
    for _ in range(50):
        estimator.partial_fit([[1.0]], [1], classes=[0, 1])
    before = estimator.decision_function([[1.0]])[0]
    message = outcome_of(lambda: estimator.partial_fit([[1.0]], [0]))
    assert "Training diverged" not in message
    assert estimator.history_["loss"][-1] > 1.5
    assert estimator.decision_function([[1.0]])[0] != before


def test_strong_penalty_is_not_taken_for_divergence():
    """The cost is high and falls; the last weights are kept, better than the first."""
    X, y = noisy_table(100)
    model = classifier((50,), "relu", alpha=5.0, learning_rate_init=0.001)
    message = outcome_of(lambda: model.fit(X, y))
    assert "Training diverged" not in message
    assert model.loss_ > 1.4
    assert (np.diff(model.loss_curve_) < 0).all()
    penalty = 0.5 * 5.0 / 100.0 * sum((W**2).sum() for W in model.coefs_)
    assert penalty < model.history_["penalty"][-1]


def test_score_of_a_lost_epoch_is_never_asked_for():
    """Scorers refuse predictions that are not numbers; the weights are put back before."""
    X, y = noisy_table()

    def score(estimator, X, y):
        if not np.isfinite(estimator.params_).all():
            raise ValueError("Input contains NaN.")
        return 0.0

    settings = {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 1e80, "max_iter": 8}
    model = classifier((10,), "tanh", scoring=score, early_stopping=True, **settings)
    message = outcome_of(lambda: model.fit(X, y, X_val=X, y_val=y))
    assert "Input contains NaN" not in message
    assert "finite" in message, "an epoch should be lost"


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rate", [1.0, 1e6, 1e30])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_unscaled_rows_never_end_in_silence(n_members, early_stopping, dtype, rate, activation):
    """Nor in weights that are not finite: an estimator that raises is as it was before."""
    X, y = make_table()
    X = X * np.array([1e4, 1.0, 1e-3, 1e6, 1.0, 1e2]) + 1e3
    estimator = classifier(
        (8,),
        activation,
        solver="sgd",
        learning_rate_init=rate,
        n_members=n_members,
        early_stopping=early_stopping,
        dtype=dtype,
    )
    message = outcome_of(lambda: estimator.fit(X, y))
    if not hasattr(estimator, "params_"):
        is_refused = "is infinite in float32" in message  # as 1e100 is, before training
        assert message.startswith("Training diverged") or (is_refused and rate == 1e100)
        return
    assert np.isfinite(estimator.params_).all()
    assert np.isfinite(estimator.predict_proba(X)).all()
    if log_loss(y, estimator.predict_proba(X)) > 2.0 * np.log(2.0):
        assert message != "silence"
    if rate > 1.0 and activation == "relu":
        assert message != "silence"


# Time.

SECONDS_OF_AN_EPOCH = 4.0


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the ends of epochs move on."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    class Clockwork(AfterEpoch):
        def on_fit_task_end(self, estimator, context, **kwargs):
            now[0] += SECONDS_OF_AN_EPOCH * (context.task_name == "epoch")

    return Clockwork(0)


@needs_callbacks
@pytest.mark.parametrize(
    ("max_time", "n_epochs"), [(0.5, 1), (4.0, 1), (4.1, 2), (12.0, 3), (13.0, 4)]
)
@pytest.mark.parametrize("n_members", [1, 2])
def test_no_new_epoch_begins_when_the_time_is_over(clock, max_time, n_epochs, n_members):
    X, y = make_table()
    model = classifier(max_iter=5, max_time=max_time, n_members=n_members).set_callbacks(clock)
    message = f"{n_epochs} of 5 epochs, because max_time={max_time!r} seconds were over"
    with pytest.warns(ConvergenceWarning, match=re.escape(message)):
        model.fit(X, y)
    assert model.n_iter_ == len(model.loss_curve_) == n_epochs
    whole = classifier(max_iter=n_epochs, n_members=n_members).fit(X, y)
    np.testing.assert_array_equal(model.params_, whole.params_)


@needs_callbacks
@pytest.mark.parametrize("max_time", [17.0, 20.0, 1e9, None])
def test_time_that_suffices_is_not_spoken_of(clock, max_time):
    X, y = make_table()
    model = classifier(max_iter=5, max_time=max_time).set_callbacks(clock).fit(X, y)
    assert model.n_iter_ == 5


@needs_callbacks
@pytest.mark.parametrize("learning_rate", ["constant", "cosine", "one_cycle", "coslog4"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_warm_start_brings_a_fit_without_time_to_its_end(clock, learning_rate, early_stopping):
    """Two epochs at a time; each call has its own time."""
    X, y = make_table()
    settings = {"early_stopping": early_stopping, "max_iter": 6, "dropout": 0.2}
    settings |= {"learning_rate": learning_rate}
    whole = classifier(**settings).fit(X, y)
    parts = classifier(max_time=8.0, warm_start=True, **settings).set_callbacks(clock)
    for n_done in (2, 4):
        with pytest.warns(ConvergenceWarning, match=f"{n_done} of 6 epochs, because max_time"):
            parts.fit(X, y)
        assert parts.n_iter_ == 2
    parts.fit(X, y)
    np.testing.assert_array_equal(parts.params_, whole.params_)
    assert parts.loss_curve_ == whole.loss_curve_
    assert parts.history_["learning_rate"] == whole.history_["learning_rate"]


@needs_callbacks
def test_early_stopping_without_time_keeps_the_best_epoch(clock):
    X, y = make_table()
    settings = {"early_stopping": True, "learning_rate_init": 0.1, "batch_size": 24}
    expected = classifier((32,), max_iter=12, **settings).fit(X, y)
    assert expected.best_iter_ < 12
    model = classifier((32,), max_iter=30, max_time=48.0, **settings).set_callbacks(clock)
    with pytest.warns(ConvergenceWarning, match="12 of 30 epochs, because max_time"):
        model.fit(X, y)
    np.testing.assert_array_equal(model.params_, expected.params_)
