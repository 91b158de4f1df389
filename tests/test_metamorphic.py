"""What must not change when the same question is asked in another way."""

import copy
import pickle

import joblib
import numpy as np
import pytest
from data import (
    FULL_BATCH,
    at_first_weights,
    classifier,
    make_separable,
    make_table,
    make_weights,
)
from sklearn.preprocessing import FunctionTransformer

FULL_BATCH_SETTINGS = {
    "plain": {**FULL_BATCH, "max_iter": 10},
    "adam": {"batch_size": 1_000, "max_iter": 10},
    "dropout": {**FULL_BATCH, "max_iter": 10, "dropout": 0.4},
    "early stopping": {**FULL_BATCH, "max_iter": 10, "early_stopping": True},
    "everything": {
        "batch_size": 1_000,
        "max_iter": 10,
        "dropout": 0.3,
        "early_stopping": True,
        "n_members": 3,
        "alpha": 2.0,
        "weight_decay": 0.1,
        "max_grad_norm": 0.5,
        "class_weight": "balanced",
    },
    "float32": {"batch_size": 1_000, "max_iter": 10, "dtype": "float32", "dropout": 0.3},
}

MINI_BATCH_SETTINGS = {
    "mini-batches": {"batch_size": 16},
    "mini-batches, everything": {
        **FULL_BATCH_SETTINGS["everything"],
        "batch_size": 16,
    },
}

SETTINGS = {**FULL_BATCH_SETTINGS, **MINI_BATCH_SETTINGS}

ENCODED_SETTINGS = {
    "encoder": {"encoder": "auto", "batch_size": 1_000, "n_members": 2},
    "encoder, everything": {
        **FULL_BATCH_SETTINGS["everything"],
        "encoder": "auto",
        "n_members": 5,
        "calibration": "temperature",
    },
}
"""Those in which the features are not the inputs of the first linear step."""

ONE_BATCH_SETTINGS = {**FULL_BATCH_SETTINGS, **ENCODED_SETTINGS}
"""Those in which identical rows are merged."""

ALL_SETTINGS = {**SETTINGS, **ENCODED_SETTINGS}


def each(settings):
    """Run a test under each of these settings."""
    return pytest.mark.parametrize("settings", settings.values(), ids=settings)


def each_uncalibrated(settings):
    """Do the same without temperature: its prior counts rows, whatever their weights."""
    return each({name: {**given, "calibration": None} for name, given in settings.items()})


def assert_same_model(first, second):
    np.testing.assert_array_equal(first.params_, second.params_)
    assert first.loss_curve_ == second.loss_curve_
    assert first.temperature_ == second.temperature_
    assert first.history_.get("validation_loss") == second.history_.get("validation_loss")


# Weights and repeated rows.


@each_uncalibrated(ONE_BATCH_SETTINGS)
def test_weight_k_equals_k_rows(settings):
    X, y = make_table(80)
    k = make_weights(len(y))
    weighted = classifier(**settings).fit(X, y, sample_weight=k)
    repeated = classifier(**settings).fit(X.repeat(k, axis=0), y.repeat(k))
    assert_same_model(weighted, repeated)
    unweighted = classifier(**settings).fit(X, y)
    assert not np.allclose(weighted.params_, unweighted.params_)


@each_uncalibrated(ONE_BATCH_SETTINGS)
def test_duplicated_rows_equal_weight_two(settings):
    X, y = make_table(80)
    duplicated = classifier(**settings).fit(np.vstack([X, X]), np.concatenate([y, y]))
    assert_same_model(duplicated, classifier(**settings).fit(X, y, np.full(len(y), 2.0)))


@each_uncalibrated(ONE_BATCH_SETTINGS)
def test_weights_of_repeated_rows_add_up(settings):
    X, y = make_table(60)
    k = make_weights(len(y)) + 1
    parts = np.concatenate([np.full(len(y), 0.5), k - 0.5])
    settings = {**settings, "class_weight": None}  # a factor of each part would be rounded
    split = classifier(**settings).fit(np.vstack([X, X]), np.concatenate([y, y]), parts)
    assert_same_model(split, classifier(**settings).fit(X, y, k))


@each(ALL_SETTINGS)
def test_rows_of_weight_zero_are_not_there(settings):
    X, y = make_table(80)
    k = make_weights(len(y))
    with_zeros = classifier(**settings).fit(X, y, k)
    assert_same_model(with_zeros, classifier(**settings).fit(X[k > 0], y[k > 0], k[k > 0]))


@each(ALL_SETTINGS)
def test_weights_of_one_equal_none(settings):
    X, y = make_table()
    without = classifier(**settings).fit(X, y)
    for ones in (np.ones(len(y)), [1] * len(y)):
        assert_same_model(classifier(**settings).fit(X, y, sample_weight=ones), without)


@pytest.mark.parametrize("weight", [0.1, 1 / 120, 1e-30, 1e38, 1e300])
@pytest.mark.parametrize("encoder", [None, FunctionTransformer()], ids=["no encoder", "encoder"])
@pytest.mark.parametrize("n_members", [1, 2, 5])
def test_equal_weights_of_any_size_equal_none(encoder, n_members, weight):
    """The ramps too are where they would be, whatever the rounding of sums of weights."""
    X, y = make_table()
    settings = {"alpha": 0.0, "early_stopping": True, "n_members": n_members, "encoder": encoder}
    settings["batch_size"] = 1_000
    if encoder is not None:
        settings["numeric_embedding"] = "piecewise"
    without = classifier(**settings).fit(X, y)
    assert_same_model(classifier(**settings).fit(X, y, np.full(120, weight)), without)
    twice = classifier(**settings).fit(np.tile(X, (3, 1)), np.tile(y, 3), np.full(360, weight))
    np.testing.assert_allclose(twice.params_, without.params_, rtol=1e-6, atol=1e-9)


def test_weights_that_differ_beyond_all_measure_are_taken():
    X, y = make_table()
    weights = 10.0 ** np.linspace(-300, 300, 120)
    model = classifier(n_members=5, early_stopping=True).fit(X, y, weights)
    assert np.isfinite(model.predict_proba(X)).all()


@pytest.mark.parametrize("settings", [{}, {"dropout": 0.3, "n_members": 2}], ids=str)
def test_weights_of_one_equal_none_in_partial_fit(settings):
    X, y = make_table()
    without = classifier(**settings).partial_fit(X, y, classes=[0, 1])
    ones = classifier(**settings).partial_fit(X, y, classes=[0, 1], sample_weight=np.ones(len(y)))
    assert_same_model(ones, without)


@each(ALL_SETTINGS)
def test_factor_of_all_weights_changes_nothing(settings):
    X, y = make_table()
    weights = make_weights(len(y)) + 0.5
    settings = {**settings, "alpha": 0.0}
    plain = classifier(**settings).fit(X, y, weights)
    for factor in (4.0, 0.125):
        assert_same_model(classifier(**settings).fit(X, y, factor * weights), plain)
    tolerance = 1e-4 if plain.params_.dtype == np.float32 else 1e-9
    for factor in (3.7, 1e-30, 1e30):  # which round
        scaled = classifier(**settings).fit(X, y, factor * weights)
        np.testing.assert_allclose(scaled.params_, plain.params_, rtol=tolerance, atol=tolerance)


def test_alpha_is_to_be_scaled_with_the_weights():
    X, y = make_table()
    weights = make_weights(len(y)) + 0.5
    plain = classifier(alpha=1.5, **FULL_BATCH).fit(X, y, weights)
    scaled = classifier(alpha=6.0, **FULL_BATCH).fit(X, y, 4.0 * weights)
    assert_same_model(scaled, plain)


# The order of rows and columns.


@each(ONE_BATCH_SETTINGS)
def test_order_of_rows_does_not_matter(settings):
    X, y = make_table()
    order = np.random.default_rng(5).permutation(len(y))
    assert_same_model(
        classifier(**settings).fit(X[order], y[order]), classifier(**settings).fit(X, y)
    )


@each(ONE_BATCH_SETTINGS)
def test_order_of_weighted_rows_does_not_matter(settings):
    X, y = make_table(80)
    k = make_weights(len(y))
    X, y, k = X.repeat(2, axis=0), y.repeat(2), k.repeat(2)
    order = np.random.default_rng(5).permutation(len(y))
    assert_same_model(
        classifier(**settings).fit(X[order], y[order], k[order]),
        classifier(**settings).fit(X, y, k),
    )


@each(SETTINGS)
def test_order_of_columns_does_not_matter(settings):
    X, y = make_table()
    order = np.random.default_rng(5).permutation(X.shape[1])
    settings = {**settings, "class_weight": None, "dtype": "float64"}
    plain = at_first_weights(classifier(**settings), X, y)
    permuted = at_first_weights(classifier(**settings), X, y)
    permuted.coefs_[0][...] = plain.coefs_[0][..., order, :]
    for _ in range(3):
        plain.partial_fit(X, y)
        permuted.partial_fit(X[:, order], y)
    np.testing.assert_allclose(
        permuted.coefs_[0], plain.coefs_[0][..., order, :], rtol=1e-8, atol=1e-12
    )
    np.testing.assert_allclose(
        permuted.predict_proba(X[:, order]), plain.predict_proba(X), rtol=1e-8
    )
    assert not np.allclose(permuted.predict_proba(X), plain.predict_proba(X))


@each(SETTINGS)
def test_constant_column_of_zeros_does_not_matter(settings):
    X, y = make_table()
    settings = {**settings, "class_weight": None, "dtype": "float64"}
    plain = at_first_weights(classifier(**settings), X, y)
    wide_X = np.column_stack([X, np.zeros(len(X))])
    wide = at_first_weights(classifier(**settings), wide_X, y)
    wide.coefs_[0][..., :-1, :] = plain.coefs_[0]
    wide.coefs_[0][..., -1, :] = 0.0
    wide.coefs_[1][...] = plain.coefs_[1]
    for _ in range(3):
        plain.partial_fit(X, y)
        wide.partial_fit(wide_X, y)
    np.testing.assert_allclose(wide.predict_proba(wide_X), plain.predict_proba(X), rtol=1e-9)


# The names of the classes.


@each(SETTINGS)
def test_swapped_labels_swap_probabilities_of_a_linear_classifier(settings):
    X, y = make_table()
    settings = {**settings, "hidden_layer_sizes": (), "initialization": "zeros"}
    settings = {**settings, "dropout": 0.0, "early_stopping": False, "dtype": "float64"}
    plain = classifier(**settings).fit(X, y)
    swapped = classifier(**settings).fit(X, 1 - y)
    np.testing.assert_allclose(swapped.coefs_[0], -plain.coefs_[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(swapped.predict_proba(X), plain.predict_proba(X)[:, ::-1], rtol=1e-9)


@each(SETTINGS)
def test_swapped_labels_swap_probabilities_of_a_deep_classifier(settings):
    X, y = make_table()
    settings = {**settings, "class_weight": None, "dtype": "float64"}
    plain = at_first_weights(classifier((7, 6), **settings), X, y)
    swapped = copy.deepcopy(plain)
    swapped.coefs_[-1][...] *= -1.0
    swapped.intercepts_[-1][...] *= -1.0
    for _ in range(3):
        plain.partial_fit(X, y)
        swapped.partial_fit(X, 1 - y)
    np.testing.assert_allclose(swapped.predict_proba(X), plain.predict_proba(X)[:, ::-1], rtol=1e-9)
    np.testing.assert_allclose(swapped.loss_curve_[1:], plain.loss_curve_[1:], rtol=1e-9)


@each(ALL_SETTINGS)
def test_names_of_labels_do_not_matter(settings):
    X, y = make_table()
    plain = classifier(**settings).fit(X, y)
    for labels in (("no", "yes"), (-3, 8), (False, True)):
        assert_same_model(classifier(**settings).fit(X, np.take(labels, y)), plain)


# The units of a column.


def test_scale_of_a_column_is_undone_by_the_scale_of_its_weights():
    X, y = make_table()
    factor = 2.0 ** np.arange(X.shape[1])
    plain = classifier().fit(X, y)
    scaled = copy.deepcopy(plain)
    scaled.coefs_[0][...] /= factor[:, np.newaxis]
    np.testing.assert_array_equal(scaled.decision_function(X * factor), plain.decision_function(X))


# Saved and loaded.


def by_joblib(estimator, folder):
    joblib.dump(estimator, folder / "model.joblib")
    return joblib.load(folder / "model.joblib")


COPIES = {
    "pickle": lambda estimator, folder: pickle.loads(pickle.dumps(estimator)),
    "oldest pickle": lambda estimator, folder: pickle.loads(pickle.dumps(estimator, 2)),
    "joblib": by_joblib,
    "deepcopy": lambda estimator, folder: copy.deepcopy(estimator),
}


@each(ALL_SETTINGS)
def test_copy_predicts_and_learns_the_same(settings, tmp_path):
    X, y = make_table()
    settings = {**settings, "class_weight": None}
    estimator = classifier(**settings).fit(X, y)
    before = estimator.params_.copy()
    copies = [save_and_load(estimator, tmp_path) for save_and_load in COPIES.values()]
    for loaded in copies:
        assert_same_model(loaded, estimator)
        np.testing.assert_array_equal(loaded.predict_proba(X), estimator.predict_proba(X))
        loaded.partial_fit(X, y)
        np.testing.assert_array_equal(estimator.params_, before)
    estimator.partial_fit(X, y)
    for loaded in copies:
        assert_same_model(loaded, estimator)
    assert not np.array_equal(estimator.params_, before)


@each(ALL_SETTINGS)
def test_copy_writes_its_coefs_into_its_own_predictions(settings, tmp_path):
    X, y = make_separable()
    estimator = classifier(**settings).fit(X, y)
    for save_and_load in COPIES.values():
        loaded = save_and_load(estimator, tmp_path)
        loaded.coefs_[-1][...] = 0.0
        loaded.intercepts_[-1][...] = 2.0
        np.testing.assert_allclose(loaded.decision_function(X), 2.0 / loaded.temperature_)
    assert estimator.score(X, y) > 0.9


def test_model_read_from_a_memory_map_predicts(tmp_path):
    X, y = make_table()
    estimator = classifier().fit(X, y)
    joblib.dump(estimator, tmp_path / "model.joblib")
    mapped = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    np.testing.assert_array_equal(mapped.predict_proba(X), estimator.predict_proba(X))
    mapped.partial_fit(X, y)
    estimator.partial_fit(X, y)
    np.testing.assert_array_equal(mapped.params_, estimator.params_)


def test_pickle_holds_no_rows():
    X, y = make_table(5_000, 20)
    estimator = classifier((4,), max_iter=1).fit(X, y)
    assert len(pickle.dumps(estimator)) < 20_000


def test_small_weights_change_the_cost_only_in_scale():
    """The penalty stands beside the sum of the weighted losses, also where that sum is below 1."""
    X, y = make_table()
    settings = {"alpha": 1.0, "solver": "gd", "learning_rate_init": 0.1}
    plain = classifier((4,), **settings).fit(X, y)
    settings["alpha"] = 2.0**-10
    scaled = classifier((4,), **settings).fit(X, y, sample_weight=np.full(len(y), 2.0**-10))
    np.testing.assert_allclose(scaled.params_, plain.params_, rtol=1e-9)
