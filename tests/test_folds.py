"""Members hold out rows of their own: they learn nothing from these, and are judged by them."""

import numpy as np
import pytest
import scipy.sparse as sp
from data import classifier, make_table, make_weights
from scipy.special import expit
from sklearn.metrics import log_loss

SETTINGS = {
    "one batch": {"solver": "gd", "learning_rate_init": 0.3},
    "mini-batches": {"batch_size": 16},
    "without shuffling": {"batch_size": 16, "shuffle": False},
    "batch normalisation": {"solver": "gd", "normalization": "batch"},
    "batch normalisation in mini-batches": {"batch_size": 16, "normalization": "batch"},
    "dropout": {"solver": "gd", "dropout": 0.2},
    "average": {"batch_size": 16, "ema_decay": 0.5, "dropout": 0.2},
    "focal": {"batch_size": 100, "loss": "focal"},
}
settings = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
weighted = pytest.mark.parametrize("is_weighted", [False, True])


class LaterIsBetter:
    """A scorer that has all epochs be trained, and the last weights be kept."""

    def __init__(self):
        self.n_calls = 0

    def __call__(self, estimator, X, y, sample_weight=None):
        self.n_calls += 1
        return float(self.n_calls)


def ensemble(**parameters):
    """Return a classifier whose members hold out rows, and which keeps its last weights."""
    settings = {"n_members": 5, "early_stopping": True, "max_iter": 3, "alpha": 0.0}
    return classifier(**{**settings, "scoring": LaterIsBetter(), **parameters})


def logits_of_members(model, X):
    """Return the logits by tanh networks of one hidden layer, one row for each member."""
    (W, W_out), (b, b_out) = model.coefs_, model.intercepts_
    hidden = np.tanh(X @ W + b[:, np.newaxis])
    return (hidden @ W_out + b_out[:, np.newaxis])[:, :, 0]


def holders(X, y, weight=None, *, solver="adam", batch_size=32, **_):
    """Return which one of five members holds out each row, by its logit out of fold.

    That depends on the order of rows, and so on whether all are one batch; on nothing else.
    """
    model = ensemble(max_iter=1, solver=solver, batch_size=batch_size).fit(X, y, weight)
    distance = np.abs(logits_of_members(model, X) - model.oof_decision_function_)
    found = distance.argmin(axis=0)
    assert distance.min(axis=0).max() < 1e-9
    return found


@settings
@weighted
def test_member_learns_nothing_from_the_rows_that_it_holds_out(setting, is_weighted):
    """Other x in their place change nothing for it, to the last bit; for others they do.

    The first column, which rows of one batch are sorted by, stays.
    """
    X, y = make_table(80)
    weight = make_weights(80) + 0.5 if is_weighted else None
    other = X.copy()
    other[holders(X, y, weight, **setting) == 1, 1:] *= -3.0
    one, two = (ensemble(**setting).fit(x, y, weight).params_ for x in (X, other))
    np.testing.assert_array_equal(one[1], two[1])
    assert all((one[member] != two[member]).any() for member in (0, 2, 3, 4))


@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
@pytest.mark.parametrize("max_grad_norm", [None, 0.1])
@weighted
def test_member_learns_in_one_batch_what_it_would_from_its_own_rows_alone(
    is_weighted, normalization, max_grad_norm
):
    """Its weights of zero and its scale stand for a table without the rows held out."""
    X, y = make_table(80)
    weight = make_weights(80) + 0.5 if is_weighted else None
    parameters = {"solver": "gd", "learning_rate_init": 0.2, "max_iter": 5}
    parameters |= {"normalization": normalization, "max_grad_norm": max_grad_norm}
    own = holders(X, y, weight, solver="gd") != 0
    together = ensemble(**parameters).fit(X, y, weight)
    alone = classifier(alpha=0.0, **parameters)
    alone.fit(X[own], y[own], weight[own] if is_weighted else None)
    n_trained = alone.params_.shape[1] - (16 if normalization == "batch" else 0)
    np.testing.assert_allclose(
        together.params_[0, :n_trained], alone.params_[0, :n_trained], rtol=1e-9, atol=1e-12
    )


@settings
def test_sparse_rows_train_as_dense_ones(setting):
    X, y = make_table(80)
    X[np.abs(X) < 0.5] = 0.0
    weight = make_weights(80) + 0.5
    dense, sparse = (ensemble(**setting).fit(x, y, weight) for x in (X, sp.csr_array(X)))
    if setting.get("batch_size", 100) < 80:  # else rows are merged in another order
        np.testing.assert_allclose(sparse.params_, dense.params_, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(
            sparse.oof_decision_function_, dense.oof_decision_function_, rtol=1e-6, atol=1e-8
        )


@pytest.mark.parametrize(("n_members", "n_own"), [(2, 64), (4, 64), (5, 64), (8, 70), (12, 72)])
@pytest.mark.parametrize("batch_size", [16, 80])
def test_rows_that_a_member_learns_from_are_counted(n_members, n_own, batch_size):
    X, y = make_table(80)
    y[:] = np.arange(80) % 2
    model = ensemble(n_members=n_members, batch_size=batch_size).fit(X, y)
    assert model.t_ == 3 * n_own


@pytest.mark.parametrize("n_members", [3, 5, 12])
@weighted
def test_loss_of_each_epoch_counts_each_row_once_by_those_that_hold_it_out(n_members, is_weighted):
    """Three members hold out three fifths each, so that some rows have two; of 12 some share."""
    X, y = make_table(80)
    weight = make_weights(80) + 0.5 if is_weighted else None
    parameters = {"n_members": n_members, "validation_fraction": 0.6, "batch_size": 16}
    whole = ensemble(**parameters, max_iter=4, scoring="loss").fit(X, y, weight)
    for epoch in range(1, 5):
        part = ensemble(**parameters, max_iter=epoch).fit(X, y, weight)
        members, oof = logits_of_members(part, X), part.oof_decision_function_
        losses = -np.log(expit(np.where(y == 1, members, -members)))
        by_row = [np.mean(losses[find_holders(members[:, i], oof[i]), i]) for i in range(80)]
        expected = np.average(by_row, weights=weight)
        assert whole.history_["validation_loss"][epoch - 1] == pytest.approx(expected, rel=1e-6)


def find_holders(logits, oof):
    """Return the members whose mean probability is that of a logit."""
    sets = [
        np.flatnonzero([(s >> m) & 1 for m in range(len(logits))])
        for s in range(1, 2 ** min(len(logits), 3))
    ]
    if len(logits) >= 5:
        sets = [np.arange(m, len(logits), min(len(logits), 10)) for m in range(len(logits))]
    return min(sets, key=lambda members: abs(expit(logits[members]).mean() - expit(oof)))


def test_members_keep_the_epoch_that_is_best_for_all_of_them_together():
    X, y = make_table(80)
    parameters = {"hidden_layer_sizes": (30,), "batch_size": 16, "learning_rate_init": 0.1}
    whole = ensemble(**parameters, max_iter=14, scoring="loss").fit(X, y)
    parts = [ensemble(**parameters, max_iter=n).fit(X, y) for n in range(1, 15)]
    losses = [log_loss(y, expit(part.oof_decision_function_)) for part in parts]
    np.testing.assert_allclose(whole.history_["validation_loss"], losses, rtol=1e-9)
    assert 1 < whole.best_iter_ < 14, "the best epoch should lie in between"
    assert whole.best_iter_ == 1 + np.argmax(whole.validation_scores_)
    np.testing.assert_array_equal(whole.params_, parts[whole.best_iter_ - 1].params_)


def test_rows_held_out_need_a_weight_that_counts():
    X, y = make_table(100)
    model = ensemble(n_members=2, dtype="float32").fit(X, y)
    weight = np.where(np.isfinite(model.oof_decision_function_), 1e-60, 1.0)
    with pytest.raises(ValueError, match="sample_weight of all rows that are held out"):
        model.fit(X, y, weight)


def test_rows_to_learn_from_need_a_weight_that_counts():
    """One member of five holds out the row that has all the weight."""
    X, y = make_table(100)
    weight = np.where(np.arange(100) == 7, 1e60, 1.0)
    with pytest.raises(ValueError, match="sample_weight of all rows to learn from"):
        ensemble(dtype="float32").fit(X, y, weight)
    assert np.isfinite(ensemble(dtype="float64").fit(X, y, weight).params_).all()


def test_row_that_is_held_out_by_nobody_is_learned_from_by_all():
    X, y = make_table(100)
    model = ensemble(n_members=2).fit(X, y)
    is_known = np.isfinite(model.oof_decision_function_)
    other = X.copy()
    other[np.flatnonzero(~is_known)[0]] *= -3.0
    changed = ensemble(n_members=2).fit(other, y)
    assert (changed.params_ != model.params_).any(axis=1).all()


def test_single_network_leaves_rows_in_order_where_all_that_it_learns_from_are_one_batch():
    """The batch has no room for those that are held out, too."""
    X, y = make_table(80)
    settings = {"n_members": 1, "validation_fraction": 0.2, "dropout": 0.3, "batch_size": 70}
    one, other = (ensemble(shuffle=shuffle, **settings).fit(X, y) for shuffle in (False, True))
    np.testing.assert_array_equal(one.params_, other.params_)
