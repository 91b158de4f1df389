"""Encoders brought along, and classifiers behind an encoder: codes are never taken for numbers."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from data import classifier
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import make_column_transformer
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skdnn.preprocessing import TabularEncoder

N_PLACES = 12


def encoded(**parameters):
    settings = {"encoder": "auto", "dtype": "float64", "learning_rate_init": 0.05, "max_iter": 10}
    return classifier(**{**settings, **parameters})


def make_places(n_samples=160, *, seed=0):
    """Return a table that says next to nothing if places are taken for numbers, and labels."""
    rng = np.random.default_rng(seed)
    place = rng.integers(N_PLACES, size=n_samples)
    table = pd.DataFrame(
        {
            "x": rng.normal(size=n_samples),
            "place": np.array([f"place {i:02}" for i in range(N_PLACES)])[place],
            "z": rng.normal(100.0, 30.0, n_samples),
        }
    )
    return table, ((place % 2 == 1) ^ (rng.random(n_samples) < 0.05)).astype(int)


FRAME, Y = make_places()


class Holder(TransformerMixin, BaseEstimator):
    """An encoder that leaves all to a TabularEncoder, which it keeps where nobody looks."""

    def fit(self, X, y=None):
        self.inner = {"encoders": [TabularEncoder().fit(X)]}
        return self

    def transform(self, X):
        return self.inner["encoders"][0].transform(X)


class Rounded(TabularEncoder):
    def transform(self, X):
        return np.round(super().transform(X), 12)


class Wider(TabularEncoder):
    def transform(self, X):
        Z = super().transform(X)
        return np.hstack([Z[:, :1] ** 2, Z])


def beside(**settings):
    """Codes between other columns, in the middle of what comes out."""
    parts = (StandardScaler(), ["z"]), (TabularEncoder(), ["place"]), (StandardScaler(), ["x"])
    return make_column_transformer(*parts, **settings)


SEEN_THROUGH = {
    "frozen": lambda: FrozenEstimator(TabularEncoder().fit(FRAME)),
    "twice frozen": lambda: FrozenEstimator(FrozenEstimator(TabularEncoder().fit(FRAME))),
    "pipeline": lambda: make_pipeline(TabularEncoder()),
    "pipeline of a frozen one": lambda: make_pipeline(FrozenEstimator(TabularEncoder().fit(FRAME))),
    "after a step": lambda: make_pipeline(FunctionTransformer(), "passthrough", TabularEncoder()),
    "column transformer": beside,
    "the rest": lambda: make_column_transformer(
        (TabularEncoder(), ["place"]), remainder=StandardScaler()
    ),
    "union": lambda: FeatureUnion(
        [("all", TabularEncoder()), ("numbers", make_column_transformer((StandardScaler(), ["z"])))]
    ),
    "holder": Holder,
    "function": lambda: FunctionTransformer(TabularEncoder().fit(FRAME).transform),
    "subclass": Wider,
}


@pytest.mark.parametrize("make", SEEN_THROUGH.values(), ids=SEEN_THROUGH)
def test_codes_of_an_encoder_brought_along_are_looked_up(make):
    estimator = encoded(encoder=make()).fit(FRAME, Y)
    assert estimator._architecture.code_sizes == (N_PLACES + 2,)
    assert estimator.score(FRAME, Y) > 0.9


@pytest.mark.parametrize("make", SEEN_THROUGH.values(), ids=SEEN_THROUGH)
def test_classifier_behind_an_encoder_is_told_of_codes(make):
    model = make_pipeline(make(), encoded()).fit(FRAME, Y)
    assert model[-1].encoder_.is_categorical_.sum() == 1
    assert model.score(FRAME, Y) > 0.9


def test_numbers_beside_codes_are_embedded_on_demand():
    for name, n_embedded in (("auto", 0), (None, 0), ("periodic", 2)):
        columns = encoded(encoder=beside(), numeric_embedding=name).fit(FRAME, Y)._architecture
        assert columns.n_embedded == n_embedded
        assert columns.code_sizes == (N_PLACES + 2,)
    wide = encoded(encoder=Wider(), numeric_embedding="periodic").fit(FRAME, Y)
    assert wide._architecture.n_embedded == 3


@pytest.mark.parametrize("name", ["frozen", "pipeline", "holder", "after a step", "function"])
def test_encoder_within_another_gives_the_same_model(name):
    own = encoded(encoder=SEEN_THROUGH[name]()).fit(FRAME, Y)
    plain = encoded().fit(FRAME, Y)
    assert_array_equal(own.params_, plain.params_)
    assert_array_equal(own.predict_proba(FRAME), plain.predict_proba(FRAME))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_codes_are_categories_in_a_frame(library):
    encoder = TabularEncoder().set_output(transform=library)
    table = FRAME.assign(place=FRAME["place"].where(FRAME["x"] < 1.5))
    model = make_pipeline(encoder, encoded()).fit(table[20:], Y[20:])
    assert model[-1].encoder_.is_categorical_.tolist() == [False, False, True]
    assert list(model[0].transform(table[20:]).columns) == ["x", "z", "place"]
    assert model.score(table, Y) > 0.8
    unseen = table[:2].assign(place="the moon")
    assert np.isfinite(model.predict_proba(unseen)).all()


def test_encoded_frame_keeps_the_index():
    encoder = TabularEncoder().set_output(transform="pandas").fit(FRAME)
    rows = FRAME.iloc[[7, 3, 90]]
    table = encoder.transform(rows)
    assert table.index.tolist() == [7, 3, 90]
    expected = np.asarray(TabularEncoder().fit(FRAME).transform(rows))
    assert_array_equal(table.to_numpy(dtype=float), expected)


def test_rows_columns_and_copies_of_encoded_tables_know_their_codes():
    Z = TabularEncoder().fit_transform(FRAME)
    others = [
        Z[20:],
        Z[np.arange(30)],
        Z[Y == 1],
        Z.copy(),
        copy.deepcopy(Z),
        Z.astype(np.float32),
        pickle.loads(pickle.dumps(Z)),
        np.vstack([Z, Z]),
        Z[:, [0, 2]],
        Z[:, ::-1],
        Z[np.ix_(range(len(Z)), [0, 2])],
        np.column_stack([Z[:, 0], Z]),
    ]
    for other in others:
        is_code = [(column == np.floor(column)).all() for column in np.asarray(other).T]
        assert TabularEncoder().fit(other).is_categorical_.tolist() == is_code
    for number in (Z * 2.0, np.asarray(Z), np.array(Z), Z[:, :2], Z.T.copy()):
        assert not TabularEncoder().fit(number).is_categorical_.any()
    assert type(Z.sum()) is np.float64


def test_encoded_table_may_be_cut_by_cross_validation():
    Z = TabularEncoder().fit_transform(FRAME)
    assert cross_val_score(encoded(), Z, Y, cv=3).min() > 0.8


def test_codes_are_refused_without_an_encoder():
    Z = TabularEncoder().fit_transform(FRAME)
    for settings in ({"encoder": None}, {"max_fun": 100}):
        with pytest.raises(ValueError, match=r"its columns \[2\] are categories"):
            encoded(**settings).fit(Z, Y)
    encoded(encoder=None).fit(np.asarray(Z), Y)  # if one wants that


LOST = {
    "scaled": lambda: make_pipeline(TabularEncoder(), StandardScaler()),
    "one of two": lambda: make_column_transformer(
        (make_pipeline(TabularEncoder(), StandardScaler()), ["place"]),
        (TabularEncoder(), ["place"]),
    ),
    "computed with": lambda: make_pipeline(TabularEncoder(), FunctionTransformer(lambda Z: Z + 1)),
    "sparse": lambda: make_column_transformer(
        (TabularEncoder(), ["place"]),
        (make_pipeline(FunctionTransformer(lambda x: 0.0 * x), FunctionTransformer(to_csr)), ["x"]),
        sparse_threshold=1.0,
    ),
}


def to_csr(x):
    from scipy import sparse

    return sparse.csr_array(np.asarray(x))


@pytest.mark.parametrize("make", LOST.values(), ids=LOST)
def test_encoder_that_takes_codes_for_numbers_is_refused(make):
    with pytest.raises(ValueError, match=r"codes are not among.*max_one_hot"):
        encoded(encoder=make()).fit(FRAME, Y)
    flags = make()
    names = [name for name in flags.get_params() if name.endswith("tabularencoder__max_one_hot")]
    encoded(encoder=flags.set_params(**dict.fromkeys(names, 100))).fit(FRAME, Y)


def test_subclass_that_computes_with_codes_is_refused():
    with pytest.raises(ValueError, match="codes are not among"):
        encoded(encoder=Rounded()).fit(FRAME, Y)
    encoded(encoder=Rounded(max_one_hot=100)).fit(FRAME, Y)


def test_categories_of_an_encoder_are_refused():
    encoder = FunctionTransformer(lambda X: X[["place"]].astype("category"))
    with pytest.raises(ValueError, match=r"must return numbers, but its columns \['place'\]"):
        encoded(encoder=encoder).fit(FRAME, Y)


def test_frozen_encoder_is_not_fitted_and_not_shared():
    inner = TabularEncoder().fit(FRAME[:40])
    for encoder in (FrozenEstimator(inner), make_pipeline(FrozenEstimator(inner))):
        estimator = encoded(encoder=encoder).fit(FRAME, Y)
        before = estimator.predict_proba(FRAME)
        assert estimator.partial_fit(FRAME, Y).encoder_ is not inner
        estimator = encoded(encoder=encoder).fit(FRAME, Y)
        assert_array_equal(estimator.predict_proba(FRAME), before)
        inner.fit(FRAME.assign(z=5.0 * FRAME["z"]))
        assert_array_equal(estimator.predict_proba(FRAME), before)
        inner.fit(FRAME[:40])
    assert_array_equal(
        encoded(encoder=FrozenEstimator(inner)).fit(FRAME, Y).encoder_.transform(FRAME),
        inner.transform(FRAME),
    )


def test_frozen_encoder_must_be_fitted():
    with pytest.raises(ValueError, match="not fitted"):
        encoded(encoder=FrozenEstimator(TabularEncoder())).fit(FRAME, Y)


def test_training_goes_on_with_encoders_brought_along():
    for name in ("frozen", "pipeline", "column transformer"):
        estimator = encoded(encoder=SEEN_THROUGH[name](), warm_start=True, max_iter=2)
        encoder = estimator.fit(FRAME, Y).encoder_
        assert estimator.fit(FRAME, Y).partial_fit(FRAME, Y).encoder_ is encoder


def test_numbers_of_a_frozen_encoder_have_gradients():
    numbers = FRAME[["x", "z"]]
    frozen = FrozenEstimator(TabularEncoder().fit(numbers))
    own, plain = (encoded(encoder=e).fit(numbers, Y) for e in (frozen, "auto"))
    assert_array_equal(own.input_gradients(numbers), plain.input_gradients(numbers))


# Columns at predict that are not those of fit.


def test_names_of_the_columns_are_compared_with_those_in_fit():
    table = pd.DataFrame({"place": FRAME["place"].where(FRAME["place"] < "place 03", "x")})
    estimator = encoded(encoder=FunctionTransformer(pd.get_dummies)).fit(table, Y)
    estimator.predict(table)
    other = table.replace("place 00", "place 09")
    message = r"(?s)encoder FunctionTransformer.*same columns as in fit.*unseen at fit.*place 09"
    for call in (estimator.predict, estimator.predict_proba, estimator.decision_function):
        with pytest.raises(ValueError, match=message):
            call(other)
    with pytest.raises(ValueError, match=message):
        estimator.partial_fit(other, Y)
    with pytest.raises(ValueError, match=message):
        encoded(encoder=FunctionTransformer(pd.get_dummies), early_stopping=True).fit(
            table, Y, X_val=other, y_val=Y
        )
    estimator.encoder_.func = lambda X: pd.get_dummies(X).iloc[:, ::-1]
    with pytest.raises(ValueError, match=r"(?s)same columns.*must be in the same order"):
        estimator.predict(table)


def test_names_of_several_types_are_none():
    encoder = FunctionTransformer(lambda X: X.set_axis([1, "z"], axis=1))
    encoded(encoder=encoder).fit(FRAME[["x", "z"]], Y).predict(FRAME[["x", "z"]])


def test_number_of_the_columns_is_compared_with_that_in_fit():
    flags = FunctionTransformer(lambda X: pd.get_dummies(X).to_numpy(float))
    estimator = encoded(encoder=flags).fit(FRAME[["place"]], Y)
    with pytest.raises(ValueError, match=r"same columns as in fit\. X has 1 features.*12 features"):
        estimator.predict(FRAME[["place"]][:1])


def test_number_of_the_rows_is_that_of_the_table():
    encoder = FunctionTransformer(lambda X: X.dropna())
    estimator = encoded(encoder=encoder).fit(FRAME[["x", "z"]], Y)
    gappy = FRAME[["x", "z"]].where(FRAME["x"] > 0.0)
    with pytest.raises(ValueError, match="must return a row for each of the 160 rows"):
        estimator.predict(gappy)
    with pytest.raises(ValueError, match="must return a row for each of the 160 rows"):
        encoded(encoder=encoder).fit(gappy, Y)


def test_codes_outlive_the_memory_of_a_pipeline(tmp_path):
    for _ in range(2):  # the second fit reads what the first has cached
        pipeline = make_pipeline(TabularEncoder(), encoded(), memory=str(tmp_path)).fit(FRAME, Y)
        assert pipeline[-1].encoder_.is_categorical_.tolist() == [False, False, True]


def test_codes_are_compared_with_those_in_fit():
    encode = FunctionTransformer(lambda X: TabularEncoder().fit_transform(X))
    estimator = encoded(encoder=encode).fit(FRAME, Y)
    with pytest.raises(ValueError, match="has other codes for levels"):
        estimator.predict(FRAME[FRAME["place"] > "place 01"])


@pytest.mark.parametrize("features", [["place"], [1], np.array([False, True, False])], ids=str)
def test_choices_that_are_told_may_be_set_beside_the_categories(features):
    estimator = encoded(categorical_features=features).fit(FRAME, Y)
    answers = estimator.predict_proba(FRAME)
    estimator.set_params(**estimator.resolved_params_).fit(FRAME, Y)
    assert_array_equal(estimator.predict_proba(FRAME), answers)
    with pytest.raises(ValueError, match="no effect"):
        encoded(categorical_features=[0], encoder=TabularEncoder([1])).fit(FRAME, Y)
