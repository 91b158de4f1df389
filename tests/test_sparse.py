"""Sparse tables: the same results as dense ones, and nothing that is ever made dense."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from data import classifier, make_table, make_weights
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from skdnn import DeepBinaryClassifier
from skdnn.nn import Layer, ParamSpec
from skdnn.nn.initializers import he_normal

CONTAINERS = {
    "csr_matrix": sp.csr_matrix,
    "csr_array": sp.csr_array,
    "csc_matrix": sp.csc_matrix,
    "csc_array": sp.csc_array,
    "coo_array": sp.coo_array,
    "lil_matrix": sp.lil_matrix,
}
every_container = pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)

SETTINGS = {
    "mini-batches": {},
    "members and dropout": {"n_members": 3, "dropout": 0.2},
    "without shuffling": {"shuffle": False, "n_members": 2},
    "no hidden layer": {"hidden_layer_sizes": ()},
    # A bias before it has no gradient but the rounding of one, of which Adam makes steps.
    "batch normalisation": {"normalization": "batch", "n_members": 2, "solver": "sgd"},
    "layer normalisation, residual": {
        "normalization": "layer",
        "residual": True,
        "hidden_layer_sizes": (8, 8),
    },
    "moving average": {"ema_decay": 0.9},
    "early stopping": {"early_stopping": True},
    "early stopping by a score": {"early_stopping": True, "scoring": "roc_auc"},
    "sgd": {"solver": "sgd", "max_grad_norm": 1.0},
}


def make_sparse_table(n_samples=120, n_features=12, *, random_state=0):
    """Return a dense table that is mostly zeros, and labels that can be learned from it."""
    rng = np.random.default_rng(random_state)
    X = rng.normal(size=(n_samples, n_features)) * (rng.random((n_samples, n_features)) < 0.3)
    y = (X @ rng.normal(size=n_features) + 0.3 * rng.normal(size=n_samples) > 0).astype(int)
    return X, y


@pytest.fixture
def table():
    return make_sparse_table()


def assert_same_fit(one, other, atol=1e-10):
    np.testing.assert_allclose(one.params_, other.params_, rtol=0, atol=atol)
    assert one.history_.keys() == other.history_.keys()
    for name in one.history_.keys() - {"seconds"}:
        np.testing.assert_allclose(one.history_[name], other.history_[name], rtol=0, atol=atol)


# The same as dense.


@pytest.mark.parametrize(
    ("settings", "container"),
    [
        *((settings, sp.csr_array) for settings in SETTINGS.values()),
        *((SETTINGS["members and dropout"], container) for container in CONTAINERS.values()),
    ],
    ids=[*SETTINGS, *CONTAINERS],
)
def test_fit_is_that_of_the_dense_table(table, settings, container):
    X, y = table
    weights = make_weights(len(y)) + 0.5
    dense = classifier(**settings).fit(X, y, weights)
    sparse = classifier(**settings).fit(container(X), y, weights)
    assert_same_fit(sparse, dense)
    assert sparse.n_features_in_ == 12


@pytest.mark.filterwarnings("ignore:L-BFGS ended")
@pytest.mark.parametrize(
    "settings",
    [{"solver": "gd", "learning_rate_init": 0.3}, {"solver": "lbfgs", "max_iter": 8}],
    ids=str,
)
@pytest.mark.parametrize("n_members", [1, 2])
def test_full_batches_are_those_of_the_dense_table(table, settings, n_members):
    """Rows that are merged are merged in another order: sums differ in their last bits."""
    X, y = table
    dense = classifier(n_members=n_members, **settings).fit(X, y)
    sparse = classifier(n_members=n_members, **settings).fit(sp.csr_array(X), y)
    assert_same_fit(sparse, dense, atol=1e-8)


@every_container
def test_partial_fit_is_that_of_the_dense_table(table, container):
    X, y = table
    dense, sparse = classifier(n_members=2), classifier(n_members=2)
    for start in (0, 40, 80):
        rows = slice(start, start + 40)
        dense.partial_fit(X[rows], y[rows], classes=[0, 1])
        sparse.partial_fit(container(X[rows]), y[rows], classes=[0, 1])
    assert_same_fit(sparse, dense)


@every_container
@pytest.mark.parametrize("n_members", [1, 3])
def test_predictions_are_those_of_the_dense_table(table, container, n_members):
    X, y = table
    model = classifier(n_members=n_members).fit(X, y)
    for name in ("decision_function", "predict_proba", "predict"):
        method = getattr(model, name)
        np.testing.assert_allclose(method(container(X)), method(X), rtol=0, atol=1e-12)
        assert method(container(X)).dtype == method(X).dtype
    assert model.score(container(X), y) == model.score(X, y)
    trained_sparse = classifier(n_members=n_members).fit(container(X), y)
    np.testing.assert_allclose(
        trained_sparse.predict_proba(X), model.predict_proba(X), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("is_val_sparse", [False, True])
@pytest.mark.parametrize("is_train_sparse", [False, True])
@pytest.mark.parametrize("scoring", ["loss", "accuracy"])
def test_validation_rows_may_be_sparse(table, is_train_sparse, is_val_sparse, scoring):
    X, y = table
    X_train, X_val = X[:80], X[80:]
    estimator = classifier(early_stopping="auto", scoring=scoring)
    dense = estimator.fit(X_train, y[:80], X_val=X_val, y_val=y[80:])
    sparse = classifier(early_stopping="auto", scoring=scoring).fit(
        sp.csc_matrix(X_train) if is_train_sparse else X_train,
        y[:80],
        X_val=sp.csr_array(X_val) if is_val_sparse else X_val,
        y_val=y[80:],
    )
    assert_same_fit(sparse, dense)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, bool, np.uint8])
@pytest.mark.parametrize("container", [sp.csr_array, sp.csc_matrix], ids=["csr", "csc"])
def test_numbers_of_any_type_are_accepted(table, dtype, container):
    X, y = table
    X = np.abs(3 * X).astype(dtype)
    dense, sparse = classifier().fit(X, y), classifier().fit(container(X), y)
    assert sparse.params_.dtype == dense.params_.dtype
    assert sparse.params_.dtype == (np.float32 if dtype == np.float32 else np.float64)
    assert_same_fit(sparse, dense, atol=2e-5 if dtype == np.float32 else 1e-10)
    assert sparse.predict_proba(container(X)).dtype == sparse.params_.dtype


def test_large_float64_table_trains_in_float32():
    X = sp.random(2_001, 5, 0.5, random_state=0, format="csr")
    y = np.arange(2_001) % 2
    assert classifier(max_iter=1).fit(X, y).params_.dtype == np.float32
    X.data[0] = 1e300
    assert classifier(max_iter=1).fit(X[:2_000], y[:2_000]).params_.dtype == np.float64
    assert classifier(max_iter=1, dtype="float64").fit(X, y).params_.dtype == np.float64


@pytest.mark.parametrize("settings", [{}, {"solver": "gd"}], ids=["mini-batches", "full batch"])
def test_way_of_writing_a_table_does_not_matter(table, settings):
    """Explicit zeros, entries out of order, an entry as the sum of two, wide indices."""
    X, y = table
    plain = sp.csr_array(X)
    coo = plain.tocoo()
    zeros = sp.csr_array(np.where(X == 0.0, 1.0, X))
    zeros.data[(X == 0.0).ravel()] = 0.0
    split = sp.csr_array(
        (
            np.concatenate([coo.data / 2, coo.data / 2]),
            np.concatenate([coo.col, coo.col]),
            2 * plain.indptr,
        ),
        shape=X.shape,
    )
    for i in range(len(y)):  # each row twice, half of it each time
        start, stop = plain.indptr[i], plain.indptr[i + 1]
        both = slice(2 * start, 2 * stop)
        split.indices[both] = np.tile(plain.indices[start:stop], 2)
        split.data[both] = np.tile(plain.data[start:stop] / 2, 2)
    backwards = plain.copy()
    for i in range(len(y)):
        row = slice(plain.indptr[i], plain.indptr[i + 1])
        backwards.indices[row] = plain.indices[row][::-1]
        backwards.data[row] = plain.data[row][::-1]
    wide = plain.copy()
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    expected = classifier(**settings).fit(plain, y)
    for name, same in {
        "zeros": zeros,
        "split": split,
        "backwards": backwards,
        "wide": wide,
    }.items():
        np.testing.assert_allclose(same.toarray(), X, err_msg=name)
        model = classifier(**settings).fit(same, y)
        np.testing.assert_allclose(
            model.params_, expected.params_, rtol=0, atol=1e-10, err_msg=name
        )
        np.testing.assert_allclose(
            model.predict_proba(same), expected.predict_proba(X), rtol=0, atol=1e-10
        )


@every_container
def test_table_is_left_as_it_is(table, container):
    X, y = table
    given = container(X)
    before = given.copy()
    classifier(solver="gd").fit(given, y).predict(given)
    assert type(given) is type(before)
    assert (given != before).nnz == 0
    assert given.nnz == before.nnz


def test_duplicate_entries_stay_in_the_table_of_the_user():
    X = sp.csr_matrix(
        (np.array([1.0, 2.0, 0.0, 3.0]), np.array([0, 0, 1, 2]), np.array([0, 2, 4])), (2, 3)
    )
    classifier(solver="gd", max_iter=1).fit(X, [0, 1])
    assert X.nnz == 4
    assert X.data.tolist() == [1.0, 2.0, 0.0, 3.0]


def test_empty_rows_and_columns_are_rows_and_columns():
    X, y = make_sparse_table()
    X[::7] = 0.0
    X[:, 3] = 0.0
    dense, sparse = classifier().fit(X, y), classifier().fit(sp.csr_array(X), y)
    assert_same_fit(sparse, dense)
    nothing = sp.csr_array((4, 12))
    np.testing.assert_allclose(
        sparse.predict_proba(nothing), dense.predict_proba(np.zeros((4, 12))), atol=1e-10
    )


# Weights.


@pytest.mark.filterwarnings("ignore:L-BFGS ended")
@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "gd", "learning_rate_init": 0.3},
        {"solver": "adam", "batch_size": 1_000},
        {"solver": "adam", "batch_size": 1_000, "dropout": 0.2, "n_members": 2},
        {"solver": "lbfgs"},
        {"solver": "gd", "early_stopping": True},
    ],
    ids=str,
)
def test_weight_is_repetition_in_a_full_batch(table, settings):
    X, y = table
    times = make_weights(len(y))
    weighted = classifier(**settings).fit(sp.csr_array(X), y, times)
    repeated = classifier(**settings).fit(sp.csr_array(X.repeat(times, axis=0)), y.repeat(times))
    np.testing.assert_array_equal(weighted.params_, repeated.params_)


def test_equal_rows_are_one_row_however_they_are_written():
    """To the last bit, under dropout: a zero written out, an entry in two parts, another order."""
    X, y = [[1.0, 2.0, 0.0], [0.5, 0.0, 3.0]], [0, 1]
    data = np.array([1.0, 2.0, 0.5, 3.0, 2.0, 0.0, 0.5, 0.5, 3.0, 0.25, 0.25])
    columns = np.array([0, 1, 0, 2, 1, 2, 0, 0, 2, 0, 0])
    written = sp.csr_array((data, columns, np.array([0, 2, 4, 8, 11])), shape=(4, 3))
    np.testing.assert_array_equal(written.toarray(), X + X)
    settings = {"solver": "gd", "dropout": 0.3, "n_members": 2, "max_iter": 4}
    one = classifier(**settings).fit(written, y + y)
    other = classifier(**settings).fit(sp.csr_array(X), y, [2.0, 2.0])
    np.testing.assert_array_equal(one.params_, other.params_)


def test_order_of_rows_does_not_matter_in_a_full_batch(table):
    X, y = table
    order = np.random.default_rng(0).permutation(len(y))
    one = classifier(solver="gd", n_members=2).fit(sp.csr_array(X), y)
    other = classifier(solver="gd", n_members=2).fit(sp.csr_array(X[order]), y[order])
    np.testing.assert_array_equal(one.params_, other.params_)


@pytest.mark.parametrize("settings", [{}, {"solver": "gd"}], ids=str)
def test_warm_start_goes_on_to_the_last_bit(table, settings):
    X, y = sp.csr_array(table[0]), table[1]
    long = classifier(max_iter=6, n_members=2, **settings).fit(X, y)
    short = classifier(max_iter=3, n_members=2, warm_start=True, **settings).fit(X, y).fit(X, y)
    np.testing.assert_array_equal(short.params_, long.params_)


def test_training_may_go_on_in_the_other_form(table):
    X, y = table
    model = classifier(warm_start=True).fit(X, y).fit(sp.csr_array(X), y)
    model.partial_fit(sp.csc_array(X), y).partial_fit(X, y)
    assert len(model.history_["loss"]) == 12


# Never dense.


def peak_of(action):
    """Return the most memory that was allocated at a time, in bytes."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.filterwarnings("ignore:L-BFGS ended")
@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 100},
        {"batch_size": 100, "n_members": 2},
        {"batch_size": 1_000},
        {"early_stopping": True, "batch_size": 100},
        {"early_stopping": True, "scoring": "accuracy", "batch_size": 100},
        {"solver": "lbfgs"},
    ],
    ids=str,
)
def test_wide_table_is_never_made_dense(settings):
    """Dense it would have 400 MB, a batch of it 40 MB; the weights have 1.6 MB."""
    n_samples, n_features = 1_000, 50_000
    columns = np.random.default_rng(0).integers(0, n_features, (n_samples, 20))
    indptr = np.arange(0, columns.size + 1, 20)
    X = sp.csr_array((np.ones(columns.size), columns.ravel(), indptr), (n_samples, n_features))
    X, y = sp.csc_matrix(X), np.arange(n_samples) % 2  # which takes a step more than CSR
    model = classifier((4,), max_iter=1, **settings)
    n_members = settings.get("n_members", 1)
    params = 8 * 4 * n_features * n_members
    bound = 49 * params if settings.get("solver") == "lbfgs" else 24 * params
    assert bound < 0.2 * 8 * n_samples * n_features
    assert peak_of(lambda: model.fit(X, y)) < bound
    assert peak_of(lambda: model.predict_proba(X)) < 3 * params
    if settings.get("solver") != "lbfgs":
        assert peak_of(lambda: model.partial_fit(X, y)) < bound


# What the default makes of them.


def test_encoder_auto_leaves_sparse_tables_as_they_are(table):
    """To shift a column would make it dense."""
    X, y = table
    settings = {"n_members": 5, "early_stopping": "auto"}
    model = classifier(encoder="auto", **settings).fit(sp.csr_array(X), y)
    assert model.encoder_ is None
    bare = classifier(encoder=None, **settings).fit(sp.csr_array(X), y)
    np.testing.assert_array_equal(model.params_, bare.params_)
    np.testing.assert_array_equal(model.oof_decision_function_, bare.oof_decision_function_)
    np.testing.assert_allclose(model.predict_proba(X), bare.predict_proba(X), atol=1e-12)


def test_encoder_of_the_users_own_may_take_sparse_tables(table):
    X, y = table
    X = sp.csr_array(1e3 * X)
    model = classifier(encoder=MaxAbsScaler()).fit(X, y)
    pipeline = make_pipeline(MaxAbsScaler(), classifier()).fit(X, y)
    np.testing.assert_array_equal(model.params_, pipeline[-1].params_)
    np.testing.assert_array_equal(model.predict_proba(X), pipeline.predict_proba(X))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"categorical_features": [0]}, "categorical_features"),
        ({"numeric_embedding": "periodic"}, "numeric_embedding='periodic'"),
    ],
    ids=str,
)
def test_settings_for_dense_tables_are_refused_by_name(table, settings, words):
    X, y = table
    with pytest.raises(ValueError, match=words):
        classifier(encoder="auto", **settings).fit(sp.csr_array(X), y)


def test_encoder_fitted_on_a_dense_table_refuses_a_sparse_one_in_words(table):
    X, y = table
    model = classifier(encoder="auto").fit(X, y)
    with pytest.raises((TypeError, ValueError), match=r"(?i)sparse"):
        model.predict(sp.csr_array(X))


# Refusals.


@pytest.mark.parametrize(
    "product",
    [lambda x, W: (W.mT @ x.mT).mT, lambda x, W: (x @ x.mT) @ (x @ W)],
    ids=["behind an array", "by itself"],
)
def test_layers_of_your_own_multiply_sparse_rows_by_arrays_from_the_left_only(table, product):
    """Else a program would read memory of others, as a sparse batch has none there."""

    class Linear(Layer):
        def n_out(self, n_in):
            return 3

        def params(self, n_in):
            return (ParamSpec("W", (n_in, 3), he_normal),)

        def forward(self, x, p, ctx):
            return product(x, p.W)

        def backward(self, grad_y, x, p, ctx):
            return grad_y @ p.W.mT, {"W": x.mT @ grad_y}

    X, y = table
    classifier(hidden_layer_sizes=(Linear(),)).fit(X, y)
    with pytest.raises(TypeError, match="SparseRows"):
        classifier(hidden_layer_sizes=(Linear(),)).fit(sp.csr_array(X), y)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("container", [sp.csr_array, sp.csc_matrix], ids=["csr", "csc"])
def test_values_that_are_not_finite_are_refused(table, value, container):
    X, y = table
    bad = container(X)
    bad.data[3] = value
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        classifier().fit(bad, y)
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        classifier().partial_fit(bad, y, classes=[0, 1])
    model = classifier().fit(X, y)
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        model.predict(bad)
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        classifier(early_stopping="auto").fit(X, y, X_val=bad, y_val=y)


def test_values_too_large_for_float32_are_refused(table):
    X, y = table
    row, column = np.argwhere(X)[20]
    X[row, column] = 1e300
    with pytest.raises(ValueError, match="X has values too large for float32"):
        classifier(dtype="float32").fit(sp.csr_array(X), y)


def test_other_numbers_of_columns_are_refused(table):
    X, y = table
    model = classifier().fit(sp.csr_array(X), y)
    for other in (sp.csr_array(X[:, 1:]), sp.csc_matrix(X[:, 1:])):
        with pytest.raises(ValueError, match=r"11 features, but .* 12 features"):
            model.predict(other)
        with pytest.raises(ValueError, match=r"11 features, but .* 12 features"):
            model.partial_fit(other, y)
        with pytest.raises(ValueError, match=r"11 features, but .* 12 features"):
            classifier(early_stopping="auto").fit(sp.csr_array(X), y, X_val=other, y_val=y)


@pytest.mark.parametrize("method", ["gradient", "integrated"])
def test_input_gradients_refuse_sparse_rows_in_words(table, method):
    X, y = table
    model = classifier().fit(sp.csr_array(X), y)
    with pytest.raises(TypeError, match=r"(?i)sparse"):
        model.input_gradients(sp.csr_array(X), method=method)
    assert model.input_gradients(X, method=method).shape == X.shape


def test_sparse_tables_are_promised_by_the_tag():
    assert DeepBinaryClassifier().__sklearn_tags__().input_tags.sparse


def test_dense_table_of_zeros_and_ones_learns_as_its_sparse_twin():
    """Rows that are the same are merged in both."""
    X, y = make_table(200)
    X = (X > 0.5).astype(np.float64)
    dense = classifier(solver="gd", learning_rate_init=0.5, max_iter=20).fit(X, y)
    sparse = classifier(solver="gd", learning_rate_init=0.5, max_iter=20).fit(sp.csr_array(X), y)
    assert_same_fit(sparse, dense)
