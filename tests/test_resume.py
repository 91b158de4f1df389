"""Training that goes on: a fit in two parts is the fit in one, to the last bit, or says why not."""

import pickle
import warnings
from copy import deepcopy
from functools import cache

import numpy as np
import pytest
from data import classifier, make_separable, make_table
from sklearn.exceptions import ConvergenceWarning
from trainings import AfterEpoch, needs_callbacks

from skdnn.optim.solvers import SOLVERS

HORIZONS = ["cosine", "one_cycle", "coslog4"]


def fit(estimator, *args, **kwargs):
    """Fit, and say nothing of an end before convergence, which is not the matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(*args, **kwargs)


def flatten(value):
    """Return all arrays and numbers of a state, by the way to each."""
    if isinstance(value, np.random.Generator):
        return flatten(value.bit_generator.state)
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    elif hasattr(value, "__dict__"):
        parts = vars(value).items()
    else:
        return {(): value}
    return {(k, *way): leaf for k, part in parts for way, leaf in flatten(part).items()}


def assert_same_training(one, other):
    """Check all fitted attributes and all that training needs to go on."""
    for name in ("params_", "loss_curve_", "loss_", "best_loss_", "validation_scores_"):
        np.testing.assert_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for name in ("best_validation_score_", "best_iter_", "t_"):
        np.testing.assert_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert set(one.history_) == set(other.history_)
    for name in set(one.history_) - {"seconds"}:
        np.testing.assert_equal(one.history_[name], other.history_[name], err_msg=name)
    assert {len(column) for column in one.history_.values()} == {len(one.loss_curve_)}
    ours, theirs = flatten(one._resume), flatten(other._resume)
    assert set(ours) == set(theirs)
    for way, leaf in ours.items():
        if "n_epochs_before" not in way:
            np.testing.assert_equal(leaf, theirs[way], err_msg=str(way))


SETTINGS = {
    **{solver: {"solver": solver} for solver in SOLVERS},
    "sgd without momentum": {"solver": "sgd", "momentum": 0.0},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling"},
    "adaptive": {
        "solver": "sgd",
        "learning_rate": "adaptive",
        "learning_rate_init": 0.5,
        "n_iter_no_change": 1,
        "tol": 0.01,
    },
    "early_stopping": {"n_iter_no_change": 20, "tol": 0.01},
    "dropout": {"dropout": 0.3},
    "members": {"n_members": 3, "dropout": 0.2},
    "moving average": {"ema_decay": 0.9, "n_members": 2},
    "batch normalisation": {"normalization": "batch", "n_members": 2},
    "batch normalisation and average": {"normalization": "batch", "ema_decay": 0.8},
    "residual layers": {"hidden_layer_sizes": (6, 6), "residual": True, "normalization": "layer"},
    "float32": {"dtype": "float32", "n_members": 2},
    "folds": {"n_members": 5},
    "encoder": {"encoder": "auto", "n_members": 2},
    "everything": {
        "n_members": 2,
        "dropout": 0.2,
        "ema_decay": 0.9,
        "normalization": "batch",
        "max_grad_norm": 0.1,
        "weight_decay": 0.1,
        "alpha": 1.0,
    },
}
settings = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
stopping = pytest.mark.parametrize("early_stopping", [False, True])


def pickled(estimator):
    return pickle.loads(pickle.dumps(estimator))


@settings
@stopping
def test_fit_in_two_parts_is_the_fit_in_one(setting, early_stopping):
    X, y = make_table()
    setting = {**setting, "early_stopping": early_stopping}
    whole = fit(classifier(max_iter=6, **setting), X, y)
    half = fit(classifier(max_iter=3, warm_start=True, **setting), X, y)
    assert half.n_iter_ == len(half.loss_curve_) == 3
    first = deepcopy(half.history_)
    for halves in (pickled(half), deepcopy(half), half):
        fit(halves, X, y)
        assert halves.n_iter_ == 3
        assert len(halves.loss_curve_) == 6
        for name, values in first.items():
            assert halves.history_[name][:3] == values
        assert_same_training(halves, whole)


@settings
@stopping
def test_fit_in_four_parts_is_the_fit_in_one(setting, early_stopping):
    X, y = make_table()
    setting = {**setting, "early_stopping": early_stopping}
    whole = fit(classifier(max_iter=4, **setting), X, y)
    parts = classifier(max_iter=1, warm_start=True, **setting)
    for _ in range(4):
        parts = pickled(fit(parts, X, y))
    assert_same_training(parts, whole)


@needs_callbacks
@pytest.mark.parametrize("learning_rate", [*HORIZONS, "constant"])
@pytest.mark.parametrize("name", ["adam", "sgd", "members", "moving average", "everything"])
@stopping
def test_fit_that_a_callback_cut_short_is_brought_to_its_planned_end(
    learning_rate, name, early_stopping
):
    X, y = make_table()
    setting = {**SETTINGS[name], "early_stopping": early_stopping, "learning_rate": learning_rate}
    whole = fit(classifier(max_iter=4, **setting), X, y)
    stopped = classifier(max_iter=4, warm_start=True, **setting).set_callbacks(AfterEpoch(2))
    fit(stopped, X, y)
    assert stopped.n_iter_ == 2
    del stopped._skl_callbacks
    fit(stopped, X, y)
    assert stopped.n_iter_ == 2
    assert_same_training(stopped, whole)


@pytest.mark.parametrize("learning_rate", HORIZONS)
def test_fit_that_came_to_its_end_is_followed_by_another_cycle(learning_rate):
    X, y = make_table()
    estimator = classifier(learning_rate=learning_rate, max_iter=8, warm_start=True).fit(X, y)
    params = estimator.params_.copy()
    estimator.fit(X, y)
    rates = estimator.history_["learning_rate"]
    assert rates[8:] == rates[:8]
    assert estimator.n_iter_ == 8
    assert not np.array_equal(estimator.params_, params)


def test_max_iter_is_how_many_more_and_may_change():
    X, y = make_table()
    whole = classifier(max_iter=7).fit(X, y)
    parts = classifier(max_iter=2, warm_start=True).fit(X, y)
    parts.set_params(max_iter=5).fit(X, y)
    assert parts.n_iter_ == 5
    assert_same_training(parts, whole)


# What is not the same training.


def other_rows(X, y):
    return X + 0.1, y


def other_labels(X, y):
    return X, np.r_[1 - y[:5], y[5:]]


def fewer_rows(X, y):
    return X[:-1], y[:-1]


@stopping
@pytest.mark.parametrize("change", [other_rows, other_labels, fewer_rows])
@pytest.mark.parametrize("learning_rate", ["constant", "cosine"])
def test_other_rows_begin_a_course_of_their_own(change, early_stopping, learning_rate):
    """The weights kept are those that the new rows have trained, from where the old ones ended."""
    X, y = make_table()
    estimator = classifier(
        early_stopping=early_stopping, learning_rate=learning_rate, max_iter=8, warm_start=True
    )
    estimator.fit(X, y)
    before = estimator.params_.copy()
    estimator.fit(*change(X, y))
    assert len(estimator.loss_curve_) == 16
    assert estimator.n_iter_ == 8
    assert 9 <= estimator.best_iter_ <= 16
    assert not np.array_equal(estimator.params_, before)
    assert estimator._resume["progress"]["n_epochs"] == 8


@stopping
def test_other_order_of_rows_in_one_batch_is_the_same_training(early_stopping):
    X, y = make_table()
    settings = {"early_stopping": early_stopping, "n_members": 5, "batch_size": 120}
    whole = classifier(max_iter=8, **settings).fit(X, y)
    parts = classifier(max_iter=4, warm_start=True, **settings).fit(X, y)
    parts.fit(X[::-1].copy(), y[::-1].copy())
    assert_same_training(parts, whole)


def test_other_order_of_several_batches_begins_a_training_of_its_own():
    X, y = make_table()
    estimator = classifier((), max_iter=2, batch_size=50, warm_start=True).fit(X, y)
    same = deepcopy(estimator).fit(X, y)
    other = deepcopy(estimator).fit(X[::-1].copy(), y[::-1].copy())
    assert same._resume["progress"]["n_epochs"] == 4
    assert other._resume["progress"]["n_epochs"] == 2


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_score_of_old_rows_does_not_compete_with_that_of_new_ones(solver):
    """Rows that are easy to judge do not keep the weights that were best on them for ever."""
    X, y = make_separable()
    estimator = classifier(
        solver=solver, early_stopping=True, max_iter=8, warm_start=True, learning_rate_init=0.05
    )
    fit(estimator, X, y)
    assert estimator.best_validation_score_ > -0.1
    flipped = 1 - y
    fit(estimator, X, flipped)
    assert estimator.score(X, flipped) > 0.9
    assert estimator.best_iter_ > 8


def test_validation_rows_belong_to_the_fingerprint():
    X, y = make_table()
    X_val, y_val = make_table(50, random_state=1)
    estimator = classifier(early_stopping="auto", max_iter=4, warm_start=True)
    estimator.fit(X, y, X_val=X_val, y_val=y_val)
    same = deepcopy(estimator).fit(X, y, X_val=X_val, y_val=y_val)
    other = deepcopy(estimator).fit(X, y, X_val=X_val + 1.0, y_val=y_val)
    none = deepcopy(estimator).fit(X, y)
    assert same._resume["progress"]["n_epochs"] == 8
    assert other._resume["progress"]["n_epochs"] == none._resume["progress"]["n_epochs"] == 4


def test_sample_weights_belong_to_the_fingerprint():
    X, y = make_table()
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    estimator = classifier(max_iter=4, warm_start=True).fit(X, y, weights)
    assert deepcopy(estimator).fit(X, y, weights)._resume["progress"]["n_epochs"] == 8
    # The penalty stands beside the sum of the losses: against heavier rows it is weaker.
    assert deepcopy(estimator).fit(X, y, 2.0 * weights)._resume["progress"]["n_epochs"] == 4
    assert deepcopy(estimator).fit(X, y)._resume["progress"]["n_epochs"] == 4


@stopping
@pytest.mark.parametrize("n_members", [1, 3])
def test_fit_after_patience_ran_out_begins_anew_with_fresh_patience(early_stopping, n_members):
    X, y = make_table()
    estimator = classifier(
        early_stopping=early_stopping,
        n_members=n_members,
        learning_rate_init=0.05,
        n_iter_no_change=2,
        tol=0.01,
        max_iter=200,
        warm_start=True,
    ).fit(X, y)
    n_first, params = estimator.n_iter_, estimator.params_.copy()
    assert n_first < 200
    estimator.fit(X, y)
    assert 3 <= estimator.n_iter_ < 200
    assert len(estimator.loss_curve_) == n_first + estimator.n_iter_
    assert estimator._resume["progress"]["n_epochs"] == estimator.n_iter_
    if not early_stopping:
        assert not np.array_equal(estimator.params_, params)


def test_second_course_never_ends_with_worse_weights_than_the_first():
    """It begins by judging the weights that the first one kept."""
    X, y = make_table(180)
    X, y, X_val, y_val = X[:120], y[:120], X[120:], y[120:]
    estimator = classifier(
        (32,),
        early_stopping="auto",
        learning_rate_init=0.2,
        learning_rate="cosine",
        max_iter=10,
        warm_start=True,
    )
    best = np.inf
    for _ in range(4):
        fit(estimator, X, y, X_val=X_val, y_val=y_val)
        loss = -np.log(estimator.predict_proba(X_val)[np.arange(60), y_val]).mean()
        assert loss <= best * (1.0 + 1e-12)
        best = loss


def test_early_stopping_turned_on_or_off_begins_a_course():
    X, y = make_table()
    estimator = classifier(max_iter=4, warm_start=True).fit(X, y)
    for is_on in (True, False):
        estimator.set_params(early_stopping=is_on).fit(X, y)
        assert estimator._resume["progress"]["n_epochs"] == 4


@stopping
@pytest.mark.parametrize("setting", [{}, {"ema_decay": 0.9}, {"solver": "lbfgs"}], ids=str)
@pytest.mark.parametrize("by", ["params_", "params_, anew", "coefs_"])
def test_weights_set_by_hand_are_begun_with(early_stopping, setting, by):
    """The first loss of all zeros is that of answering 1/2, and so is the first cost."""
    X, y = make_table()
    estimator = classifier(
        early_stopping=early_stopping, warm_start=True, alpha=0.0, batch_size=len(y), **setting
    )
    fit(estimator, X, y)
    if by == "coefs_":
        for array in estimator.coefs_ + estimator.intercepts_:
            array[...] = 0.0
    elif by == "params_":
        estimator.params_[...] = 0.0
    else:
        estimator.params_ = np.zeros_like(estimator.params_)
    fit(estimator, X, y)
    if "solver" in setting:  # from all zeros only the bias of the output can learn anything
        assert np.count_nonzero(estimator.params_) <= 1
    else:
        assert estimator.history_["loss"][5] == pytest.approx(np.log(2.0), rel=1e-12)
        assert estimator._resume["progress"]["n_epochs"] == estimator.n_iter_


# What is the same training but for what it is judged by, or how.


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"scoring": "roc_auc"}, {"scoring": "loss"}),
        ({"scoring": "loss"}, {"scoring": "roc_auc"}),
        ({"scoring": "accuracy"}, {"scoring": "neg_log_loss"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_scores_of_different_kinds_are_not_compared(first, then, solver):
    """A loss of 0.5 is no worse than minus an area of 0.7: the kept weights move on."""
    X, y = make_table()
    estimator = classifier(early_stopping=True, max_iter=3, warm_start=True, solver=solver)
    fit(estimator.set_params(**first), X, y)
    fit(estimator.set_params(**then), X, y)
    history, is_loss = estimator.history_, then["scoring"] == "loss"
    watched = -np.array(history["validation_loss"]) if is_loss else history["validation_score"]
    assert max(watched[3:]) > watched[3], "what the second fit learns should be worth keeping"
    assert estimator.best_iter_ == 3 + 1 + int(np.argmax(watched[3:]))


def test_validation_scores_are_of_what_was_watched():
    """Minus the loss for epochs judged by it, the score for the others."""
    X, y = make_table()
    estimator = classifier(early_stopping=True, max_iter=2, warm_start=True)
    for scoring in ("roc_auc", "loss"):
        estimator.set_params(scoring=scoring).fit(X, y)
    losses = -np.array(estimator.history_["validation_loss"])
    assert estimator.validation_scores_[2:] == losses[2:].tolist()
    assert estimator.validation_scores_[:2] == estimator.history_["validation_score"][:2]


def test_stronger_penalty_is_no_end_of_progress():
    """The cost is higher than the best one before, and falls all the same."""
    X, y = make_table()
    estimator = classifier(max_iter=10, warm_start=True, n_iter_no_change=3, tol=1e-4)
    fit(estimator, X, y)
    fit(estimator.set_params(alpha=100.0), X, y)
    curve = estimator.loss_curve_[10:]
    assert (np.diff(curve) < 0).all()
    assert len(curve) == 10


@pytest.mark.parametrize("early_stopping", [False, True])
def test_moving_average_may_be_turned_on_and_off(early_stopping):
    X, y = make_table()
    estimator = classifier(max_iter=3, warm_start=True, early_stopping=early_stopping)
    estimator.fit(X, y)
    estimator.set_params(ema_decay=0.9, early_stopping=False).fit(X, y)
    assert np.abs(estimator.params_ - estimator._resume["params"]).max() > 1e-3
    estimator.set_params(ema_decay=None).fit(X, y)
    np.testing.assert_array_equal(estimator.params_, estimator._resume["params"])


def test_solver_may_change_in_between():
    X, y = make_table()
    estimator = classifier(warm_start=True).fit(X, y)
    for solver in ("sgd", "lbfgs", "nadam"):
        before = estimator.params_.copy()
        estimator.set_params(solver=solver)
        fit(estimator, X, y)
        assert np.isfinite(estimator.params_).all()
        assert not np.array_equal(estimator.params_, before)
    assert estimator.loss_ < estimator.loss_curve_[0]


def test_fit_that_fails_leaves_the_course_as_it_was():
    X, y = make_table()
    whole = classifier((8,), "relu", max_iter=6).fit(X, y)
    estimator = classifier((8,), "relu", max_iter=3, warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match="diverged"):
        estimator.fit(np.full_like(X, 1.7e308), y)
    assert_same_training(estimator.fit(X, y), whole)


# Streams.


@settings
def test_stream_in_parts_goes_on_after_pickle(setting):
    if setting.get("solver") == "lbfgs":
        pytest.skip("lbfgs has no streams")
    X, y = make_table()
    parts = [slice(20 * i, 20 * i + 20) for i in range(6)]
    straight, interrupted = classifier(**setting), classifier(**setting)
    for i, part in enumerate(parts):
        straight.partial_fit(X[part], y[part], classes=[0, 1])
        if i == 3:
            interrupted = pickled(interrupted)
        interrupted.partial_fit(X[part], y[part], classes=[0, 1])
    assert_same_training(interrupted, straight)
    assert straight.n_iter_ == 1
    assert len(straight.loss_curve_) == 6


@pytest.mark.parametrize("ema_decay", [None, 0.9])
@stopping
def test_stream_goes_on_after_fit_with_the_weights_that_were_kept(early_stopping, ema_decay):
    X, y = make_table()
    estimator = classifier(
        early_stopping=early_stopping, ema_decay=ema_decay, max_iter=6, alpha=0.0, solver="sgd"
    ).fit(X, y)
    params = estimator.params_.copy()
    estimator.set_params(learning_rate_init=1e-300, momentum=0.0)
    for _ in range(3):
        estimator.partial_fit(X, y)
    if ema_decay is None:
        np.testing.assert_array_equal(estimator.params_, params)
    else:
        np.testing.assert_allclose(estimator.params_, params, rtol=1e-12)


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_fit_after_a_stream_begins_with_its_weights(ema_decay):
    """As a fit does that begins with the same weights, set by hand."""
    X, y = make_table()
    setting = {"warm_start": True, "ema_decay": ema_decay, "shuffle": False}
    streamed = classifier(**setting).partial_fit(X, y, classes=[0, 1])
    other = classifier(**setting, max_iter=1).fit(X[::-1], y[::-1])
    other.params_[...] = streamed.params_
    np.testing.assert_array_equal(
        streamed.fit(X, y).params_, other.set_params(max_iter=5).fit(X, y).params_
    )


# What begins anew begins with the weights that were kept, and forgets those that were rejected.

SLOW = {"learning_rate_init": 1e-12}

REJECTING = {
    "moving average": {"ema_decay": 0.9},
    "momentum": {"solver": "sgd", "momentum": 0.95},
    "nadam": {"solver": "nadam"},
    "members": {"n_members": 3, "ema_decay": 0.8},
    "folds": {"n_members": 5, "ema_decay": 0.8},
    "batch normalisation": {"normalization": "batch", "ema_decay": 0.9},
    "encoder": {"encoder": "auto", "n_members": 2, "ema_decay": 0.9, "random_state": 2},
}


@cache
def fit_until_rejected(name, **parameters):
    X, y = make_table()
    rates = {"learning_rate_init": 0.1, "max_iter": 12, "warm_start": True, "batch_size": 8}
    estimator = classifier(
        (32,), early_stopping=True, **rates, **REJECTING.get(name, {}), **parameters
    )
    estimator.fit(X, y)
    assert estimator.best_iter_ < 12
    assert np.abs(estimator.params_ - estimator._resume["params"]).max() > 0.1
    return estimator, X, y


def overfitted(name, **parameters):
    """Return a classifier whose last weights were rejected for some before them, and its rows."""
    return deepcopy(fit_until_rejected(name, **parameters))


def other_rows_by_warm_start(estimator, X, y):
    return fit(estimator.set_params(early_stopping=False, max_iter=2), X + 1e-9, y)


def same_rows_under_another_score(estimator, X, y):
    return fit(estimator.set_params(scoring="accuracy", max_iter=2), X, y)


def one_part(estimator, X, y):
    return estimator.partial_fit(X, y)


def three_parts(estimator, X, y):
    for part in np.array_split(np.arange(len(y)), 3):
        estimator.partial_fit(X[part], y[part])
    return estimator


def part_under_another_solver(estimator, X, y):
    return estimator.set_params(solver="rmsprop").partial_fit(X, y)


def fit_under_another_solver(estimator, X, y):
    return fit(estimator.set_params(solver="rmsprop", max_iter=2), X, y)


@pytest.mark.parametrize("name", REJECTING)
@pytest.mark.parametrize(
    "go_on",
    [
        one_part,
        three_parts,
        other_rows_by_warm_start,
        same_rows_under_another_score,
        part_under_another_solver,
        fit_under_another_solver,
    ],
)
def test_rejected_weights_do_not_come_back(name, go_on):
    """As good as no learning rate leaves the weights, and so the probabilities, where they are."""
    estimator, X, y = overfitted(name)
    statistics = slice(estimator._predictor.network.layout.n_trainable, None)
    params, probability = estimator.params_.copy(), estimator.predict_proba(X)
    go_on(estimator.set_params(**SLOW), X, y)
    trained = estimator.params_.copy()
    if "normalization" in REJECTING[name]:  # what it has seen of the rows is learned at any rate
        trained[:, statistics] = params[:, statistics]
    else:
        np.testing.assert_allclose(estimator.predict_proba(X), probability, atol=1e-6)
    np.testing.assert_allclose(trained, params, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", REJECTING)
def test_stream_after_a_fit_begins_as_one_from_the_same_weights(name):
    """Nothing of the fit is left but the weights that it kept."""
    estimator, X, y = overfitted(name)
    other = deepcopy(estimator)
    for array in other._resume["optimizer"]["arrays"].values():
        array[...] = 7.0
    other._resume["params"][...] = 7.0
    np.testing.assert_array_equal(
        three_parts(other, X, y).params_, three_parts(estimator, X, y).params_
    )


def test_stream_whose_parts_are_too_small_for_an_average_predicts_with_its_last_weights():
    """The default averages over the steps of a part: there may be one of them, or many."""
    X, y = make_table()
    parts = [slice(0, 96), slice(96, 108), slice(108, 120)]
    averaged, plain = classifier(ema_decay="auto"), classifier()
    for part in parts:
        averaged.partial_fit(X[part], y[part], classes=[0, 1])
        plain.partial_fit(X[part], y[part], classes=[0, 1])
    np.testing.assert_array_equal(averaged.params_, plain.params_)


# Which epoch the weights are of.


@stopping
def test_best_iter_after_a_warm_start_that_gains_nothing_is_the_one_before(early_stopping):
    estimator, X, y = overfitted("plain", n_iter_no_change=3)
    best, params = estimator.best_iter_, estimator.params_.copy()
    estimator.set_params(learning_rate_init=100.0, early_stopping=early_stopping)
    fit(estimator, X, y)
    np.testing.assert_array_equal(estimator.params_, params)
    assert estimator.best_iter_ == best < len(estimator.loss_curve_)


@stopping
@pytest.mark.parametrize(
    "setting", [{"n_members": 3}, {"ema_decay": 0.9}, {"solver": "sgd"}], ids=str
)
def test_training_that_diverged_is_not_gone_on_with(setting, early_stopping):
    """A warm start at a lower rate begins with the weights that were kept, and learns."""
    X, y = make_table()
    estimator = classifier((8,), "relu", warm_start=True, early_stopping=early_stopping, **setting)
    with pytest.warns(ConvergenceWarning, match="diverged"):
        estimator.set_params(learning_rate_init=1000.0, max_iter=20).fit(X, y)
    params = estimator.params_.copy()
    fit(estimator.set_params(learning_rate_init=1e-12, max_iter=1), X, y)
    np.testing.assert_allclose(estimator.params_, params, rtol=1e-6, atol=1e-9)
    fit(estimator.set_params(learning_rate_init=0.03, max_iter=30), X, y)
    assert estimator.loss_ < 0.6


def test_divergence_of_a_course_gone_on_with_leaves_what_was_kept_before():
    """And not the weights from before that training."""
    X, y = make_table()
    estimator = classifier((8,), "relu", warm_start=True, max_iter=20).fit(X, y)
    params, n_done = estimator.params_.copy(), len(estimator.loss_curve_)
    with pytest.warns(ConvergenceWarning, match="diverged"):
        estimator.set_params(learning_rate_init=1000.0).fit(X, y)
    assert estimator.best_iter_ <= n_done < len(estimator.loss_curve_)
    np.testing.assert_array_equal(estimator.params_, params)


def test_best_iter_under_a_rate_that_is_too_high_is_that_of_the_weights_kept():
    X, y = make_table()
    order = np.lexsort(X.T[::-1])  # with which it diverges
    X, y = X[order], y[order]
    setting = {"activation": "relu", "learning_rate_init": 10.0}
    with pytest.warns(ConvergenceWarning, match="diverged") as caught:
        estimator = classifier(max_iter=20, **setting).fit(X, y)
    best = estimator.best_iter_
    assert f"those of epoch {best}" in str(caught[0].message)
    assert 0 < best < 20
    sooner = fit(classifier(**setting, max_iter=best), X, y)
    np.testing.assert_array_equal(estimator.params_, sooner.params_)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_best_iter_without_early_stopping_is_the_last(solver):
    X, y = make_table()
    estimator = classifier(early_stopping=True, max_iter=6, warm_start=True, solver=solver)
    fit(estimator, X, y)
    fit(estimator.set_params(early_stopping=False, max_iter=3), X, y)
    assert estimator.best_iter_ == len(estimator.loss_curve_) == 9
    if solver == "adam":
        estimator.partial_fit(X, y)
        assert estimator.best_iter_ == len(estimator.loss_curve_) == 10


# States that are not what a training has left.


def cut_moments(state):
    arrays = state["optimizer"]["arrays"]
    arrays.update({name: array[:, :3] for name, array in arrays.items()})


def flat_moments(state):
    arrays = state["optimizer"]["arrays"]
    arrays.update({name: array[0] for name, array in arrays.items()})


def longer_moments(state):
    arrays = state["optimizer"]["arrays"]
    arrays.update({name: np.tile(array, (1, 3)) for name, array in arrays.items()})


def moments_of_another_dtype(state):
    arrays = state["optimizer"]["arrays"]
    arrays.update({name: array.astype(np.float16) for name, array in arrays.items()})


def moments_that_are_no_arrays(state):
    arrays = state["optimizer"]["arrays"]
    arrays.update({name: array.tolist() for name, array in arrays.items()})


def no_moments(state):
    state["optimizer"]["arrays"].clear()


def moments_of_nobody(state):
    state["optimizer"]["arrays"]["0_Unknown.moment"] = np.zeros((2, 3))


def change(name, function):
    def craft(state):
        state[name] = function(state[name])

    return pytest.param(craft, id=f"{name}, {function.__name__}")


def one_member(array):
    return array[:1]


def fewer_weights(array):
    return array[:, :-1]


def as_integers(array):
    return array.astype(int)


CRAFTED = [
    cut_moments,
    flat_moments,
    longer_moments,
    moments_of_another_dtype,
    moments_that_are_no_arrays,
    no_moments,
    moments_of_nobody,
    *(
        change(name, function)
        for name in ("params", "ema_params")
        for function in (one_member, fewer_weights, as_integers)
    ),
    *(change("rate_factor", function) for function in (one_member, as_integers)),
]


@pytest.mark.parametrize("craft", CRAFTED)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_state_of_another_shape_is_not_gone_on_with(craft, method):
    """What comes next begins with the weights that were kept, as if they were set by hand."""
    X, y = make_table()
    settings = {"n_members": 2, "ema_decay": 0.9, "warm_start": True}
    ends = []
    for crafted in (craft, lambda state: state["optimizer"]["arrays"].clear()):
        model = classifier(**settings).partial_fit(X, y, classes=[0, 1])
        crafted(model._resume)
        ends.append(getattr(pickled(model), method)(X, y).params_)
    np.testing.assert_array_equal(*ends)
    assert ends[0].shape == (2, model.params_.shape[1])
