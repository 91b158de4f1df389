"""Whole trainings by compiled kernels against NumPy: the same weights up to rounding."""

import pickle

import numpy as np
import pytest
from scipy import sparse

pytest.importorskip("numba")

from skdnn import DeepBinaryClassifier
from skdnn.engine import loading
from skdnn.nn.activations import ACTIVATIONS
from skdnn.optim.solvers import SOLVERS

SETTINGS = {
    **{f"activation {name}": {"activation": name} for name in ACTIVATIONS},
    **{f"solver {name}": {"solver": name} for name in (*SOLVERS, "lbfgs")},
    # Biases before it have no gradient but rounding errors, which Adam would make large.
    "batch norm": {"normalization": "batch", "n_members": 2, "solver": "sgd"},
    "layer norm": {"normalization": "layer"},
    "residual": {"hidden_layer_sizes": (6, 6, 6), "residual": True},
    "focal loss": {"loss": "focal"},
    "dropout": {"dropout": 0.3, "n_members": 3},
    "periodic": {"numeric_embedding": "periodic"},
    "piecewise": {"numeric_embedding": "piecewise"},
    "mixed": {"numeric_embedding": "mixed", "n_members": 4, "dropout": 0.1},
    "categories": {"categorical_features": [4], "encoder": "auto"},
    "clipped": {"max_grad_norm": 0.1, "alpha": 0.1},
    "average": {"ema_decay": 0.9},
    "schedule": {"learning_rate": "one_cycle"},
    "validation": {"early_stopping": True},
    "weights": {"class_weight": "balanced"},
}


def fit(executor, X, y, dtype, settings, monkeypatch, **kwargs):
    """Train a little by one of the executors; return the weights and what is predicted."""
    seconds = -1.0 if executor == "numba" else np.inf
    monkeypatch.setattr(loading, "SECONDS_BEFORE_LOADING", seconds)
    given = {"hidden_layer_sizes": (6, 5), "encoder": None, "n_members": 1, "batch_size": 16}
    given |= {"max_iter": 4, "random_state": 0, "dtype": dtype, "early_stopping": False}
    model = DeepBinaryClassifier(**(given | settings)).fit(X, y, **kwargs)
    assert model._predictor.executor == executor
    return model.params_, model.decision_function(X)


def check(dtype, settings, monkeypatch, make=np.asarray, **kwargs):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(70, 5)).astype(dtype)
    X[:, 4] = rng.integers(0, 6, 70)
    y = X[:, 0] * X[:, 1] > 0
    found = [
        fit(executor, make(X), y, dtype, settings, monkeypatch, **kwargs)
        for executor in ("numpy", "numba")
    ]
    for by_numpy, by_numba in zip(*found, strict=True):
        scale = np.abs(by_numpy).max()
        tolerance = (1e-4 if dtype == "float32" else 1e-10) * scale
        np.testing.assert_allclose(by_numba, by_numpy, 0, tolerance)


@pytest.mark.filterwarnings("ignore:.*:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_trainings_agree(settings, dtype, monkeypatch):
    check(dtype, settings, monkeypatch)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_trainings_on_sparse_tables_agree(dtype, monkeypatch):
    check(dtype, {}, monkeypatch, make=lambda X: sparse.csr_array(X * (X > 0)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weighted_trainings_agree(dtype, monkeypatch):
    weight = np.random.default_rng(0).uniform(0, 2, 70)
    check(dtype, {}, monkeypatch, sample_weight=weight)


def test_few_rows_and_missing_numba_are_left_to_numpy(monkeypatch):
    """Few rows are predicted in float64, for which nothing is compiled; a model may move on."""
    X = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    monkeypatch.setattr(loading, "SECONDS_BEFORE_LOADING", -1.0)
    settings = {"encoder": None, "n_members": 1, "max_iter": 2, "random_state": 0}
    model = DeepBinaryClassifier((4,), **settings).fit(X, X[:, 0] > 0)
    many = model.decision_function(X)
    monkeypatch.setattr(loading, "_functions", {})
    monkeypatch.setattr(loading, "_import_numba", lambda: False)
    moved = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(moved.decision_function(X), many, 1e-4, 1e-5)
    np.testing.assert_allclose(moved.decision_function(X[:5]), many[:5], 1e-4, 1e-5)
