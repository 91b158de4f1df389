"""What an ensemble says of the rows that it was trained on: by members that never saw them."""

import warnings
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from data import classifier, make_table, make_weights
from scipy.special import expit, logit
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss, roc_auc_score

from skdnn import _unseen

ENSEMBLE = {"n_members": 5, "early_stopping": "auto"}


def ensemble(**parameters):
    """Return a small classifier whose members hold out rows."""
    return classifier(**{**ENSEMBLE, **parameters})


@dataclass
class Dealt:
    """What `deal_folds` was asked for in a fit, and what it gave."""

    rows: Any = None
    folds: Any = None

    def fold_of(self, X, y):
        """Return the fold of each row, found by its values; None for one that is in no table."""
        of_values = {
            (*values, label): fold
            for values, label, fold in zip(
                self.rows.X.tolist(), self.rows.y.tolist(), self.folds.of_row.tolist(), strict=True
            )
        }
        return [of_values.get((*x, label)) for x, label in zip(X.tolist(), y.tolist(), strict=True)]


@pytest.fixture
def dealt(monkeypatch):
    """Remember the folds of the last fit."""
    record, deal_folds = Dealt(), _unseen.deal_folds

    def spy(rows, *args):
        record.rows, record.folds = rows, deal_folds(rows, *args)
        return record.folds

    monkeypatch.setattr(_unseen, "deal_folds", spy)
    return record


def probabilities_of_members(model, X):
    """Return the probabilities by tanh networks of one hidden layer, one row for each member."""
    (W, W_out), (b, b_out) = model.coefs_, model.intercepts_
    hidden = np.tanh(X @ W + b[:, np.newaxis])
    return expit(hidden @ W_out + b_out[:, np.newaxis])[:, :, 0]


def logits_by_hand(model, folds, X, y):
    """Return what the members say that held a row's fold out: all of them for a row unseen."""
    probability, logits = probabilities_of_members(model, X), np.full(len(y), np.nan)
    for i, fold in enumerate(folds.fold_of(X, y)):
        judges = [
            m for m in range(len(probability)) if fold is None or folds.folds.of_member(m) == fold
        ]
        if judges:
            logits[i] = logit(probability[judges, i].mean())
    return logits


def assert_logits(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-11)


# Each row by those that held it out.


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"early_stopping": True},
        {"shuffle": False},
        {"batch_size": 1_000},
        {"dropout": 0.3},
        {"ema_decay": 0.9},
        {"scoring": "roc_auc", "n_members": 5},
        {"class_weight": "balanced", "label_smoothing": 0.1},
    ],
    ids=str,
)
def test_logit_is_that_of_the_members_that_held_the_row_out(settings, dealt):
    X, y = make_table()
    model = ensemble(**settings).fit(X, y)
    assert model.oof_decision_function_.shape == (120,)
    assert_logits(model.oof_decision_function_, logits_by_hand(model, dealt, X, y))
    assert np.abs(model.oof_decision_function_ - model.decision_function(X)).max() > 1e-3


@pytest.mark.parametrize("n_members", range(2, 17))
def test_folds_are_as_many_as_members_within_five_and_ten(n_members, dealt):
    """Fewer members hold out a share each, and train all on the rest; more share their folds."""
    X, y = make_table()
    model = ensemble(n_members=n_members, max_iter=1).fit(X, y)
    n_folds = 5 if n_members < 5 else min(n_members, 10)  # validation_fraction is 0.2
    assert dealt.folds.n_folds == n_folds
    sizes = np.bincount(dealt.fold_of(X, y), minlength=n_folds)
    assert len(sizes) == n_folds
    assert np.ptp(sizes) <= 1
    n_unknown = sizes[n_members:].sum()
    assert np.isnan(model.oof_decision_function_).sum() == n_unknown
    assert (n_unknown > 0) == (n_members < 5)
    assert_logits(model.oof_decision_function_, logits_by_hand(model, dealt, X, y))


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.9])
def test_share_of_a_pair_is_the_validation_fraction(fraction):
    X, y = make_table()
    model = ensemble(n_members=2, validation_fraction=fraction, max_iter=1).fit(X, y)
    share = np.isfinite(model.oof_decision_function_).mean() / 2
    assert share == pytest.approx(min(fraction, 0.5), abs=0.01)


def test_validation_fraction_has_no_meaning_from_five_members_on():
    X, y = make_table()
    one, other = (ensemble(validation_fraction=f).fit(X, y) for f in (0.1, 0.5))
    np.testing.assert_array_equal(one.params_, other.params_)


@pytest.mark.parametrize("learning_rate_init", [0.001, 0.1])
def test_pooled_losses_of_the_best_epoch_are_those_of_the_logits(learning_rate_init):
    """Every row is judged once; what early stopping watches forgives overconfidence up to 2."""
    X, y = make_table()
    settings = {"learning_rate_init": learning_rate_init, "hidden_layer_sizes": (32,)}
    model = ensemble(**settings, max_iter=12).fit(X, y)
    logits, best = model.oof_decision_function_, model.best_iter_ - 1
    loss = log_loss(y, expit(logits))
    assert model.history_["validation_loss"][best] == pytest.approx(loss, rel=1e-9)
    margins = np.where(y == 1, 1.0, -1.0) * logits
    least = min(np.logaddexp(0.0, -margins / T).mean() for T in np.linspace(1.0, 2.0, 1_001))
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert -model.best_validation_score_ == pytest.approx(least, rel=1e-6)
    if learning_rate_init == 0.1:
        assert least < 0.99 * loss, "otherwise the two losses are not told apart"


def test_labels_without_sense_are_seen_through():
    """The members that learned them by heart are not asked."""
    X, _ = make_table()
    y, calls = np.random.default_rng(0).permutation(np.arange(120) % 2), count()

    def later_is_better(estimator, X, y):
        return float(next(calls))

    settings = {"hidden_layer_sizes": (64,), "learning_rate_init": 0.03, "max_iter": 40}
    model = ensemble(**settings, scoring=later_is_better).fit(X, y)
    assert model.best_iter_ == 40
    assert roc_auc_score(y, model.decision_function(X)) > 0.9
    assert roc_auc_score(y, model.oof_decision_function_) < 0.7


# Order.


def test_order_is_that_of_the_given_rows():
    X, y = make_table()
    order = np.random.default_rng(1).permutation(120)
    model, shuffled = ensemble().fit(X, y), ensemble().fit(X[order], y[order])
    np.testing.assert_array_equal(
        shuffled.oof_decision_function_, model.oof_decision_function_[order]
    )


def test_order_is_that_of_the_given_rows_in_a_large_table(dealt):
    X, y = make_table(1_100)
    weights = make_weights(1_100)
    model = ensemble(max_iter=1).fit(X, y, weights)
    assert len(dealt.rows) == np.count_nonzero(weights)
    assert_logits(model.oof_decision_function_, logits_by_hand(model, dealt, X, y))


def test_rows_that_are_merged_have_the_same_logit(dealt):
    X, y = make_table(60)
    times = make_weights(60) + 1
    model = ensemble().fit(X.repeat(times, axis=0), y.repeat(times))
    weighted = ensemble().fit(X, y, times)
    assert len(dealt.rows) == 60
    np.testing.assert_array_equal(
        model.oof_decision_function_, weighted.oof_decision_function_.repeat(times)
    )
    assert_logits(weighted.oof_decision_function_, logits_by_hand(weighted, dealt, X, y))


def test_rows_without_weight_are_judged_by_all_members(dealt):
    X, y = make_table()
    weights = make_weights(120)
    model = ensemble().fit(X, y, weights)
    is_unseen = weights == 0
    assert 0 < is_unseen.sum() < 120
    oof = model.oof_decision_function_
    assert_logits(oof[is_unseen], model.decision_function(X[is_unseen]))
    assert_logits(oof, logits_by_hand(model, dealt, X, y))


def test_logits_are_the_same_each_time():
    X, y = make_table()
    one, other = (ensemble(dropout=0.2, calibration="temperature").fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(one.oof_decision_function_, other.oof_decision_function_)
    another = ensemble(dropout=0.2, random_state=1).fit(X, y)
    assert not np.array_equal(one.oof_decision_function_, another.oof_decision_function_)


def test_frames_with_names_and_rows_without_weight_are_taken():
    X, y = make_table()
    weights = make_weights(120)
    model = ensemble().fit(pd.DataFrame(X).add_prefix("x"), y, weights)
    expected = ensemble().fit(X, y, weights).oof_decision_function_
    np.testing.assert_array_equal(model.oof_decision_function_, expected)


@pytest.mark.parametrize("is_weighted", [False, True])
def test_sparse_rows_have_logits_too(is_weighted):
    X, y = make_table()
    X = np.where(np.abs(X) < 0.5, 0.0, X)
    weights = make_weights(120) if is_weighted else None
    model = ensemble(solver="gd").fit(sp.csr_array(X), y, weights)
    oof = model.oof_decision_function_
    assert np.isfinite(oof).all()
    if is_weighted:
        assert_logits(oof[weights == 0], model.decision_function(X[weights == 0]))


def test_logits_go_through_the_encoder(dealt):
    X, y = make_table()
    X[::9, 1] = np.nan
    model = ensemble(encoder="auto", numeric_embedding=None, dtype="float64").fit(X, y)
    encoded = model.encoder_.transform(X).astype(np.float64)
    assert_logits(model.oof_decision_function_, logits_by_hand(model, dealt, encoded, y))


# Small classes.


@pytest.mark.parametrize("n_few", range(2, 11))
@pytest.mark.parametrize("n_members", [2, 5, 8])
def test_class_of_few_rows_is_held_out_and_learned_from(n_few, n_members, dealt):
    X, y = make_table(60)
    y = np.sort(y)
    X, y = X[y.sum() - n_few :], y[y.sum() - n_few :]
    y[:] = 1
    y[:n_few] = 0
    model = ensemble(n_members=n_members, max_iter=2).fit(X, y)
    assert_logits(model.oof_decision_function_, logits_by_hand(model, dealt, X, y))
    few = np.array(dealt.fold_of(X[:n_few], y[:n_few]))
    assert (few >= 0).all()
    for member in range(n_members):
        trained = dealt.folds.training_index(member)
        assert set(dealt.rows.y[trained]) == {0.0, 1.0}


def test_row_that_is_alone_in_its_class_is_learned_from_by_all(dealt):
    X, y = make_table(30)
    y[:] = 1
    y[7] = 0
    model = ensemble().fit(X, y)
    is_unknown = np.isnan(model.oof_decision_function_)
    assert np.flatnonzero(is_unknown).tolist() == [7]
    assert_logits(model.oof_decision_function_, logits_by_hand(model, dealt, X, y))


@pytest.mark.parametrize("scoring", ["loss", "accuracy"])
@pytest.mark.parametrize("n_rows", [3, 5, 7])
def test_members_may_be_more_than_rows(n_rows, scoring, dealt):
    """Those without rows to hold out have no say in which epoch is best."""
    X, y = make_table(n_rows)
    y[:] = np.arange(n_rows) % 2
    model = ensemble(n_members=9, scoring=scoring, max_iter=3).fit(X, y)
    assert_logits(model.oof_decision_function_, logits_by_hand(model, dealt, X, y))
    if scoring == "accuracy":
        is_known = np.isfinite(model.oof_decision_function_)
        accuracy = ((model.oof_decision_function_ > 0) == y)[is_known].mean()
        assert model.best_validation_score_ == pytest.approx(accuracy)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_two_rows_have_nobody_to_be_held_out_by():
    model = ensemble().fit([[0.0], [1.0]], [0, 1])
    assert not hasattr(model, "oof_decision_function_")


# Where there are none.


@pytest.mark.parametrize(
    "settings",
    [
        {"early_stopping": False},
        {"n_members": 1},
        {"n_members": 1, "early_stopping": True},
        {"solver": "lbfgs", "hidden_layer_sizes": (), "max_iter": 200},
        {"solver": "lbfgs", "hidden_layer_sizes": (), "max_iter": 200, "early_stopping": True},
    ],
    ids=str,
)
def test_attribute_is_for_members_that_hold_rows_out(settings):
    X, y = make_table()
    model = ensemble().fit(X, y)
    assert hasattr(model, "oof_decision_function_")
    model.set_params(**settings).fit(X, y)
    assert not hasattr(model, "oof_decision_function_")


def test_attribute_goes_with_validation_rows():
    X, y = make_table()
    model = ensemble().fit(X, y)
    model.fit(X[:90], y[:90], X_val=X[90:], y_val=y[90:])
    assert not hasattr(model, "oof_decision_function_")


def test_attribute_goes_with_a_part_of_another_table():
    """The members have now trained on rows of which nobody knows which were held out."""
    X, y = make_table()
    model = ensemble().fit(X, y).partial_fit(X[:40], y[:40])
    assert not hasattr(model, "oof_decision_function_")


# Temperature.


def mean_loss(logits, y, temperature, weight=None):
    is_known = np.isfinite(logits)
    weight = None if weight is None else weight[is_known]
    p = expit(logits[is_known] / temperature).astype(np.float64)
    return log_loss(y[is_known], p, sample_weight=weight)


def assert_lowest(logits, y, temperature, weight=None):
    """Check a temperature against others near and far, beside what stands against it."""
    w = np.isfinite(logits) * (np.ones(len(y)) if weight is None else weight)
    n_rows = w.sum() ** 2 / (w**2).sum()  # what weights are multiplied by changes nothing

    def cost(T):
        return n_rows * mean_loss(logits, y, T, weight) + np.log(T) ** 2 / (2.0 * 0.25**2)

    others = np.concatenate([np.geomspace(0.2, 5.0, 100), temperature * np.array([0.99, 1.01])])
    assert min(cost(other) for other in others) >= cost(temperature) - 1e-6
    assert abs(temperature - 1.0) > 1e-3, "otherwise nothing is shown"


def scale_of_average(model, X):
    """Return how large the logits of a small ensemble are beside those of its members."""
    logits = logit(probabilities_of_members(model, X))
    average = model.decision_function(X) * model.temperature_
    return np.sqrt((average**2).mean() / (logits**2).mean())


@pytest.mark.parametrize("n_members", [2, 5, 8])
def test_temperature_is_the_best_for_rows_out_of_fold(n_members):
    X, y = make_table()
    plain = ensemble(n_members=n_members, max_iter=20).fit(X, y)
    model = ensemble(n_members=n_members, max_iter=20, calibration="temperature").fit(X, y)
    np.testing.assert_array_equal(model.params_, plain.params_)
    assert plain.temperature_ == 1.0
    logits = scale_of_average(model, X) * plain.oof_decision_function_
    assert_lowest(logits, y, model.temperature_)
    assert_logits(model.oof_decision_function_, logits / model.temperature_)


@pytest.mark.parametrize("settings", [{}, {"class_weight": {0: 1.0, 1: 4.0}}], ids=str)
def test_temperature_heeds_weights(settings):
    """Rows of weight zero do not count; those of class weights do, as in training."""
    X, y = make_table()
    weights = make_weights(120)
    plain = ensemble(**settings).fit(X, y, weights)
    model = ensemble(calibration="temperature", **settings).fit(X, y, weights)
    total = weights * np.where(y, 4.0, 1.0) if settings else weights
    scale = scale_of_average(plain, X[weights > 0])
    assert_lowest(scale * plain.oof_decision_function_, y, model.temperature_, total)
    unweighted = ensemble(calibration="temperature").fit(X, y)
    assert model.temperature_ != unweighted.temperature_


@pytest.mark.parametrize("n_members", [1, 3])
def test_temperature_is_the_best_for_the_given_validation_rows(n_members):
    X, y = make_table(160)
    given = {"X_val": X[100:], "y_val": y[100:], "sample_weight_val": make_weights(60)}
    settings = {"n_members": n_members, "max_iter": 20}
    plain = ensemble(**settings).fit(X[:100], y[:100], **given)
    model = ensemble(calibration="temperature", **settings).fit(X[:100], y[:100], **given)
    logits = plain.decision_function(X[100:])
    assert_lowest(logits, y[100:], model.temperature_, given["sample_weight_val"])


@pytest.mark.parametrize("settings", [{}, {"solver": "lbfgs", "n_members": 2}], ids=str)
@pytest.mark.filterwarnings("ignore:L-BFGS ended")
def test_temperature_is_the_best_for_the_rows_held_out(settings, monkeypatch):
    seen, split = [], _unseen.split_validation

    def spy(*args):
        seen.append(split(*args))
        return seen[-1]

    monkeypatch.setattr(_unseen, "split_validation", spy)
    X, y = make_table()
    settings = {"n_members": 1, "early_stopping": True, "max_iter": 20, **settings}
    plain = ensemble(**settings).fit(X, y)
    model = ensemble(calibration="temperature", **settings).fit(X, y)
    [_, held_out] = seen[-1]
    assert_lowest(plain.decision_function(held_out.X), held_out.y, model.temperature_)


@pytest.mark.parametrize("encoder", [None, "auto"])
def test_temperature_divides_all_logits_and_changes_no_label(encoder):
    X, y = make_table()
    X_new, _ = make_table(50, random_state=1)
    labels = np.take(["no", "yes"], y)
    plain = ensemble(encoder=encoder).fit(X, labels)
    model = ensemble(encoder=encoder, calibration="temperature").fit(X, labels)
    rtol = 1e-6 if encoder else 1e-12
    logits = plain.decision_function(X_new) / model.temperature_
    np.testing.assert_allclose(model.decision_function(X_new), logits, rtol=rtol)
    np.testing.assert_allclose(model.predict_proba(X_new)[:, 1], expit(logits), rtol=rtol)
    slopes = plain.input_gradients(X_new) / model.temperature_
    np.testing.assert_allclose(model.input_gradients(X_new), slopes, rtol=rtol, atol=1e-12)
    np.testing.assert_array_equal(model.predict(X_new), plain.predict(X_new))


def test_temperature_is_found_anew_in_each_fit():
    X, y = make_table()
    model = ensemble(calibration="temperature").fit(X, y)
    assert model.temperature_ != 1.0
    warm = ensemble(calibration="temperature", warm_start=True, max_iter=3)
    warm.fit(X, y).set_params(max_iter=2).fit(X, y)
    np.testing.assert_array_equal(warm.params_, model.params_)
    assert warm.temperature_ == model.temperature_
    assert model.set_params(calibration=None).fit(X, y).temperature_ == 1.0


@pytest.mark.parametrize("factor", [1e-20, 0.1, 1e20])
@pytest.mark.parametrize("n_members", [1, 5])
def test_temperature_knows_no_scale_of_weights(n_members, factor):
    X, y = make_table()
    settings = {"n_members": n_members, "early_stopping": True, "calibration": "temperature"}
    settings["alpha"] = 0.0  # which has a scale
    weights = make_weights(120) + 1.0
    one, other = (ensemble(**settings).fit(X, y, f * weights) for f in (1.0, factor))
    assert other.temperature_ == pytest.approx(one.temperature_, rel=1e-3)


@pytest.mark.parametrize("settings", [{"n_members": 1, "early_stopping": True}, {}], ids=str)
def test_rows_that_are_all_answered_right_make_nobody_surer_than_few_rows_can(settings):
    X, y = make_table(300, random_state=3)
    X[:, 0] += 12.0 * y  # told apart by one look
    settings = {"max_iter": 20, "learning_rate_init": 0.05, **settings}
    model = ensemble(calibration="temperature", **settings).fit(X[:60], y[:60])
    assert model.temperature_ > 0.5


def test_copies_of_rows_are_evidence():
    """They are merged in training, but seen as often as they were given."""
    X, y = make_table(60)
    times = np.full(60, 9)
    settings = {"calibration": "temperature", "learning_rate_init": 0.1, "max_iter": 20}
    settings["alpha"] = 0.0  # beside the sum of the losses
    once, repeated = (
        ensemble(**settings).fit(X.repeat(times // n, axis=0), y.repeat(times // n)) for n in (9, 1)
    )
    np.testing.assert_array_equal(once.params_, repeated.params_)
    assert abs(np.log(repeated.temperature_)) > abs(np.log(once.temperature_)) + 0.01


@pytest.mark.parametrize("n_members", [1, 5])
def test_calibration_by_rows_of_one_class_is_refused_before_training(n_members, capsys):
    X, y = make_table()
    model = ensemble(calibration="temperature", n_members=n_members, verbose=1)
    labels = np.take(["no", "yes"], y)
    with pytest.raises(ValueError, match=r"calibration='temperature'.*both classes.*'yes'"):
        model.fit(X, labels, X_val=X[y == 1], y_val=labels[y == 1])
    with pytest.raises(ValueError, match=r"calibration='temperature'.*both classes.*False"):
        model.set_params(early_stopping=True).fit(X, np.arange(120) == 7)
    assert capsys.readouterr().out == ""
    assert not hasattr(model, "params_")


@pytest.mark.parametrize(
    "settings",
    [
        {"early_stopping": False},
        {"early_stopping": "auto", "n_members": 1},
        {"early_stopping": "auto", "solver": "lbfgs"},
    ],
    ids=str,
)
def test_calibration_without_rows_unseen_is_refused_before_training(settings, capsys):
    model = ensemble(calibration="temperature", verbose=1, **settings)
    with pytest.raises(ValueError, match=r"calibration='temperature'"):
        model.fit(*make_table())
    assert capsys.readouterr().out == ""
    assert not hasattr(model, "params_")


@pytest.mark.parametrize("n_times", [1, 15])
@pytest.mark.parametrize("n_members", [1, 5])
def test_calibration_is_not_by_the_rows_that_were_learned(n_members, n_times):
    """Where no class has two rows that differ, nothing is held out: the same train and judge."""
    settings = {"n_members": n_members, "early_stopping": True, "calibration": "temperature"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        with pytest.raises(ValueError, match=r"calibration='temperature'"):
            ensemble(**settings).fit([[0.0], [1.0]] * n_times, [0, 1] * n_times)
