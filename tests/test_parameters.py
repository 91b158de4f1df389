"""What "auto" stands for: rules that depend on the networks, the schedule and the rows."""

import numpy as np
import pytest
from data import classifier, make_table
from numpy.testing import assert_array_equal
from sklearn.base import clone

from skdnn import DeepBinaryClassifier, TabularEncoder

FOLDS = {"early_stopping": True, "n_iter_no_change": "auto"}


def chosen(n_samples, **parameters):
    """Return what was chosen for a table of so many rows, of a fit that takes no epoch's time."""
    X, y = np.arange(n_samples)[:, np.newaxis] / n_samples, np.arange(n_samples) % 2
    settings = {"hidden_layer_sizes": (), "max_iter": 1, "random_state": 0}
    return DeepBinaryClassifier(**settings | parameters).fit(X, y).resolved_params_


@pytest.mark.parametrize(
    ("n_members", "parameters", "n_epochs"),
    [
        (5, FOLDS, 1 + 7),  # 6 and 0.35
        (4, FOLDS, 1 + 10),
        (1, FOLDS, 1 + 10),
        (5, {**FOLDS, "learning_rate": "coslog4"}, 1 + 12),  # 10 and one and a half times 1
        (5, {**FOLDS, "n_iter_no_change": 3}, 1 + 3),
        (5, {**FOLDS, "early_stopping": False}, 1 + 10),
        (5, {**FOLDS, "early_stopping": False, "learning_rate": "cosine"}, 14),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_patience_is_short_where_all_rows_judge(n_members, parameters, n_epochs):
    """With such a `tol` no epoch after the first is progress."""
    X, y = make_table()
    model = classifier(n_members=n_members, max_iter=14, tol=1e9, **parameters).fit(X, y)
    assert model.n_iter_ == n_epochs


@pytest.mark.parametrize(
    ("n_samples", "parameters", "expected"),
    [
        (640, {}, 0.9),  # ten steps of 64 rows
        (6_400, {"batch_size": 64}, 0.98),  # fifty at most
        (100, {}, None),  # one step
        (640, {"solver": "gd"}, None),
        (640, {"n_members": 1, "early_stopping": False}, 0.9),
        (640, {"solver": "lbfgs"}, None),
        (640, {"max_fun": 15_000, "n_members": 2}, None),  # MLPClassifier's parameters
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_weights_are_averaged_over_the_steps_of_an_epoch(n_samples, parameters, expected):
    decay = chosen(n_samples, **parameters)["ema_decay"]
    assert decay == (None if expected is None else pytest.approx(expected))


WIDE = {"encoder": "auto", "hidden_layer_sizes": "auto", "n_members": 2}


@pytest.mark.parametrize(
    ("shape", "parameters", "embedding", "sizes"),
    [
        ((60, 20), {}, "mixed", (64, 64)),
        ((20, 60), {}, "mixed", (32, 32)),  # more columns than rows
        ((20, 1_001), {}, None, (32, 32)),  # too many to embed
        ((20, 1_001), {"numeric_embedding": "periodic"}, "periodic", (32, 32)),
        ((20, 60), {"hidden_layer_sizes": (8,)}, "mixed", (8,)),
        ((20, 60), {"max_fun": 15_000}, None, (64, 64)),  # MLPClassifier's parameters
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_networks_of_wide_tables_are_small(shape, parameters, embedding, sizes):
    X, y = np.random.default_rng(0).normal(size=shape), np.arange(shape[0]) % 2
    model = classifier(max_iter=1, **WIDE | parameters).fit(X, y)
    told = model.get_params() | model.resolved_params_
    assert (told["numeric_embedding"], told["hidden_layer_sizes"]) == (embedding, sizes)


def test_part_of_a_stream_says_nothing_about_its_length():
    X, y = np.random.default_rng(0).normal(size=(20, 60)), np.arange(20) % 2
    model = classifier(**WIDE | {"n_members": "auto"}).partial_fit(X, y, classes=[0, 1])
    expected = {"hidden_layer_sizes": (64, 64), "n_members": 8}
    assert expected.items() <= model.resolved_params_.items()


@pytest.mark.parametrize(
    ("n_samples", "parameters", "expected"),
    [
        (15, {}, None),  # each of which all networks know in part
        (16, {}, "temperature"),
        (2_000, {}, "temperature"),
        (2_001, {}, None),
        (60, {"n_members": 1, "early_stopping": True}, None),
        (60, {"early_stopping": False}, None),
        (60, {"solver": "lbfgs", "n_members": 5}, None),
        (60, {"max_fun": 15_000, "n_members": 5, "early_stopping": True}, None),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_ensembles_of_few_rows_are_calibrated(n_samples, parameters, expected):
    assert chosen(n_samples, **parameters)["calibration"] == expected


@pytest.mark.parametrize(
    ("n_samples", "n_columns", "parameters", "expected"),
    [
        (300, 1, {}, 16),
        (301, 1, {}, 8),
        (20, 20, {}, 16),
        (20, 21, {}, 8),  # wide tables take memory
        (20, 1, {"solver": "lbfgs"}, 1),
        (20, 1, {"max_fun": 15_000}, 1),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_few_rows_take_more_members(n_samples, n_columns, parameters, expected):
    X, y = np.random.default_rng(0).normal(size=(n_samples, n_columns)), np.arange(n_samples) % 2
    model = classifier((), max_iter=1, n_members="auto", **parameters).fit(X, y)
    assert model.resolved_params_["n_members"] == expected


def test_tables_of_many_columns_that_rise_and_fall_together_converge_at_the_default_rate():
    """A step of each weight moves units by the sum of them all: this diverged before."""
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(30, 5_000)) + 2.0 * rng.normal(size=(30, 1))).astype(np.float32)
    y = X[:, 0] - X[:, 1] + 2.0 * rng.normal(size=30) > 0.0
    model = DeepBinaryClassifier(random_state=0).fit(X, y)  # warnings are errors
    assert max(model.history_["validation_loss"]) < 2.0


def test_calibration_that_is_given_stays():
    assert "calibration" not in chosen(60, calibration=None)


def test_calibration_by_itself_is_that_by_name():
    X, y = make_table()
    models = [
        classifier(n_members=5, early_stopping=True, calibration=name).fit(X, y)
        for name in ("auto", "temperature")
    ]
    assert models[0].temperature_ == models[1].temperature_ != 1.0
    assert np.array_equal(*(model.decision_function(X) for model in models))


@pytest.mark.parametrize("is_given", [True, False])
def test_rows_of_one_class_calibrate_nothing_by_themselves(is_given):
    """Asked for by name, that is an error. The only row of a class is in no fold."""
    X, y = make_table()
    given = {"X_val": X[y == 1], "y_val": y[y == 1]} if is_given else {}
    y = y if is_given else np.arange(len(y)) == 0
    model = classifier(n_members=5, early_stopping=True, calibration="auto").fit(X, y, **given)
    assert model.temperature_ == 1.0
    assert model.resolved_params_["calibration"] is None
    again = clone(model).set_params(**model.resolved_params_).fit(X, y, **given)
    assert_array_equal(again.decision_function(X), model.decision_function(X))
    if not is_given:
        assert_array_equal(again.oof_decision_function_, model.oof_decision_function_)
    with pytest.raises(ValueError, match="needs rows of both classes"):
        model.set_params(calibration="temperature").fit(X, y, **given)


@pytest.mark.parametrize("decay", [None, 0.5])
def test_averages_that_are_given_stay(decay):
    assert "ema_decay" not in chosen(60, ema_decay=decay)


@pytest.mark.parametrize(
    ("n_samples", "n_members", "solver", "expected"),
    [
        (500, 1, "adamw", False),
        (501, 1, "adamw", True),
        (501, 1, "sgd", True),
        (60, 2, "adamw", True),
        (501, 1, "gd", False),
        (501, 1, "lbfgs", False),
        (10_001, 1, "gd", True),
        (10_001, 1, "lbfgs", True),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_single_networks_stop_early_where_they_would_learn_rows_by_heart(
    n_samples, n_members, solver, expected
):
    choices = chosen(n_samples, n_members=n_members, solver=solver)
    assert choices["early_stopping"] == expected


@pytest.mark.parametrize(
    ("n_samples", "batch_size", "max_iter"),
    [(10, 64, 64), (2_559, 64, 64), (5_000, 128, 64), (12_000, 256, 64), (20_001, 512, 50)],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_batches_and_epochs_go_by_the_rows(n_samples, batch_size, max_iter):
    choices = chosen(n_samples, n_members=1, max_iter="auto", max_time=1e-9)
    assert (choices["batch_size"], choices["max_iter"]) == (batch_size, max_iter)


def test_numbers_of_numpy_are_as_good_as_those_of_python():
    X, y = make_table()
    numbers = {"hidden_layer_sizes": 4, "dropout": 0.25, "alpha": 0.5, "residual": False}
    theirs = {
        "hidden_layer_sizes": np.int64(4),
        "dropout": np.float32(0.25),
        "alpha": np.float64(0.5),
        "residual": np.bool_(False),
    }
    ours, other = (classifier(**parameters).fit(X, y) for parameters in (numbers, theirs))
    np.testing.assert_array_equal(ours.params_, other.params_)


def test_the_encoder_among_the_choices_has_learnt_nothing():
    encoder = chosen(60)["encoder"]
    assert encoder.get_params() == TabularEncoder().get_params()
    assert not hasattr(encoder, "n_features_in_")
    assert chosen(60, max_fun=15_000)["encoder"] is None
