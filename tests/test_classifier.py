"""What the estimator does for its user, parameter by parameter and attribute by attribute."""

import copy
import pickle
import warnings
from itertools import pairwise, product

import numpy as np
import pandas as pd
import polars as pl
import pytest
from data import FULL_BATCH, at_first_weights, classifier, make_separable, make_table, make_weights
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.class_weight import compute_sample_weight

from skdnn.nn.activations import ACTIVATIONS, SiLU
from skdnn.nn.initializers import INITIALIZERS
from skdnn.optim.schedules import SCHEDULES
from skdnn.optim.solvers import SOLVERS

# Labels of every kind: two values, and what they come in.

LABELS = {
    "strings": (("no", "yes"), np.array),
    "strings as objects": (("no", "yes"), lambda labels: np.array(labels, dtype=object)),
    "list of strings": (("no", "yes"), list),
    "bools": ((False, True), np.array),
    "-1 and +1": ((-1, 1), np.array),
    "1 and 2": ((1, 2), np.array),
    "far integers": ((-7, 2**40), np.array),
    "floats": ((-1.0, 1.0), np.array),
    "float32": ((0.0, 1.0), lambda labels: np.array(labels, dtype=np.float32)),
    "pandas integers": ((1, 2), pd.Series),
    "pandas strings": (("no", "yes"), pd.Series),
    "pandas categorical": (("no", "yes"), lambda labels: pd.Series(labels, dtype="category")),
    "pandas booleans": ((False, True), pd.Series),
    "polars integers": ((1, 2), pl.Series),
    "polars strings": (("no", "yes"), pl.Series),
}


def fit(estimator, X, y):
    return estimator.fit(X, y)


def partial_fit(estimator, X, y):
    estimator.partial_fit(X, y, classes=np.unique(np.asarray(y)))
    for _ in range(estimator.max_iter):
        estimator.partial_fit(X, y)
    return estimator


def warm_fit(estimator, X, y):
    estimator.set_params(warm_start=True)
    return estimator.fit(X, y).fit(X, y)


@pytest.mark.parametrize(
    ("train", "early_stopping"), [(fit, True), (partial_fit, False), (warm_fit, False)]
)
@pytest.mark.parametrize(("values", "container"), LABELS.values(), ids=LABELS)
def test_labels_of_every_kind_come_back_from_predict(values, container, train, early_stopping):
    X, codes = make_separable(60)
    labels = [values[code] for code in codes]
    estimator = classifier(early_stopping=early_stopping, learning_rate_init=0.1, max_iter=10)
    train(estimator, X, container(labels))

    assert estimator.classes_.tolist() == list(values)
    predicted = estimator.predict(X)
    assert predicted.dtype == estimator.classes_.dtype
    assert np.mean(predicted == np.array(labels, dtype=predicted.dtype)) > 0.95
    assert estimator.score(X, container(labels)) > 0.95


@pytest.mark.parametrize("train", [fit, partial_fit, warm_fit])
def test_training_does_not_depend_on_the_kind_of_labels(train):
    X, codes = make_table()
    reference = train(classifier(), X, codes)
    for values, container in LABELS.values():
        estimator = train(classifier(), X, container([values[code] for code in codes]))
        np.testing.assert_array_equal(estimator.params_, reference.params_)


def test_column_vector_of_labels_is_accepted_with_a_warning():
    X, y = make_table()
    with pytest.warns(UserWarning, match="column-vector y"):
        estimator = classifier().fit(X, y[:, np.newaxis])
    np.testing.assert_array_equal(estimator.params_, classifier().fit(X, y).params_)


# Numbers: which precision training has, and what comes back.


@pytest.mark.parametrize("n_members", [1, 3])
def test_float32_stays_float32(n_members):
    X, y = make_table(dtype=np.float32)
    estimator = classifier(n_members=n_members).fit(X, y, sample_weight=make_weights(len(y)))
    for array in [*estimator.coefs_, *estimator.intercepts_, estimator.params_]:
        assert array.dtype == np.float32
    assert estimator.predict_proba(X).dtype == np.float32
    assert estimator.decision_function(X).dtype == np.float32
    estimator.partial_fit(X, y)
    assert estimator.params_.dtype == np.float32


def test_small_float64_table_stays_float64():
    X, y = make_table()
    estimator = classifier().fit(X, y)
    assert estimator.params_.dtype == np.float64
    assert estimator.predict_proba(X).dtype == np.float64


@pytest.mark.parametrize(
    ("offset", "scale", "expected"),
    [
        (0.0, 1.0, np.float32),
        (1000.0, 1.0, np.float32),
        (0.0, 1e-30, np.float32),
        (1.7e9, 3600.0, np.float64),  # hours as seconds since 1970
        (0.0, 1e60, np.float64),
    ],
)
def test_large_float64_table_trains_in_float32_unless_a_column_suffers(offset, scale, expected):
    X, y = make_table(2_500)
    X[:, 2] = offset + scale * X[:, 2]
    unlearned = at_first_weights(classifier(dtype="auto"), X, y)
    assert unlearned.params_.dtype == expected


def test_constant_column_does_not_ask_for_float64():
    X, y = make_table(2_500)
    X[:, 2] = 1e9
    assert at_first_weights(classifier(dtype="auto"), X, y).params_.dtype == np.float32


@pytest.mark.parametrize("given", [np.float32, np.float64])
@pytest.mark.parametrize("chosen", ["float32", "float64"])
def test_dtype_decides_over_the_table(given, chosen):
    X, y = make_table(dtype=given)
    estimator = classifier(dtype=chosen).fit(X, y)
    assert estimator.params_.dtype == np.dtype(chosen)


def test_float32_and_float64_learn_the_same():
    X, y = make_table(dtype=np.float32)
    single = classifier(dtype="float32", max_iter=20).fit(X, y)
    double = classifier(dtype="float64", max_iter=20).fit(X, y)
    np.testing.assert_allclose(single.predict_proba(X), double.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, bool, np.float16, object])
def test_numbers_of_any_type_are_accepted(dtype):
    X, y = make_table()
    X = np.abs(np.rint(3.0 * X)).astype(dtype)
    estimator = classifier().fit(X, y)
    expected = classifier().fit(X.astype(np.float64), y)
    np.testing.assert_array_equal(estimator.predict_proba(X), expected.predict_proba(X))


@pytest.mark.parametrize("arrange", [np.asfortranarray, lambda X: np.repeat(X, 2, axis=0)[::2]])
def test_memory_layout_of_the_table_changes_nothing(arrange):
    X, y = make_table()
    estimator = classifier().fit(arrange(X), y)
    np.testing.assert_array_equal(estimator.params_, classifier().fit(X, y).params_)


# Tables with names.


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_data_frames_give_feature_names(frame):
    X, y = make_table()
    names = [f"sensor {i}" for i in range(X.shape[1])]
    table = frame(dict(zip(names, X.T, strict=True)))
    estimator = classifier().fit(table, y)
    assert estimator.feature_names_in_.tolist() == names
    assert estimator.n_features_in_ == len(names)
    expected = classifier().fit(X, y)
    np.testing.assert_array_equal(estimator.predict_proba(table), expected.predict_proba(X))
    assert not hasattr(expected, "feature_names_in_")


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_data_frames_train_in_parts(frame):
    X, y = make_table()
    names = [f"sensor {i}" for i in range(X.shape[1])]
    estimator = classifier()
    for part in (slice(0, 60), slice(60, 120)):
        table = frame(dict(zip(names, X[part].T, strict=True)))
        estimator.partial_fit(table, y[part], classes=[0, 1])
    assert estimator.feature_names_in_.tolist() == names


# Decisions, probabilities, predictions.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_members", [1, 4])
def test_decision_is_the_logit_of_the_probability(dtype, n_members):
    X, y = make_table(dtype=dtype)
    estimator = classifier(n_members=n_members, max_iter=20, learning_rate_init=0.03).fit(X, y)
    probability = estimator.predict_proba(X)
    decision = estimator.decision_function(X)
    assert decision.shape == (len(X),)
    tolerance = 100.0 * np.finfo(dtype).eps
    np.testing.assert_allclose(decision, logit(probability[:, 1]), rtol=0, atol=50 * tolerance)
    np.testing.assert_allclose(probability[:, 1], expit(decision), rtol=tolerance)
    np.testing.assert_array_equal(estimator.predict(X), estimator.classes_[1 * (decision > 0)])
    assert len(np.unique(estimator.predict(X))) == 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_members", [1, 4])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
def test_probabilities_sum_to_one(dtype, n_members, scale):
    X, y = make_table(dtype=dtype)
    estimator = classifier((8,), "relu", n_members=n_members)
    probability = estimator.fit(X, y).predict_proba(X * dtype(scale))
    assert probability.shape == (len(X), 2)
    assert ((probability >= 0) & (probability <= 1)).all()
    np.testing.assert_allclose(probability.sum(axis=1), 1.0, rtol=0, atol=np.finfo(dtype).eps)


def forward_by_hand(estimator, X):
    """Return the logits of all members, (n_members, n_samples), of a network with tanh."""
    h = X[np.newaxis]
    coefs, intercepts = estimator.coefs_, estimator.intercepts_
    for layer, (W, b) in enumerate(zip(coefs, intercepts, strict=True)):
        W, b = (W, b) if W.ndim == 3 else (W[np.newaxis], b[np.newaxis])
        h = h @ W + b[:, np.newaxis]
        if layer < len(coefs) - 1:
            h = np.tanh(h)
    return h[..., 0]


@pytest.mark.parametrize("n_members", [1, 2, 5])
@pytest.mark.parametrize("hidden_layer_sizes", [(), (7,), (6, 5, 4)])
def test_probability_is_the_mean_of_the_members(n_members, hidden_layer_sizes):
    X, y = make_table()
    estimator = classifier(hidden_layer_sizes, dropout=0.2, n_members=n_members).fit(X, y)
    expected = expit(forward_by_hand(estimator, X)).mean(axis=0)
    np.testing.assert_allclose(estimator.predict_proba(X)[:, 1], expected, rtol=1e-12)


def test_mean_of_very_sure_members_is_finite():
    X, y = make_separable()
    estimator = classifier(n_members=3).fit(X, y)
    estimator.coefs_[-1][:] *= 1e6
    assert np.isfinite(estimator.decision_function(X)).all()
    assert np.isfinite(estimator.predict_proba(X)).all()


@pytest.mark.parametrize("is_validated", [False, True])
def test_first_member_of_many_equals_a_single_network(is_validated):
    X, y = make_table()
    settings = {"dropout": 0.3, "max_iter": 8, "early_stopping": is_validated}
    given = {}
    if is_validated:  # rows for all; members that hold out rows of their own differ in these
        X, y, given = X[:90], y[:90], {"X_val": X[90:], "y_val": y[90:]}
    single = classifier(n_members=1, **settings).fit(X, y, **given)
    several = classifier(n_members=3, **settings).fit(X, y, **given)
    np.testing.assert_array_equal(several.params_[0], single.params_[0])
    assert not np.allclose(several.params_[1], single.params_[0])


def test_prediction_of_a_row_does_not_depend_on_the_others():
    X, y = make_table()
    estimator = classifier(n_members=3).fit(X, y)
    one_by_one = np.concatenate([estimator.decision_function(row[np.newaxis]) for row in X])
    np.testing.assert_allclose(one_by_one, estimator.decision_function(X), rtol=1e-10)


# The weights, seen from outside.


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("hidden_layer_sizes", [(), 7, (7,), [5, 4], np.array([6, 5, 4])])
def test_coefs_and_intercepts_have_the_shapes_of_the_layers(n_members, hidden_layer_sizes):
    X, y = make_table()
    estimator = classifier(hidden_layer_sizes, n_members=n_members).fit(X, y)
    widths = [X.shape[1], *np.ravel(hidden_layer_sizes).astype(int), 1]
    members = (n_members,) if n_members > 1 else ()
    coefs, intercepts = estimator.coefs_, estimator.intercepts_
    pairs = list(pairwise(widths))
    assert [W.shape for W in coefs] == [(*members, n_in, n_out) for n_in, n_out in pairs]
    assert [b.shape for b in intercepts] == [(*members, n_out) for _, n_out in pairs]
    assert estimator.params_.size == sum(array.size for array in [*coefs, *intercepts])


def test_coefs_are_views_that_predictions_follow():
    X, y = make_table()
    estimator = classifier().fit(X, y)
    estimator.coefs_[-1][:] = 0.0
    estimator.intercepts_[-1][:] = 3.0
    np.testing.assert_array_equal(estimator.decision_function(X), np.full(len(X), 3.0))


@pytest.mark.parametrize("same", [7, [7], np.array([7]), (np.int32(7),)])
def test_hidden_layer_sizes_mean_the_same_in_every_form(same):
    X, y = make_table()
    expected = classifier((7,)).fit(X, y).params_
    np.testing.assert_array_equal(classifier(same).fit(X, y).params_, expected)


# History.


@pytest.mark.parametrize("early_stopping", [False, True])
def test_history_has_an_entry_for_each_epoch(early_stopping):
    X, y = make_table()
    estimator = classifier(early_stopping=early_stopping, n_members=2, max_iter=7).fit(X, y)
    names = {"loss", "penalty", "learning_rate", "seconds"}
    of_validation = {"validation_loss", "validation_score"} if early_stopping else set()
    assert set(estimator.history_) == names | of_validation
    assert {len(values) for values in estimator.history_.values()} == {7}
    assert all(type(value) is float for values in estimator.history_.values() for value in values)
    assert estimator.n_iter_ == len(estimator.loss_curve_) == 7
    assert min(estimator.history_["seconds"]) > 0.0
    assert estimator.history_["learning_rate"] == [estimator.learning_rate_init] * 7


def test_loss_curve_is_loss_plus_penalty():
    X, y = make_table()
    estimator = classifier(alpha=3.0).fit(X, y)
    history = estimator.history_
    assert min(history["penalty"]) > 0.0
    np.testing.assert_allclose(
        estimator.loss_curve_, np.add(history["loss"], history["penalty"]), rtol=1e-15
    )
    assert classifier(alpha=0.0).fit(X, y).history_["penalty"] == [0.0] * 5


def test_first_loss_of_full_batches_is_the_cost_at_the_first_weights():
    X, y = make_table()
    estimator = classifier(alpha=2.0, **FULL_BATCH)
    unlearned = at_first_weights(estimator, X, y)
    probability = unlearned.predict_proba(X)
    expected = -np.log(probability[np.arange(len(y)), y]).mean()
    penalty = 0.5 * 2.0 / len(y) * sum((W**2).sum() for W in unlearned.coefs_)
    history = estimator.fit(X, y).history_
    assert history["loss"][0] == pytest.approx(expected, rel=1e-12)
    assert history["penalty"][0] == pytest.approx(penalty, rel=1e-12)


def test_t_counts_the_rows_seen():
    X, y = make_table()
    assert classifier(max_iter=3).fit(X, y).t_ == 3 * len(y)
    estimator = classifier().partial_fit(X, y, classes=[0, 1])
    assert estimator.partial_fit(X[:10], y[:10]).t_ == len(y) + 10


# Early stopping.


@pytest.mark.parametrize("n_members", [1, 3])
def test_early_stopping_waits_and_stops(n_members):
    X, y = make_table()
    estimator = classifier(
        (32,),
        n_members=n_members,
        early_stopping=True,
        n_iter_no_change=4,
        max_iter=500,
        learning_rate_init=0.05,
    ).fit(X, y)
    assert 5 < estimator.n_iter_ < 500
    if n_members == 1:
        best = int(np.argmin(estimator.history_["validation_loss"]))
        assert estimator.n_iter_ == best + 1 + 4


@pytest.mark.parametrize(
    "settings",
    [{}, {"dropout": 0.3}, {"solver": "gd", "max_iter": 400, "learning_rate_init": 1.0}],
    ids=str,
)
def test_early_stopping_restores_the_best_epoch(settings):
    X, y = make_table()
    estimator = classifier(
        (32,), **{"early_stopping": True, "max_iter": 25, "learning_rate_init": 0.1, **settings}
    )
    losses = clone(estimator).fit(X, y).history_["validation_loss"]
    best = int(np.argmin(losses))
    assert 0 < best < len(losses) - 1, "the table should let the network overfit"
    whole, until_best, beyond = (
        clone(estimator).set_params(max_iter=n).fit(X, y) for n in (len(losses), best + 1, best + 2)
    )
    np.testing.assert_array_equal(whole.params_, until_best.params_)
    np.testing.assert_array_equal(whole.params_, beyond.params_)
    np.testing.assert_array_equal(whole.history_["validation_loss"], losses)


def test_each_member_stops_at_its_own_best_epoch_on_given_rows():
    X, y = make_table()
    X, y, given = X[:90], y[:90], {"X_val": X[90:], "y_val": y[90:]}
    settings = {
        "early_stopping": True,
        "n_iter_no_change": 3,
        "max_iter": 200,
        "learning_rate_init": 0.05,
    }
    single = classifier(n_members=1, **settings).fit(X, y, **given)
    several = classifier(n_members=4, **settings).fit(X, y, **given)
    assert several.n_iter_ > single.n_iter_
    np.testing.assert_array_equal(several.params_[0], single.params_[0])


def test_validation_rows_are_not_learned_from():
    X, y = make_table(100)
    estimator = classifier(early_stopping=True, validation_fraction=0.3, max_iter=2).fit(X, y)
    assert estimator.t_ == 2 * 70


@pytest.mark.parametrize("n_samples", range(2, 11))
@pytest.mark.parametrize("n_positive", [1, 2, 3])
def test_early_stopping_copes_with_a_few_rows(n_samples, n_positive):
    n_positive = min(n_positive, n_samples - 1)
    X = np.random.default_rng(0).normal(size=(n_samples, 3))
    y = np.arange(n_samples) < n_positive
    for fraction in (0.01, 0.1, 0.99):
        estimator = classifier(early_stopping=True, validation_fraction=fraction).fit(X, y)
        assert np.isfinite(estimator.predict_proba(X)).all()
        if n_samples > 2:  # else each class is all in one row, and nothing can be held out
            assert np.isfinite(estimator.history_["validation_loss"]).all()


# Rows that members hold out, each its own.

FOLDS = {"early_stopping": True, "n_members": 5, "max_iter": 8, "alpha": 0.0, "batch_size": 240}


def test_row_is_predicted_out_of_fold_by_the_member_that_held_it_out():
    X, y = make_table()
    estimator = classifier(**FOLDS).fit(X, y)
    of_members = forward_by_hand(estimator, X)
    is_judge = np.isclose(estimator.oof_decision_function_, of_members, rtol=1e-10)
    np.testing.assert_array_equal(is_judge.sum(axis=0), 1)
    np.testing.assert_array_equal(is_judge.sum(axis=1), len(y) // 5)


def test_row_that_all_members_learn_from_has_no_prediction_out_of_fold():
    X, y = make_table(100)
    estimator = classifier(**{**FOLDS, "n_members": 2}, validation_fraction=0.1).fit(X, y)
    is_known = np.isfinite(estimator.oof_decision_function_)
    assert is_known.sum() == 20


def test_predictions_out_of_fold_are_in_the_order_of_the_rows():
    X, y = make_table()
    order = np.random.default_rng(5).permutation(len(y))
    plain = classifier(**FOLDS).fit(X, y).oof_decision_function_
    permuted = classifier(**FOLDS).fit(X[order], y[order]).oof_decision_function_
    np.testing.assert_array_equal(permuted, plain[order])
    repeated = classifier(**FOLDS).fit(np.vstack([X, X]), np.concatenate([y, y]))
    np.testing.assert_array_equal(repeated.oof_decision_function_[:120], plain)
    np.testing.assert_array_equal(repeated.oof_decision_function_[120:], plain)


def test_predictions_out_of_fold_are_of_the_last_fit():
    X, y = make_table()
    estimator = classifier(**FOLDS).fit(X, y)
    estimator.set_params(early_stopping=False).fit(X, y)
    assert not hasattr(estimator, "oof_decision_function_")


@pytest.mark.parametrize("n_members", [1, 5])
@pytest.mark.parametrize("is_given", [False, True])
def test_calibration_divides_the_logits_by_the_temperature_of_unseen_rows(n_members, is_given):
    X, y = make_table(180)
    X, y, given = X[:120], y[:120], {"X_val": X[120:], "y_val": y[120:]}
    settings = {**FOLDS, "n_members": n_members, "learning_rate_init": 0.1, "max_iter": 15}
    plain, calibrated = (
        classifier(calibration=calibration, **settings).fit(X, y, **(given if is_given else {}))
        for calibration in (None, "temperature")
    )
    np.testing.assert_array_equal(calibrated.params_, plain.params_)
    temperature = calibrated.temperature_
    assert plain.temperature_ == 1.0 != temperature
    np.testing.assert_allclose(
        calibrated.decision_function(X), plain.decision_function(X) / temperature, rtol=1e-12
    )
    if n_members == 1 and not is_given:
        return
    if is_given:
        X, y = given["X_val"], given["y_val"]
        logits = plain.decision_function(X)
    else:
        logits = calibrated.oof_decision_function_ * temperature

    def cost(T):  # a prior of log T, with standard deviation 1/5, stands against the rows
        return len(y) * log_loss(y, expit(logits / T)) + np.log(T) ** 2 / (2.0 * 0.2**2)

    best, *others = (cost(temperature * f) for f in (1.0, 0.97, 1.03))
    assert best < min(others)


# Going on: warm_start and partial_fit.

SETTINGS_TO_RESUME = {
    **{solver: {"solver": solver, "batch_size": 50} for solver in SOLVERS},
    "sgd without momentum": {"solver": "sgd", "momentum": 0.0},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling"},
    "dropout": {"dropout": 0.3},
    "members": {"n_members": 3, "dropout": 0.1},
    "no shuffling": {"shuffle": False},
    "everything": {"weight_decay": 0.1, "max_grad_norm": 0.1, "alpha": 1.0, "dropout": 0.2},
    "float32": {"dtype": "float32", "n_members": 2},
}


@pytest.mark.parametrize("settings", SETTINGS_TO_RESUME.values(), ids=SETTINGS_TO_RESUME)
def test_warm_start_goes_on_where_it_stopped(settings):
    X, y = make_table()
    whole = classifier(max_iter=7, **settings).fit(X, y)
    halves = classifier(max_iter=3, warm_start=True, **settings).fit(X, y)
    assert len(halves.loss_curve_) == 3
    halves = pickle.loads(pickle.dumps(halves))
    halves.set_params(max_iter=4).fit(X, y)
    assert len(halves.loss_curve_) == 7
    assert halves.n_iter_ == 4
    assert halves.loss_curve_ == whole.loss_curve_
    assert halves.t_ == whole.t_
    np.testing.assert_array_equal(halves.params_, whole.params_)


def test_fit_without_warm_start_begins_anew():
    X, y = make_table()
    estimator = classifier().fit(X, y)
    first = estimator.params_.copy()
    estimator.fit(X, y)
    np.testing.assert_array_equal(estimator.params_, first)
    assert estimator.n_iter_ == 5


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_layer_sizes": (9,)},
        {"hidden_layer_sizes": ()},
        {"activation": "relu"},
        {"n_members": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("train", ["fit", "partial_fit"])
def test_changed_architecture_is_refused(change, train):
    X, y = make_table()
    estimator = classifier(warm_start=True).fit(X, y)
    before = copy.deepcopy(estimator)
    estimator.set_params(**change)
    with pytest.raises(ValueError, match=next(iter(change))):
        getattr(estimator, train)(X, y)
    np.testing.assert_array_equal(estimator.params_, before.params_)
    np.testing.assert_array_equal(estimator.predict_proba(X), before.predict_proba(X))


@pytest.mark.parametrize("change", [{"dropout": 0.5}, {"initialization": "normal"}], ids=str)
def test_what_changes_no_parameter_may_change_between_fits(change):
    X, y = make_table()
    estimator = classifier(warm_start=True, max_iter=2).fit(X, y)
    before = estimator.params_.copy()
    assert estimator.set_params(**change).fit(X, y).n_iter_ == 2
    assert np.abs(estimator.params_ - before).max() < 0.5  # and not anew


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate_init": 0.001},
        {"solver": "sgd"},
        {"batch_size": 10},
        {"alpha": 1.0},
        {"early_stopping": True},
    ],
    ids=str,
)
def test_training_may_go_on_in_another_way(change):
    X, y = make_table()
    estimator = classifier(warm_start=True).fit(X, y)
    estimator.set_params(**change).fit(X, y)
    assert estimator.n_iter_ == 5
    assert {len(values) for values in estimator.history_.values()} == {10}
    same = classifier(warm_start=True).fit(X, y).fit(X, y)
    assert not np.array_equal(estimator.params_, same.params_)


@pytest.mark.parametrize("settings", SETTINGS_TO_RESUME.values(), ids=SETTINGS_TO_RESUME)
def test_partial_fit_is_one_epoch(settings):
    X, y = make_table()
    parts = classifier(**settings)
    for _ in range(4):
        parts.partial_fit(X, y, classes=[0, 1])
    whole = classifier(max_iter=4, **settings).fit(X, y)
    np.testing.assert_allclose(parts.params_, whole.params_, rtol=1e-9, atol=1e-12)
    assert parts.n_iter_ == 1
    assert len(parts.loss_curve_) == 4


@pytest.mark.parametrize("settings", SETTINGS_TO_RESUME.values(), ids=SETTINGS_TO_RESUME)
def test_partial_fit_resumes_exactly_after_pickle(settings):
    X, y = make_table()
    parts = [(X[:50], y[:50]), (X[50:70], y[50:70]), (X[70:], y[70:]), (X[:33], y[:33])]
    straight, interrupted = classifier(**settings), classifier(**settings)
    for X_part, y_part in parts:
        straight.partial_fit(X_part, y_part, classes=[0, 1])
        interrupted.partial_fit(X_part, y_part, classes=[0, 1])
        interrupted = pickle.loads(pickle.dumps(interrupted))
    np.testing.assert_array_equal(interrupted.params_, straight.params_)
    assert interrupted.loss_curve_ == straight.loss_curve_


@pytest.mark.parametrize("solver", ["gd", "adam"])
def test_partial_fit_takes_a_large_table_as_fit_does(solver):
    X, y = make_table(1_001)  # more rows than are brought into order
    settings = {"solver": solver, "hidden_layer_sizes": (3,), "dtype": "float64"}
    part = classifier(**settings).partial_fit(X, y, classes=[0, 1])
    whole = classifier(max_iter=1, **settings).fit(X, y)
    np.testing.assert_allclose(part.params_, whole.params_, rtol=1e-9)


def test_partial_fit_continues_after_fit():
    """With its weights and its random streams; moments, which plain "sgd" has none of, are new."""
    X, y = make_table()
    setting = {"solver": "sgd", "momentum": 0.0, "dropout": 0.1}
    estimator = classifier(max_iter=4, **setting).fit(X, y).partial_fit(X, y)
    whole = classifier(max_iter=5, **setting).fit(X, y)
    np.testing.assert_array_equal(estimator.params_, whole.params_)


def test_partial_fit_needs_classes_only_once_and_any_of_their_labels():
    X, y = make_table()
    labels = np.array(["no", "yes"])[y]
    estimator = classifier().partial_fit(X[:3], labels[:3], classes=["yes", "no"])
    only_yes = labels == "yes"
    estimator.partial_fit(X[only_yes], labels[only_yes])
    estimator.partial_fit(X, labels, classes=["no", "yes"])
    assert estimator.classes_.tolist() == ["no", "yes"]
    assert estimator.n_iter_ == 1
    assert len(estimator.loss_curve_) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("label_smoothing", 1.5),
        ("batch_size", 0),
        ("learning_rate_init", -1.0),
        ("solver", "own"),
        ("loss", "hinge"),
        ("alpha", -1.0),
        ("ema_decay", 5),
        ("n_jobs", "all"),
        ("dropout", 2.0),
        ("warm_start", "yes"),
    ],
)
@pytest.mark.parametrize("begin", ["partial_fit", "fit"])
def test_partial_fit_checks_parameters_of_every_part(name, value, begin):
    X, y = make_table()
    estimator = classifier(max_iter=1)
    getattr(estimator, begin)(X, y, **({"classes": [0, 1]} if begin == "partial_fit" else {}))
    before = estimator.params_.copy()
    with pytest.raises(ValueError, match=name):
        estimator.set_params(**{name: value}).partial_fit(X, y)
    np.testing.assert_array_equal(estimator.params_, before)
    assert len(estimator.loss_curve_) == 1


@pytest.mark.parametrize("bad", [2, np.nan, None, "yes"], ids=str)
def test_partial_fit_checks_labels_of_every_part(bad):
    X, y = make_table()
    estimator = classifier().partial_fit(X, y, classes=[0, 1])
    labels = np.array(y, dtype=object)
    labels[7] = bad
    with pytest.raises((ValueError, TypeError)):
        estimator.partial_fit(X, labels)
    assert len(estimator.loss_curve_) == 1


def test_partial_fit_takes_classes_before_weights():
    X, y = make_table()
    weights = make_weights(len(y))
    by_place = classifier().partial_fit(X, y, [0, 1], weights)
    by_name = classifier().partial_fit(X, y, sample_weight=weights, classes=[0, 1])
    np.testing.assert_array_equal(by_place.params_, by_name.params_)


def test_partial_fit_ignores_early_stopping():
    X, y = make_table()
    stopping = classifier(early_stopping=True).partial_fit(X, y, classes=[0, 1])
    plain = classifier(early_stopping=False).partial_fit(X, y, classes=[0, 1])
    np.testing.assert_array_equal(stopping.params_, plain.params_)


@pytest.mark.parametrize("learning_rate", ["cosine", "one_cycle", "coslog4"])
def test_partial_fit_keeps_the_rate_where_the_schedule_has_no_end(learning_rate):
    X, y = make_table()
    scheduled = classifier(learning_rate=learning_rate).partial_fit(X, y, classes=[0, 1])
    constant = classifier(learning_rate="constant").partial_fit(X, y, classes=[0, 1])
    np.testing.assert_array_equal(scheduled.params_, constant.params_)


def test_partial_fit_passes_over_batches_without_weight():
    X, y = make_table()
    weights = np.where(np.arange(len(y)) < 64, 0.0, 1.0)
    estimator = classifier(shuffle=False, batch_size=32).partial_fit(X, y, [0, 1], weights)
    assert np.isfinite(estimator.params_).all()
    assert estimator.t_ == len(y)


def test_partial_fit_passes_over_a_part_without_weight():
    X, y = make_table()
    estimator = classifier(alpha=0.0, solver="sgd", momentum=0.0).partial_fit(X, y, classes=[0, 1])
    before = estimator.params_.copy()
    estimator.partial_fit(X, y, sample_weight=np.zeros(len(y)))
    np.testing.assert_array_equal(estimator.params_, before)


@pytest.mark.parametrize("weight", [1.0, 10.0, 1000.0])
def test_partial_fit_learns_whatever_the_size_of_the_weights(weight):
    X, y = make_separable()
    estimator = classifier(max_grad_norm=1.0, learning_rate_init=0.05)
    for _ in range(20):
        estimator.partial_fit(X, y, classes=[0, 1], sample_weight=np.full(len(y), weight))
    assert estimator.score(X, y) > 0.95


def test_partial_fit_learns_where_the_first_loss_is_high():
    X, y = make_separable()
    estimator = at_first_weights(classifier((16,), "relu", learning_rate_init=0.03), X, y)
    estimator.intercepts_[-1][:] = 20.0
    for _ in range(60):
        estimator.partial_fit(X, y)
    assert estimator.score(X, y) > 0.95


def test_partial_fit_refuses_weights_that_are_too_large_to_learn_with():
    X, y = make_table()
    weight = np.where(np.arange(len(y)) == 7, 1e30, 1.0)
    with pytest.raises(ValueError, match=r"takes sample_weight as it is, up to 2e\+19 in float32"):
        classifier(dtype="float32").partial_fit(X, y, classes=[0, 1], sample_weight=weight)


def test_class_weight_of_labels_acts_in_partial_fit():
    X, y = make_table()
    by_class = classifier(class_weight={1: 4.0}).partial_fit(X, y, classes=[0, 1])
    by_row = classifier().partial_fit(X, y, [0, 1], np.where(y, 4.0, 1.0))
    np.testing.assert_array_equal(by_class.params_, by_row.params_)


# Randomness.

RANDOM = {"dropout": 0.2, "early_stopping": True, "n_members": 2}


@pytest.mark.parametrize("make_state", [lambda: 3, lambda: np.random.RandomState(3)])
def test_random_state_makes_fits_reproducible(make_state):
    X, y = make_table()
    first, second = (classifier(random_state=make_state(), **RANDOM).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(first.params_, second.params_)


def test_random_states_differ():
    X, y = make_table()
    first, second = (classifier(random_state=seed, **RANDOM).fit(X, y) for seed in (0, 1))
    assert not np.allclose(first.params_, second.params_)


def test_shared_random_state_moves_on_with_each_fit():
    X, y = make_table()
    estimator = classifier(random_state=np.random.RandomState(0))
    first = estimator.fit(X, y).params_
    assert not np.array_equal(estimator.fit(X, y).params_, first)


def test_random_state_none_draws_anew():
    X, y = make_table()
    first, second = (classifier(random_state=None).fit(X, y) for _ in range(2))
    assert not np.array_equal(first.params_, second.params_)


def test_predicting_consumes_no_randomness():
    X, y = make_table()
    quiet, asked = (classifier(**RANDOM).fit(X, y) for _ in range(2))
    first = asked.predict_proba(X)
    asked.predict(X)
    np.testing.assert_array_equal(asked.predict_proba(X), first)
    quiet.partial_fit(X, y)
    asked.partial_fit(X, y)
    np.testing.assert_array_equal(asked.params_, quiet.params_)


def test_fitting_leaves_the_global_generator_alone():
    X, y = make_table()
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    classifier(random_state=0, **RANDOM).fit(X, y)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_members_differ_and_shuffle_apart():
    X, y = make_table()
    estimator = classifier(n_members=3, initialization="zeros", hidden_layer_sizes=()).fit(X, y)
    assert len(np.unique(estimator.params_, axis=0)) == 3


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("n_members", [1, 2, 5])
def test_drawing_for_dropout_moves_no_other_random_numbers(n_members, early_stopping):
    """Rates have steps of 2^-16: a millionth is drawn for and drops nothing."""
    X, y = make_table()
    settings = {"n_members": n_members, "early_stopping": early_stopping}
    drawn, not_drawn = (classifier(dropout=p, **settings).fit(X, y) for p in (1e-6, 0.0))
    np.testing.assert_array_equal(drawn.params_, not_drawn.params_)


@pytest.mark.parametrize(
    "setting", [{"shuffle": False}, {"dropout": 0.5}, {"early_stopping": True}], ids=str
)
def test_first_weights_depend_on_the_seed_and_the_network_alone(setting):
    X, y = make_table()
    plain, other = (
        at_first_weights(classifier(n_members=n, **changes), X, y).params_
        for n, changes in ((2, {}), (3, setting))
    )
    np.testing.assert_allclose(other[:2], plain, rtol=0, atol=1e-200)
    assert not np.allclose(other[0], other[1])


# Weights of classes and rows.


@pytest.mark.parametrize(
    "class_weight", [{0: 1.0, 1: 5.0}, {1: 5.0}, {0: 0.2}, "balanced"], ids=str
)
@pytest.mark.parametrize("settings", [{}, FULL_BATCH, {"early_stopping": True}], ids=str)
def test_class_weight_equals_sample_weight(class_weight, settings):
    X, y = make_table()
    X, y = X[y.cumsum() < 30], y[y.cumsum() < 30]
    by_class = classifier(class_weight=class_weight, **settings).fit(X, y)
    by_row = classifier(**settings).fit(X, y, compute_sample_weight(class_weight, y))
    np.testing.assert_allclose(by_class.params_, by_row.params_, rtol=1e-9, atol=1e-12)
    assert not np.allclose(by_class.params_, classifier(**settings).fit(X, y).params_)


def test_class_weight_multiplies_sample_weight():
    X, y = make_table()
    weights = make_weights(len(y)) + 0.5
    both = classifier(class_weight={0: 3.0}).fit(X, y, weights)
    product = classifier().fit(X, y, weights * np.where(y, 1.0, 3.0))
    np.testing.assert_array_equal(both.params_, product.params_)


def test_balanced_classes_are_balanced_by_weight():
    X, y = make_table()
    weights = make_weights(len(y)) + 0.5
    balanced = classifier(class_weight="balanced").fit(X, y, weights)
    totals = np.bincount(y, weights)
    by_row = classifier().fit(X, y, weights * totals.sum() / (2.0 * totals[y]))
    np.testing.assert_allclose(balanced.params_, by_row.params_, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("class_weight", [None, {}, {0: 1.0, 1: 1.0}, {0: 2.0, 1: 2.0}], ids=str)
def test_equal_class_weights_change_nothing(class_weight):
    X, y = make_table()
    weighted = classifier(class_weight=class_weight, alpha=0.0).fit(X, y)
    np.testing.assert_array_equal(weighted.params_, classifier(alpha=0.0).fit(X, y).params_)


def test_class_weight_knows_labels_and_not_codes():
    X, y = make_table()
    labels = np.array(["no", "yes"])[y]
    named = classifier(class_weight={"yes": 3.0}).fit(X, labels)
    np.testing.assert_array_equal(
        named.params_, classifier(class_weight={1: 3.0}).fit(X, y).params_
    )


def test_heavy_class_is_predicted_more_often():
    X, y = make_table()
    heavy = classifier(class_weight={1: 20.0}, max_iter=30).fit(X, y)
    plain = classifier(max_iter=30).fit(X, y)
    assert heavy.predict(X).sum() > plain.predict(X).sum()


# What keeps a network from overfitting, each doing what it says.


def size_of_weights(estimator):
    return sum(float((W**2).sum()) for W in estimator.coefs_)


@pytest.mark.parametrize("solver", ["gd", "sgd", "adam", "adamw", "nadam", "rmsprop"])
def test_alpha_and_weight_decay_shrink_the_weights(solver):
    X, y = make_table()
    settings = {"solver": solver, "max_iter": 60, "learning_rate_init": 0.02}
    plain = classifier(alpha=0.0, weight_decay=0.0, **settings).fit(X, y)
    with_alpha = classifier(alpha=20.0, weight_decay=0.0, **settings).fit(X, y)
    with_decay = classifier(alpha=0.0, weight_decay=1.0, **settings).fit(X, y)
    assert size_of_weights(with_alpha) < 0.9 * size_of_weights(plain)
    assert size_of_weights(with_decay) < 0.9 * size_of_weights(plain)


@pytest.mark.parametrize("solver", ["gd", "sgd", "adamw"])
def test_weight_decay_shrinks_weights_by_the_rate_and_leaves_biases(solver):
    X, y = make_table()
    settings = {"solver": solver, "learning_rate_init": 0.1, "max_iter": 1, "alpha": 0.0}
    settings["batch_size"] = len(y)
    free = classifier(weight_decay=0.0, **settings).fit(X, y)
    decayed = classifier(weight_decay=0.5, **settings).fit(X, y)
    first = at_first_weights(free, X, y)
    for W, W_free, W_first in zip(decayed.coefs_, free.coefs_, first.coefs_, strict=True):
        np.testing.assert_allclose(W_free - W, 0.1 * 0.5 * W_first, rtol=1e-9, atol=1e-15)
    for b, b_free in zip(decayed.intercepts_, free.intercepts_, strict=True):
        np.testing.assert_array_equal(b, b_free)


@pytest.mark.parametrize(("solver", "rate"), [("adamw", 0.02), ("adam", 0.0), ("sgd", 0.0)])
def test_weight_decay_none_means_that_of_the_solver(solver, rate):
    X, y = make_table()
    by_default = classifier(solver=solver, weight_decay=None).fit(X, y)
    by_name = classifier(solver=solver, weight_decay=rate).fit(X, y)
    np.testing.assert_array_equal(by_default.params_, by_name.params_)
    otherwise = classifier(solver=solver, weight_decay=0.2).fit(X, y)
    assert not np.array_equal(by_default.params_, otherwise.params_)


def test_max_grad_norm_bounds_the_step():
    X, y = make_table()
    settings = {"solver": "gd", "learning_rate_init": 1.0, "max_iter": 1, "alpha": 0.0}
    start = at_first_weights(classifier(**settings), X, y).params_
    free = classifier(**settings).fit(X, y).params_ - start
    length = np.linalg.norm(free)
    clipped = classifier(max_grad_norm=0.5 * length, **settings).fit(X, y).params_ - start
    np.testing.assert_allclose(clipped, 0.5 * free, rtol=1e-9, atol=1e-15)
    unclipped = classifier(max_grad_norm=1.01 * length, **settings).fit(X, y).params_ - start
    np.testing.assert_array_equal(unclipped, free)


def test_max_grad_norm_bounds_each_member_by_itself():
    X, y = make_table()
    settings = {"solver": "gd", "learning_rate_init": 1.0, "max_iter": 1, "n_members": 3}
    start = at_first_weights(classifier(**settings), X, y).params_
    clipped = classifier(max_grad_norm=1e-3, **settings).fit(X, y).params_ - start
    np.testing.assert_allclose(np.linalg.norm(clipped, axis=1), 1e-3, rtol=1e-9)


def test_dropout_acts_in_training_alone():
    X, y = make_table()
    settings = {"max_iter": 40, "learning_rate_init": 0.05}
    without = classifier((32,), dropout=0.0, **settings).fit(X, y)
    dropped = classifier((32,), dropout=0.6, **settings).fit(X, y)
    assert dropped.loss_curve_[-1] > without.loss_curve_[-1]
    np.testing.assert_allclose(
        dropped.decision_function(X), forward_by_hand(dropped, X)[0], rtol=1e-10
    )


def test_dropout_of_a_layer_acts_on_that_layer():
    X, y = make_table()
    same = classifier((8, 8), dropout=0.3).fit(X, y)
    listed = classifier((8, 8), dropout=[0.3, 0.3]).fit(X, y)
    np.testing.assert_array_equal(same.params_, listed.params_)
    first, last, none = (
        classifier((8, 8), dropout=rates).fit(X, y).params_ for rates in ([0.3, 0], (0, 0.3), 0.0)
    )
    for params, others in [(first, last), (last, none), (none, first)]:
        assert not np.array_equal(params, others)


# Every name in every list does its work.


@pytest.mark.parametrize("learning_rate", SCHEDULES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_solver_and_schedule_learn_a_separable_table(solver, learning_rate):
    X, y = make_separable()
    rate = {"gd": 1.0, "sgd": 0.1}.get(solver, 0.02)
    if learning_rate == "invscaling":
        rate *= 10.0
    estimator = classifier(
        solver=solver, learning_rate=learning_rate, learning_rate_init=rate, max_iter=30
    ).fit(X, y)
    assert estimator.score(X, y) > 0.95
    assert estimator.loss_curve_[-1] < 0.7 * estimator.loss_curve_[0]


@pytest.mark.parametrize("learning_rate", SCHEDULES)
def test_history_shows_the_learning_rate_of_the_schedule(learning_rate):
    X, y = make_table(n_samples=96)
    estimator = classifier(learning_rate=learning_rate, max_iter=20).fit(X, y)
    rates = np.array(estimator.history_["learning_rate"]) / estimator.learning_rate_init
    if learning_rate in ("constant", "adaptive"):
        np.testing.assert_array_equal(rates, 1.0)
    elif learning_rate == "invscaling":
        np.testing.assert_allclose(rates, (1.0 + 96.0 * np.arange(20)) ** -0.5)
    else:
        assert 0.9 < rates.max() <= 1.0
        assert 0.0 <= rates[-1] < 0.1


def test_power_t_is_the_power_of_invscaling():
    X, y = make_table(n_samples=96)
    estimator = classifier(learning_rate="invscaling", power_t=0.25, max_iter=3).fit(X, y)
    rates = np.array(estimator.history_["learning_rate"]) / estimator.learning_rate_init
    np.testing.assert_allclose(rates, [1.0, 97.0**-0.25, 193.0**-0.25])


def test_adaptive_rate_is_divided_on_a_plateau_until_training_stops():
    X, y = make_table()
    estimator = classifier(
        learning_rate="adaptive",
        solver="sgd",
        learning_rate_init=0.1,
        tol=1e-4,
        n_iter_no_change=3,
        max_iter=2_000,
        batch_size=len(y),
    ).fit(X, y)
    rates = np.array(estimator.history_["learning_rate"])
    assert estimator.n_iter_ < 2_000
    steps = rates[1:] / rates[:-1]
    np.testing.assert_allclose(steps[steps != 1.0], 0.2)
    assert 2e-7 < rates[-1] <= 1e-6


@pytest.mark.parametrize(
    ("activation", "initialization"),
    [
        *product(ACTIVATIONS, ["auto", "zeros"]),
        *product(["tanh"], sorted(INITIALIZERS.keys() - {"zeros"})),
    ],
)
def test_activation_and_initialization_fit(activation, initialization):
    X, y = make_separable(60)
    estimator = classifier(
        (8,), activation, initialization=initialization, learning_rate_init=0.05, max_iter=25
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator.fit(X, y)
    is_blind = bool(np.ptp(estimator.decision_function(X)) == 0.0)
    assert is_blind <= (initialization == "zeros")
    assert ["the same to every row" in str(w.message) for w in caught] == [True] * is_blind
    assert np.isfinite(estimator.params_).all()
    if initialization == "zeros":
        # Nothing tells the units of a layer apart, not even what they learn.
        W = estimator.coefs_[0]
        np.testing.assert_allclose(W, W[:, :1].repeat(8, axis=1), rtol=1e-9, atol=1e-12)
    else:
        assert estimator.score(X, y) > 0.95


def test_activation_may_differ_by_layer():
    X, y = make_table()
    mixed = classifier((6, 5), ["tanh", "relu"]).fit(X, y)
    h = np.tanh(X @ mixed.coefs_[0] + mixed.intercepts_[0])
    h = np.maximum(h @ mixed.coefs_[1] + mixed.intercepts_[1], 0.0)
    expected = (h @ mixed.coefs_[2] + mixed.intercepts_[2])[:, 0]
    np.testing.assert_allclose(mixed.decision_function(X), expected, rtol=1e-10)
    for same in ("tanh", ["tanh", "tanh"], ("tanh", "tanh"), np.array(["tanh", "tanh"])):
        np.testing.assert_array_equal(
            classifier((6, 5), same).fit(X, y).params_, classifier((6, 5)).fit(X, y).params_
        )


class OwnTanh:
    """An activation function as a user would write it."""

    def value(self, z):
        return np.tanh(z)

    def derivative(self, z):
        return 1.0 - np.tanh(z) ** 2


def test_own_activation_learns_what_the_built_in_one_learns():
    X, y = make_table()
    settings = {"initialization": "glorot_uniform", "dropout": 0.1, "n_members": 2}
    own = classifier((6, 5), OwnTanh(), **settings).fit(X, y)
    built_in = classifier((6, 5), "tanh", **settings).fit(X, y)
    np.testing.assert_allclose(own.params_, built_in.params_, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(own.predict_proba(X), built_in.predict_proba(X), rtol=1e-9)


def test_own_activation_may_stand_beside_names_and_built_in_objects():
    X, y = make_table()
    estimator = classifier((6, 5, 4), [OwnTanh(), "silu", SiLU()], warm_start=True).fit(X, y)
    clone(estimator).fit(X, y)
    resumed = pickle.loads(pickle.dumps(estimator)).fit(X, y)
    np.testing.assert_array_equal(resumed.params_, estimator.fit(X, y).params_)


def test_identity_activation_makes_a_linear_classifier():
    X, y = make_table()
    estimator = classifier((6, 5), "identity").fit(X, y)
    W = np.linalg.multi_dot(estimator.coefs_)
    difference = estimator.decision_function(X) - (X @ W)[:, 0]
    np.testing.assert_allclose(difference, difference[0], atol=1e-10)


@pytest.mark.parametrize("batch_size", [1, 7, 120, 500])
def test_each_batch_is_one_step(batch_size):
    X, y = make_table()
    rate = 1e-9  # so small that the gradient is the same in every step
    estimator = classifier(
        (),
        initialization="zeros",
        solver="sgd",
        momentum=0.0,
        alpha=0.0,
        shuffle=False,
        batch_size=batch_size,
        learning_rate_init=rate,
        max_iter=1,
    ).fit(X, y)
    gradients = X * (0.5 - y)[:, np.newaxis]
    starts = range(0, len(y), batch_size)
    moved = -rate * sum(gradients[i : i + batch_size].mean(axis=0) for i in starts)
    np.testing.assert_allclose(estimator.coefs_[0][:, 0], moved, rtol=1e-4)


@pytest.mark.parametrize("n_samples", [120, 450, 1_500])
def test_batch_size_auto_is_told(n_samples):
    X, y = make_table(n_samples)
    by_default = classifier(batch_size="auto").fit(X, y)
    batch_size = by_default.resolved_params_["batch_size"]
    assert type(batch_size) is int
    assert batch_size > 1
    by_name = classifier(batch_size=batch_size).fit(X, y)
    np.testing.assert_array_equal(by_default.params_, by_name.params_)


def test_gd_takes_all_rows_at_once():
    X, y = make_table(450)
    whole = classifier(solver="gd", batch_size=7, learning_rate_init=0.5).fit(X, y)
    same = classifier(solver="sgd", momentum=0.0, batch_size=450, learning_rate_init=0.5).fit(X, y)
    np.testing.assert_array_equal(whole.params_, same.params_)


def test_shuffle_false_keeps_the_order_of_the_rows():
    X, y = make_table()
    whole = classifier(shuffle=False, alpha=0.0, max_iter=1).fit(X, y)
    parts = classifier(shuffle=False, alpha=0.0)
    for start in range(0, len(y), 32):
        parts.partial_fit(X[start : start + 32], y[start : start + 32], classes=[0, 1])
    np.testing.assert_allclose(parts.params_, whole.params_, rtol=1e-12)
    shuffled = classifier(shuffle=True, alpha=0.0, max_iter=1).fit(X, y)
    assert not np.allclose(shuffled.params_, whole.params_)


# Endings: on time, too early, and badly.


def test_training_stops_where_the_loss_no_longer_falls():
    X, y = make_table()
    estimator = classifier(
        (),
        alpha=1.0,
        tol=1e-6,
        n_iter_no_change=5,
        max_iter=5_000,
        learning_rate_init=0.5,
        **{"solver": "gd"},
    ).fit(X, y)
    curve = estimator.loss_curve_
    assert 10 < estimator.n_iter_ < 5_000
    assert curve[-6] - curve[-1] < 5e-6


def test_end_before_convergence_is_warned_of():
    X, y = make_table()
    with pytest.warns(ConvergenceWarning, match="max_iter=3 .* learning_rate_init=0.01"):
        classifier(max_iter=3, n_iter_no_change=10).fit(X, y)


def test_huge_learning_rate_is_not_silent():
    X, y = make_table()
    estimator = classifier((32, 32), "relu", solver="sgd", learning_rate_init=1e3, max_iter=20)
    message = r"(?s)diverged.*epoch \d+.*learning rate.*StandardScaler.*learning_rate_init=1000.0"
    with pytest.warns(ConvergenceWarning, match=message):
        estimator.fit(X, y)
    assert log_loss(y, estimator.predict_proba(X)) < 2.0


def test_loss_that_is_never_finite_is_an_error():
    X, y = make_table()
    estimator = classifier((), solver="gd")
    message = r"diverged.*epoch 5 .*No better weights.*StandardScaler.*learning_rate_init=0.01"
    with pytest.raises(ValueError, match=message):
        estimator.fit(np.full_like(X, 1.7e308), y)
    assert not hasattr(estimator, "params_")


def test_divergence_after_a_good_start_keeps_the_best_weights():
    X, y = make_separable()
    estimator = classifier(
        (16,), "relu", solver="gd", learning_rate_init=1e8, max_iter=50, warm_start=True
    )
    with pytest.warns(ConvergenceWarning, match="diverged"):
        estimator.fit(X, y)
    assert np.isfinite(estimator.params_).all()
    first = at_first_weights(estimator, X, y)
    np.testing.assert_allclose(estimator.params_, first.params_, rtol=0, atol=1e-290)


def test_high_loss_that_still_falls_is_not_called_divergence():
    X, y = make_separable()
    unlearned = at_first_weights(classifier(warm_start=True, max_iter=3), X, y)
    unlearned.intercepts_[-1][:] = 20.0
    before = unlearned.params_.copy()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        unlearned.fit(X, y)
    assert not [w for w in caught if "diverged" in str(w.message)]
    assert np.diff(unlearned.loss_curve_[1:]).max() < 0
    assert not np.array_equal(unlearned.params_, before)


@pytest.mark.parametrize("solver", SOLVERS)
def test_part_that_cannot_be_learned_from_leaves_no_trace(solver):
    X, y = make_table()
    estimator = classifier((8,), "relu", solver=solver).partial_fit(X, y, classes=[0, 1])
    undisturbed = copy.deepcopy(estimator).partial_fit(X, y)
    with pytest.raises(ValueError, match="diverged"):
        estimator.partial_fit(np.full_like(X, 1.7e308), y)
    assert len(estimator.history_["loss"]) == estimator.n_iter_ == 1
    estimator.partial_fit(X, y)
    np.testing.assert_array_equal(estimator.params_, undisturbed.params_)


# Warnings.


@pytest.mark.parametrize(
    "train",
    [
        lambda model, X, y: model.fit(X, y),
        lambda model, X, y: make_pipeline(model).fit(X, y),
        lambda model, X, y: cross_val_score(model, X, y, cv=2),
    ],
    ids=["fit", "pipeline", "cross-validation"],
)
def test_warnings_name_the_line_of_the_caller(train):
    X, y = make_table()
    model = classifier(n_iter_no_change=50)
    with pytest.warns(ConvergenceWarning, match="max_iter=5") as caught:
        train(model, X, y)
    assert {warning.filename for warning in caught} == {__file__}
