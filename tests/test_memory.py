"""Memory of a fit: a table, once in the dtype of training, and little that grows with the rows."""

import gc
import tracemalloc

import numpy as np
import pytest
from data import needs

from skdnn import DeepBinaryClassifier
from skdnn.preprocessing import TabularEncoder

N_FEATURES = 20

COST_OF_A_ROW = 50
"""Bytes that a row may take beside the table: MB of a million rows."""


@pytest.fixture(autouse=True)
def without_loading(monkeypatch):
    """Modules that are loaded after some time of training would count too."""
    monkeypatch.setattr("skdnn.engine.loading.SECONDS_BEFORE_LOADING", np.inf)


def make_table(n_samples, dtype=np.float32):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_samples, N_FEATURES)).astype(dtype)
    return X, (X[:, 0] > 0.0).astype(np.int64)


def peak_of(task):
    """Return the most memory, in bytes, that a task has at any time beyond what there was."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        task()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def cost_of_a_row(make_task):
    """Return how many bytes a row more takes, beside buffers that are the same for all tables."""
    few, many = 75_000, 100_000  # what grows is more than any buffer then
    return (peak_of(make_task(many)) - peak_of(make_task(few))) / (many - few)


def fit_shortly(n_samples, dtype=np.float32, **parameters):
    """Return a fit of one epoch of a small network."""
    X, y = make_table(n_samples, dtype)
    parameters = {
        "hidden_layer_sizes": 16,
        "numeric_embedding": None,
        "dropout": 0.0,
        "activation": "relu",
        "batch_size": 2048,
        "max_iter": 1,
        "random_state": 0,
        **parameters,
    }
    return lambda: DeepBinaryClassifier(**parameters).fit(X, y)


@pytest.mark.parametrize(("n_members", "dtype"), [(1, np.float64), (8, np.float32)])
def test_fit_has_one_table_beside_that_of_the_caller(n_members, dtype):
    cost = cost_of_a_row(lambda n: fit_shortly(n, dtype, n_members=n_members))
    assert cost < N_FEATURES * 4 + COST_OF_A_ROW


@pytest.mark.parametrize("n_members", [1, 8])
def test_fit_without_encoder_copies_nothing_of_the_table(n_members):
    cost = cost_of_a_row(lambda n: fit_shortly(n, n_members=n_members, encoder=None))
    assert cost < COST_OF_A_ROW


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_encoder_learns_from_a_column_at_a_time_and_writes_the_result_alone(dtype):
    X, _ = make_table(100_000, dtype)
    encoder = TabularEncoder()
    sketches = 2 * 4096 * 8 * X.shape[1]
    assert peak_of(lambda: encoder.fit(X)) < 48 * len(X) + sketches
    assert peak_of(lambda: encoder.transform(X)) < 1.4 * X.nbytes


def test_wide_table_of_few_rows_takes_little():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(100, 10_000)), np.arange(100) % 2
    model = DeepBinaryClassifier(max_iter=2, learning_rate_init=1e-4, random_state=0)
    assert peak_of(lambda: model.fit(X, y)) < 300e6
    assert model.params_.nbytes < 12e6  # of which a pickle has five copies


@pytest.mark.filterwarnings("ignore:L-BFGS ended")
@pytest.mark.parametrize(
    "solver",
    ["adamw", pytest.param("lbfgs", marks=needs("scipy>=1.15", "L-BFGS without a cycle"))],
)
def test_fits_and_predictions_leave_nothing_behind(solver):
    """No cycle of references keeps their memory until the garbage collector comes."""
    X, y = make_table(2_000)
    settings = {"max_iter": 1, "max_fun": 2, "n_members": 2} if solver == "lbfgs" else {}
    model = DeepBinaryClassifier(solver=solver, **{"max_iter": 1, "random_state": 0, **settings})
    gc.collect()
    gc.disable()
    try:
        for task in (lambda: model.fit(X, y), lambda: model.predict(X)):
            task()
            tracemalloc.start()
            task()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(3):
                task()
            assert (
                tracemalloc.get_traced_memory()[0] - before < 300_000
            )  # buffers of three calls would be megabytes
            tracemalloc.stop()
    finally:
        tracemalloc.stop()
        gc.enable()
