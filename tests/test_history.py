"""What is recorded and printed of each epoch."""

import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from data import classifier, make_table
from sklearn.exceptions import ConvergenceWarning
from tables import pose_training
from trainings import noisy_rows

from skdnn._trainer import Validation
from skdnn._training import train
from skdnn.training.fold_assignment import split_validation
from skdnn.training.progress import record
from skdnn.training.rows import Rows


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("n_iter_no_change", [2, np.inf])
def test_history_has_one_value_of_each_kind_for_each_epoch(early_stopping, n_iter_no_change):
    rows, validation = noisy_rows(), None
    plan, state = pose_training(
        rows,
        members=(0, 1),
        hidden_layer_sizes=(5,),
        n_iter_no_change=n_iter_no_change,
        tol=0.1,
        max_iter=20,
    )
    if early_stopping:
        rows, held_out = split_validation(rows, 0.3, state.streams.split)
        validation = Validation(held_out)
    train(plan, state, rows, validation)
    kinds = {"loss", "penalty", "learning_rate", "seconds"}
    of_validation = {"validation_loss", "validation_score"}
    assert set(state.history) == (kinds | of_validation if early_stopping else kinds)
    assert len({len(values) for values in state.history.values()}) == 1
    for values in state.history.values():
        assert all(type(value) is float for value in values)
    n_epochs = len(state.history["loss"])
    assert n_epochs < 20 if n_iter_no_change == 2 else n_epochs == 20
    assert state.n_samples_seen == n_epochs * len(rows)


def test_history_goes_on_where_it_ended():
    rows = noisy_rows()
    plan, state = pose_training(rows, max_iter=3)
    train(plan, state, rows)
    first = list(state.history["loss"])
    train(plan, state, rows)
    assert state.history["loss"][:3] == first
    assert len(state.history["loss"]) == 6
    assert state.history["loss"][-1] < first[0]


def test_loss_of_the_first_epoch_in_one_batch_is_that_of_the_first_weights():
    """Weighted, averaged over the members, with the penalty apart."""
    rng = np.random.default_rng(0)
    rows = noisy_rows()
    rows = Rows(rows.X, rows.y, rng.exponential(size=60)).normalize_weights()
    plan, state = pose_training(
        rows, members=(0, 1), hidden_layer_sizes=(5,), batch_size=60, max_iter=1, alpha=0.5
    )
    logits = plan.network.logits(state.params, rows.X)
    W = state.params[:, plan.network.layout.decayed].copy()
    train(plan, state, rows)
    losses = np.logaddexp(0.0, logits) - rows.y * logits
    assert state.history["loss"] == pytest.approx([(rows.sample_weight * losses).mean()])
    penalty = 0.5 * 0.5 / 60.0 * (W**2).sum(axis=1).mean()
    assert state.history["penalty"] == pytest.approx([penalty])


def test_loss_of_an_epoch_is_the_mean_over_its_rows_whatever_the_batches():
    """A last batch of one row among batches of ten counts as one row."""
    rows = noisy_rows(61)
    losses = []
    for batch_size in (10, 61):
        plan, state = pose_training(
            rows, batch_size=batch_size, max_iter=1, learning_rate_init=1e-12, shuffle=False
        )
        train(plan, state, rows)
        losses.append(state.history["loss"][0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


@pytest.mark.parametrize(("verbose", "epochs"), [(0, []), (1, [1, 2, 3, 4, 5]), (2, [2, 4, 5])])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_verbose_prints_one_line_for_every_nth_epoch(verbose, epochs, early_stopping, capsys):
    rows = noisy_rows()
    plan, state = pose_training(rows, max_iter=5, verbose=verbose)
    train(plan, state, rows, Validation(rows) if early_stopping else None)
    lines = capsys.readouterr().out.splitlines()
    assert [int(re.match(r"Iteration (\d)/5, ", line)[1]) for line in lines] == epochs
    for line, epoch in zip(lines, epochs, strict=True):
        assert f", loss = {state.history['loss'][epoch - 1]:.6f}, " in line
        assert ("validation loss = " in line) == early_stopping
        assert re.search(r", learning rate = 1\.00e-03, time left = \d+\.\d s$", line)


def test_verbose_shows_the_score_and_how_long_it_still_takes(capsys):
    rows = noisy_rows()
    plan, state = pose_training(
        rows, members=(0, 1), learning_rate_init=0.05, max_iter=12, verbose=1
    )
    seconds = iter(range(10_000))
    with pytest.MonkeyPatch.context() as patch:
        clock = SimpleNamespace(perf_counter=lambda: 1.0 * next(seconds))
        patch.setattr("skdnn._training.time", clock)
        train(
            plan,
            state,
            rows,
            Validation(rows, lambda params, held_out_logits: np.array([0.25, 0.75])),
        )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12
    assert lines[0].startswith("Iteration  1/12, loss = ")
    assert all(", validation score = 0.500000, " in line for line in lines)
    left = [float(re.search(r"time left = ([\d.]+) s", line)[1]) for line in lines]
    assert left[-1] == 0.0
    np.testing.assert_allclose(left[:-1], left[0] * np.arange(11, 0, -1) / 11, atol=0.05)


def test_record_keeps_all_columns_of_equal_length():
    history = {}
    both = np.ones(2, dtype=bool)
    record(history, both, loss=np.array([1.0, 3.0]), learning_rate=0.1, validation_loss=None)
    record(history, both, loss=np.array([1.0, 1.0]), validation_loss=np.array([4.0, 6.0]))
    record(history, both, learning_rate=0.1)
    np.testing.assert_equal(
        history,
        {
            "loss": [2.0, 1.0, np.nan],
            "learning_rate": [0.1, np.nan, 0.1],
            "validation_loss": [np.nan, 5.0, np.nan],
        },
    )


def test_record_averages_over_the_members_that_count():
    history = {}
    loss = np.array([1.0, np.nan, 3.0])
    record(history, np.array([True, False, True]), loss=loss)
    record(history, np.array([False, False, False]), loss=loss)
    np.testing.assert_equal(history, {"loss": [2.0, np.nan]})


@pytest.mark.parametrize("turns", [(False, True, False), (True, False, True)])
def test_columns_stay_of_equal_length_when_early_stopping_is_turned_on_or_off(turns):
    X, y = make_table()
    estimator = classifier(max_iter=2, warm_start=True, n_members=2)
    for is_on in turns:
        estimator.set_params(early_stopping=is_on).fit(X, y)
    history = estimator.history_
    assert {len(values) for values in history.values()} == {6}
    assert len(estimator.loss_curve_) == len(estimator.validation_scores_) == 6
    is_judged = np.isfinite(history["validation_loss"])
    np.testing.assert_array_equal(is_judged, np.repeat(turns, 2))
    np.testing.assert_array_equal(np.isfinite(estimator.validation_scores_), is_judged)
    assert np.isfinite(estimator.best_validation_score_)


def test_score_is_of_what_was_watched_when_that_changes():
    X, y = make_table()
    estimator = classifier(max_iter=2, warm_start=True, early_stopping=True)
    for scoring in ("loss", "roc_auc", "loss"):
        estimator.set_params(scoring=scoring).fit(X, y)
    assert {len(values) for values in estimator.history_.values()} == {6}
    scores = np.array(estimator.history_["validation_score"])
    is_loss = scores == -np.array(estimator.history_["validation_loss"])
    np.testing.assert_array_equal(is_loss, [True, True, False, False, True, True])
    assert estimator.validation_scores_ == scores.tolist()


@pytest.mark.parametrize("scoring", ["loss", "roc_auc"])
def test_verbose_line_has_what_its_own_fit_watches(scoring, capsys):
    X, y = make_table()
    settings = {"max_iter": 2, "warm_start": True, "verbose": True, "scoring": scoring}
    estimator = classifier(early_stopping=True, **settings).fit(X, y)
    first = capsys.readouterr().out
    estimator.set_params(early_stopping=False).fit(X, y)
    second = capsys.readouterr().out
    assert "validation loss" in first
    assert ("validation score" in first) == (scoring != "loss")
    assert "validation" not in second


def test_columns_stay_of_equal_length_when_the_solver_changes():
    X, y = make_table()
    estimator = classifier(max_iter=2, warm_start=True)
    for solver in ("adam", "lbfgs", "sgd"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.set_params(solver=solver).fit(X, y)
    assert {len(values) for values in estimator.history_.values()} == {6}
    assert np.isfinite(estimator.loss_curve_).all()
