"""Piecewise-linear functions begin where labels change: by greedy cuts, by a member's own rows."""

import numpy as np
import pytest
from data import classifier
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeClassifier

from skdnn import DeepBinaryClassifier
from skdnn.nn import Dense, NumericEmbedding

STANDSTILL = {"solver": "gd", "learning_rate_init": 1e-300, "max_iter": 1, "alpha": 0.0}


def random_rows(seed, n_rows=400, n_features=3, n_values=30):
    """Return rows of whole numbers with labels that depend on the first of them, with noise."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, n_values, (n_rows, n_features)).astype(float)
    y = (np.sin(X[:, 0]) + rng.normal(size=n_rows) > 0.3).astype(int)
    y[:2] = 0, 1
    return X, y


def functions_of(model):
    """Return w and b of the functions of numbers: (n_members, n_features, n_functions)."""
    layout = model._predictor.network.layout
    [name] = [name for name in layout.columns if name.endswith("numericembedding_1.w")]
    return layout.view(model.params_, name), layout.view(model.params_, name[:-1] + "b")


def fit_cuts(X, y, sample_weight=None, **parameters):
    """Return the cuts of each member and feature, from the least to the greatest."""
    settings = {"encoder": None, "numeric_embedding": "piecewise", "dtype": "float64"}
    model = classifier((2,), **{**STANDSTILL, **settings, **parameters})
    return cuts_of(model.fit(X, y, sample_weight))


def cuts_of(model):
    """Return lists of cuts by member and feature; a function rises from one cut to the next."""
    cuts = []
    for w, b in zip(*functions_of(model), strict=True):
        of_member = []
        for slopes, offsets in zip(w, b, strict=True):
            is_used = slopes != 0.0
            assert (offsets[~is_used] == -1.0).all()  # a function without a place is zero
            low = -offsets[is_used] / slopes[is_used]
            high = (1.0 - offsets[is_used]) / slopes[is_used]
            np.testing.assert_allclose(low[1:], high[:-1], rtol=0, atol=1e-9)
            of_member.append([*low, *high[-1:]])
        cuts.append(of_member)
    return cuts


def purity(x, y, cuts):
    """Return the sum of p^2 / n over the bins between some cuts."""
    of_bin = np.digitize(x, cuts[1:-1])
    n, p = np.bincount(of_bin), np.bincount(of_bin, y)
    return (p[n > 0] ** 2 / n[n > 0]).sum()


@given(seed=st.integers(0, 2**32 - 1))
def test_cuts_are_those_of_a_decision_tree_on_one_feature(seed):
    """As good as scikit-learn's: which of two equally good cuts comes first is a matter of taste.

    A tie broken otherwise may lead elsewhere later.
    """
    X, y = random_rows(seed)
    [cuts] = fit_cuts(X, y)
    for x, of_feature in zip(X.T, cuts, strict=True):
        tree = DecisionTreeClassifier(max_leaf_nodes=16, random_state=0)
        inner = tree.fit(x[:, np.newaxis], y).tree_
        thresholds = np.sort(inner.threshold[inner.feature >= 0])
        theirs = purity(x, y, np.array([x.min(), *thresholds, x.max()]))
        assert purity(x, y, np.array(of_feature)) == pytest.approx(theirs, rel=0.02)


@given(seed=st.integers(0, 2**32 - 1), n_values=st.integers(3, 30))
def test_cuts_rise_from_the_least_value_to_the_greatest_with_rows_between_them(seed, n_values):
    X, y = random_rows(seed, n_values=n_values)
    for x, found in zip(X.T, fit_cuts(X, y)[0], strict=True):
        assert found[0] < x.min()
        assert found[-1] > x.max()
        assert found[-1] - found[0] < 1.01 * np.ptp(x)
        assert (np.diff(found) > 0.0).all()
        assert np.histogram(x, found)[0].min() > 0


@given(seed=st.integers(0, 2**32 - 1))
def test_a_row_of_weight_k_cuts_as_k_rows(seed):
    X, y = random_rows(seed)
    times = np.random.default_rng(seed).integers(1, 4, len(y))
    weighted = fit_cuts(X, y, times)[0]
    repeated = fit_cuts(np.repeat(X, times, axis=0), np.repeat(y, times))[0]
    for one, other in zip(weighted, repeated, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)


def test_rows_that_a_member_holds_out_have_no_say_in_its_cuts():
    """Members that hold out rows differ; and what labels say by chance is not known out of fold."""
    X, y = random_rows(0)
    together = fit_cuts(X, y, n_members=5)
    assert all(cuts == together[0] for cuts in together)
    apart = fit_cuts(X, y, n_members=5, early_stopping=True)
    assert len({str(cuts[0]) for cuts in apart}) == 5
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 3)), rng.integers(0, 2, 400)
    settings = {"encoder": None, "numeric_embedding": "piecewise", "early_stopping": True}
    model = classifier((8,), n_members=5, max_iter=10, **settings).fit(X, y)
    known = roc_auc_score(y, model.predict_proba(X)[:, 1])
    assert roc_auc_score(y, model.oof_decision_function_) < known - 0.05


def test_nothing_is_cut_where_nothing_differs():
    X = np.column_stack([np.full(50, 7.0), np.arange(50.0)])
    constant, other = fit_cuts(X, np.arange(50) % 2)[0]
    assert constant == []
    assert len(other) > 2


def test_large_tables_are_cut_by_some_rows_of_all_parts():
    """The step at a third of the table's length is found, whichever rows are taken."""
    x = np.arange(60_000, dtype=float)
    cuts = fit_cuts(x[:, np.newaxis], x > 20_000)[0][0]
    assert np.abs(np.array(cuts) - 20_000).min() < 0.02 * 20_000


def test_many_features_are_cut_each_as_it_is_among_few():
    X, y = random_rows(0, n_features=70)
    many = fit_cuts(X, y)[0]
    assert many[66:] == fit_cuts(X[:, 66:], y)[0]


def test_a_fit_fits_the_bins_and_going_on_leaves_them():
    """Members with bins know a step at 0.1 from the start; a second fit goes on from there."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    y = X[:, 0] > 0.1
    options = {"max_iter": 1, "learning_rate_init": 1e-9, "warm_start": True, "random_state": 0}
    model = DeepBinaryClassifier(**options).fit(X, y)
    assert model.resolved_params_["numeric_embedding"] == "mixed"
    w, b = (values.copy() for values in functions_of(model))
    step = model.encoder_.transform([[0.1, 0.0]])[0, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        starts = -(b / w)[1::2, 0]
    assert (np.nanmin(np.abs(starts - step), axis=1) < 0.05).all()
    model.fit(X, ~y)
    np.testing.assert_allclose(functions_of(model)[0], w, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("width", [2, 3, 5])
def test_functions_behind_another_layer_are_not_fitted_to_columns_of_the_table(width):
    X, y = random_rows(0, n_values=3)
    layers = (Dense(width), NumericEmbedding(6, 2, "piecewise_linear"))
    w, _ = functions_of(classifier(layers, encoder=None, **STANDSTILL).fit(X, y))
    assert (w == 1.0).all()  # side by side from -3 to 3, as at first
    w, _ = functions_of(classifier(layers[1:], encoder=None, **STANDSTILL).fit(X, y))
    assert not (w == 1.0).all()


def test_partial_fit_fits_the_bins_by_its_first_part():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    y = (X[:, 0] > 0.1).astype(int)
    model = DeepBinaryClassifier(learning_rate_init=1e-9, random_state=0)
    w = functions_of(model.partial_fit(X, y, classes=[0, 1]))[0].copy()
    assert (w[1] != w[1, :, :1]).any()
    model.partial_fit(X[:50], 1 - y[:50])
    np.testing.assert_allclose(functions_of(model)[0], w, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("n_members", [1, 2, 8])
@pytest.mark.parametrize("embedding", ["periodic", "piecewise", "mixed"])
def test_kinds_of_functions_can_be_asked_for(embedding, n_members, early_stopping):
    """Bins follow one another, periods lie anywhere; members take turns if both are wanted."""
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
    for member, (w, b) in enumerate(zip(*functions_of(model), strict=True)):
        are_piecewise = [
            np.allclose(
                -b[i][w[i] > 1e-3][1:] / w[i][w[i] > 1e-3][1:],
                (1.0 - b[i][w[i] > 1e-3][:-1]) / w[i][w[i] > 1e-3][:-1],
                atol=1e-3,
            )
            for i in range(2)
        ]
        expected = {"periodic": False, "piecewise": True, "mixed": member % 2 == 1}[embedding]
        assert are_piecewise == [expected] * 2
