"""The encoder around the network: any table goes in, and every answer is about that table."""

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from data import FULL_BATCH, PINNED, Untrainable, classifier, make_table, make_weights
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import Nystroem
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    StandardScaler,
)
from sklearn.utils import get_tags

from skdnn import DeepBinaryClassifier
from skdnn.preprocessing import TabularEncoder

COLORS = ["blue", "green", "red"]
PLACES = [f"place {i}" for i in range(12)]  # more than become flags: these are embedded


def encoded(**parameters):
    """Return a small classifier that encodes its table, in float64 lest rounding hides anything."""
    settings = {"encoder": "auto", "dtype": "float64", "learning_rate_init": 0.05, "max_iter": 10}
    return classifier(**{**settings, **parameters})


def people(n_samples=160, *, seed=0):
    """Return a table with a column of each kind, and labels that each of them has a say in."""
    rng = np.random.default_rng(seed)
    color, place = rng.integers(3, size=n_samples), rng.integers(12, size=n_samples)
    is_new, income = rng.random(n_samples) < 0.5, rng.normal(30_000.0, 9_000.0, n_samples)
    log_odds = 3.0 * (color == 1) + 2.0 * is_new + (income - 30_000.0) / 9_000.0 - 2.0
    y = rng.random(n_samples) < 1.0 / (1.0 + np.exp(-2.0 * (log_odds + (place % 2))))
    income[rng.random(n_samples) < 0.1] = np.nan
    frame = pd.DataFrame(
        {
            "income": income,
            "age": rng.integers(18, 90, n_samples),
            "color": pd.Categorical.from_codes(color, COLORS),
            "place": pd.Series(np.take(PLACES, place)),
            "is_new": is_new,
        }
    )
    return frame, np.take(["no", "yes"], y.astype(int))


def to_polars(frame):
    columns = {name: frame[name].astype(object).where(frame[name].notna(), None) for name in frame}
    table = pl.DataFrame({name: values.tolist() for name, values in columns.items()})
    return table.with_columns(pl.col("color").cast(pl.Categorical))


FRAMES = {"pandas": lambda frame: frame, "polars": to_polars}
each_frame = pytest.mark.parametrize("make_frame", FRAMES.values(), ids=FRAMES)


@pytest.fixture
def no_training(monkeypatch):
    """Let networks fail at their first step, in a way that no test of this file expects."""
    monkeypatch.setitem(PINNED, "activation", Untrainable())


def assert_same_model(first, second):
    assert_array_equal(first.params_, second.params_)
    assert first.history_["loss"] == second.history_["loss"]


class Constant(TransformerMixin, BaseEstimator):
    """An encoder that makes of every table the same number, in a matrix of some kind."""

    def __init__(self, value=0.0, make=np.asarray):
        self.value, self.make = value, make

    def fit(self, X, y=None):
        self.n_fits_ = getattr(self, "n_fits_", 0) + 1
        return self

    def transform(self, X):
        return self.make(np.full((len(X), 2), self.value))


# The parts, by themselves.


def fitted(table, y=None, **parameters):
    """Return a classifier of one short epoch."""
    y = np.arange(table.shape[0]) % 2 if y is None else y
    return encoded(**{"max_iter": 1, **parameters}).fit(table, y)


def test_encoder_is_made_for_dense_tables_only():
    X, _ = make_table(10)
    X[:, 1:3] = X[:, 1:3] > 0.0
    encoder = fitted(X, categorical_features=[1, 2]).encoder_
    assert type(encoder) is TabularEncoder
    assert encoder.categorical_features == [1, 2]
    for make in (sparse.csr_array, sparse.csc_matrix):
        assert fitted(make(X)).encoder_ is None  # there is nothing to scale
        large = make(np.where(X > 1.0, 1000.0 * X, 0.0))
        assert type(fitted(large).encoder_).__name__ == "SparseScaler"
    assert fitted(X, encoder=None).encoder_ is None


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array])
def test_encoder_of_the_user_is_cloned_for_any_table(make):
    X, _ = make_table(10)
    given = StandardScaler(with_mean=False).fit(X)
    mean = given.mean_.copy()
    encoder = fitted(make(X + 1.0), encoder=given).encoder_
    assert encoder is not given
    assert not encoder.with_mean
    assert_array_equal(given.mean_, mean)


@pytest.mark.parametrize(
    ("encoder", "make", "words"),
    [
        ("auto", sparse.csr_array, "no effect with a sparse table"),
        (None, np.asarray, "no effect with encoder=None"),
        (StandardScaler(), np.asarray, r"no effect with encoder=StandardScaler\(\)"),
    ],
)
@pytest.mark.parametrize("features", [[0], ["a"], np.array([True, False])], ids=str)
def test_categories_that_nothing_would_see_are_refused(encoder, make, words, features):
    with pytest.raises(ValueError, match=f"(?s)categorical_features=.*{words}.*'from_dtype'"):
        fitted(make(np.ones((4, 2))), encoder=encoder, categorical_features=features)


@pytest.mark.parametrize("features", ["from_dtype", None])
def test_no_categories_have_no_effect_and_are_no_error(features):
    X, _ = make_table(10)
    assert fitted(X, encoder=None, categorical_features=features).encoder_ is None


def test_encoder_is_fitted_with_weights_where_it_takes_them():
    X, y = make_table(40)
    weights = make_weights(40)
    settings = {"max_iter": 1}
    scaler = encoded(encoder=StandardScaler(), **settings).fit(X, y, weights).encoder_
    assert_allclose(scaler.mean_, np.average(X, axis=0, weights=weights))
    imputer = encoded(encoder=SimpleImputer(), **settings).fit(X, y, weights).encoder_
    assert_allclose(imputer.statistics_, X.mean(axis=0))


@pytest.mark.parametrize("weights", [None, make_weights(40)], ids=["no weights", "weights"])
def test_encoder_is_fitted_with_the_labels(weights):
    X, y = make_table(40)
    X[:, 4] = y + 0.1 * X[:, 0]
    selector = encoded(encoder=SelectKBest(k=1), max_iter=1).fit(X, y, weights).encoder_
    assert selector.get_support().tolist() == [False] * 4 + [True, False]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, sparse.csr_array, pd.DataFrame])
def test_matrix_that_is_not_finite_is_refused(value, make):
    with pytest.raises(ValueError, match=r"encoder Constant\(.*finite.*SimpleImputer.*'auto'"):
        fitted(np.ones((4, 1)), encoder=Constant(value, make))


@pytest.mark.parametrize(
    "make",
    [
        np.asarray,
        pd.DataFrame,
        lambda matrix: pl.DataFrame(matrix, schema=["a", "b"]),
        np.ndarray.tolist,
        lambda matrix: matrix.astype(np.int8),
        sparse.csr_matrix,
        sparse.csc_array,
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_matrix_of_any_kind_becomes_one_of_floats(make):
    model = fitted(np.ones((4, 1)), encoder=Constant(3.0, make))
    assert model.params_.dtype == np.float64
    plain = fitted(np.full((4, 2), 3.0), encoder=None)
    assert_allclose(
        model.decision_function(np.ones((4, 1))), plain.decision_function(np.full((4, 2), 3.0))
    )


def test_single_precision_of_an_encoder_stays():
    X, y = make_table(40)
    single = X.astype(np.float32)
    own = {"encoder": StandardScaler(), "dtype": "auto", "max_iter": 1}
    assert encoded(**own).fit(single, y).params_.dtype == np.float32
    assert encoded(**own).fit(X, y).params_.dtype == np.float64
    assert encoded(dtype="auto", max_iter=1).fit(X, y).params_.dtype == np.float32


def width(model):
    """Return how many numbers enter the first linear step."""
    return model.coefs_[0].shape[-2]


def test_columns_of_the_encoder_are_embedded_by_what_they_are():
    frame, y = people()
    n_codes = len(PLACES) + 2
    settings = {"max_iter": 1, "n_members": 2}
    without = encoded(numeric_embedding=None, **settings).fit(frame, y)
    n_features = len(without.encoder_.get_feature_names_out())
    assert without.encoder_.code_sizes_ == (n_codes,)
    assert width(without) == n_features - 1 + min(8, n_codes)
    n_functions = set()
    for wish in ("auto", "mixed", "periodic", "piecewise"):
        model = encoded(numeric_embedding=wish, **settings).fit(frame, y)
        added, remainder = divmod(width(model) - width(without), without.encoder_.n_continuous_)
        assert remainder == 0
        n_functions.add(added)
    assert len(n_functions) == 1
    assert n_functions.pop() > 0
    for n_members, embedding in ((2, "mixed"), (1, "periodic")):
        model = encoded(max_iter=1, n_members=n_members).fit(frame, y)
        assert model.resolved_params_["numeric_embedding"] == embedding


@pytest.mark.parametrize("scaler", [None, StandardScaler()])
def test_columns_of_other_matrices_are_embedded_on_demand_only(scaler):
    X, y = make_table(10)
    settings = {"encoder": scaler, "max_iter": 1}
    scaler = None if scaler is None else StandardScaler(with_mean=False)
    of_sparse = {"encoder": scaler, "max_iter": 1}
    for wish in ("auto", None):
        assert width(encoded(numeric_embedding=wish, **settings).fit(X, y)) == 6
        model = encoded(numeric_embedding=wish, **of_sparse).fit(sparse.csr_array(X), y)
        assert width(model) == 6
    for wish in ("mixed", "periodic", "piecewise"):
        assert width(encoded(numeric_embedding=wish, **settings).fit(X, y)) > 6
        with pytest.raises(ValueError, match=rf"numeric_embedding='{wish}' needs a dense table"):
            encoded(numeric_embedding=wish, **of_sparse).fit(sparse.csr_array(X), y)


# Tables of all kinds.


@each_frame
def test_classifier_learns_from_a_table_as_it_is(make_frame):
    frame, y = people()
    estimator = encoded(max_iter=30).fit(make_frame(frame[:120]), y[:120])
    assert type(estimator.encoder_) is TabularEncoder
    assert estimator.feature_names_in_.tolist() == list(frame)
    assert estimator.n_features_in_ == 5
    assert estimator.encoder_.is_categorical_.tolist() == [False, False, True, True, True]
    assert estimator.classes_.tolist() == ["no", "yes"]
    assert estimator.score(make_frame(frame[120:]), y[120:]) > 0.7
    assert len(np.unique(estimator.predict_proba(make_frame(frame))[:, 1])) > 150


def test_maker_of_the_frame_does_not_matter():
    frame, y = people()
    by_pandas, by_polars = (encoded().fit(make(frame), y) for make in FRAMES.values())
    assert_same_model(by_pandas, by_polars)
    for make in FRAMES.values():
        assert_array_equal(by_pandas.predict_proba(make(frame)), by_polars.predict_proba(frame))


def test_each_column_has_a_say():
    frame, y = people()
    estimator = encoded(max_iter=20).fit(frame, y)
    before = estimator.decision_function(frame)
    for name in frame:
        changed = frame.assign(**{name: frame[name].to_numpy()[::-1]})
        changed["color"] = pd.Categorical(changed["color"], COLORS)
        assert np.abs(estimator.decision_function(changed) - before).max() > 0.01, name


def test_default_takes_what_it_gets():
    """No parameter is needed for text, gaps and numbers of any size."""
    frame, y = people(60)
    frame.loc[3, "income"] = 1e39
    estimator = DeepBinaryClassifier((4,), max_iter=2, random_state=0).fit(frame, y)
    assert type(estimator.encoder_) is TabularEncoder
    assert np.isfinite(estimator.predict_proba(frame)).all()
    assert estimator.oof_decision_function_.shape == (60,)
    assert np.isfinite(estimator.oof_decision_function_).all()


def test_lists_are_tables_too():
    rows = [[float(i), "a" if i % 2 else "b"] for i in range(40)]
    y = [i % 2 for i in range(40)]
    estimator = encoded(categorical_features=[1], max_iter=30).fit(rows, y)
    assert estimator.score(rows, y) == 1.0


@each_frame
def test_missing_values_may_come_first_with_the_prediction(make_frame):
    frame, y = people()
    complete = frame.assign(income=frame["income"].fillna(0.0))
    estimator = encoded().fit(make_frame(complete), y)
    missing = complete.astype({"age": float})
    missing.loc[:, ["income", "age"]] = np.nan
    for name in ("color", "place"):
        missing[name] = missing[name].where(np.arange(len(frame)) < 0)
    probability = estimator.predict_proba(make_frame(missing))
    assert np.isfinite(probability).all()
    # What is left is one bit, and so there are two answers.
    assert len(np.unique(probability[:, 1].round(12))) == 2


@each_frame
def test_levels_that_were_never_seen_are_all_the_same_at_predict(make_frame):
    frame, y = people()
    estimator = encoded().fit(make_frame(frame), y)
    known = estimator.decision_function(make_frame(frame))
    answers = []
    for level in ("the moon", "mars"):
        unseen = frame.assign(place=level, color=pd.Categorical([level] * len(frame)))
        with pytest.warns(UserWarning, match=r"In columns \['color', 'place'\] .* no level is"):
            answers.append(estimator.decision_function(make_frame(unseen)))
    assert np.isfinite(answers).all()
    assert_array_equal(*answers)
    assert not np.allclose(answers[0], known)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_unknown_levels_are_judged_by_the_whole_table(n_jobs):
    """Not block by block: rows may be sorted by a column."""
    frame, y = people()
    estimator = encoded(n_jobs=n_jobs).fit(frame, y)
    later = pd.concat([frame] * 60).assign(place=["the moon"] * 9599 + ["place 3"])
    estimator.predict(later)
    later["place"] = "the moon"
    with pytest.warns(UserWarning, match=r"In columns \['place'\] of X no level") as caught:
        estimator.predict(later)
    assert len(caught) == 1


@each_frame
def test_later_part_may_have_levels_and_gaps_that_the_first_did_not_have(make_frame):
    frame, y = people()
    first = frame[:80].assign(income=frame["income"].fillna(0.0))
    estimator = encoded().partial_fit(make_frame(first), y[:80], classes=["no", "yes"])
    before = copy.deepcopy(estimator)
    second = frame[80:].assign(place="the moon", income=np.nan)
    with pytest.warns(UserWarning, match=r"In columns \['place'\] .* no level is among those of"):
        estimator.partial_fit(make_frame(second), y[80:])
    assert np.isfinite(estimator.params_).all()
    assert not np.array_equal(estimator.params_, before.params_)
    assert estimator.encoder_.categories_ == before.encoder_.categories_
    assert np.isfinite(estimator.predict_proba(make_frame(second[:2]))).all()


# When the encoder learns.


def assert_encodes_as(encoder, fitted_on, X):
    assert_array_equal(encoder.transform(X), TabularEncoder().fit(fitted_on).transform(X))


def test_partial_fit_fits_the_encoder_on_its_first_part_only():
    frame, y = people()
    low, high = frame[:80], frame[80:].assign(income=1e9, age=200)
    estimator = encoded().partial_fit(low, y[:80], classes=["no", "yes"])
    encoder = estimator.encoder_
    assert_encodes_as(encoder, low, frame)
    estimator.partial_fit(high, y[80:])
    assert estimator.encoder_ is encoder
    assert_encodes_as(encoder, low, frame)


@pytest.mark.parametrize("encoder", ["auto", StandardScaler()], ids=["auto", "scaler"])
def test_warm_start_keeps_the_encoder_and_another_fit_does_not(encoder):
    X, y = make_table()
    estimator = encoded(encoder=encoder, warm_start=True).fit(X, y)
    first = estimator.encoder_
    expected = first.transform(X)
    estimator.fit(1_000.0 * X, y)
    assert estimator.encoder_ is first
    assert_array_equal(first.transform(X), expected)
    estimator.set_params(warm_start=False).fit(1_000.0 * X, y)
    assert estimator.encoder_ is not first
    assert_allclose(estimator.encoder_.transform(1_000.0 * X), expected, rtol=1e-9, atol=1e-12)


def test_warm_start_goes_on_to_the_last_bit():
    frame, y = people()
    settings = {"n_members": 2, "dropout": 0.2}
    whole = encoded(max_iter=7, **settings).fit(frame, y)
    parts = encoded(max_iter=3, warm_start=True, **settings).fit(frame, y)
    parts = pickle.loads(pickle.dumps(parts)).set_params(max_iter=4).fit(frame, y)
    assert_same_model(parts, whole)


def constant_columns(first_part, **parameters):
    """Return what is said of columns that do not vary when a stream begins with some rows."""
    y = np.arange(len(first_part)) % 2
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        encoded(**parameters).partial_fit(first_part, y, classes=[0, 1])
    return [str(w.message) for w in caught if "first part" in str(w.message)]


def test_stream_names_columns_that_its_first_part_says_nothing_of():
    """Numbers, categories, and numbers that are the same where they are known; no empty ones."""
    frame = pd.DataFrame(
        {
            "age": [3.0, 4.0, 9.0, 1.0],
            "year": 2024,
            "height": [1.5, np.nan, 1.5, np.nan],
            "color": pd.Categorical(["red"] * 4, categories=["red", "blue"]),
            "sex": ["f", "m", "f", "m"],
            "is_new": True,
        }
    )
    [message] = constant_columns(frame)
    assert "['year', 'height', 'color', 'is_new']" in message
    assert constant_columns(frame[["age", "sex"]]) == []
    assert constant_columns(np.ones((4, 3)), encoder=None) == []
    [message] = constant_columns(np.c_[frame[["age", "year"]].to_numpy(float), [7.0, 7, 7, 8]])
    assert "[1]" in message


def test_stream_that_begins_with_one_row_says_so():
    [message] = constant_columns(np.ones((1, 30)))
    assert "9] and 10 more of X" in message


def test_stream_says_nothing_of_columns_that_a_frozen_encoder_knows():
    X, y = make_table()
    X = X.copy()
    X[:40, 1] = 0.5
    [message] = constant_columns(X[:40])
    assert "[1]" in message
    frozen = FrozenEstimator(TabularEncoder().fit(X))
    assert constant_columns(X[:40], encoder=frozen) == []
    estimator = encoded(encoder=frozen, max_iter=1)
    parts = [slice(0, 1), slice(1, 40), slice(40, 120)]
    for part in 10 * parts:
        estimator.partial_fit(X[part], y[part], classes=[0, 1])
    assert roc_auc_score(y, estimator.predict_proba(X)[:, 1]) > 0.8


@each_frame
def test_stream_of_two_passes_knows_all_levels(make_frame):
    """The encoder sees all parts first, as if it were fitted to all rows, and nothing warns."""
    frame, y = people()
    order = np.argsort(frame["place"], kind="stable")
    frame, y = frame.iloc[order].reset_index(drop=True), y[order]
    parts = [slice(start, start + 40) for start in range(0, 160, 40)]
    encoder = TabularEncoder()
    for part in parts:
        encoder.partial_fit(make_frame(frame[part]))
    streams = []
    for known in (encoder, TabularEncoder().fit(frame)):
        model = encoded(encoder=FrozenEstimator(known))
        for part in parts:
            model.partial_fit(make_frame(frame[part]), y[part], classes=["no", "yes"])
        streams.append(model)
    assert_same_model(*streams)
    assert np.isfinite(streams[0].predict_proba(frame)).all()


def test_encoder_of_a_model_does_not_learn_more():
    X, y = make_table()
    encoder = TabularEncoder().partial_fit(X[:60])
    for given in ("auto", encoder, FrozenEstimator(encoder)):
        model = encoded(encoder=given, max_iter=1).fit(X, y)
        with pytest.raises(ValueError, match="part of a model, which does not keep"):
            model.encoder_.partial_fit(X)
    encoder.partial_fit(X[60:])  # it stays as it is
    assert_encodes_as(encoder, X, X)


def test_only_the_first_part_is_looked_at():
    X, y = make_table()
    estimator = encoded().partial_fit(X, y, classes=[0, 1])
    estimator.partial_fit(X[:1], y[:1])
    constant = X.copy()
    constant[:, 1] = 3.0
    encoded(max_iter=1).fit(constant, y).partial_fit(X, y)


def test_partial_fit_goes_on_after_fit_with_its_encoder():
    frame, y = people()
    estimator = encoded().fit(frame, y)
    encoder = estimator.encoder_
    estimator.partial_fit(frame[:10].assign(income=7.0), y[:10])
    assert estimator.encoder_ is encoder
    assert_encodes_as(encoder, frame, frame)


@pytest.mark.parametrize("other", [None, StandardScaler()])
def test_training_does_not_go_on_with_another_encoder(other):
    X, y = make_table()
    estimator = encoded(warm_start=True).fit(X, y)
    encoder = estimator.encoder_
    with pytest.raises(ValueError, match="only go on with the same encoder"):
        estimator.set_params(encoder=other).fit(X, y)
    assert estimator.encoder_ is encoder


def test_training_goes_on_with_an_encoder_that_holds_other_objects():
    X, y = make_table()
    seed = np.random.RandomState(0)
    encoder = make_pipeline(StandardScaler(), Nystroem(n_components=3, random_state=seed))
    estimator = encoded(encoder=encoder).partial_fit(X, y, classes=np.unique(y))
    before = estimator.params_.copy()
    estimator.partial_fit(X, y)
    assert (estimator.params_ != before).any()


def test_failed_fit_leaves_the_encoder_as_it_was():
    frame, y = people()
    estimator = encoded().fit(frame, y)
    encoder, answers = estimator.encoder_, estimator.predict_proba(frame)
    with pytest.raises(ValueError, match="two classes"):
        estimator.fit(frame.assign(income=frame["age"]), np.full(len(y), "no"))
    assert estimator.encoder_ is encoder
    assert_array_equal(estimator.predict_proba(frame), answers)


@pytest.mark.parametrize("train", ["fit", "partial_fit"])
def test_encoder_learns_from_the_weights_too(train):
    frame, y = people(80)
    k = make_weights(len(y)) + 1
    rows = np.arange(len(y)).repeat(k)
    estimator = encoded(**FULL_BATCH)
    arguments = {"classes": ["no", "yes"]} if train == "partial_fit" else {}
    getattr(estimator, train)(frame, y, sample_weight=k, **arguments)
    assert_encodes_as(estimator.encoder_, frame.iloc[rows], frame)
    if train == "fit":
        assert_same_model(estimator, encoded(**FULL_BATCH).fit(frame.iloc[rows], y[rows]))


# Other encoders, and none.


def test_encoding_before_or_within_is_the_same():
    """Without embeddings, the encoder is nothing but a transformer before the network."""
    X, y = make_table()
    X[::7, 2] = np.nan
    within = encoded(numeric_embedding=None).fit(X, y)
    encoder = TabularEncoder().fit(X)
    before = encoded(encoder=None).fit(encoder.transform(X), y)
    assert_same_model(within, before)
    assert_array_equal(within.predict_proba(X), before.predict_proba(encoder.transform(X)))


def test_numbers_are_embedded_by_default():
    X, y = make_table()
    by_default, by_name, without = (
        encoded(numeric_embedding=wish).fit(X, y) for wish in ("auto", "periodic", None)
    )
    assert_same_model(by_default, by_name)
    assert by_default.params_.size > without.params_.size


def test_encoder_auto_is_the_tabular_encoder():
    frame, y = people()
    auto = encoded().fit(frame, y)
    assert_same_model(auto, encoded(encoder=TabularEncoder()).fit(frame, y))
    coarse = encoded(encoder=TabularEncoder(max_one_hot=2)).fit(frame, y)
    assert coarse.encoder_.code_sizes_ != auto.encoder_.code_sizes_
    assert coarse.params_.size != auto.params_.size


def test_none_feeds_the_matrix_as_it_is():
    X, y = make_table()
    estimator = encoded(encoder=None).fit(X, y)
    assert estimator.encoder_ is None
    assert estimator.coefs_[0].shape == (6, 8)
    assert len(estimator.coefs_) == 2


def gappy_table():
    X, y = make_table()
    X[::7, 2] = np.nan
    return X, y


impute = make_pipeline(SimpleImputer(), StandardScaler())


@pytest.mark.parametrize(
    ("encoder", "table"),
    [
        (StandardScaler(), make_table()),
        (StandardScaler().set_output(transform="pandas"), make_table()),
        (make_pipeline(StandardScaler()), make_table()),
        (impute, gappy_table()),
        (SelectKBest(k=2), make_table()),
        (MaxAbsScaler(), (sparse.csr_array(make_table()[0]), make_table()[1])),
    ],
    ids=["scaler", "to pandas", "pipeline", "imputer", "with labels", "sparse"],
)
@pytest.mark.parametrize("settings", [{}, {"early_stopping": True, "n_members": 3}], ids=str)
def test_encoder_of_the_user_is_as_good_as_one_before(encoder, table, settings):
    X, y = table
    within = encoded(encoder=encoder, **settings).fit(X, y)
    before = make_pipeline(clone(encoder), encoded(encoder=None, **settings)).fit(X, y)
    assert_same_model(within, before[-1])
    assert_array_equal(within.decision_function(X), before.decision_function(X))
    assert type(within.encoder_) is type(encoder)
    assert within.encoder is encoder
    assert within.encoder_ is not encoder


def test_encoder_of_the_user_gets_the_weights():
    X, y = make_table()
    weights = make_weights(len(y)) + 0.5
    within = encoded(encoder=StandardScaler()).fit(X, y, weights)
    scaler = StandardScaler().fit(X, sample_weight=weights)
    assert_same_model(within, encoded(encoder=None).fit(scaler.transform(X), y, weights))


@pytest.mark.parametrize("sparse_output", [True, False])
def test_flags_of_an_encoder_may_be_sparse(sparse_output):
    frame, y = people()
    flags = OneHotEncoder(sparse_output=sparse_output, handle_unknown="ignore")
    encoder = make_column_transformer(
        (flags, ["color", "place", "is_new"]),
        (impute, ["income", "age"]),
        sparse_threshold=float(sparse_output),
    )
    settings = {"max_iter": 60, "batch_size": len(y)}  # in one batch, no order matters
    estimator = encoded(encoder=encoder, **settings).fit(frame, y)
    assert sparse.issparse(estimator.encoder_.transform(frame)) == sparse_output
    assert estimator.score(frame, y) > 0.8
    assert estimator.feature_names_in_.tolist() == list(frame)
    dense = encoded(encoder=encoder.set_params(sparse_threshold=0.0), **settings).fit(frame, y)
    assert_allclose(estimator.predict_proba(frame), dense.predict_proba(frame), rtol=1e-7)


def test_encoder_of_the_user_is_not_fitted_itself():
    X, y = make_table()
    encoder = Constant()
    estimator = encoded(encoder=encoder).fit(X, y)
    assert not hasattr(encoder, "n_fits_")
    assert estimator.encoder_.n_fits_ == 1
    assert estimator.partial_fit(X, y).encoder_.n_fits_ == 1


def test_encoder_may_be_searched_over():
    X, y = make_table()
    estimator = encoded(encoder=MinMaxScaler()).set_params(encoder__feature_range=(-1, 1))
    assert estimator.fit(X, y).encoder_.feature_range == (-1, 1)
    assert estimator.get_params()["encoder__clip"] is False


@pytest.mark.usefixtures("no_training")
def test_encoder_that_leaves_gaps_is_refused():
    X, y = gappy_table()
    estimator = encoded(encoder=StandardScaler())
    message = r"encoder StandardScaler\(\) must return a table of finite numbers: .*NaN"
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, y)
    with pytest.raises(ValueError, match=message):
        estimator.partial_fit(X, y, classes=[0, 1])
    assert not hasattr(estimator, "encoder_")


def test_encoder_that_leaves_gaps_is_refused_at_predict():
    X, y = make_table()
    estimator = encoded(encoder=StandardScaler()).fit(X, y)
    with pytest.raises(ValueError, match="must return a table of finite numbers"):
        estimator.predict(np.full_like(X, np.nan))


def test_sparse_tables_have_no_encoder():
    X, y = make_table()
    settings = {"batch_size": len(y)}  # in one batch, no order matters
    estimator = encoded(**settings).fit(sparse.csr_array(X), y)
    assert estimator.encoder_ is None
    bare = encoded(encoder=None, **settings).fit(X, y)
    assert_allclose(estimator.predict_proba(X), bare.predict_proba(X), rtol=1e-7)


def test_sparse_table_is_refused_after_a_dense_one():
    X, y = make_table()
    estimator = encoded().fit(X, y)
    with pytest.raises(TypeError, match="dense data is required"):
        estimator.predict(sparse.csr_array(X))


def test_parameters_of_mlp_classifier_have_no_encoder():
    X, y = make_table()
    estimator = encoded(max_fun=15_000, early_stopping=False).fit(X, y)
    assert estimator.encoder_ is None
    assert encoded(max_fun=15_000, encoder=StandardScaler()).fit(X, y).encoder_ is not None


# Categories by name.


def coded_table():
    """Return numbers, the middle column of which is a code without any order."""
    X = np.random.default_rng(0).normal(size=(200, 3))
    X[:, 1] = np.arange(200) % 6
    y = np.isin(X[:, 1], [1, 2, 5]).astype(int)
    return X, y


FEATURES = {
    "name": ["code"],
    "index": [1],
    "mask": [False, True, False],
    "array of indices": np.array([1]),
    "array of a mask": np.array([False, True, False]),
}


@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
@each_frame
def test_categories_are_named_in_any_way(features, make_frame):
    X, y = coded_table()
    frame = pd.DataFrame(X, columns=["first", "code", "last"])
    if make_frame is to_polars:
        frame = pl.DataFrame(frame.to_dict("list"))
    estimator = encoded(categorical_features=features).fit(frame, y)
    assert estimator.encoder_.is_categorical_.tolist() == [False, True, False]
    assert_same_model(estimator, encoded(categorical_features=[1]).fit(X, y))
    assert encoded().fit(frame, y).encoder_.is_categorical_.tolist() == [False] * 3


def test_no_column_is_a_category_if_none_is_wished_for():
    frame, y = people()
    numbers = frame[["income", "age", "is_new"]]
    assert encoded().fit(numbers, y).encoder_.is_categorical_.tolist() == [False, False, True]
    estimator = encoded(categorical_features=None).fit(numbers, y)
    assert not estimator.encoder_.is_categorical_.any()
    with pytest.raises(ValueError, match=r"'color' of X is read as numbers.*categorical_features"):
        encoded(categorical_features=None).fit(frame, y)


DATES = pd.date_range("2020-01-01", periods=160)

REFUSED = {
    "infinity": (lambda f: f.assign(income=np.inf), {}, r"X contains infinity.*\['income'\]"),
    "dates": (lambda f: f.assign(born=DATES), {}, r"\['born'\]"),
    "unknown name": (lambda f: f, {"categorical_features": ["colour"]}, r"\['colour'\]"),
    "unknown index": (lambda f: f, {"categorical_features": [7]}, r"\[7\].*5 features"),
    "short mask": (lambda f: f, {"categorical_features": [True]}, "5 features of X, got 1"),
    "names without names": (
        lambda f: f[["income", "age"]].to_numpy(),
        {"categorical_features": ["age"]},
        "no feature names",
    ),
    "categories without an encoder": (
        lambda f: f[["age", "is_new"]],
        {"categorical_features": ["is_new"], "encoder": None},
        "no effect with encoder=None",
    ),
    "categories with another encoder": (
        lambda f: f[["age", "is_new"]],
        {"categorical_features": ["is_new"], "encoder": StandardScaler()},
        "no effect with encoder=StandardScaler",
    ),
    "categories in a sparse table": (
        lambda f: sparse.csr_array(f[["age"]].to_numpy(float)),
        {"categorical_features": [0]},
        "no effect with a sparse table",
    ),
    "categories for MLPClassifier": (
        lambda f: f[["age", "is_new"]],
        {"categorical_features": [1], "max_fun": 15_000},
        "categorical_features=.* no effect",
    ),
    "text without an encoder": (
        lambda f: f,
        {"encoder": None},
        "are categories. Take encoder='auto'",
    ),
}


@pytest.mark.parametrize(("change", "settings", "message"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("train", ["fit", "partial_fit"])
@pytest.mark.usefixtures("no_training")
def test_table_that_cannot_be_encoded_is_refused(change, settings, message, train):
    frame, y = people()
    estimator = encoded(**settings)
    arguments = {"classes": ["no", "yes"]} if train == "partial_fit" else {}
    with pytest.raises(ValueError, match=f"(?s){message}"):
        getattr(estimator, train)(change(frame), y, **arguments)
    assert not hasattr(estimator, "params_")
    assert not hasattr(estimator, "encoder_")


def test_column_that_identifies_rows_warns_by_name():
    frame, y = people()
    keyed = frame.assign(key=[f"id {i}" for i in range(len(frame))])
    with pytest.warns(UserWarning, match=r"\['key'\] of X most rows have a rare level"):
        estimator = encoded(max_iter=2).fit(keyed, y)
    assert_array_equal(
        estimator.predict_proba(keyed), estimator.predict_proba(keyed.assign(key="new"))
    )


@pytest.mark.filterwarnings("ignore:Columns .* have no value in any row")
def test_columns_that_are_empty_in_a_fold_do_no_harm():
    frame, y = people()
    frame = frame.assign(
        sensor=np.where(np.arange(len(frame)) < 80, np.nan, 1.5 * np.arange(len(frame))),
        remark=np.where(np.arange(len(frame)) < 80, None, "late"),
    )
    scores = cross_val_score(encoded(max_iter=2), frame, y, cv=KFold(2), error_score="raise")
    assert np.isfinite(scores).all()
    first = slice(0, 80)
    estimator = encoded(max_iter=2).partial_fit(frame[first], y[first], classes=["no", "yes"])
    assert np.isfinite(estimator.partial_fit(frame[80:], y[80:]).predict_proba(frame)).all()


# Units do not matter.


@pytest.mark.parametrize("factor", [2.0**20, 2.0**-20, -(2.0**3)])
def test_powers_of_two_as_units_change_nothing_at_all(factor):
    X, y = make_table()
    plain, scaled = (encoded(max_iter=5).fit(table, y) for table in (X, abs(factor) * X))
    assert_same_model(plain, scaled)
    assert_array_equal(plain.predict_proba(X), scaled.predict_proba(abs(factor) * X))


@pytest.mark.parametrize(
    ("factor", "shift"), [(1e6, 0.0), (1e-6, 0.0), (1.0, 1e4), (1e3, -1e6)], ids=str
)
@pytest.mark.parametrize("settings", [{}, {"n_members": 3, "early_stopping": True}], ids=str)
def test_units_of_the_columns_change_nothing(factor, shift, settings):
    X, y = make_table()
    changed = factor * X + shift
    plain, other = (encoded(**settings).fit(table, y) for table in (X, changed))
    assert_allclose(other.predict_proba(changed), plain.predict_proba(X), atol=1e-6)


def test_bare_network_does_mind_the_units():
    X, y = make_table()
    plain, other = (encoded(encoder=None).fit(table, y) for table in (X, 1e3 * X))
    assert np.abs(other.predict_proba(1e3 * X) - plain.predict_proba(X)).max() > 0.1


def test_scaler_in_front_does_no_harm():
    X, y = make_table()
    plain = encoded().fit(X, y)
    scaled = make_pipeline(StandardScaler(), encoded()).fit(X, y)
    assert_allclose(scaled.predict_proba(X), plain.predict_proba(X), atol=1e-6)


def test_outlier_does_not_spoil_its_column():
    X, y = make_table()
    estimator = encoded(max_iter=20).fit(X, y)
    score = estimator.score(X[1:], y[1:])
    X[0] = 1e12
    assert encoded(max_iter=20).fit(X, y).score(X[1:], y[1:]) > score - 0.05


# What is told.


OPEN = {
    "hidden_layer_sizes": "auto",
    "activation": "auto",
    "n_members": "auto",
    "dropout": "auto",
    "batch_size": "auto",
    "max_iter": "auto",
    "early_stopping": "auto",
}


may_end_early = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize(
    "name",
    [
        n
        for n, v in DeepBinaryClassifier().get_params().items()
        if isinstance(v, str)
        and v == "auto"
        and n not in ("initialization", "target_encoding", "n_iter_no_change")
    ]
    + ["weight_decay"],
)
@may_end_early
def test_choice_for_a_parameter_left_open_is_told(name):
    """All that are "auto", and None where it stands for a number; but for three that are rules."""
    X, y = make_table(40)
    estimator = DeepBinaryClassifier(solver="adamw", max_time=1e-9, random_state=0).fit(X, y)
    assert name in estimator.resolved_params_


@pytest.mark.parametrize("solver", ["adam", "adamw", "lbfgs"])
@pytest.mark.parametrize("max_fun", [None, 15_000])
@may_end_early
def test_choices_are_told_for_each_kind_of_training(solver, max_fun):
    X, y = make_table(40)
    given = {**OPEN, "solver": solver, "max_fun": max_fun, "max_time": 1e-9, "encoder": "auto"}
    estimator = DeepBinaryClassifier(random_state=0, **given).fit(X, y)
    told = estimator.resolved_params_
    assert set(OPEN) <= set(told)
    assert not [name for name, value in told.items() if isinstance(value, str) and value == "auto"]
    assert (estimator.encoder_ is None) == (max_fun is not None)


@may_end_early
def test_choices_that_are_told_make_the_same_network():
    X, y = make_table(40)
    open_ = {**OPEN, "hidden_layer_sizes": (5,), "max_iter": 3, "encoder": "auto"}
    estimator = DeepBinaryClassifier(random_state=0, **open_).fit(X, y)
    told = estimator.resolved_params_
    closed = DeepBinaryClassifier(random_state=0, **{**open_, **told}).fit(X, y)
    assert_same_model(estimator, closed)
    assert not set(OPEN) & set(closed.resolved_params_)


@may_end_early
def test_choices_that_are_told_are_those_of_the_network():
    X, y = make_table(40)
    estimator = DeepBinaryClassifier(max_time=1e-9, random_state=0).fit(X, y)
    told = estimator.resolved_params_
    widths = [W.shape[-1] for W in estimator.coefs_]
    assert widths == [*told["hidden_layer_sizes"], 1]
    assert len(estimator.params_) == told["n_members"]
    assert ("validation_loss" in estimator.history_) == told["early_stopping"]


def test_choices_of_the_user_are_not_told():
    X, y = make_table(40)
    estimator = encoded().fit(X, y)
    assert not {"hidden_layer_sizes", "n_members", "max_iter", "dropout"} & set(
        estimator.resolved_params_
    )


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@may_end_early
def test_later_parts_keep_the_architecture_that_was_chosen(solver):
    X, y = make_table(40)
    estimator = DeepBinaryClassifier(max_iter=1, solver=solver, warm_start=True, random_state=0)
    first = estimator.fit(X, y).resolved_params_
    estimator.fit(np.vstack([X] * 60), np.tile(y, 60))
    for name in ("hidden_layer_sizes", "activation", "n_members"):
        assert estimator.resolved_params_[name] == first[name]


@pytest.mark.parametrize("settings", [{"dropout": 0.0}, {}], ids=str)
@may_end_early
def test_another_solver_goes_on_with_the_architecture_that_was_chosen(settings):
    """L-BFGS would begin with a single network without dropout."""
    X, y = make_table(40)
    estimator = DeepBinaryClassifier(max_iter=1, warm_start=True, random_state=0, **settings)
    shape = estimator.fit(X, y).params_.shape
    assert shape[0] > 1
    assert estimator.set_params(solver="lbfgs").fit(X, y).params_.shape == shape


# What scikit-learn is told.


def input_tags(**settings):
    return get_tags(DeepBinaryClassifier(**settings)).input_tags


def test_tags_say_that_gaps_and_categories_may_come():
    tags = input_tags()
    assert tags.allow_nan
    assert tags.categorical
    assert tags.string
    assert tags.sparse
    assert not input_tags(categorical_features=None).string


def test_tags_say_that_a_bare_network_takes_numbers_only():
    for settings in ({"encoder": None}, {"max_fun": 15_000}):
        tags = input_tags(**settings)
        assert not tags.allow_nan
        assert not tags.categorical
        assert not tags.string
        assert tags.sparse


@pytest.mark.parametrize(
    "encoder",
    [
        StandardScaler(),
        SimpleImputer(),
        OneHotEncoder(),
        FunctionTransformer(),
        TabularEncoder(),
        TfidfVectorizer(),
    ],
    ids=lambda encoder: type(encoder).__name__,
)
def test_tags_are_those_of_the_encoder(encoder):
    expected, tags = get_tags(encoder).input_tags, input_tags(encoder=encoder)
    for name in ("allow_nan", "categorical", "string", "sparse"):
        assert getattr(tags, name) == getattr(expected, name), name


# Copies.


@pytest.mark.parametrize("encoder", ["auto", impute], ids=["auto", "pipeline"])
def test_pickle_encodes_as_before(encoder):
    frame, y = people()
    frame = frame if encoder == "auto" else frame[["income", "age", "is_new"]]
    estimator = encoded(encoder=encoder, early_stopping=True, n_members=3).fit(frame, y)
    loaded = pickle.loads(pickle.dumps(estimator))
    assert_array_equal(loaded.predict_proba(frame), estimator.predict_proba(frame))
    assert_array_equal(loaded.oof_decision_function_, estimator.oof_decision_function_)
    assert loaded.encoder_ is not estimator.encoder_
    assert_same_model(loaded.partial_fit(frame, y), estimator.partial_fit(frame, y))


def test_clone_forgets_the_encoder_that_was_fitted():
    frame, y = people()
    encoder = TabularEncoder(max_one_hot=3)
    estimator = encoded(encoder=encoder).fit(frame, y)
    twin = clone(estimator)
    assert not hasattr(twin, "encoder_")
    assert twin.encoder is not encoder
    assert twin.encoder.max_one_hot == 3
    assert_same_model(twin.fit(frame, y), estimator)


# Validation rows and scores.


@each_frame
@pytest.mark.parametrize("settings", [{}, {"dtype": "float32"}, {"n_members": 3}], ids=str)
def test_validation_rows_are_encoded_as_the_others(make_frame, settings):
    frame, y = people()
    frame.loc[121:, "place"] = "the moon"
    train, val = make_frame(frame[:120]), make_frame(frame[120:])
    estimator = encoded(early_stopping=True, **settings)
    estimator.fit(train, y[:120], X_val=val, y_val=y[120:])
    assert_encodes_as(estimator.encoder_, frame[:120], frame)
    if settings.get("n_members", 1) == 1:
        expected = log_loss(y[120:], estimator.predict_proba(val)[:, 1])
        best = min(estimator.history_["validation_loss"])
        assert best == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f[["income", "age", "color", "place"]], "X_val.*feature names"),
        (lambda f: f.assign(income=np.inf), "X_val.*infinity"),
        (lambda f: f[:7], "X_val.*inconsistent numbers of samples"),
        (lambda f: f.assign(age="old"), "X_val.*'age'.*'old'"),
    ],
    ids=["other columns", "infinity", "fewer rows", "text"],
)
@pytest.mark.usefixtures("no_training")
def test_validation_rows_are_named_in_errors(change, message):
    frame, y = people()
    with pytest.raises(ValueError, match=f"(?s){message}"):
        encoded(early_stopping=True).fit(
            frame[:120], y[:120], X_val=change(frame[120:]), y_val=y[120:]
        )


@each_frame
def test_score_on_validation_rows_is_that_of_scikit_learn(make_frame):
    frame, y = people()
    train, val = make_frame(frame[:120]), make_frame(frame[120:])
    estimator = encoded(early_stopping=True, scoring="roc_auc")
    estimator.fit(train, y[:120], X_val=val, y_val=y[120:])
    expected = roc_auc_score(y[120:], estimator.decision_function(val))
    assert estimator.best_validation_score_ == pytest.approx(expected)


@each_frame
@pytest.mark.parametrize("scoring", ["roc_auc", "neg_log_loss", None])
def test_score_may_be_taken_on_rows_that_each_member_holds_out(make_frame, scoring):
    frame, y = people()
    estimator = encoded(early_stopping=True, scoring=scoring, n_members=3)
    estimator.fit(make_frame(frame), y)
    assert np.isfinite(estimator.validation_scores_).all()
    assert len(estimator.validation_scores_) == estimator.n_iter_
    assert max(estimator.validation_scores_) > {"neg_log_loss": -0.7}.get(scoring, 0.6)


def test_cross_validation_takes_the_table_as_it_is():
    frame, y = people()
    scores = cross_val_score(encoded(max_iter=20), frame, y, cv=3, scoring="roc_auc")
    assert scores.mean() > 0.75


@each_frame
def test_rows_that_no_member_saw_are_predicted_by_all(make_frame):
    frame, y = people(60)
    weights = np.where(np.arange(60) % 5 == 0, 0.0, 1.0)
    estimator = encoded(early_stopping=True, n_members=5).fit(make_frame(frame), y, weights)
    oof = estimator.oof_decision_function_
    assert oof.shape == (60,)
    assert np.isfinite(oof).all()
    all_members = estimator.decision_function(make_frame(frame))
    assert_allclose(oof[weights == 0], all_members[weights == 0], rtol=1e-9)
    assert not np.isclose(oof[weights > 0], all_members[weights > 0]).any()


# Gradients with respect to the table.


def numeric_frame():
    X, y = make_table()
    X = X * np.array([1e3, 1.0, 1e-2, 1.0, 50.0, 1.0]) + np.array([1e4, 0.0, 0.0, -3.0, 0.0, 1.0])
    return pd.DataFrame(X, columns=list("abcdef")), y


def central_differences(estimator, X, h=1e-6):
    """Return the slopes of the logit, each with a step in proportion to its column.

    Where a ramp begins or ends within the step, the logit has a kink, and the slope is not a
    number.
    """
    X = np.asarray(X, dtype=np.float64)
    slopes, logit = np.empty_like(X), estimator.decision_function(X)
    for j in range(X.shape[1]):
        step = h * X[:, j].std()
        high, low = X.copy(), X.copy()
        high[:, j] += step
        low[:, j] -= step
        after, before = (estimator.decision_function(Z) - logit for Z in (high, low))
        has_kink = np.abs(after + before) > 1e-3 * np.abs(after - before).mean()
        slopes[:, j] = np.where(has_kink, np.nan, (after - before) / (2.0 * step))
    return slopes


@each_frame
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"n_members": 3},
        {"numeric_embedding": None},
        {"n_members": 5, "early_stopping": True, "calibration": "temperature"},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_gradients_are_with_respect_to_the_table(make_frame, settings):
    frame, y = numeric_frame()
    table = frame if make_frame is FRAMES["pandas"] else pl.DataFrame(frame.to_dict("list"))
    estimator = encoded(**settings).fit(table, y)
    if "calibration" in settings:
        assert estimator.temperature_ != 1.0
    gradients = estimator.input_gradients(table)
    assert gradients.shape == frame.shape
    scale = frame.to_numpy().std(axis=0)
    expected = central_differences(estimator, frame)
    is_smooth = np.isfinite(expected)
    assert is_smooth.mean() > 0.97
    gaps = np.where(is_smooth, gradients - expected, 0.0) * scale
    assert_allclose(gaps, 0.0, rtol=0, atol=1e-3 * np.abs(gradients * scale).max())
    assert np.abs(gradients * scale).max(axis=0).min() > 1e-3


def test_gradients_flow_through_flags_and_stop_at_gaps():
    X, y = make_table()
    X[::7, 2] = np.nan
    X[:, 3] = np.where(X[:, 3] > 0, 2.5, 1.5)  # two values, one flag
    estimator = encoded().fit(X, y)
    gradients = estimator.input_gradients(X)
    assert np.isfinite(gradients).all()
    assert_array_equal(gradients[::7, 2], 0.0)
    assert np.abs(np.delete(gradients[:, 2], np.s_[::7])).min() > 0.0
    middle = X.copy()
    middle[:, 3] = 2.0
    step = np.where(np.arange(6) == 3, 1e-5, 0.0)
    difference = estimator.decision_function(middle + step)
    difference -= estimator.decision_function(middle - step)
    slopes = estimator.input_gradients(middle)[:, 3]
    assert_allclose(slopes, difference / 2e-5, rtol=1e-5, atol=1e-9)


@each_frame
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_integrated_gradients_share_out_the_difference_to_the_baseline(make_frame):
    frame, y = numeric_frame()
    table = frame if make_frame is FRAMES["pandas"] else pl.DataFrame(frame.to_dict("list"))
    estimator = encoded(n_members=2, numeric_embedding="periodic").fit(table, y)
    baseline = frame.median().to_numpy()
    shares = estimator.input_gradients(table, method="integrated", baseline=baseline, steps=100)
    difference = estimator.decision_function(table)
    difference = difference - estimator.decision_function(baseline[np.newaxis])
    assert_allclose(shares.sum(axis=1), difference, atol=0.02)


@pytest.mark.parametrize("method", ["gradient", "integrated"])
def test_categories_have_no_gradient(method):
    frame, y = people()
    estimator = encoded().fit(frame, y)
    gradients = estimator.input_gradients(frame, method=method, steps=3)
    assert_array_equal(np.isnan(gradients).all(axis=0), [False, False, True, True, False])
    assert_array_equal(np.isnan(gradients).any(axis=0), [False, False, True, True, False])


def test_gradients_do_not_see_through_other_encoders():
    X, y = make_table()
    estimator = encoded(encoder=StandardScaler()).fit(X, y)
    with pytest.raises(ValueError, match=r"cannot see through the encoder StandardScaler\(\)"):
        estimator.input_gradients(X)
