"""What "auto" stands for: rules that depend on the networks, the schedule and the rows."""

import numpy as np
import pytest
from tables import pose_training
from trainings import noisy_rows

from skdnn import DeepBinaryClassifier
from skdnn.estimator.parameters import Parameters, resolve

FOLDS = {"early_stopping": True, "n_iter_no_change": "auto"}


@pytest.mark.parametrize(
    ("n_members", "parameters", "patience", "growth"),
    [
        (5, FOLDS, 6, 0.2),
        (4, FOLDS, 10, 0.0),
        (1, FOLDS, 10, 0.0),
        (5, {**FOLDS, "learning_rate": "coslog4"}, 10, 1.5),
        (5, {**FOLDS, "n_iter_no_change": 3}, 3, 0.0),
        (5, {**FOLDS, "early_stopping": False}, 10, 0.0),
        (5, {**FOLDS, "early_stopping": False, "learning_rate": "cosine"}, np.inf, 0.0),
    ],
)
def test_patience_is_short_where_all_rows_judge(n_members, parameters, patience, growth):
    plan, _ = pose_training(noisy_rows(), members=range(n_members), **parameters)
    assert (plan.n_iter_no_change, plan.patience_growth) == (patience, growth)


@pytest.mark.parametrize(
    ("n_samples", "parameters", "expected"),
    [
        (640, {}, 0.9),  # ten steps of 64 rows
        (100_000, {}, 0.98),  # fifty at most
        (100, {}, None),  # one step
        (640, {"solver": "gd"}, None),
        (640, {"n_members": 1}, 0.9),
        (640, {"solver": "lbfgs"}, None),
        (640, {"max_fun": 15_000, "n_members": 2}, None),  # MLPClassifier's parameters
        (640, {"ema_decay": None}, None),
        (640, {"ema_decay": 0.5}, 0.5),
    ],
)
def test_weights_are_averaged_over_the_steps_of_an_epoch(n_samples, parameters, expected):
    given = Parameters.of(DeepBinaryClassifier(**parameters))
    decay = resolve(given, {}, n_samples=n_samples).ema_decay
    assert decay == (None if expected is None else pytest.approx(expected))


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
def test_single_networks_stop_early_where_they_would_learn_rows_by_heart(
    n_samples, n_members, solver, expected
):
    plan, _ = pose_training(
        noisy_rows(n_samples), members=range(n_members), solver=solver, early_stopping="auto"
    )
    assert plan.stops_early == expected
