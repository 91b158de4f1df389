"""Ramps are placed where labels change: by greedy cuts, for each member by its own rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.tree import DecisionTreeClassifier
from strategies import seeds
from trainings import even_folds

from skdnn import DeepBinaryClassifier
from skdnn.estimator.architecture import Architecture, InputColumns, build_network
from skdnn.training.bins import MOST_FEATURES, MOST_ROWS, find_cuts, fit_bins
from skdnn.training.folds import IN_NO_FOLD
from skdnn.training.random_streams import RandomStreams
from skdnn.training.rows import Rows


def random_rows(seed, n_rows=400, n_features=3, n_values=30):
    """Return rows of whole numbers with labels that depend on the first of them, with noise."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, n_values, (n_rows, n_features)).astype(float)
    y = (np.sin(X[:, 0]) + rng.normal(size=n_rows) > 0.3).astype(float)
    y[:2] = 0.0, 1.0
    return Rows(X, y)


def cuts_of(rows, n_bins=5, folds=None, members=(0,)):
    """Return the cuts of all features."""
    return find_cuts(rows, slice(0, rows.X.shape[1]), n_bins, folds, list(members))


def purity(x, y, cuts):
    """Return the sum of p^2 / n over the bins between some cuts."""
    of_bin = np.digitize(x, cuts[np.isfinite(cuts)][1:-1])
    n, p = np.bincount(of_bin), np.bincount(of_bin, y)
    return (p[n > 0] ** 2 / n[n > 0]).sum()


@given(seed=seeds, n_bins=st.integers(2, 9))
def test_cuts_are_those_of_a_decision_tree_on_one_feature(seed, n_bins):
    """As good as scikit-learn's: which of two equally good cuts comes first is a matter of taste.

    With few values all of them are candidates. A tie broken otherwise may lead elsewhere later, but
    the tree's first cut gains as much as ours.
    """
    rows = random_rows(seed)
    for n_leaves in (2, n_bins):
        cuts = cuts_of(rows, n_leaves)[0]
        for x, of_feature in zip(rows.X.T, cuts, strict=True):
            tree = DecisionTreeClassifier(max_leaf_nodes=n_leaves, random_state=0)
            inner = tree.fit(x[:, np.newaxis], rows.y).tree_
            thresholds = np.sort(inner.threshold[inner.feature >= 0])
            theirs = purity(x, rows.y, np.array([x.min(), *thresholds, x.max()]))
            ours = purity(x, rows.y, of_feature)
            assert ours == pytest.approx(theirs, rel=1e-9 if n_leaves == 2 else 0.02)


@given(seed=seeds, n_bins=st.integers(1, 9))
def test_cuts_rise_from_the_least_value_to_the_greatest_with_rows_between_them(seed, n_bins):
    rows = random_rows(seed)
    for x, cuts in zip(rows.X.T, cuts_of(rows, n_bins)[0], strict=True):
        found = cuts[np.isfinite(cuts)]
        assert np.isnan(cuts[len(found) :]).all()
        assert found[0] < x.min()
        assert found[-1] > x.max()
        assert found[-1] - found[0] < 1.01 * np.ptp(x)
        assert (np.diff(found) > 0.0).all()
        assert np.histogram(x, found)[0].min() > 0


@given(seed=seeds)
def test_a_row_of_weight_k_cuts_as_k_rows(seed):
    rows, rng = random_rows(seed), np.random.default_rng(seed)
    times = rng.integers(0, 4, len(rows))
    times[:2] = 1
    weighted = cuts_of(Rows(rows.X[times > 0], rows.y[times > 0], times[times > 0].astype(float)))
    repeated = cuts_of(Rows(np.repeat(rows.X, times, axis=0), np.repeat(rows.y, times)))
    np.testing.assert_array_equal(weighted, repeated)


def test_the_fold_of_a_member_has_no_say_in_its_cuts():
    rows, rng = random_rows(0), np.random.default_rng(1)
    folds = even_folds(rng.integers(IN_NO_FOLD, 3, len(rows)).astype(np.int8), 3, 3)
    cuts = cuts_of(rows, folds=folds, members=range(3))
    lied = rows.y.copy()
    lied[folds.of_row == 1] = 1.0 - lied[folds.of_row == 1]
    told = cuts_of(Rows(rows.X, lied), folds=folds, members=range(3))
    np.testing.assert_array_equal(told[1], cuts[1])
    for member in (0, 2):
        assert (told[member, 0] != cuts[member, 0]).any()
    seen = ~folds.is_held_out(1)
    alone = cuts_of(Rows(rows.X[seen], rows.y[seen]))
    # The ends are those of all rows, and of all values those of the other folds too.
    np.testing.assert_array_equal(alone[0, 0], cuts[1, 0])


def test_nothing_is_cut_where_nothing_differs():
    X = np.column_stack([np.full(50, 7.0), np.arange(50.0)])
    one_class = cuts_of(Rows(X, np.ones(50)))[0]
    assert np.isnan(one_class[0]).all()
    np.testing.assert_allclose(one_class[1], [0.0, 49.0, *[np.nan] * 4], rtol=0, atol=0.1)
    both = cuts_of(Rows(X, np.arange(50) % 2.0))[0]
    assert np.isnan(both[0]).all()


def test_large_tables_are_cut_by_some_rows_of_all_parts():
    """The step at a third of the table's length is found, whichever rows are taken."""
    x = np.arange(3 * MOST_ROWS, dtype=float)
    cuts = cuts_of(Rows(x[:, np.newaxis], (x > MOST_ROWS).astype(float)), n_bins=2)[0, 0]
    assert cuts[1] == pytest.approx(MOST_ROWS, rel=0.02)


def mixed_network(n_features, n_members=3):
    columns = InputColumns(n_features, n_features, embedding="mixed")
    shape = {"hidden_layer_sizes": (4,), "activation": ("relu",), "dropout": (0.0,)}
    return build_network(Architecture(columns, **shape, n_members=n_members))


def embedding_of(network, params):
    """Return the parameters of the embedding by their short names."""
    names = [name for name in network.layout.entries if ".numericembedding_1." in name]
    return {name.rpartition(".")[2]: network.layout.view(params, name) for name in names}


@pytest.mark.parametrize("n_features", [2, MOST_FEATURES + 3])
def test_ramps_rise_from_one_cut_to_the_next(n_features):
    rows, network = random_rows(0, n_features=n_features), mixed_network(n_features)
    params = network.init_params(RandomStreams.spawn(0, range(3)).initialization)
    before = params.copy()
    fit_bins(network, params, rows, folds=None)
    w, b = (embedding_of(network, params)[name][1] for name in "wb")
    cuts = cuts_of(rows, w.shape[1])[0]
    for feature in (0, n_features - 1):
        low, high = cuts[feature, :-1], cuts[feature, 1:]
        is_ramp = np.isfinite(high)
        for end, level in ((low, 0.0), (high, 1.0)):
            at_end = w[feature] * end + b[feature]
            np.testing.assert_allclose(at_end[is_ramp], level, rtol=0, atol=1e-9)
        assert (w[feature][~is_ramp] == 0.0).all()
        assert (b[feature][~is_ramp] == -1.0).all()
    for name, values in embedding_of(network, params).items():
        unchanged = slice(None) if name not in "wb" else slice(0, None, 2)
        np.testing.assert_array_equal(
            values[unchanged], embedding_of(network, before)[name][unchanged]
        )


def test_a_fit_places_ramps_and_going_on_leaves_them():
    """The members with ramps know a step at 0.1 from the start; a second fit goes on from there."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    y = X[:, 0] > 0.1
    options = {"max_iter": 1, "learning_rate_init": 1e-9, "warm_start": True, "random_state": 0}
    model = DeepBinaryClassifier(**options).fit(X, y)
    assert model.resolved_params_["numeric_embedding"] == "mixed"
    of_layer = embedding_of(model._predictor.network, model.params_)
    assert of_layer["is_ramp"].ravel().tolist() == [0.0, 1.0] * 4
    step = model.encoder_.transform([[0.1, 0.0]])[0, 0]
    ramps = of_layer["is_ramp"][:, 0] == 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        starts = -(of_layer["b"] / of_layer["w"])[ramps, 0]
    assert (np.nanmin(np.abs(starts - step), axis=1) < 0.05).all()
    w = of_layer["w"].copy()
    model.fit(X, ~y)
    after = embedding_of(model._predictor.network, model.params_)["w"]
    np.testing.assert_allclose(after, w, rtol=1e-6, atol=1e-6)


def test_partial_fit_places_ramps_by_its_first_part():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    y = (X[:, 0] > 0.1).astype(int)
    model = DeepBinaryClassifier(learning_rate_init=1e-9, random_state=0)
    model.partial_fit(X, y, classes=[0, 1])
    w = embedding_of(model._predictor.network, model.params_)["w"].copy()
    assert (w[1] != w[1, :, :1]).any()
    model.partial_fit(X[:50], 1 - y[:50])
    after = embedding_of(model._predictor.network, model.params_)["w"]
    np.testing.assert_allclose(after, w, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("n_members", [1, 2, 8])
@pytest.mark.parametrize("embedding", ["periodic", "piecewise"])
def test_one_kind_can_be_asked_for(embedding, n_members, early_stopping):
    X, y = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) % 2
    model = DeepBinaryClassifier(
        numeric_embedding=embedding,
        n_members=n_members,
        early_stopping=early_stopping,
        n_iter_no_change=1,
        learning_rate_init=1e-9,
        max_iter=5,
        random_state=0,
    ).fit(X, y)
    kinds = embedding_of(model._predictor.network, model.params_)["is_ramp"]
    assert (kinds == (embedding == "piecewise")).all()
