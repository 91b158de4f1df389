"""What cannot be used is refused before training begins, in words that name it.

Each row of a table is one mistake and the words that its error must have. Nothing trains in this
file after a mistake: networks have an activation function that fails in another way.
"""

import copy

import numpy as np
import pandas as pd
import polars as pl
import pytest
from data import PINNED, Untrainable, classifier, make_table
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import StandardScaler

from skdnn.nn.activations import ACTIVATIONS
from skdnn.nn.initializers import INITIALIZER_NAMES
from skdnn.optim.schedules import SCHEDULES
from skdnn.optim.solvers import SOLVERS

X, y = make_table(40)
NAMES = list("abcdef")

with_and_without_encoder = pytest.mark.parametrize(
    "encoder", [None, "auto"], ids=["no encoder", "encoder"]
)


def changed(array, index, value):
    """Return a copy with one entry replaced."""
    array = np.array(array, dtype=np.result_type(array, type(value)))
    array[index] = value
    return array


@pytest.fixture
def no_training(monkeypatch):
    """Let networks fail at their first step, in a way that no test of this file expects."""
    monkeypatch.setitem(PINNED, "activation", Untrainable())


def assert_refused(message, call, *args, **kwargs):
    """Check that a call raises one ValueError with these words, not one on the way from another."""
    with pytest.raises(ValueError, match=message) as caught:
        call(*args, **kwargs)
    assert caught.value.__context__ is None


# Labels.

LABELS = {
    "one class": (np.ones(40), r"two classes, got 1 class: array\(\[1\.\]\)"),
    "one string": (["yes"] * 40, r"two classes, got 1 class: .*'yes'"),
    "three classes": (np.arange(40) % 3, r"Only binary classification is supported\..* 3 classes"),
    "three strings": (
        np.take(["a", "b", "c"], np.arange(40) % 3),
        r"Only binary classification is supported\.",
    ),
    "continuous": (X[:, 0], "Unknown label type: continuous"),
    "NaN": (changed(y, 3, np.nan), "Input y contains NaN"),
    "infinity": (changed(y, 3, np.inf), "Input y contains infinity"),
    "None": (None, "requires y to be passed"),
    "NaN among strings": (changed(np.array(["no", "yes"], object)[y], 3, np.nan), "contains NaN"),
    "missing in pandas": (
        pd.Series(np.take(["no", "yes"], y)).where(np.arange(40) != 3),
        "contains NaN",
    ),
    "two columns": (np.column_stack([y, 1 - y]), r"y should be a 1d array, got .*\(40, 2\)"),
    "too few": (y[:-1], r"inconsistent numbers of samples: \[40, 39\]"),
}


@pytest.mark.parametrize(("labels", "message"), LABELS.values(), ids=LABELS)
@with_and_without_encoder
@pytest.mark.usefixtures("no_training")
def test_labels_are_refused(labels, message, encoder):
    estimator = classifier(encoder=encoder)
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, labels)
    assert not hasattr(estimator, "params_")


# Tables.


def pandas_frame(X):
    return pd.DataFrame(X, columns=NAMES)


def polars_frame(X):
    return pl.DataFrame(dict(zip(NAMES, X.T, strict=True)))


TABLES = {
    "infinity": (changed(X, (2, 1), np.inf), ValueError, "(Input|Columns.*) X contain.* infinity"),
    "NaN in a sparse matrix": (
        sparse.csr_matrix(changed(X, (2, 1), np.nan)),
        ValueError,
        "Input X contains NaN",
    ),
    "infinity in a sparse array": (
        sparse.csr_array(changed(X, (2, 1), np.inf)),
        ValueError,
        "Input X contains infinity",
    ),
    "no rows in a sparse array": (
        sparse.csr_array((0, 6)),
        ValueError,
        r"0 sample\(s\) \(shape=\(0, 6\)\)",
    ),
    "1-D": (X[:, 0], ValueError, "Expected 2D array, got 1D array"),
    "3-D": (X[:, :, np.newaxis], ValueError, "Found array with dim 3"),
    "no rows": (X[:0], ValueError, r"0 sample\(s\) \(shape=\(0, 6\)\)"),
    "no columns": (X[:, :0], ValueError, r"(0 feature\(s\) \(shape=\(40, 0\)\)|has 0 feat)"),
    "bytes": (np.full(X.shape, b"sea"), ValueError, "could not convert string to float: .*sea"),
    "complex": (X + 1j, ValueError, "Complex data not supported"),
}

TABLES_WITH_GAPS = {
    "NaN": changed(X, (2, 1), np.nan),
    "missing in pandas": pandas_frame(changed(X, (2, 1), np.nan)),
    "missing in polars": polars_frame(X).with_columns(
        a=pl.when(pl.arange(40) == 2).then(None).otherwise("a")
    ),
    "column without a value": polars_frame(X).with_columns(a=pl.lit(None)),
}


def assert_table_refused(estimator, method, table, error, message, request):
    if method.startswith("predict"):
        frames = {pl.DataFrame: polars_frame, pd.DataFrame: pandas_frame}
        make = sparse.csr_array if sparse.issparse(table) else frames.get(type(table), np.asarray)
        estimator.fit(make(X), y)
        arguments = ()
    else:
        request.getfixturevalue("no_training")
        arguments = (y[: table.shape[0]],) + (([0, 1],) if method == "partial_fit" else ())
    with pytest.raises(error, match=message):
        getattr(estimator, method)(table, *arguments)
    assert hasattr(estimator, "params_") == method.startswith("predict")


each_method = pytest.mark.parametrize("method", ["fit", "partial_fit", "predict", "predict_proba"])


@pytest.mark.parametrize(("table", "error", "message"), TABLES.values(), ids=TABLES)
@each_method
@with_and_without_encoder
def test_tables_are_refused(table, error, message, method, encoder, request):
    estimator = classifier(encoder=encoder)
    assert_table_refused(estimator, method, table, error, message, request)


@pytest.mark.parametrize("table", TABLES_WITH_GAPS.values(), ids=TABLES_WITH_GAPS)
@each_method
def test_tables_with_gaps_are_refused_without_an_encoder(table, method, request):
    message = "Input X contains NaN"
    assert_table_refused(classifier(), method, table, ValueError, message, request)


@pytest.mark.parametrize("library", [pd, pl])
@pytest.mark.usefixtures("no_training")
def test_categories_are_refused_without_an_encoder_by_their_names(library):
    table = library.DataFrame({"number": X[:, 0], "word": ["yes", "no"] * 20})
    with pytest.raises(ValueError, match=r"X must be numbers, but its columns \['word'\] are"):
        classifier(encoder=None).fit(table, y)


def test_categories_that_come_later_are_refused_without_an_encoder_too():
    numbers = pd.DataFrame({"number": X[:, 0], "word": X[:, 1]})
    table = numbers.assign(word=["yes", "no"] * 20)
    model = classifier(encoder=None, early_stopping=True)
    with pytest.raises(
        ValueError, match=r"X_val or y_val cannot be used: .* columns \['word'\] are"
    ):
        model.fit(numbers, y, X_val=table, y_val=y)
    model.fit(numbers, y)
    with pytest.raises(ValueError, match=r"X must be numbers, but its columns \['word'\] are"):
        model.predict(table)


@pytest.mark.usefixtures("no_training")
def test_other_mistakes_in_a_table_with_categories_keep_their_own_words():
    table = pd.DataFrame({"number": X[:, 0], "flag": np.arange(40) % 2 == 0})
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        classifier(encoder=None).fit(table, y[:39])


@pytest.mark.parametrize("value", [1e39, -1e39])
@pytest.mark.usefixtures("no_training")
def test_values_too_large_for_float32_are_refused(value):
    estimator = classifier(dtype="float32")
    message = "X has values too large for float32.*dtype='float64'"
    assert_refused(message, estimator.fit, changed(X, (2, 4), value), y)
    assert not hasattr(estimator, "params_")


def frame(columns):
    return pd.DataFrame(X[:, : len(columns)], columns=columns)


OTHER_TABLES = {
    "too few columns": (X, X[:, :5], "X has 5 features, but .* is expecting 6 features"),
    "too many columns": (X, np.hstack([X, X]), "X has 12 features, but .* is expecting 6 features"),
    "unknown name": (frame(NAMES), frame([*"abcde", "z"]), "(?s)unseen at fit time:.*z"),
    "missing name": (frame(NAMES), frame([*"abcde"]), "(?s)seen at fit time, yet now missing:.*f"),
    "other order": (frame(NAMES), frame(NAMES[::-1]), "must be in the same order"),
}


@pytest.mark.parametrize(("seen", "table", "message"), OTHER_TABLES.values(), ids=OTHER_TABLES)
@with_and_without_encoder
def test_table_of_other_columns_is_refused(seen, table, message, encoder, request):
    estimator = classifier(warm_start=True, encoder=encoder).fit(seen, y)
    probability = estimator.predict_proba(seen)
    request.getfixturevalue("no_training")
    for method in ("predict", "predict_proba", "decision_function", "score", "partial_fit", "fit"):
        arguments = (y,) if method in ("score", "partial_fit", "fit") else ()
        with pytest.raises(ValueError, match=message):
            getattr(estimator, method)(table, *arguments)
        np.testing.assert_array_equal(estimator.predict_proba(seen), probability)


# Parameters: those of the wrong kind are scikit-learn's to refuse, the others ours.

UNKNOWN = {
    "activation": ("swish", "activation.*'leaky_relu'.*Got 'swish'"),
    "solver": ("newton", "solver.*'adamw'.*Got 'newton'"),
    "learning_rate": ("linear", "learning_rate.*'one_cycle'.*Got 'linear'"),
    "initialization": ("xavier", "initialization.*'glorot_uniform'.*Got 'xavier'"),
    "class_weight": ("equal", "class_weight.*'balanced'.*Got 'equal'"),
    "dtype": ("float16", "dtype.*'float32'.*Got 'float16'"),
    "batch_size": ("all", "batch_size.*'auto'.*Got 'all'"),
}


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("activation", ACTIVATIONS),
        ("solver", (*SOLVERS, "lbfgs")),
        ("learning_rate", SCHEDULES),
        ("initialization", INITIALIZER_NAMES),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.usefixtures("no_training")
def test_unknown_name_is_answered_with_the_known_ones(name, known):
    with pytest.raises(ValueError, match=f"'{name}' parameter") as caught:
        classifier(**{name: "unheard-of"}).fit(X, y)
    assert "'unheard-of'" in str(caught.value)
    for known_name in known:
        assert f"'{known_name}'" in str(caught.value)


PARAMETERS = [
    *((name, value, message) for name, (value, message) in UNKNOWN.items()),
    (
        "activation",
        ["tanh", "swish"],
        r"activation must be .*'relu'.* got \['tanh', 'swish'\]",
    ),
    ("activation", ["tanh", None], r"activation must be .* got \['tanh', None\]"),
    ("activation", ["tanh"], "activation .* each of the 2 hidden layers, got 1: .*'tanh'"),
    ("activation", ["tanh"] * 3, "activation .* each of the 2 hidden layers, got 3: "),
    ("activation", 7, "activation.*Got 7"),
    ("encoder", "onehot", "encoder.*'auto'.*Got 'onehot'"),
    ("encoder", 3, "encoder.*'fit' and 'transform'.*Got 3"),
    ("encoder", StandardScaler, "encoder.*'fit' and 'transform'.*Got <class"),
    ("categorical_features", "all", "categorical_features.*'from_dtype'.*Got 'all'"),
    ("categorical_features", 2, "categorical_features.*Got 2"),
    ("numeric_embedding", "linear", "numeric_embedding.*'periodic'.*Got 'linear'"),
    ("numeric_embedding", True, "numeric_embedding.*Got True"),
    ("calibration", "sigmoid", "calibration.*'temperature'.*Got 'sigmoid'"),
    ("calibration", True, "calibration.*Got True"),
    ("dropout", [0.1], r"dropout .* each of the 2 hidden layers, got 1: \[0\.1\]"),
    ("dropout", [0.1, 0.2, 0.3], "dropout .* each of the 2 hidden layers, got 3: "),
    ("dropout", [0.1, 1.0], r"dropout .*\[0, 1\).* got \[0\.1, 1\.0\]"),
    ("dropout", [-0.1, 0.0], r"dropout .*\[0, 1\).* got \[-0\.1, 0\.0\]"),
    ("dropout", [0.1, "half"], r"dropout .*\[0, 1\).* got \[0\.1, 'half'\]"),
    ("dropout", [0.1, np.nan], r"dropout .*\[0, 1\).* got \[0\.1, nan\]"),
    ("dropout", 1.0, r"dropout.*\[0\.?0?, 1\.?0?\).*Got 1\.0"),
    ("dropout", -0.5, r"dropout.*Got -0\.5"),
    ("dropout", np.nan, "dropout.*nan"),
    ("hidden_layer_sizes", 0, "hidden_layer_sizes.*Got 0"),
    ("hidden_layer_sizes", (5, 0), r"hidden_layer_sizes must be positive .* got \(5, 0\)"),
    ("hidden_layer_sizes", (5, -1), r"hidden_layer_sizes must be positive .* got \(5, -1\)"),
    ("hidden_layer_sizes", (5, 2.5), r"hidden_layer_sizes must be positive .* got \(5, 2\.5\)"),
    ("hidden_layer_sizes", (5, "6"), r"hidden_layer_sizes must be positive .* got \(5, '6'\)"),
    ("hidden_layer_sizes", 2.5, r"hidden_layer_sizes.*Got 2\.5"),
    ("hidden_layer_sizes", None, "hidden_layer_sizes.*Got None"),
    ("hidden_layer_sizes", "100", "hidden_layer_sizes.*'auto'.*Got '100'"),
    ("n_members", 0, "n_members.*Got 0"),
    ("n_members", 2.5, r"n_members.*Got 2\.5"),
    ("batch_size", 0, "batch_size.*Got 0"),
    ("batch_size", -5, "batch_size.*Got -5"),
    ("batch_size", 0.5, r"batch_size.*Got 0\.5"),
    ("alpha", -1.0, r"alpha.*Got -1\.0"),
    ("weight_decay", -1.0, r"weight_decay.*Got -1\.0"),
    ("learning_rate_init", 0.0, r"learning_rate_init.*Got 0\.0"),
    ("momentum", 1.0, r"momentum.*Got 1\.0"),
    ("beta_1", 1.0, r"beta_1.*Got 1\.0"),
    ("beta_2", -0.1, r"beta_2.*Got -0\.1"),
    ("epsilon", 0.0, r"epsilon.*Got 0\.0"),
    ("max_grad_norm", 0.0, r"max_grad_norm.*Got 0\.0"),
    ("max_iter", 0, "max_iter.*Got 0"),
    ("max_iter", "many", "max_iter.*'auto'.*Got 'many'"),
    ("max_iter", None, "max_iter.*Got None"),
    ("tol", -1.0, r"tol.*Got -1\.0"),
    ("n_iter_no_change", 0, "n_iter_no_change.*Got 0"),
    ("n_iter_no_change", "many", "n_iter_no_change.*'auto'.*Got 'many'"),
    ("n_jobs", 0, "n_jobs.*Got 0"),
    ("n_jobs", 1.5, r"n_jobs.*Got 1\.5"),
    ("validation_fraction", 0.0, r"validation_fraction.*Got 0\.0"),
    ("validation_fraction", 1.0, r"validation_fraction.*Got 1\.0"),
    ("early_stopping", "always", "early_stopping.*Got 'always'"),
    ("early_stopping", None, "early_stopping.*Got None"),
    ("ema_decay", 0.0, r"ema_decay.*Got 0\.0"),
    ("ema_decay", 1.0, r"ema_decay.*Got 1\.0"),
    ("max_time", 0.0, r"max_time.*Got 0\.0"),
    ("max_time", -1.0, r"max_time.*Got -1\.0"),
    ("max_fun", 0, "max_fun.*Got 0"),
    ("max_fun", 2.5, r"max_fun.*Got 2\.5"),
    ("normalization", "instance", "normalization.*'batch'.*Got 'instance'"),
    ("residual", "yes", "residual.*Got 'yes'"),
    ("n_members", "many", "n_members.*'auto'.*Got 'many'"),
    ("dropout", "half", "dropout.*'auto'.*Got 'half'"),
    ("random_state", "seed", "random_state.*Got 'seed'"),
    ("class_weight", {0: 1.0, 2: 3.0}, r"class_weight=\{0: 1.0, 2: 3.0\} has labels \[2\]"),
    ("class_weight", {"yes": 2.0}, r"class_weight=\{'yes': 2.0\} has labels \['yes'\]"),
    ("class_weight", {0: -1.0}, r"class_weight=\{0: -1.0\} must have finite weights above 0"),
    ("class_weight", {0: 0.0}, r"class_weight=\{0: 0.0\} must have finite weights above 0"),
    ("class_weight", {1: np.nan}, r"class_weight=\{1: nan\} must have finite weights"),
    ("class_weight", {1: np.inf}, r"class_weight=\{1: inf\} must have finite weights"),
    ("class_weight", {1: "heavy"}, r"class_weight=\{1: 'heavy'\}"),
]


@pytest.mark.parametrize(
    ("name", "value", "message"), PARAMETERS, ids=[f"{n}={v!r}" for n, v, _ in PARAMETERS]
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.usefixtures("no_training")
def test_parameter_is_refused(name, value, message, method):
    estimator = classifier((5, 4)).set_params(**{name: value})
    arguments = ([0, 1],) if method == "partial_fit" else ()
    with pytest.raises(ValueError, match=message):
        getattr(estimator, method)(X, y, *arguments)
    assert not hasattr(estimator, "params_")


def test_parameters_are_not_looked_at_before_fit():
    estimator = classifier((5, 0)).set_params(solver="newton", dropout=7, n_members=-1)
    assert estimator.get_params()["dropout"] == 7


# Weights.

WEIGHTS = {
    "all zero": (np.zeros(40), r"(?i)sample.weight.*(non-zero|zero)"),
    "negative": (changed(np.ones(40), 3, -2.0), r"`sample_weight`.* -2\.0"),
    "NaN": (changed(np.ones(40), 3, np.nan), "sample_weight contains NaN"),
    "infinity": (changed(np.ones(40), 3, np.inf), "sample_weight contains infinity"),
    "a class without weight": (y, "two classes with a sample_weight above 0; class .*0.* has none"),
    "another class without weight": (1 - y, "two classes with a sample_weight above 0; class .*1"),
    "too few": (np.ones(39), r"sample_weight.shape == \(39,\), expected \(40,\)"),
    "too many": (np.ones(41), r"sample_weight.shape == \(41,\), expected \(40,\)"),
    "two columns": (np.ones((40, 2)), "(?i)sample.weights? must be 1D array or scalar"),
}


@pytest.mark.parametrize(("weights", "message"), WEIGHTS.values(), ids=WEIGHTS)
@with_and_without_encoder
@pytest.mark.usefixtures("no_training")
def test_weights_are_refused(weights, message, encoder):
    estimator = classifier(encoder=encoder)
    assert_refused(message, estimator.fit, X, y, sample_weight=weights)
    assert not hasattr(estimator, "params_")


@pytest.mark.parametrize("name", ["negative", "NaN", "infinity", "too few", "two columns"])
@with_and_without_encoder
@pytest.mark.usefixtures("no_training")
def test_weights_are_refused_by_partial_fit(name, encoder):
    weights, message = WEIGHTS[name]
    estimator = classifier(encoder=encoder)
    with pytest.raises(ValueError, match=message):
        estimator.partial_fit(X, y, classes=[0, 1], sample_weight=weights)
    assert not hasattr(estimator, "params_")


# What an estimator must have been through before.


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function", "score"])
def test_unfitted_estimator_does_not_predict(method):
    arguments = (y,) if method == "score" else ()
    with pytest.raises(NotFittedError, match="DeepBinaryClassifier instance is not fitted yet"):
        getattr(classifier(), method)(X, *arguments)


@pytest.mark.parametrize("name", ["coefs_", "intercepts_"])
def test_unfitted_estimator_has_no_weights(name):
    assert not hasattr(classifier(), name)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(classifier(), name)


# The classes of partial_fit.

FIRST_CLASSES = {
    "none": (None, "classes must be passed on the first call to partial_fit"),
    "one": ([0], "two classes, got 1"),
    "three": ([0, 1, 2], "two classes, got 3"),
    "repeated": ([1, 1], "two classes, got 1"),
    "others": ([0, 2], r"y has labels .*1.* not among the classes .*0, 2"),
    "of another type": (["0", "1"], "y has labels"),
}


@pytest.mark.parametrize(("classes", "message"), FIRST_CLASSES.values(), ids=FIRST_CLASSES)
@pytest.mark.usefixtures("no_training")
def test_first_classes_of_partial_fit_are_refused(classes, message):
    estimator = classifier()
    assert_refused(message, estimator.partial_fit, X, y, classes=classes)
    assert not hasattr(estimator, "params_")


LATER_CALLS = {
    "other classes": (y, [1, 2], r"classes=.*1, 2.* not those of the first call.*0, 1"),
    "more classes": (y, [0, 1, 2], r"classes=.*0, 1, 2.* not those of the first call"),
    "unknown label": (y + 1, None, r"y has labels .*2.* not among the classes .*0, 1"),
    "labels of another type": (np.take(["no", "yes"], y), None, r"y has labels .*'no'.* not among"),
    "continuous": (X[:, 0], None, "Unknown label type: continuous"),
    "NaN": (changed(y, 3, np.nan), None, "Input y contains NaN"),
}


@pytest.mark.parametrize(("labels", "classes", "message"), LATER_CALLS.values(), ids=LATER_CALLS)
@with_and_without_encoder
def test_later_calls_of_partial_fit_are_refused(labels, classes, message, encoder, request):
    estimator = classifier(encoder=encoder).partial_fit(X, y, classes=[0, 1])
    before = copy.deepcopy(estimator)
    request.getfixturevalue("no_training")
    assert_refused(message, estimator.partial_fit, X, labels, classes=classes)
    np.testing.assert_array_equal(estimator.classes_, before.classes_)
    np.testing.assert_array_equal(estimator.predict(X), before.predict(X))


@pytest.mark.usefixtures("no_training")
def test_balanced_class_weight_is_refused_by_partial_fit():
    estimator = classifier(class_weight="balanced")
    message = "class_weight='balanced' needs all labels at once"
    assert_refused(message, estimator.partial_fit, X, y, classes=[0, 1])
    assert not hasattr(estimator, "params_")


# A fitted model outlives a refused fit.

REFUSED_FITS = {
    "three classes": (X, np.arange(40) % 3, None, "Only binary"),
    "one class": (X[:, :3], np.ones(40), None, "class"),
    "infinity": (changed(X, (0, 0), np.inf), y, None, "infinity"),
    "weights": (X[:, :3], y, -np.ones(40), "sample_weight"),
    "names": (frame(NAMES), np.ones(40), None, "class"),
}


@pytest.mark.parametrize(
    ("table", "labels", "weights", "message"), REFUSED_FITS.values(), ids=REFUSED_FITS
)
@with_and_without_encoder
def test_refused_fit_leaves_the_model_as_it_was(table, labels, weights, message, encoder, request):
    estimator = classifier(warm_start=False, encoder=encoder).fit(X, y)
    probability = estimator.predict_proba(X)
    request.getfixturevalue("no_training")
    with pytest.raises(ValueError, match=message):
        estimator.fit(table, labels, weights)
    np.testing.assert_array_equal(estimator.predict_proba(X), probability)
    assert estimator.classes_.tolist() == [0, 1]


def test_weights_whose_sum_is_not_finite_are_refused():
    X, y = make_table()
    with pytest.raises(ValueError, match="sum of `sample_weight` must be finite"):
        classifier().fit(X, y, np.full(len(y), 1e308))


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_weights_of_rows_and_classes_may_not_vanish_or_overflow_together(size):
    X, y = make_table()
    model = classifier(class_weight={1: size})
    model.fit(X, y, np.full(len(y), 1e50))
    with pytest.raises(ValueError, match="sample_weight times class_weight"):
        model.fit(X, y, np.full(len(y), size))
