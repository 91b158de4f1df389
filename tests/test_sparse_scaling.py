"""Sparse tables with large numbers: brought to scale, and nothing else is touched."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from data import FULL_BATCH, classifier
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

may_be_full = pytest.mark.filterwarnings("ignore:Columns .* have large numbers in most rows")


def scaled(**parameters):
    return classifier(**{"encoder": "auto", "batch_size": 400, **parameters})


def fit_scaler(X, sample_weight=None):
    """Return what a classifier scales a sparse table by."""
    return scaled(max_iter=1).fit(X, np.arange(X.shape[0]) % 2, sample_weight).encoder_


def make_mixed(n_samples=400, *, seed=0):
    """Return rare flags, an income in each row, a debt in few, and labels that all count for."""
    rng = np.random.default_rng(seed)
    flags = (rng.random((n_samples, 30)) < 0.05).astype(float)
    income = rng.lognormal(10.0, 0.5, n_samples)
    debt = np.where(rng.random(n_samples) < 0.3, rng.lognormal(8.0, 0.5, n_samples), 0.0)
    logit = 3.0 * (np.log(income) - 10.0) - 2.0 * (debt > 0) + flags[:, :10].sum(axis=1)
    y = (rng.random(n_samples) < 1.0 / (1.0 + np.exp(-2.0 * logit))).astype(int)
    return np.column_stack([flags, income, debt]), y


X, Y = make_mixed()
S = sparse.csr_array(X)


@may_be_full
def test_large_numbers_of_a_sparse_table_are_learnt_from():
    model = scaled(max_iter=30, batch_size=32).fit(S[:300], Y[:300])
    auc = roc_auc_score(Y[300:], model.decision_function(S[300:]))
    dense = scaled(max_iter=30, batch_size=32).fit(X[:300], Y[:300])
    assert auc > roc_auc_score(Y[300:], dense.decision_function(X[300:])) - 0.05


def test_columns_that_a_sparse_table_suits_ill_are_named():
    with pytest.warns(UserWarning, match=r"Columns \[30\] of the sparse table.*sparse_threshold=0"):
        scaled(max_iter=1).fit(S, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled(max_iter=1).fit(S[:, np.arange(32) != 30], Y)


def test_numbers_beside_text_are_brought_to_scale():
    transformer = make_column_transformer(
        ("passthrough", [30, 31]), remainder="passthrough", sparse_threshold=1.0
    )
    with pytest.warns(UserWarning, match=r"Columns \[0\]"):
        model = make_pipeline(transformer, scaled(max_iter=1)).fit(S, Y)
    assert np.abs(model[-1].encoder_.transform(model[0].transform(S)).data).max() < 16.0


@may_be_full
@pytest.mark.parametrize("make", [sparse.csr_array, sparse.csc_matrix, sparse.coo_array])
def test_zeros_and_other_columns_stay_as_they_are(make):
    scaler = fit_scaler(make(X))
    Z = scaler.transform(make(X))
    assert sparse.issparse(Z)
    assert Z.nnz == S.nnz
    assert_array_equal(Z.toarray()[:, :30], X[:, :30])
    assert_array_equal(scaler.transform(X), Z.toarray())
    assert (np.abs(Z.toarray()) <= np.abs(X)).all()
    assert_array_equal(make(X).toarray(), X)


@pytest.mark.parametrize("largest", [1e-3, 0.3, 16.0])
def test_tables_of_small_numbers_have_no_encoder(largest):
    Z = S.copy()
    Z.data *= largest / Z.data.max()
    assert scaled(max_iter=1).fit(Z, Y).encoder_ is None


@may_be_full
def test_size_is_robust_and_rare_columns_are_not_made_louder():
    Z = np.zeros((1000, 4))
    Z[:, 0] = np.random.default_rng(0).normal(50_000.0, 9_000.0, 1000)
    Z[::50, 1] = 1000.0
    Z[::50, 2] = np.tile([0.001, 0.002, 0.003, 20.0], 5)
    Z[:, 3] = Z[:, 0]
    Z[0, 3] = -1e300
    scaler = fit_scaler(sparse.csc_array(Z))
    result = scaler.transform(Z)
    assert scaler.sizes_[2] == 1.0
    assert scaler.sizes_[0] == scaler.sizes_[3]
    assert_array_equal(result[1:, 0], result[1:, 3])
    assert result[0, 3] == -16.0
    assert 0.5 < np.ptp(np.quantile(result[:, 0], [0.25, 0.75])) < 2.0
    assert 0.7 < result[0, 1] < 1.5


@may_be_full
def test_weights_are_repetition():
    k = np.random.default_rng(1).integers(0, 4, len(Y))
    rows = np.arange(len(Y)).repeat(k)
    for scale in (1.0, 1e-12, 1e12):
        weighted = fit_scaler(S, k * scale)
        assert_array_equal(weighted.sizes_, fit_scaler(S[rows]).sizes_)
    model = scaled(max_iter=3, **FULL_BATCH).fit(S, Y, k)
    repeated = scaled(max_iter=3, **FULL_BATCH).fit(S[rows], Y[rows])
    assert_allclose(model.predict_proba(S), repeated.predict_proba(S))


@may_be_full
def test_every_method_scales():
    model = scaled(max_iter=3, early_stopping=True)
    model.fit(S[:300], Y[:300], X_val=S[300:], y_val=Y[300:])
    loss = -np.mean(model.predict_log_proba(S[300:])[np.arange(100), Y[300:]])
    assert min(model.history_["validation_loss"]) == pytest.approx(loss)
    assert_allclose(model.predict_proba(X), model.predict_proba(S), rtol=1e-9)
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict_proba(S), model.predict_proba(S))
    gradients = model.input_gradients(X[:20])
    for j in (3, 30, 31):
        step = np.where(np.arange(32) == j, 1e-4 * max(1.0, X[:, j].max()), 0.0)
        rise = model.decision_function(X[:20] + step) - model.decision_function(X[:20] - step)
        assert_allclose(gradients[:, j], rise / (2.0 * step[j]), rtol=1e-3, atol=1e-9)


@may_be_full
def test_training_goes_on_with_what_the_first_part_taught():
    model = scaled(max_iter=1).partial_fit(S[:200], Y[:200], classes=[0, 1])
    sizes = model.encoder_.sizes_.copy()
    model.partial_fit(10.0 * S[200:], Y[200:])
    assert_array_equal(model.encoder_.sizes_, sizes)
    model.set_params(warm_start=True).fit(S, Y)
    nothing = scaled().partial_fit(S, Y, classes=[0, 1], sample_weight=np.zeros(len(Y)))
    assert np.isfinite(nothing.predict_proba(S)).all()
    small = scaled(max_iter=1, warm_start=True).fit(S[:, :30], Y)
    assert small.fit(S[:, :30], Y).encoder_ is None
    told = scaled(max_iter=1).set_params(**model.resolved_params_).fit(S, Y)
    assert_array_equal(told.params_, scaled(max_iter=1).fit(S, Y).params_)


@may_be_full
def test_rows_are_checked_as_without_a_scaler():
    model = scaled(max_iter=1).fit(S, Y)
    with pytest.raises(ValueError, match="X has 3 features, but DeepBinaryClassifier is expecting"):
        model.predict(S[:, :3])
    gap = X.copy()
    gap[0, 0] = np.nan
    for table in (gap, sparse.csr_array(gap)):
        with pytest.raises(ValueError, match="Input X contains NaN"):
            model.predict(table)


# DataFrames with sparse columns.


def make_dummies(*, has_numbers):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"color": rng.choice(["red", "green", "blue"], 200)})
    y = (frame["color"] == "red").to_numpy() ^ (rng.random(200) < 0.05)
    dummies = pd.get_dummies(frame, sparse=True)
    return (dummies.assign(x=rng.normal(size=200)) if has_numbers else dummies), y


@pytest.mark.filterwarnings("ignore:pandas.DataFrame with sparse columns found")
def test_sparse_columns_beside_dense_ones_are_flags():
    frame, y = make_dummies(has_numbers=True)
    dense = frame.astype({name: bool for name in frame if name != "x"})
    model = scaled(max_iter=20, batch_size=32).fit(frame, y)
    assert model.score(frame, y) > 0.9
    assert_array_equal(model.predict_proba(frame), model.predict_proba(dense))
    assert_array_equal(model.params_, scaled(max_iter=20, batch_size=32).fit(dense, y).params_)
    assert isinstance(frame.dtypes.iloc[0], pd.SparseDtype)


def test_frames_of_sparse_columns_alone_are_sparse_tables():
    frame, y = make_dummies(has_numbers=False)
    model = scaled(max_iter=20, batch_size=32).fit(frame, y)
    assert model.encoder_ is None
    assert model.feature_names_in_.tolist() == list(frame)
    assert model.score(frame, y) > 0.9
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame.rename(columns={"color_red": "color_pink"}))
