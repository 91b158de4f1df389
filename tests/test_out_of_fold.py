"""What an ensemble says of the rows that it was trained on: by members that never saw them."""

from itertools import count

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from data import classifier, make_table, make_weights
from scipy.special import expit, logit
from sklearn.metrics import log_loss, roc_auc_score

from skdnn import DeepBinaryClassifier

ENSEMBLE = {"n_members": 5, "early_stopping": "auto"}


def ensemble(**parameters):
    """Return a small classifier whose members hold out rows."""
    return classifier(**{**ENSEMBLE, **parameters})


def probabilities_of_members(model, X):
    """Return the probabilities by tanh networks of one hidden layer, one row for each member."""
    (W, W_out), (b, b_out) = model.coefs_, model.intercepts_
    hidden = np.tanh(X @ W + b[:, np.newaxis])
    return expit(hidden @ W_out + b_out[:, np.newaxis])[:, :, 0]


def find_holders(model, X, n_folds=10):
    """Return of each row and member whether its logit out of fold is by this member.

    Five members or more share folds in turn, fewer have any; rows of no weight are judged by all.
    """
    probability, members = probabilities_of_members(model, X), np.arange(model.n_members)
    n_folds = min(len(members), n_folds)
    sets = [members % n_folds == fold for fold in range(n_folds)]
    if len(members) < 5:
        sets = [(number >> members) % 2 == 1 for number in range(1, 2 ** len(members))]
    sets.append(members >= 0)
    logits = np.stack([logit(probability[own].mean(axis=0)) for own in sets])
    known = np.isfinite(model.oof_decision_function_)
    best = np.abs(logits - np.where(known, model.oof_decision_function_, 0.0)).argmin(axis=0)
    found = logits[best, np.arange(len(best))]
    assert_logits(model.oof_decision_function_[known], found[known])
    return np.stack(sets)[best] & known[:, np.newaxis]


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
def test_logit_is_that_of_the_members_that_held_the_row_out(settings):
    X, y = make_table()
    model = ensemble(**settings).fit(X, y)
    assert model.oof_decision_function_.shape == (120,)
    assert find_holders(model, X).sum(axis=0).tolist() == [24] * 5
    assert np.abs(model.oof_decision_function_ - model.decision_function(X)).max() > 1e-3


@pytest.mark.parametrize("n_members", range(5, 13))
def test_folds_are_as_many_as_members_within_ten(n_members):
    """More members share their folds."""
    X, y = make_table()
    model = ensemble(n_members=n_members, max_iter=1).fit(X, y)
    sets, sizes = np.unique(find_holders(model, X), axis=0, return_counts=True)
    assert len(sets) == min(n_members, 10)
    assert np.ptp(sizes) <= 1
    assert np.isfinite(model.oof_decision_function_).all()
    find_holders(model, X)


@pytest.mark.parametrize("fraction", [1e-9, 0.1, 0.25, 0.4, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("n_members", [2, 3, 4])
def test_few_members_hold_out_the_validation_fraction_each(n_members, fraction):
    """Where that is more than all rows together, some of the same ones."""
    X, y = make_table()
    model = ensemble(n_members=n_members, validation_fraction=fraction, max_iter=1).fit(X, y)
    n_out = find_holders(model, X).sum(axis=0)
    np.testing.assert_allclose(n_out, np.clip(120 * fraction, 2, 118), atol=1.0)
    share = np.isfinite(model.oof_decision_function_).mean()
    assert share == pytest.approx(min(max(fraction, 2 / 120) * n_members, 1.0), abs=0.02)
    find_holders(model, X)


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
    model, shuffled = (ensemble(batch_size=120).fit(X[i], y[i]) for i in (slice(None), order))
    np.testing.assert_array_equal(
        shuffled.oof_decision_function_, model.oof_decision_function_[order]
    )


def test_order_is_that_of_the_given_rows_in_a_large_table():
    X, y = make_table(1_100)
    weights = make_weights(1_100)
    model = ensemble(max_iter=1).fit(X, y, weights)
    n_holders = find_holders(model, X).sum(axis=1)
    np.testing.assert_array_equal(n_holders, np.where(weights == 0, 5, 1))


def test_rows_that_are_merged_have_the_same_logit():
    X, y = make_table(60)
    times = make_weights(60) + 1
    model = ensemble(batch_size=500).fit(X.repeat(times, axis=0), y.repeat(times))
    weighted = ensemble(batch_size=500).fit(X, y, times)
    np.testing.assert_array_equal(
        model.oof_decision_function_, weighted.oof_decision_function_.repeat(times)
    )
    assert find_holders(weighted, X).sum(axis=1).tolist() == [1] * 60


def test_rows_without_weight_are_judged_by_all_members():
    X, y = make_table()
    weights = make_weights(120)
    model = ensemble().fit(X, y, weights)
    is_unseen = weights == 0
    assert 0 < is_unseen.sum() < 120
    oof = model.oof_decision_function_
    assert_logits(oof[is_unseen], model.decision_function(X[is_unseen]))
    np.testing.assert_array_equal(find_holders(model, X).all(axis=1), is_unseen)


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


def test_logits_go_through_the_encoder():
    X, y = make_table()
    X[::9, 1] = np.nan
    model = ensemble(encoder="auto", numeric_embedding=None, dtype="float64").fit(X, y)
    encoded = model.encoder_.transform(X).astype(np.float64)
    assert find_holders(model, encoded).sum(axis=1).tolist() == [1] * 120


# Small classes.


@pytest.mark.parametrize("n_few", range(2, 11))
@pytest.mark.parametrize("n_members", [2, 5, 8])
def test_class_of_few_rows_is_held_out_and_learned_from(n_few, n_members):
    X, y = make_table(60)
    y = np.sort(y)
    X, y = X[y.sum() - n_few :], y[y.sum() - n_few :]
    y[:] = 1
    y[:n_few] = 0
    model = ensemble(n_members=n_members, max_iter=2).fit(X, y)
    is_held_out = find_holders(model, X)
    assert is_held_out[y == 0].sum() == (n_few if n_members > 2 else 2 * max(1, round(0.2 * n_few)))
    for member in range(n_members):
        assert set(y[~is_held_out[:, member]]) == {0, 1}


def test_row_that_is_alone_in_its_class_is_learned_from_by_all():
    X, y = make_table(30)
    y[:] = 1
    y[7] = 0
    model = ensemble().fit(X, y)
    is_unknown = np.isnan(model.oof_decision_function_)
    assert np.flatnonzero(is_unknown).tolist() == [7]
    find_holders(model, X)


@pytest.mark.parametrize("n_members", [1, 2, 9])
@pytest.mark.parametrize("n_rows", [2, 3, 4, 7, 15])
def test_few_rows_are_learned_and_judged_as_far_as_classes_allow(n_rows, n_members):
    """A class of one row cannot be held out; with two of these, nothing is."""
    X, y = make_table(n_rows)
    y[:] = np.arange(n_rows) % 2
    model = ensemble(n_members=n_members, early_stopping=True, max_iter=3).fit(X, y)
    assert np.isfinite(model.decision_function(X)).all()
    assert (model.validation_scores_ is None) == (n_rows == 2)
    if n_members > 5 and n_rows > 2:
        is_lonely = np.bincount(y)[y] == 1
        np.testing.assert_array_equal(np.isnan(model.oof_decision_function_), is_lonely)
        find_holders(model, X)


def test_members_may_be_more_than_rows_of_a_group():
    """Two groups for nine members: all hold out one of them."""
    X, y = make_table(20)
    y[:] = np.arange(20) % 2
    model = ensemble(n_members=9, max_iter=3).fit(X, y, groups=np.arange(20) // 10)
    assert set(find_holders(model, X, n_folds=2).sum(axis=1)) == {4, 5}


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


def test_attribute_goes_with_a_judged_as_another_table():
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
        return n_rows * mean_loss(logits, y, T, weight) + np.log(T) ** 2 / (2.0 * 0.2**2)

    others = np.concatenate([np.geomspace(0.2, 5.0, 100), temperature * np.array([0.99, 1.01])])
    assert min(cost(other) for other in others) >= cost(temperature) - 1e-6
    assert abs(temperature - 1.0) > 1e-4, "otherwise nothing is shown"


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
def test_temperature_is_the_best_for_the_rows_held_out(settings):
    X, y = make_table()
    settings = {"n_members": 1, "early_stopping": True, "max_iter": 20, **settings}
    plain = ensemble(**settings).fit(X, y)
    model = ensemble(calibration="temperature", **settings).fit(X, y)
    held_out = {}

    def scorer(estimator, X, y):
        held_out.update(X=X, y=y)
        return 0.0

    ensemble(scoring=scorer, **settings).fit(X, y)
    assert len(held_out["y"]) == 24
    assert_lowest(plain.decision_function(held_out["X"]), held_out["y"], model.temperature_)


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


def test_rows_without_weight_have_the_calibrated_logit_of_all_members():
    X, y = make_table(120)
    weight = np.ones(120)
    weight[::10] = 0.0
    model = classifier(n_members=5, calibration="temperature", early_stopping=True, max_iter=8)
    model.fit(X, y, sample_weight=weight)
    assert model.temperature_ != 1.0
    logits = model.oof_decision_function_[weight == 0.0]
    np.testing.assert_allclose(logits, model.decision_function(X[weight == 0.0]), rtol=1e-5)


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
    times = np.full(60, 4)
    settings = {"calibration": "temperature", "learning_rate_init": 0.1, "max_iter": 20}
    settings |= {"alpha": 0.0, "batch_size": 1_000}  # alpha stands beside the sum of the losses
    once, repeated = (
        ensemble(**settings).fit(X.repeat(times // n, axis=0), y.repeat(times // n)) for n in (4, 1)
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


# Rows that are alike.


def levels(n_rows, seed=0):
    """Return one column of three levels: of the second class with 0.2, 0.5 and 0.8."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 3, n_rows)
    return x[:, np.newaxis] * 1.0, (rng.random(n_rows) < np.array([0.2, 0.5, 0.8])[x]).astype(int)


def flags(n_rows, seed=0):
    """Return two flags, and whether they differ."""
    X = np.random.default_rng(seed).integers(0, 2, (n_rows, 2)) * 1.0
    return X, (X[:, 0] != X[:, 1]).astype(int)


def out_of_fold(model, y, weight=None):
    """Return loss and area under the curve of what is known out of fold."""
    logits = model.oof_decision_function_.astype(np.float64)
    is_known = np.isfinite(logits)
    weight = None if weight is None else weight[is_known]
    return (
        log_loss(y[is_known], expit(logits[is_known]), sample_weight=weight),
        roc_auc_score(y[is_known], logits[is_known], sample_weight=weight),
    )


@pytest.mark.parametrize("n_members", [2, 3, 8])
@pytest.mark.parametrize("n_rows", [300, 1_000, 1_001])
def test_few_distinct_rows_are_judged_as_new_ones_would_be(n_rows, n_members):
    X, y = levels(n_rows)
    model = DeepBinaryClassifier(n_members=n_members, random_state=0).fit(X, y)
    loss, auc = out_of_fold(model, y)
    X_new, y_new = levels(4_000, seed=1)
    logits = model.decision_function(X_new).astype(np.float64)
    assert roc_auc_score(y_new, logits) > 0.75
    assert log_loss(y_new, expit(logits)) < 0.59  # at best 0.565
    n_out = np.isfinite(model.oof_decision_function_).sum()
    assert auc == pytest.approx(0.77, abs=2.0 / np.sqrt(n_out))
    assert loss == pytest.approx(0.565, abs=2.0 / np.sqrt(n_out))


@pytest.mark.parametrize("n_members", [1, 2, 8])
@pytest.mark.parametrize("n_rows", [300, 1_001])
def test_exclusive_or_is_learned_and_known_out_of_fold(n_rows, n_members):
    X, y = flags(n_rows)
    model = DeepBinaryClassifier(n_members=n_members, early_stopping=True, random_state=0)
    model.fit(X, y)
    assert log_loss(y, model.predict_proba(X).astype(np.float64)) < 0.05
    if n_members > 1:
        loss, auc = out_of_fold(model, y)
        assert loss < 0.05
        assert auc == 1.0


@pytest.mark.parametrize("table", [levels, flags])
@pytest.mark.parametrize("settings", [{}, {"n_members": 2}, {"n_members": 1}], ids=str)
def test_counts_as_weights_are_the_rows_counted(table, settings):
    X, y = table(60)
    settings = {"early_stopping": True, "max_iter": 3, "random_state": 0, **settings}
    keys, counts = np.unique(np.column_stack([X, y]), axis=0, return_counts=True)
    plain = DeepBinaryClassifier(**settings).fit(X, y)
    counted = DeepBinaryClassifier(**settings).fit(keys[:, :-1], keys[:, -1], counts)
    assert counted.t_ == plain.t_
    np.testing.assert_allclose(counted.params_, plain.params_, rtol=1e-3, atol=1e-5)
    assert counted.temperature_ == pytest.approx(plain.temperature_, rel=1e-3)
    if settings.get("n_members") != 1:
        assert len(counted.oof_decision_function_) == len(keys)


def repeat_rows(kind, n_rows):
    """Return a table in which rows stand several times, and rows of the same kind that do not."""
    rng = np.random.default_rng(0)
    X, y = make_table(n_rows + 2_000)
    X, X_new, y, y_new = X[:n_rows], X[n_rows:], y[:n_rows], y[n_rows:]
    if kind == "doubled":
        index = np.tile(np.arange(n_rows), 2)
    elif kind == "bootstrapped":
        index = rng.integers(0, n_rows, 2 * n_rows)
    else:  # of one class
        index = np.concatenate([np.arange(n_rows), np.flatnonzero(y).repeat(5)])
    return X[index], y[index], X_new, y_new


@pytest.mark.parametrize(("n_rows", "n_members"), [(300, 8), (600, 8), (600, 2)])
@pytest.mark.parametrize("kind", ["doubled", "bootstrapped", "oversampled"])
def test_copies_of_a_row_flatter_nobody(kind, n_rows, n_members):
    """Merged or not; members learn their rows by heart where copies of them judge."""
    X, y, X_new, y_new = repeat_rows(kind, n_rows)
    model = DeepBinaryClassifier(n_members=n_members, random_state=0).fit(X, y)
    weight = np.where(y_new, 6.0, 1.0) if kind == "oversampled" else None
    logits = model.decision_function(X_new).astype(np.float64)
    loss, auc = out_of_fold(model, y)
    assert auc < roc_auc_score(y_new, logits) + 0.04
    assert loss > log_loss(y_new, expit(logits), sample_weight=weight) - 0.1


# Rare classes, and groups.


@pytest.mark.parametrize("n_rare", [2, 5])
@pytest.mark.parametrize("n_members", [1, 2, 3, 4, 8])
def test_rare_class_has_a_say(n_rare, n_members):
    """In the choice of the epoch and of the temperature: nobody is sure that there is none."""
    rng = np.random.default_rng(0)
    for seed in range(3):
        X, y = rng.normal(size=(200, 2)), np.arange(200) < n_rare
        settings = {"n_members": n_members, "early_stopping": True, "random_state": seed}
        model = ensemble(**settings, max_iter=10).fit(X, y)
        if n_members > 1:
            judged = np.isfinite(model.oof_decision_function_)
            assert np.count_nonzero(judged & y) >= min(n_members, n_rare)
        assert model.predict_proba(X[y])[:, 1].min() > 1e-3


def grouped(n_groups, seed):
    """Return groups of ten rows, whose labels are an effect of the group and nothing else."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups), 10)
    X = rng.normal(size=(n_groups, 4))[group] + 0.1 * rng.normal(size=(10 * n_groups, 4))
    effect = rng.normal(0.0, 2.0, n_groups)[group]
    return X, (rng.random(len(X)) < expit(effect)).astype(int), group


@pytest.mark.parametrize("n_members", [3, 8])
def test_groups_are_judged_as_new_groups_would_be(n_members):
    X, y, group = grouped(60, 0)
    X_new, y_new, _ = grouped(200, 1)
    settings = {"n_members": n_members, "max_iter": 20, "random_state": 0}
    settings["validation_fraction"] = 0.33
    losses = [
        out_of_fold(DeepBinaryClassifier(**settings).fit(X, y, groups=g), y) for g in (None, group)
    ]
    assert losses[0][1] > 0.65  # flattered
    assert losses[1][1] == pytest.approx(0.5, abs=0.12)
    model = DeepBinaryClassifier(**settings).fit(X, y, groups=group)
    loss = log_loss(y_new, model.predict_proba(X_new).astype(np.float64))
    assert loss == pytest.approx(0.7, abs=0.05)
    assert losses[1][0] == pytest.approx(loss, abs=0.08)


@pytest.mark.parametrize(
    "settings",
    [{"n_members": 8}, {"n_members": 2}, {"n_members": 1}, {"solver": "lbfgs", "n_members": 2}],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:L-BFGS ended")
def test_names_of_groups_do_not_matter(settings):
    X, y = make_table()
    group = np.arange(120) // 4
    weights = make_weights(120)
    settings = {"early_stopping": True, **settings}
    expected = ensemble(**settings).fit(X, y, weights, groups=group).params_
    for labels in (-group, [f"g{i}" for i in group], pd.Series(group).astype("category")):
        model = ensemble(**settings).fit(X, y, weights, groups=labels)
        np.testing.assert_array_equal(model.params_, expected)
    assert (expected != ensemble(**settings).fit(X, y, weights).params_).any()


def test_groups_of_one_row_each_are_no_groups_but_for_chance():
    X, y = make_table()
    model = ensemble().fit(X, y, groups=np.arange(120))
    assert np.isfinite(model.oof_decision_function_).all()


def test_warm_start_assigns_the_same_groups():
    X, y = make_table()
    group = np.arange(120) // 4
    whole = ensemble(max_iter=6).fit(X, y, groups=group)
    parts = ensemble(max_iter=3, warm_start=True).fit(X, y, groups=group)
    parts.fit(X, y, groups=group)
    np.testing.assert_array_equal(parts.params_, whole.params_)
    parts.fit(X, y, groups=np.arange(120) // 3)  # another progress
    assert len(parts.history_["validation_loss"]) == 9
    assert parts._resume["progress"]["n_epochs"] == 3


def test_groups_change_nothing_where_no_rows_are_held_out():
    X, y = make_table()
    group = np.arange(120) // 4
    for settings in ({"early_stopping": False}, {"X_val": X[:20], "y_val": y[:20]}):
        given = {name: settings.pop(name) for name in ("X_val", "y_val") if name in settings}
        one = ensemble(**settings).fit(X, y, **given)
        other = ensemble(**settings).fit(X, y, **given, groups=group)
        np.testing.assert_array_equal(one.params_, other.params_)


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([0] * 119, "inconsistent"),
        ([0] * 119 + [None], "groups contains missing labels, the first in row 119"),
        ([0.0] * 100 + [np.nan] * 20, "first in row 100"),
        ([pd.NA] + ["a"] * 119, "first in row 0"),
        (
            np.ma.array(np.arange(120), mask=np.arange(120) == 7),
            "groups contains missing labels, the first in row 7",
        ),
        ([[0, 1]] * 120, r"one label for each row, got an array of shape \(120, 2\)"),
        ([0] * 120, "of 1 group"),
    ],
    ids=["length", "None", "NaN", "NA", "masked", "2D", "one"],
)
def test_groups_that_cannot_be_used_are_refused(groups, words):
    model = ensemble()
    with pytest.raises(ValueError, match=words):
        model.fit(*make_table(), groups=groups)
    assert not hasattr(model, "params_")


def make_chance(seed, n_samples, n_levels=1_000):
    """Return numbers that the label depends on, and a category that it does not."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.normal(size=(n_samples, 3)), columns=["x_1", "x_2", "x_3"])
    logits = table["x_1"] + table["x_2"] * table["x_3"]
    levels = rng.integers(n_levels, size=n_samples).astype(str)
    return table, (rng.random(n_samples) < expit(logits)).astype(int), pd.Categorical(levels)


@pytest.mark.parametrize("seed", range(3))
def test_a_category_of_chance_tells_nothing_of_rows_held_out(seed):
    table, y, category = make_chance(seed, 4_000)
    y = np.random.default_rng(seed + 100).permutation(y)  # the numbers only tell rows apart
    model = DeepBinaryClassifier(random_state=0).fit(table.assign(c=category), y)
    n_positive = y.sum()
    deviation = np.sqrt((len(y) + 1) / (12 * n_positive * (len(y) - n_positive)))
    assert abs(roc_auc_score(y, model.oof_decision_function_) - 0.5) < 3 * deviation


@pytest.mark.slow
def test_a_category_of_chance_costs_little():
    """On average over four tables, of the log-loss on rows of their own."""
    logs = []
    for seed in range(4):
        table, y, category = make_chance(seed, 8_000)
        tables = table, table.assign(c=category)
        models = [DeepBinaryClassifier(random_state=0).fit(X[:4_000], y[:4_000]) for X in tables]
        predictions = zip(models, tables, strict=True)
        losses = [log_loss(y[4_000:], m.predict_proba(X[4_000:])) for m, X in predictions]
        logs.append(np.log(losses[1] / losses[0]))
    assert np.mean(logs) < np.log(1.005)
