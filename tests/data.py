"""Tables and estimators that several test files share: small, seeded, and explicit.

The defaults of the estimator may change; `classifier` pins every parameter that a result depends
on, so that a test says only what it is about.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.utils.fixes import parse_version

from skdnn import DeepBinaryClassifier

PINNED: dict[str, Any] = {
    "encoder": None,
    "hidden_layer_sizes": (8,),
    "activation": "tanh",
    "initialization": "auto",
    "n_members": 1,
    "dropout": 0.0,
    "alpha": 1e-4,
    "weight_decay": None,
    "class_weight": None,
    "solver": "adam",
    "batch_size": 32,
    "learning_rate": "constant",
    "learning_rate_init": 0.01,
    "beta_2": 0.999,
    "max_grad_norm": None,
    "ema_decay": None,
    "max_iter": 5,
    "shuffle": True,
    "tol": 0.0,
    # As many epochs as max_iter says, and therefore no warning about stopping too soon.
    "n_iter_no_change": np.inf,
    "early_stopping": False,
    "validation_fraction": 0.2,
    "calibration": None,
    "dtype": "auto",
    "warm_start": False,
    "random_state": 0,
    "verbose": False,
}

FULL_BATCH = {"solver": "gd", "learning_rate_init": 0.3}
"""Every step sees all rows, whatever their number."""


def classifier(*args: Any, **parameters: Any) -> DeepBinaryClassifier:
    """Return a small classifier that trains for exactly `max_iter` quick epochs."""
    estimator = DeepBinaryClassifier(**PINNED)
    names = ("hidden_layer_sizes", "activation")
    return estimator.set_params(**dict(zip(names, args, strict=False)), **parameters)


class Untrainable:
    """An activation function that no training gets past; it says that one has begun."""

    def value(self, z):
        raise AssertionError("training has begun")

    derivative = value


def needs(requirement: str, what: str) -> pytest.MarkDecorator:
    """Skip a test where a package is older than "package>=version", which brought what it needs."""
    package, minimum = requirement.split(">=")
    is_old = parse_version(version(package)) < parse_version(minimum)
    return pytest.mark.skipif(is_old, reason=f"{package} {minimum} brought {what}")


def make_table(
    n_samples: int = 120, n_features: int = 6, *, dtype: Any = np.float64, random_state: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return features of unit scale and labels 0 and 1 that can be learned, but not perfectly."""
    X, y = make_classification(
        n_samples,
        n_features,
        n_informative=3,
        n_redundant=1,
        flip_y=0.1,
        class_sep=1.0,
        random_state=random_state,
    )
    return (X / X.std(axis=0)).astype(dtype), y


def make_separable(n_samples: int = 120, *, random_state: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return two well separated clouds of points with labels 0 and 1, in turn."""
    y = np.arange(n_samples) % 2
    noise = np.random.default_rng(random_state).normal(0.0, 0.4, (n_samples, 4))
    return noise + np.where(y, 1.0, -1.0)[:, np.newaxis], y


def make_weights(n_samples: int, *, random_state: int = 0) -> np.ndarray:
    """Return whole numbers from 0 to 3: how often a row stands in a table."""
    return np.random.default_rng(random_state).integers(0, 4, n_samples)


def make_people(n_samples: int = 200, *, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a table with a column of each kind, gaps in it, and labels that each has a say in."""
    rng = np.random.default_rng(seed)
    place, color = rng.integers(12, size=n_samples), rng.integers(3, size=n_samples)
    is_new, income = rng.random(n_samples) < 0.5, rng.normal(3e4, 9e3, n_samples)
    y = (income - 3e4) / 9e3 + 2.0 * is_new + (color == 1) + 2.0 * (place % 2) > 2.0
    income[rng.random(n_samples) < 0.1] = np.nan
    frame = pd.DataFrame(
        {
            "income": income,
            "color": pd.Categorical.from_codes(color, ["red", "green", "blue"]),
            "place": np.array([f"p{j:02}" for j in range(12)])[place],
            "is_new": is_new,
            "half": np.where(rng.random(n_samples) < 0.4, 1.5, 2.5),
            "same": 7.0,
        }
    )
    frame.loc[::17, "color"] = np.nan
    return frame, np.take(["no", "yes"], y.astype(int))


def at_first_weights(
    estimator: DeepBinaryClassifier, X: Any, y: Any, sample_weight: Any = None
) -> DeepBinaryClassifier:
    """Return a clone that has drawn its first weights and, as good as, learned nothing yet.

    It has taken one step of 1e-300 of gradient descent: too small to change any weight but zero.
    """
    standstill = {"solver": "gd", "learning_rate_init": 1e-300, "alpha": 0.0, "weight_decay": 0.0}
    parameters = {name: getattr(estimator, name) for name in standstill}
    unlearned = clone(estimator).set_params(**standstill)
    unlearned.partial_fit(X, y, np.unique(y), sample_weight)
    return unlearned.set_params(**parameters)
