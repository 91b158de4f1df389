"""Contributions of features to the logit, and importances: by other ways of computing them."""

import pickle
import sys
import warnings
from dataclasses import FrozenInstanceError
from time import process_time

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from data import classifier, make_people, make_table
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from scipy.special import expit
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import RFE, SelectFromModel
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import skdnn
from skdnn import DeepBinaryClassifier, Explanation
from skdnn.nn import (
    Activation,
    BatchNorm,
    Branch,
    CategoricalEmbedding,
    Concatenate,
    Dense,
    NumericEmbedding,
)

PEOPLE, ANSWERS = make_people()
KNOWN, _ = make_people(25, seed=1)
STRANGE = KNOWN.copy()  # with levels that fit has not seen, and more gaps
STRANGE.loc[2, "place"] = "elsewhere"
STRANGE.loc[3, "place"] = None
STRANGE.loc[4, "income"] = np.nan
STRANGE["color"] = STRANGE["color"].cat.add_categories(["violet"])
STRANGE.loc[5, "color"] = "violet"

SETTINGS = {
    "one member": {"n_members": 1},
    "members": {"n_members": 4},
    "periodic": {"numeric_embedding": "periodic", "n_members": 2},
    "no embedding of numbers": {"numeric_embedding": None, "n_members": 2},
    "no hidden layer": {"hidden_layer_sizes": (), "n_members": 2},
    "relu": {"activation": "relu", "n_members": 2},
    "normalised": {"normalization": "batch", "residual": True, "hidden_layer_sizes": (8, 8)},
    "calibrated": {"n_members": 5, "early_stopping": True, "calibration": "temperature"},
    "float64": {"dtype": "float64", "n_members": 2},
}
FITTED: dict[str, DeepBinaryClassifier] = {}


def encoded(**parameters):
    return classifier(**{"encoder": "auto", "max_iter": 8, "learning_rate_init": 0.03} | parameters)


def fit_people(**parameters):
    """Return a model of people, fitted once for all tests, which leave it as it is."""
    key = repr(sorted(parameters.items()))
    if key not in FITTED:
        FITTED[key] = encoded(**parameters).fit(PEOPLE, ANSWERS)
    return FITTED[key]


def assert_adds_up(model, rows, background=None):
    explanation = model.explain(rows, background)
    total = explanation.values.sum(axis=1) + explanation.base_values
    assert_allclose(total, model.decision_function(rows), rtol=0, atol=2e-5)
    return explanation


# Contributions.


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_contributions_and_base_value_are_the_logit(settings):
    model = fit_people(**settings)
    for background in (None, PEOPLE[:30], STRANGE):
        explanation = assert_adds_up(model, STRANGE, background)
        assert explanation.values.shape == STRANGE.shape
        assert np.abs(explanation.values[:, 2]).max() > 0.1
        assert_allclose(explanation.values[:, 5], 0.0, atol=1e-6)  # a column of one value
    assert np.ptp(explanation.base_values) == 0.0
    mean = model.decision_function(STRANGE).mean()
    assert_allclose(explanation.base_values, mean, rtol=0, atol=2e-5)


@pytest.mark.parametrize("background", [PEOPLE[:1], PEOPLE[:9]], ids=["one row", "9 rows"])
def test_contributions_to_a_sum_are_what_each_feature_changes(background):
    """Without hidden layers and members, the logit is a sum over features of any kind."""
    model = fit_people(hidden_layer_sizes=(), n_members=1, dtype="float64")
    values = model.explain(STRANGE, background).values
    for i, name in enumerate(STRANGE):
        gains = []
        for _, other in background.iterrows():
            changed = STRANGE.astype(object).assign(**{name: other[name]})
            changed = changed.astype({"income": float, "half": float, "same": float})
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a level that no row of fit has
                gains.append(model.decision_function(STRANGE) - model.decision_function(changed))
        assert_allclose(values[:, i], np.mean(gains, axis=0), rtol=0, atol=1e-9)
    assert (np.abs(values[:, :5]).max(axis=0) > 1e-3).all()


@pytest.mark.parametrize("n_members", [1, 3])
def test_contributions_are_integrated_gradients_in_the_mean_over_the_background(n_members):
    X, y = make_table()
    model = classifier(n_members=n_members, max_iter=15).fit(X, y)
    expected = [model.input_gradients(X[:9], method="integrated", baseline=row) for row in X[20:32]]
    explanation = assert_adds_up(model, X[:9], X[20:32])
    assert_allclose(explanation.values, np.mean(expected, axis=0), rtol=0, atol=0.01)
    assert np.abs(explanation.values).max() > 0.5


def test_without_a_background_rows_are_compared_with_the_median_row():
    X, y = make_table()
    model = encoded(n_members=2).fit(X * 1e3 + 5.0, y)
    median = np.quantile(X * 1e3 + 5.0, 0.5, axis=0, method="inverted_cdf")[np.newaxis]
    first, second = (model.explain(X[:9] * 1e3, background) for background in (None, median))
    assert_allclose(first.values, second.values, rtol=0, atol=1e-5)
    assert_allclose(first.base_values, model.decision_function(median)[0], rtol=0, atol=1e-5)
    plain = classifier().fit(X, y)
    assert_allclose(
        plain.explain(X[:9]).base_values, plain.decision_function(np.zeros((1, 6)))[0], rtol=1e-9
    )


def test_rows_of_the_background_contribute_nothing():
    model = fit_people(n_members=2)
    values = model.explain(PEOPLE[:5], PEOPLE[:1]).values
    assert_allclose(values[0], 0.0, atol=1e-6)
    other = PEOPLE[:5].assign(place=PEOPLE["place"][0])
    values = model.explain(other, PEOPLE[:1]).values
    assert_allclose(values[:, 2], 0.0, atol=1e-6)
    assert np.abs(values[1:, 0]).min() > 1e-3


@pytest.mark.parametrize("background", [None, PEOPLE[:1], PEOPLE[:9]], ids=["no", "1 row", "9"])
@pytest.mark.parametrize("kind", ["periodic", "piecewise", None])
def test_features_of_equal_values_contribute_nothing_at_all(kind, background):
    model = fit_people(n_members=2, numeric_embedding=kind)
    for rows in (PEOPLE[:1], PEOPLE[:50]):
        assert (model.explain(rows, background).values[:, 5] == 0.0).all()


def test_rows_are_explained_by_themselves_whatever_the_order_of_the_background():
    model = fit_people(n_members=4)
    together = model.explain(PEOPLE[:30], PEOPLE[50:120]).values
    alone = model.explain(PEOPLE[7:8], PEOPLE[50:120].iloc[::-1]).values
    assert_allclose(alone[0], together[7], rtol=0, atol=1e-4)


def test_explaining_changes_nothing():
    model = fit_people(n_members=2)
    before, rows = model.params_.copy(), KNOWN.copy()
    first = model.explain(rows).values
    assert_array_equal(model.explain(rows).values, first)
    assert_array_equal(model.params_, before)
    pd.testing.assert_frame_equal(rows, KNOWN)


def test_embeddings_among_the_layers_of_the_user_are_seen_through():
    rng = np.random.default_rng(0)
    codes, numbers = rng.integers(5, size=(150, 1)), rng.normal(size=(150, 2))
    X, y = np.hstack([numbers, codes]), (codes[:, 0] % 2 + numbers[:, 0] > 0.5).astype(int)
    lookup = CategoricalEmbedding((5,), (3,))
    layers = Concatenate((Branch(2, (NumericEmbedding(4, 2),)), Branch(1, (lookup,))))
    model = classifier((layers, 8), max_iter=15, n_members=2).fit(X, y)
    assert np.abs(assert_adds_up(model, X[:20], X[50:60]).values[:, 2]).max() > 0.1


class Swish:
    """An activation with a function that cannot be traced: formulas run at once."""

    def value(self, z):
        return z * expit(z)

    def derivative(self, z):
        return expit(z) * (1.0 + z * expit(-z))


@pytest.mark.parametrize(
    ("hidden_layer_sizes", "activation"),
    [
        ((8,), Swish()),
        ((8, 4), "identity"),
        ((Dense(4), Dense(3)), "relu"),
        ((Activation("tanh"), Dense(5), BatchNorm(), Activation("silu"), 4), "tanh"),
    ],
    ids=["own activation", "identity", "linear layers", "own layers"],
)
def test_networks_of_all_kinds_are_explained(hidden_layer_sizes, activation):
    X, y = make_table()
    model = classifier(hidden_layer_sizes, activation, n_members=2).fit(X, y)
    explanation = assert_adds_up(model, X[:9], X[20:50])
    assert (np.abs(explanation.values).max(axis=0) > 1e-3).all()
    assert model.feature_importances_.all()


# What is returned.


def test_explanation_says_what_it_explains():
    explanation = fit_people(n_members=2).explain(KNOWN)
    assert isinstance(explanation, Explanation)
    assert Explanation is skdnn.Explanation
    assert explanation.feature_names == PEOPLE.columns.tolist()
    assert_array_equal(explanation.data[:, 2], KNOWN["place"])
    assert explanation.base_values.shape == (len(KNOWN),)
    with pytest.raises(FrozenInstanceError):
        explanation.values = None
    X, y = make_table(40)
    explanation = classifier(max_iter=1).fit(X, y).explain(X[:3].tolist())
    assert explanation.feature_names == ["x0", "x1", "x2", "x3", "x4", "x5"]
    assert_array_equal(explanation.data, X[:3])


def test_numbers_among_strings_stay_numbers():
    rows = [[1.5, "a"], [2.5, "b"]] * 20
    settings = {"encoder": "auto", "categorical_features": [1], "max_iter": 1}
    model = classifier(**settings).fit(rows, [0, 1] * 20)
    assert model.explain(rows[:2]).data.tolist() == rows[:2]


def test_tables_of_other_libraries_are_explained_likewise():
    frame = KNOWN.astype({"color": object}).where(KNOWN.notna(), None)
    table = pa.Table.from_pandas(frame.astype({"income": float, "half": float}))
    model = fit_people(n_members=2)
    expected = model.explain(KNOWN, PEOPLE[:5])
    for rows in (table, pl.from_arrow(table)):
        explanation = model.explain(rows, PEOPLE[:5])
        assert_allclose(explanation.values, expected.values, rtol=0, atol=1e-12)
        assert explanation.data.shape == KNOWN.shape


def test_explanation_becomes_one_of_shap():
    shap = pytest.importorskip("shap")
    explanation = fit_people(n_members=2).explain(KNOWN)
    theirs = explanation.to_shap()
    assert isinstance(theirs, shap.Explanation)
    for name in ("values", "base_values", "data"):
        assert getattr(theirs, name) is getattr(explanation, name)
    assert theirs.feature_names == explanation.feature_names


def test_without_shap_explanations_are_the_same_and_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "shap", None)
    explanation = fit_people(n_members=2).explain(KNOWN)
    assert type(explanation) is Explanation
    with pytest.raises(ImportError, match=r"pip install skdnn\[shap\]"):
        explanation.to_shap()


@pytest.mark.slow
def test_contributions_take_a_fiftieth_of_the_time_of_the_kernel_explainer():
    """At no more than its error, each measured against many more samples of the same kind."""
    shap = pytest.importorskip("shap")
    X, y = load_breast_cancer(return_X_y=True)
    model = DeepBinaryClassifier(n_members=2, random_state=0).fit(X[:400], y[:400])
    rows, background = X[450:454], X[:20]
    explainer = shap.KernelExplainer(model.decision_function, background)

    def kernel(n_samples):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return explainer.shap_values(rows, nsamples=n_samples, l1_reg=False, silent=True)

    def measure(explain, reference):
        start = process_time()
        values = explain()
        seconds = process_time() - start
        return seconds, np.sqrt(np.mean((values - reference) ** 2) / np.mean(reference**2))

    # For a single background row 64 points are taken, for many 8.
    alone = [model.explain(rows, other[np.newaxis]).values for other in background]
    known, theirs = np.mean(alone, axis=0), kernel(5_000)
    seconds, error = min(
        measure(lambda: model.explain(rows, background).values, known) for _ in range(3)
    )
    kernel_seconds, kernel_error = measure(lambda: kernel("auto"), theirs)
    print(f"explain {seconds:.3f} s {error:.1e}, kernel {kernel_seconds:.1f} s {kernel_error:.1e}")
    assert error < kernel_error
    assert seconds < kernel_seconds / 50
    assert np.corrcoef(known.ravel(), theirs.ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    ("encoder", "names"),
    [
        (StandardScaler(), ["income", "half"]),
        (
            make_column_transformer(
                (OneHotEncoder(sparse_output=True), ["half"]),
                (StandardScaler(), ["income"]),
                sparse_threshold=1.0,
            ),
            ["onehotencoder__half_1.5", "onehotencoder__half_2.5", "standardscaler__income"],
        ),
    ],
    ids=["scaler", "sparse columns"],
)
def test_encoders_of_the_user_are_explained_by_the_columns_that_they_make(encoder, names):
    frame = PEOPLE[["income", "half"]].fillna(3e4)
    model = encoded(encoder=encoder).fit(frame, ANSWERS)
    explanation = assert_adds_up(model, frame[:9], frame[30:50])
    assert explanation.feature_names == names
    assert explanation.data.shape == explanation.values.shape == (9, len(names))
    assert not hasattr(model, "feature_importances_")


def test_columns_of_a_table_encoder_within_another_have_their_names():
    encoder = make_column_transformer(
        (skdnn.TabularEncoder(), ["place", "income"]), (StandardScaler(), ["half"])
    )
    explanation = assert_adds_up(encoded(encoder=encoder).fit(PEOPLE, ANSWERS), KNOWN)
    assert explanation.feature_names[-1] == "tabularencoder__place"  # codes come last
    assert_array_equal(explanation.data[:, -1] % 1.0, 0.0)


# Refusals.


def test_rows_that_cannot_be_explained_are_refused():
    X, y = make_table()
    model = classifier(max_iter=1).fit(X, y)
    with pytest.raises(TypeError, match="dense data is required"):
        model.explain(csr_array(X))
    with pytest.raises(TypeError, match=r"background cannot be used.*dense data is required"):
        model.explain(X, csr_array(X))
    with pytest.raises(ValueError, match="X has 5 features"):
        model.explain(X[:, 1:])
    with pytest.raises(ValueError, match=r"background cannot be used.*X has 5 features"):
        model.explain(X, X[:, 1:])
    with pytest.raises(ValueError, match="background cannot be used"):
        model.explain(X, X[:0])
    with pytest.raises(ValueError, match="NaN"):
        model.explain(np.full_like(X, np.nan))
    with pytest.raises(NotFittedError):
        classifier().explain(X)


def test_models_of_sparse_tables_explain_dense_rows():
    X, y = make_table()
    X = np.where(np.abs(X) < 1.0, 0.0, 300.0 * X)
    model = encoded(max_iter=8).fit(csr_array(X), y)
    assert_adds_up(model, X[:9], X[20:40])
    assert not hasattr(model, "feature_importances_")


def test_contributions_that_do_not_add_up_are_warned_of():
    X, y = make_table()
    model = classifier((32, 32), "tanh", max_iter=2).fit(X, y)
    model.params_ *= 1e3  # nearly a step
    with pytest.warns(UserWarning, match="contributions of .* of 120 rows miss .* by "):
        explanation = model.explain(X)
    rest = explanation.values.sum(axis=1) + explanation.base_values - model.decision_function(X)
    assert np.abs(rest).max() > 1.0
    assert np.abs(rest).min() < 1e-6


# Importances.


def test_importances_are_about_the_mean_absolute_contributions():
    for parameters in ({"n_members": 2}, SETTINGS["calibrated"]):
        model = fit_people(**parameters)
        importances = model.feature_importances_
        contributions = np.abs(model.explain(PEOPLE, PEOPLE[::4]).values).mean(axis=0)
        assert importances.shape == (6,)
        assert_allclose(importances, contributions, rtol=0.25, atol=0.02)


def test_features_of_no_influence_are_of_no_importance():
    X, y = make_table()
    X[:, 1] = 3.0  # says nothing, though weights are multiplied by it
    model = classifier(n_members=2, max_iter=15).fit(X, y)
    for W in model.coefs_[0]:
        W[3] = 0.0
    importances = model.feature_importances_
    assert_allclose(importances[[1, 3]], 0.0, atol=1e-6)
    assert (importances[[0, 2, 4, 5]] > 0.01).all()


def test_importances_rank_as_those_of_permutations():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 5))
    y = (3.0 * X[:, 3] + 1.5 * X[:, 0] + 0.7 * X[:, 4] + rng.normal(size=400) > 0).astype(int)
    model = encoded(n_members=3, max_iter=15, learning_rate_init=0.01).fit(X, y)
    permuted = permutation_importance(
        model, X, y, scoring="neg_log_loss", n_repeats=3, random_state=0
    )
    order = np.argsort(-model.feature_importances_)
    assert_array_equal(order[:3], [3, 0, 4])
    assert_array_equal(order[:3], np.argsort(-permuted.importances_mean)[:3])


def test_weights_count_as_rows_do():
    X, y = make_table(60)
    weight = np.arange(60) % 3 + 1
    settings = {"solver": "gd", "learning_rate_init": 0.3, "dtype": "float64"}
    first = classifier(**settings).fit(X, y, weight).feature_importances_
    repeated = classifier(**settings).fit(X.repeat(weight, 0), y.repeat(weight))
    assert_allclose(first, repeated.feature_importances_, rtol=1e-6)


def test_importances_are_known_after_fit_alone():
    X, y = make_table()
    model = classifier(max_iter=1)
    assert not hasattr(model, "feature_importances_")
    with pytest.raises(NotFittedError):
        _ = model.feature_importances_
    first = model.fit(X, y).feature_importances_
    assert_array_equal(model.feature_importances_, first)
    assert not np.array_equal(clone(model).fit(X[:60], y[:60]).feature_importances_, first)
    model.partial_fit(X, y)
    with pytest.raises(AttributeError, match=r"no feature_importances_ after partial_fit"):
        _ = model.feature_importances_


def test_pickles_have_importances_and_no_rows():
    X, y = make_table(4_000, 40)
    model = classifier((2,), max_iter=1, batch_size=1_000).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    assert not any(row.tobytes() in pickle.dumps(model) for row in X)
    small = model.without_training_state()
    for copy in (again, small, pickle.loads(pickle.dumps(small))):
        assert_array_equal(copy.feature_importances_, model.feature_importances_)
    assert len(pickle.dumps(model)) < 0.5 * X[:128].nbytes


@pytest.mark.parametrize("table", ["array", "frame"])
def test_features_are_selected_by_importance(table):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 8))
    y = (X[:, 0] - X[:, 1] > 0.3 * rng.normal(size=200)).astype(int)
    X = X * 10.0 ** np.arange(8) + 3.0
    X[::9, 0] = np.nan
    if table == "frame":
        X = pd.DataFrame(X, columns=list("abcdefgh"))
    for selector in (
        RFE(encoded(n_members=2), n_features_to_select=2, step=2),
        SelectFromModel(encoded(n_members=2), max_features=2, threshold=-np.inf),
    ):
        selector.fit(X, y)
        assert_array_equal(selector.get_support(indices=True), [0, 1])
        pipeline = make_pipeline(SimpleImputer(), selector, encoded(n_members=2)).fit(X, y)
        assert pipeline.score(X, y) > 0.85
        assert pipeline[-1].n_features_in_ == 2
