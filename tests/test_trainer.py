"""The steps of an epoch: each the one that its parts describe, and the average of the weights."""

from dataclasses import replace

import numpy as np
import pytest
from data import classifier, make_table
from scipy.special import expit
from sklearn.metrics import log_loss
from tables import pose_training
from trainings import even_folds, noisy_rows

from skdnn import _batches, _trainer
from skdnn._trainer import Trainer, Validation
from skdnn._training import train
from skdnn.training.rows import Rows

pytestmark = pytest.mark.usefixtures("many_workers")


def test_trainer_takes_the_step_that_its_parts_describe():
    """Forward, gradient, backward, update: one step of gradient descent by hand."""
    rows = noisy_rows()
    plan, state = pose_training(
        rows, hidden_layer_sizes=(), solver="gd", learning_rate_init=0.5, alpha=0.0
    )
    layout, before = plan.network.layout, state.params.copy()
    W, b = (layout.view(before, name)[0] for name in ("dense_1.W", "dense_1.b"))
    error = 1.0 / (1.0 + np.exp(-(rows.X @ W + b)[:, 0])) - rows.y
    Trainer(plan, state, rows).run_epoch(0, 1)
    after = {name: layout.view(state.params, name)[0] for name in layout.entries}
    np.testing.assert_allclose(after["dense_1.W"][:, 0], W[:, 0] - 0.5 * rows.X.T @ error / 60)
    np.testing.assert_allclose(after["dense_1.b"][0], b[0] - 0.5 * error.mean())


@pytest.mark.parametrize("is_weighted", [False, True])
def test_losses_do_not_depend_on_blocks(is_weighted, monkeypatch):
    """Neither that of an epoch nor that of the weights as they are; training does not at all."""
    rows = noisy_rows()
    if is_weighted:
        weight = np.random.default_rng(0).exponential(size=60)
        rows = replace(rows, sample_weight=weight).normalize_weights()
    folds = even_folds(np.arange(60) % 3, 2, 3)
    ends = []
    for n_rows in (8192, 20):
        monkeypatch.setattr(_batches, "BLOCK_ROWS", n_rows)
        monkeypatch.setattr(_trainer, "ROWS_TO_JUDGE", n_rows)
        plan, state = pose_training(rows, members=(0, 1), batch_size=7)
        trainer = Trainer(plan, state, rows, Validation(rows, folds=folds))
        loss, _ = trainer.run_epoch(0, 10)
        ends.append((state.params, loss, trainer.judge().loss, trainer.mean_loss(rows)))
    np.testing.assert_array_equal(ends[0][0], ends[1][0])
    for whole, blocked in zip(*ends, strict=True):
        np.testing.assert_allclose(blocked, whole, rtol=1e-13)


def test_loss_of_training_rows_is_by_the_rows_that_each_member_learns_from():
    rows = noisy_rows()
    rows = replace(rows, sample_weight=np.random.default_rng(0).exponential(size=60))
    folds = even_folds(np.arange(60) % 3, 2, 3)
    plan, state = pose_training(rows, members=(0, 1))
    trainer = Trainer(plan, state, rows, Validation(rows, folds=folds))
    logits = plan.network.logits(state.params, rows.X)
    expected = [
        log_loss(rows.y[own], expit(of_member[own]), sample_weight=rows.sample_weight[own])
        for of_member, own in zip(logits, map(folds.training_index, range(2)), strict=True)
    ]
    np.testing.assert_allclose(trainer.judge().loss, expected)


def test_first_loss_is_by_some_rows_from_all_over_the_table_where_others_validate(monkeypatch):
    monkeypatch.setattr(_trainer, "ROWS_TO_JUDGE_FIRST", 20)
    monkeypatch.setattr(_trainer, "ROWS_TO_JUDGE", 7)
    rows = noisy_rows()
    plan, state = pose_training(rows)
    validated = Trainer(plan, state, rows, Validation(rows)).judge_first().loss
    some = Rows(rows.X[::3], rows.y[::3])
    np.testing.assert_allclose(validated, Trainer(plan, state, some).judge_first().loss)
    of_all = Trainer(plan, state, rows).judge_first().loss
    np.testing.assert_allclose(of_all, Trainer(plan, state, rows).judge().loss)
    assert of_all != pytest.approx(validated, rel=1e-6)


# The moving average of the weights.


def averaged_by_hand(weights, decay):
    """Return the mean of the weights after each step, the newer the heavier."""
    shares = decay ** np.arange(len(weights))[::-1]
    return np.tensordot(shares / shares.sum(), np.array(weights), axes=1)


@pytest.mark.parametrize("decay", [0.1, 0.9, 0.999])
@pytest.mark.parametrize("normalization", [None, "batch"])
def test_average_is_the_weighted_mean_of_the_weights_after_each_step(decay, normalization):
    rows = noisy_rows()
    plan, state = pose_training(
        rows,
        members=(0, 1),
        batch_size=60,
        learning_rate_init=0.05,
        ema_decay=decay,
        normalization=normalization,
    )
    state.ema_params = state.params.copy()
    trainer, weights = Trainer(plan, state, rows), []
    for step in range(12):
        trainer.run_epoch(step, 12)
        weights.append(state.params.copy())
        expected = averaged_by_hand(weights, decay)
        np.testing.assert_allclose(state.ema_params, expected, rtol=1e-10, atol=1e-13)
    assert state.n_averaged == 12
    assert np.abs(state.ema_params - state.params).max() > 1e-3


def test_average_moves_at_each_step_and_not_each_epoch():
    rows = noisy_rows()
    plan, state = pose_training(rows, batch_size=25, ema_decay=0.9)
    state.ema_params = state.params.copy()
    trainer = Trainer(plan, state, rows)
    trainer.run_epoch(0, 3)
    assert state.n_averaged == 3


def test_average_of_one_step_is_the_weights():
    X, y = make_table()
    settings = {"batch_size": len(y), "max_iter": 1}
    averaged = classifier(ema_decay=0.999, **settings).fit(X, y)
    plain = classifier(**settings).fit(X, y)
    np.testing.assert_array_equal(averaged.params_, plain.params_)


@pytest.mark.parametrize("n_members", [1, 3])
def test_average_is_predicted_with_and_the_steps_do_not_know_of_it(n_members):
    X, y = make_table()
    settings = {"batch_size": len(y), "n_members": n_members, "dropout": 0.2}
    weights = [classifier(max_iter=n, **settings).fit(X, y).params_ for n in range(1, 7)]
    averaged = classifier(max_iter=6, ema_decay=0.7, **settings).fit(X, y)
    expected = averaged_by_hand(weights, 0.7)
    np.testing.assert_allclose(averaged.params_, expected, rtol=1e-10, atol=1e-13)
    by_hand = classifier(max_iter=1, **settings).fit(X, y)
    by_hand.params_[...] = expected
    np.testing.assert_allclose(averaged.predict_proba(X), by_hand.predict_proba(X), rtol=1e-9)
    plain = classifier(max_iter=6, **settings).fit(X, y)
    assert averaged.history_["loss"] == plain.history_["loss"]


def test_average_is_what_early_stopping_judges_and_keeps():
    X, y = make_table(180)
    X, y, X_val, y_val = X[:120], y[:120], X[120:], y[120:]
    settings = {"batch_size": len(y), "ema_decay": 0.8, "learning_rate_init": 0.005}
    averages = [classifier((32,), max_iter=n, **settings).fit(X, y) for n in range(1, 31)]
    expected = [log_loss(y_val, estimator.predict_proba(X_val)) for estimator in averages]
    best = int(np.argmin(expected))
    assert 0 < best < 29, "the validation rows should have a best epoch in between"
    stopped = classifier((32,), max_iter=30, early_stopping="auto", **settings)
    stopped.fit(X, y, X_val=X_val, y_val=y_val)
    np.testing.assert_allclose(stopped.history_["validation_loss"], expected, rtol=1e-9)
    np.testing.assert_array_equal(stopped.params_, averages[best].params_)
    assert stopped.best_iter_ == best + 1


def test_average_without_early_stopping_judges_the_end_of_training():
    """Weights that jump to and fro can have an average that is none the worse for it."""
    rows = noisy_rows()
    plan, state = pose_training(
        rows, members=(0, 1), ema_decay=0.9, learning_rate_init=0.05, max_iter=8
    )
    train(plan, state, rows)
    np.testing.assert_array_equal(state.final_params, state.ema_params)
    logits = plan.network.logits(state.ema_params, rows.X)
    expected = plan.loss.mean(rows.y[np.newaxis], logits, None)
    np.testing.assert_array_equal(state.progress.last_loss, expected)


def test_partial_fit_goes_on_from_the_last_weights_and_not_from_their_average():
    X, y = make_table()
    averaged, plain = classifier(ema_decay=0.9), classifier()
    weights = []
    for start in (0, 30, 30, 60, 90):
        X_part, y_part = X[start : start + 30], y[start : start + 30]
        averaged.partial_fit(X_part, y_part, classes=[0, 1])
        weights.append(plain.partial_fit(X_part, y_part, classes=[0, 1]).params_.copy())
        expected = averaged_by_hand(weights, 0.9)
        np.testing.assert_allclose(averaged.params_, expected, rtol=1e-10, atol=1e-13)
    assert averaged.loss_curve_ == plain.loss_curve_
