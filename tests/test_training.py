"""The training loop: that it learns, goes on, ends in time, and is never silent if it fails."""

import re

import numpy as np
import pytest
from data import classifier, make_table
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from tables import SOLVER_ROWS, pose_training
from trainings import noisy_rows, outcome_of

from skdnn import DeepBinaryClassifier
from skdnn._trainer import Validation
from skdnn._training import train
from skdnn.training.fold_assignment import split_validation
from skdnn.training.rows import Rows
from skdnn.training.state import TrainingPlan

# Learning, and its failures


@pytest.mark.parametrize("row", SOLVER_ROWS.values(), ids=SOLVER_ROWS)
def test_training_lowers_the_loss(row):
    rows = noisy_rows(200)
    arguments = {
        {"nesterov": "nesterovs_momentum"}.get(name, name): value
        for name, value in row.arguments.items()
    }
    plan, state = pose_training(
        rows, members=(0, 1), solver=row.solver, learning_rate_init=0.02, max_iter=15, **arguments
    )
    train(plan, state, rows)
    assert state.history["loss"][-1] < 0.95 * state.history["loss"][0]


def test_batches_without_weight_are_no_error_and_change_nothing():
    """Momentum and decay aside, there is nothing to learn from them."""
    rows = noisy_rows()
    rows = Rows(rows.X, rows.y, np.zeros(60))
    plan, state = pose_training(rows, solver="sgd", momentum=0.0, alpha=0.0, max_iter=3)
    before = state.params.copy()
    train(plan, state, rows)
    np.testing.assert_array_equal(state.params, before)
    assert state.history["loss"] == [0.0] * 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "setting",
    [
        *({"activation": name} for name in ("identity", "relu", "tanh", "logistic", "softplus")),
        {"momentum": 0.0},
        {"hidden_layer_sizes": (10, 10, 10)},
        {"early_stopping": True},
        {"batch_size": 1},
        {"batch_size": 120},
        {"solver": "gd"},
    ],
    ids=str,
)
def test_divergence_is_never_silent(dtype, setting):
    """At a learning rate of a million: said with epoch, rate and advice; weights stay finite."""
    rows, validation = noisy_rows(120).astype(dtype), None
    parameters = {
        "hidden_layer_sizes": (10,),
        "activation": "relu",
        "solver": "sgd",
        "learning_rate_init": 1e6,
        "max_iter": 10,
        "n_iter_no_change": 10,
        **setting,
    }
    plan, state = pose_training(rows, members=(0, 1), dtype=dtype, **parameters)
    if "early_stopping" in setting:
        rows, held_out = split_validation(rows, 0.3, state.streams.split)
        validation = Validation(held_out)
    message = outcome_of(lambda: train(plan, state, rows, validation))
    assert message.startswith("Training")
    assert "epoch" in message
    assert "learning rate" in message
    assert "learning_rate_init=1000000.0" in message
    assert "StandardScaler" in message
    assert state.final_params is None or np.isfinite(state.final_params).all()


@pytest.mark.parametrize("max_iter", [1, 2])
def test_divergence_in_the_last_step_is_not_silent_either(max_iter):
    """The loss of an epoch is measured before its last step; that step can ruin the weights."""
    rows = noisy_rows(120)
    plan, state = pose_training(
        rows, hidden_layer_sizes=(10,), solver="gd", learning_rate_init=1e6, max_iter=max_iter
    )
    message = outcome_of(lambda: train(plan, state, rows))
    logits = plan.network.logits(state.final_params, rows.X)
    is_useful = plan.loss.mean(rows.y[np.newaxis], logits, None)[0] < 2.0
    assert is_useful or message.startswith("Training")


def test_rows_that_overflow_at_once_raise_before_there_are_weights_to_keep():
    rows = noisy_rows()
    rows = Rows(1e308 * np.sign(rows.X), rows.y)
    plan, state = pose_training(rows, hidden_layer_sizes=(10,), solver="sgd")
    with pytest.raises(ValueError, match=r"in epoch 6 at.*StandardScaler.*=0\.001"):
        train(plan, state, rows)


def test_heavy_weights_are_not_taken_for_divergence():
    """A part of a table may weigh ten times as much as its rows count; its loss is ten-fold."""
    rows = noisy_rows(200)
    estimator = DeepBinaryClassifier(
        (8,), encoder=None, n_members=1, dropout=0.0, learning_rate_init=0.01, random_state=0
    )
    for _ in range(20):
        estimator.partial_fit(rows.X, rows.y, classes=[0, 1], sample_weight=np.full(200, 10.0))
    assert estimator.history_["loss"][-1] < 0.9 * estimator.history_["loss"][0]


def test_surprising_row_teaches_what_it_has_to_teach():
    """One row at a time, a label against the odds costs much, and is no sign of divergence."""
    settings = {"encoder": None, "n_members": 1, "learning_rate_init": 0.1}
    estimator = DeepBinaryClassifier((), random_state=0, **settings)
    for _ in range(50):
        estimator.partial_fit([[1.0]], [1], classes=[0, 1])
    before = estimator.decision_function([[1.0]])[0]
    message = outcome_of(lambda: estimator.partial_fit([[1.0]], [0]))
    assert "Training diverged" not in message
    assert estimator.history_["loss"][-1] > 1.5
    assert estimator.decision_function([[1.0]])[0] != before


def test_strong_penalty_is_not_taken_for_divergence():
    """The cost is high and falls; the last weights are kept, better than the first."""
    rows = noisy_rows(100)
    plan, state = pose_training(rows, hidden_layer_sizes=(50,), alpha=5.0, max_iter=5)
    message = outcome_of(lambda: train(plan, state, rows))
    assert "Training diverged" not in message
    cost = np.add(state.history["loss"], state.history["penalty"])
    assert cost[-1] > 1.4
    assert (np.diff(cost) < 0).all()
    W = state.final_params[:, plan.network.layout.decayed]
    assert 0.5 * plan.l2 * (W**2).sum() < state.history["penalty"][-1]


def test_score_of_a_lost_epoch_is_never_asked_for():
    """Scorers refuse predictions that are not numbers; the weights are put back before."""
    rows = noisy_rows()
    plan, state = pose_training(
        rows, activation="tanh", solver="sgd", momentum=0.0, learning_rate_init=1e80, max_iter=8
    )

    def score(params, held_out_logits):
        if not np.isfinite(params).all():
            raise ValueError("Input contains NaN.")
        return np.zeros(1)

    message = outcome_of(lambda: train(plan, state, rows, Validation(rows, score, "refusing")))
    assert state.progress.n_diverged.any(), "an epoch should be lost"
    assert "Input contains NaN" not in message


def test_plan_describes_a_fit_completely():
    """A fit with the same plan, rows and streams is the same fit."""
    rows = noisy_rows()
    kept = []
    for _ in range(2):
        plan, state = pose_training(
            rows, members=(0, 1), activation="tanh", dropout=0.3, max_iter=3, batch_size=16
        )
        assert isinstance(plan, TrainingPlan)
        train(plan, state, rows)
        kept.append(state.final_params)
    np.testing.assert_array_equal(*kept)


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rate", [1.0, 1e6, 1e30])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_unscaled_rows_never_end_in_silence(n_members, early_stopping, dtype, rate, activation):
    """Nor in weights that are not finite: an estimator that raises is as it was before."""
    X, y = make_table()
    X = X * np.array([1e4, 1.0, 1e-3, 1e6, 1.0, 1e2]) + 1e3
    estimator = classifier(
        (8,),
        activation,
        solver="sgd",
        learning_rate_init=rate,
        n_members=n_members,
        early_stopping=early_stopping,
        dtype=dtype,
    )
    message = outcome_of(lambda: estimator.fit(X, y))
    if not hasattr(estimator, "params_"):
        is_refused = "is infinite in float32" in message  # as 1e100 is, before training
        assert message.startswith("Training diverged") or (is_refused and rate == 1e100)
        return
    assert np.isfinite(estimator.params_).all()
    assert np.isfinite(estimator.predict_proba(X)).all()
    if log_loss(y, estimator.predict_proba(X)) > 2.0 * np.log(2.0):
        assert message != "silence"
    if rate > 1.0 and activation == "relu":
        assert message != "silence"


# Time.


class Clockwork:
    """An activation in whose derivative time passes: a second for each step."""

    def __init__(self):
        self.now = 0.0

    def value(self, z):
        return np.tanh(z)

    def derivative(self, z):
        self.now += 1.0
        return 1.0 - np.tanh(z) ** 2

    def perf_counter(self):
        return self.now

    def __deepcopy__(self, memo):  # one time for all
        return self


@pytest.fixture
def clock(monkeypatch):
    clock = Clockwork()
    monkeypatch.setattr("skdnn._training.time", clock)
    return clock


@pytest.mark.usefixtures("one_worker")
@pytest.mark.parametrize(
    ("max_time", "n_epochs"), [(0.5, 1), (4.0, 1), (4.1, 2), (12.0, 3), (13.0, 4)]
)
@pytest.mark.parametrize("n_members", [1, 2])
def test_no_new_epoch_begins_when_the_time_is_over(clock, max_time, n_epochs, n_members):
    """Each epoch has four steps, and takes as many seconds."""
    X, y = make_table()
    estimator = classifier((8,), clock, max_iter=5, max_time=max_time, n_members=n_members)
    message = f"{n_epochs} of 5 epochs, because max_time={max_time!r} seconds were over"
    with pytest.warns(ConvergenceWarning, match=re.escape(message)):
        estimator.fit(X, y)
    assert estimator.n_iter_ == len(estimator.loss_curve_) == n_epochs
    whole = classifier((8,), clock, max_iter=n_epochs, n_members=n_members).fit(X, y)
    np.testing.assert_array_equal(estimator.params_, whole.params_)
    assert estimator.history_["seconds"] == [4.0] * n_epochs


@pytest.mark.parametrize("max_time", [17.0, 20.0, 1e9, None])
def test_time_that_suffices_is_not_spoken_of(clock, max_time):
    X, y = make_table()
    estimator = classifier((8,), clock, max_iter=5, max_time=max_time).fit(X, y)
    assert estimator.n_iter_ == 5


@pytest.mark.parametrize("learning_rate", ["constant", "cosine", "one_cycle", "coslog4"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_warm_start_brings_a_fit_without_time_to_its_end(clock, learning_rate, early_stopping):
    """Two epochs at a time; each call has its own time."""
    X, y = make_table()
    settings = {
        "learning_rate": learning_rate,
        "early_stopping": early_stopping,
        "max_iter": 6,
        "batch_size": 24 if early_stopping else 30,
        "dropout": 0.2,
    }
    whole = classifier((8,), clock, **settings).fit(X, y)
    parts = classifier((8,), clock, max_time=8.0, warm_start=True, **settings)
    for n_done in (2, 4):
        with pytest.warns(ConvergenceWarning, match=f"{n_done} of 6 epochs, because max_time"):
            parts.fit(X, y)
        assert parts.n_iter_ == 2
    parts.fit(X, y)
    np.testing.assert_array_equal(parts.params_, whole.params_)
    assert parts.loss_curve_ == whole.loss_curve_
    assert parts.history_["learning_rate"] == whole.history_["learning_rate"]


def test_early_stopping_without_time_keeps_the_best_epoch(clock):
    X, y = make_table()
    settings = {"early_stopping": True, "learning_rate_init": 0.1, "batch_size": 24}
    expected = classifier((32,), clock, max_iter=12, **settings).fit(X, y)
    assert expected.best_iter_ < 12
    estimator = classifier((32,), clock, max_iter=30, max_time=48.0, **settings)
    with pytest.warns(ConvergenceWarning, match="12 of 30 epochs, because max_time"):
        estimator.fit(X, y)
    np.testing.assert_array_equal(estimator.params_, expected.params_)
