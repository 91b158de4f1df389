"""Predictions: of few rows in float64, of many in blocks and threads, with memory that is kept."""

import copy
import pickle
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pandas as pd
import polars as pl
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from skdnn import DeepBinaryClassifier
from skdnn.preprocessing import TabularEncoder

FEW = {"hidden_layer_sizes": (4,), "max_iter": 2, "random_state": 0}
BLOCK_ROWS = "skdnn.training.prediction.BLOCK_ROWS"


def draw_rows(n_rows, n_columns=3, seed=1):
    return np.random.default_rng(seed).normal(size=(n_rows, n_columns))


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    X[rng.random(X.shape) < 0.1] = np.nan
    return X, (np.nan_to_num(X[:, 0]) + rng.normal(size=300) > 0).astype(int)


@pytest.fixture(scope="module")
def model(table):
    return DeepBinaryClassifier(**FEW).fit(*table)


@pytest.mark.parametrize("n_rows", [1, 64, 65, 300])
def test_prediction_is_the_mean_of_what_the_members_say(table, n_rows):
    """By matrix products, of the rows that come, at the first call and at later ones."""
    X, y = np.nan_to_num(table[0]), table[1]
    model = DeepBinaryClassifier(**FEW, encoder=None, activation="tanh", n_members=3)
    model.set_params(dtype="float64", calibration=None).fit(X, y)
    (W_1, W_2), (b_1, b_2) = model.coefs_, model.intercepts_
    for rows in (X[:n_rows], X[::-1][:n_rows], X[:n_rows]):
        z = np.tanh(rows @ W_1 + b_1[:, np.newaxis]) @ W_2 + b_2[:, np.newaxis]
        expected = (1.0 / (1.0 + np.exp(-z[..., 0]))).mean(axis=0)
        np.testing.assert_allclose(model.predict_proba(rows)[:, 1], expected, rtol=1e-12)


@pytest.mark.parametrize("n_rows", [1, 300])
def test_parameters_that_are_changed_in_place_count(model, table, n_rows):
    X, model = table[0][:n_rows], copy.deepcopy(model)
    before = model.decision_function(X)
    kept = before.copy()
    model.params_ *= 2.0
    now = model.decision_function(X)
    assert (now != before).any()
    np.testing.assert_array_equal(before, kept)
    np.testing.assert_array_equal(now, pickle.loads(pickle.dumps(model)).decision_function(X))


def test_memory_that_is_kept_changes_nothing(monkeypatch, model, table):
    X = np.repeat(table[0], 3, axis=0)
    monkeypatch.setattr(BLOCK_ROWS, 200)
    expected = []
    for n_bytes in (1 << 24, 0):
        monkeypatch.setattr("skdnn.training.prediction.LARGEST_KEPT", n_bytes)
        fresh = pickle.loads(pickle.dumps(model))
        expected += [fresh.predict_proba(X[:n_rows]) for n_rows in (900, 20, 100, 900)]
    for with_memory, without in zip(expected[:4], expected[4:], strict=True):
        np.testing.assert_array_equal(with_memory, without)


@pytest.mark.parametrize("renew", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_and_pickles_hold_no_memory(model, table, renew):
    X = np.repeat(table[0], 10, axis=0)
    n_bytes = len(pickle.dumps(model))
    expected = model.predict_proba(X)
    assert len(pickle.dumps(model)) < n_bytes + 100
    np.testing.assert_array_equal(renew(model).predict_proba(X), expected)


def test_threads_that_predict_at_once_do_not_disturb_each_other(model):
    rows = draw_rows(200)
    expected = [model.predict_proba(row[np.newaxis]) for row in rows]
    with ThreadPoolExecutor(4) as executor:
        got = list(executor.map(lambda row: model.predict_proba(row[np.newaxis]), rows))
    np.testing.assert_array_equal(got, expected)


def test_threads_that_switch_all_the_time_do_not_disturb_each_other(monkeypatch, model, table):
    """One row, one block and several, in threads of their own, and gradients."""
    monkeypatch.setattr(BLOCK_ROWS, 70)
    X, interval = table[0], sys.getswitchinterval()
    model = pickle.loads(pickle.dumps(model)).set_params(n_jobs=2)
    calls = [*product(["predict_proba"], (1, 9, 65, 300)), ("input_gradients", 5)]

    def run(model, name, n_rows):
        return getattr(model, name)(X[:n_rows])

    with threadpool_limits(2, user_api="blas"):
        expected = [run(model, *call) for call in calls] * 30
        shared = pickle.loads(pickle.dumps(model))  # has nothing ready yet
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(8) as executor:
                got = list(executor.map(lambda call: run(shared, *call), calls * 30))
        finally:
            sys.setswitchinterval(interval)
        assert {i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"} == {2}
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("encoder", ["auto", None])
@pytest.mark.parametrize("make", [np.asarray, pd.DataFrame, pl.DataFrame])
def test_blocks_and_threads_change_nothing(table, monkeypatch, encoder, make):
    X, y = table
    columns = ["a", "b", "c"]
    X = np.nan_to_num(X) if encoder is None else X
    X = make(X) if make is np.asarray else make(dict(zip(columns, X.T, strict=True)))
    model = DeepBinaryClassifier(**FEW, encoder=encoder).fit(X, y)
    whole = model.decision_function(X)
    monkeypatch.setattr(BLOCK_ROWS, 70)
    blocks = [model.set_params(n_jobs=n_jobs).decision_function(X) for n_jobs in (1, 2, 3)]
    np.testing.assert_array_equal(blocks[0], blocks[1])
    np.testing.assert_array_equal(blocks[0], blocks[2])
    np.testing.assert_allclose(blocks[0], whole, rtol=1e-9)


def test_an_infinite_number_in_a_late_block_is_refused(table, model, monkeypatch):
    X = table[0].copy()
    X[-1, 1] = np.inf
    monkeypatch.setattr(BLOCK_ROWS, 70)
    with pytest.raises(ValueError, match="infinit"):
        model.predict_proba(X)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_without_an_encoder_numbers_are_looked_at(table, bad):
    X, y = np.nan_to_num(table[0]), table[1]
    model = DeepBinaryClassifier(**FEW, encoder=None).fit(X, y)
    row = X[:1].copy()
    row[0, 2] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        model.predict_proba(row)


def test_finite_numbers_with_an_infinite_sum_are_predicted(table):
    X, y = np.nan_to_num(table[0]), table[1]
    model = DeepBinaryClassifier(**FEW, encoder=None, dtype="float64").fit(X, y)
    row = np.full((1, 3), np.finfo(np.float32).max)
    with np.errstate(over="ignore"):
        assert not np.isfinite(row.sum())
    assert np.isfinite(model.predict_proba(row)).all()


@pytest.mark.parametrize(
    ("X_dtype", "dtype", "expected"),
    [
        (np.float32, "float32", np.float32),
        (np.float64, "float32", np.float64),
        (np.float32, "float64", np.float64),
    ],
)
def test_the_dtype_is_that_of_table_and_weights(table, X_dtype, dtype, expected):
    X, y = table
    model = DeepBinaryClassifier(**FEW, dtype=dtype).fit(X, y)
    assert model.predict_proba(X.astype(X_dtype)).dtype == expected


@pytest.mark.parametrize("n_rows", [2, 90])
@pytest.mark.parametrize("n_members", [1, 2])
def test_rows_that_overflow_are_refused(monkeypatch, table, n_rows, n_members):
    """Whether by few rows or by blocks of them; the others are predicted without a warning."""
    monkeypatch.setattr(BLOCK_ROWS, 20)
    X, y = np.nan_to_num(table[0]), table[1]
    settings = {**FEW, "n_members": n_members, "dtype": "float32"}
    model = DeepBinaryClassifier(**settings, encoder=None).fit(X, y)
    rows = X[:n_rows].copy()
    rows[1] = np.finfo(np.float64).max
    with pytest.raises(ValueError, match=rf"no prediction for 1 of {n_rows} rows, row 1 the first"):
        model.predict(rows)
    for largest in (1e30, np.finfo(np.float32).max, 1e100):  # what float32 cannot hold, float64 can
        rows[1] = largest
        expected = model.decision_function(rows[1:2])
        assert np.isfinite(expected).all()
        np.testing.assert_allclose(model.decision_function(rows)[1:2], expected, rtol=1e-5)
    short = np.repeat(np.float32([X[0], np.finfo(np.float32).max * np.sign(X[0])]), 40, axis=0)
    assert np.isfinite(model.predict_log_proba(short)).all()
    assert not np.isnan(model.decision_function(short)).any()


def test_steep_ramps_far_from_zero_are_predicted_alike():
    """Where labels change within a hundredth of a column's spread, far from its median."""
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.normal(size=1500), 2.0 + 0.003 * rng.normal(size=500)])
    X = np.column_stack([x, rng.normal(size=2000)])
    y = ((x > 1.9) & (x < 2.1) & (np.sin(2000.0 * x) > 0.0)).astype(int)
    model = DeepBinaryClassifier(
        (16,), numeric_embedding="piecewise", n_members=2, max_iter=20, random_state=0
    ).fit(X, y)
    many = model.predict_proba(X)
    few = np.concatenate([model.predict_proba(X[i : i + 50]) for i in range(1500, 2000, 50)])
    np.testing.assert_allclose(many[1500:], few, rtol=0.0, atol=1e-6)


SETTINGS = {
    "the default": {"max_iter": 4},
    "a single network": {"n_members": 1},
    "few members, temperature": {"n_members": 2, "calibration": "temperature"},
    "waves": {"numeric_embedding": "periodic"},
    "ramps": {"numeric_embedding": "piecewise"},
    "numbers as they are": {"numeric_embedding": None, "activation": "relu"},
    "no encoder": {"encoder": None, "dtype": "float32"},
    "normalised": {"normalization": "batch", "residual": True},
}


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_row_by_itself_is_predicted_as_among_many(setting, dtype):
    """In float64 by itself, in the precision of the weights among many."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(700, 4))
    y = (np.sin(3.0 * X[:, 0]) + X[:, 1] + 0.3 * rng.normal(size=700) > 0.0).astype(int)
    X[:, 3] = np.exp(X[:, 3])
    model = DeepBinaryClassifier(**{**FEW, "hidden_layer_sizes": (16,), **setting})
    X = X.astype(dtype)
    model.fit(X, y)
    many, some = model.predict_proba(X), X[::50]
    alone = np.concatenate([model.predict_proba(row[np.newaxis]) for row in some])
    few = model.predict_proba(some)
    assert many.dtype == alone.dtype == dtype
    np.testing.assert_allclose(many[::50], alone, rtol=0.0, atol=1e-6)
    np.testing.assert_allclose(few, alone, rtol=0.0, atol=1e-7)
    if dtype == np.float64 and model.params_.dtype == np.float32:
        assert (many[::50] != alone).any(), "many rows should take the precision of the weights"


@pytest.mark.parametrize("is_of_caller", [False, True])
def test_error_in_a_block_ends_the_work_of_the_other_threads(
    monkeypatch, model, table, is_of_caller
):
    n_encoded, encode, main = [], TabularEncoder._encode, threading.current_thread()

    def encode_or_fail(encoder, X, *arguments):
        n_encoded.append(len(X))
        if (threading.current_thread() is main) == is_of_caller:
            raise MemoryError("as a test")
        time.sleep(0.01)
        return encode(encoder, X, *arguments)

    monkeypatch.setattr(TabularEncoder, "_encode", encode_or_fail)
    monkeypatch.setattr(BLOCK_ROWS, 1)
    model = copy.copy(model).set_params(n_jobs=2)
    with pytest.raises(MemoryError, match="as a test"):
        model.predict_proba(table[0])
    assert len(n_encoded) < 20


class Looking:
    """An activation that is no formula, and that sees how many threads BLAS has."""

    def __init__(self):
        self.seen = set()

    def value(self, z):
        self.seen.update(i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas")
        return np.tanh(np.asarray(z))

    def derivative(self, z):
        return 1.0 - np.tanh(np.asarray(z)) ** 2

    def __deepcopy__(self, memo):
        return self


def test_predictions_hold_the_threads_of_blas(table):
    """Of few rows, of one block and of several; of gradients, and in a thread, too."""
    X, y = table
    model = DeepBinaryClassifier(**FEW, activation=Looking()).fit(X, y)
    calls = [model.predict_proba, model.decision_function, model.input_gradients]
    with threadpool_limits(2, user_api="blas"), ThreadPoolExecutor(1) as executor:
        for call, n_rows in product(calls, (1, 70, 300)):
            model.activation.seen.clear()
            call(X[:n_rows])
            executor.submit(call, X[:n_rows]).result()
            assert model.activation.seen == {1}
        before = {i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"}
        assert before == {2}


def test_float32_tables_are_predicted_in_float64_where_float32_overflows(table):
    X, y = table[0].astype(np.float32), table[1]
    model = DeepBinaryClassifier(**FEW, numeric_embedding=None, n_members=1).fit(X, y)
    for weights in model.coefs_:
        weights *= np.float32(1e22)
    labels = model.predict(X.astype(np.float64))
    assert len(set(labels)) == 2
    np.testing.assert_array_equal(model.predict(X), labels)
