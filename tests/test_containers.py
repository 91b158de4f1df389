"""Tables, parameters and subclasses as strangers have them: each works, or says what to do."""

import threading
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from data import classifier, make_table, needs
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

from skdnn import DeepBinaryClassifier
from skdnn.preprocessing import TabularEncoder

X, Y = make_table(60, 6)
FRAME = pd.DataFrame(X, columns=list("abcdef"))
COLUMNS = {name: X[:, j] for j, name in enumerate(FRAME)}


def encoded(**parameters):
    return classifier(**{"encoder": "auto", "max_iter": 1, "batch_size": 60, **parameters})


# Containers that are no tables.

OTHERS = {
    "dict": (COLUMNS, r"got a dict\. Pass pandas\.DataFrame\(X\)"),
    "dict of one row": ({"a": 1.0, "b": "x"}, r"got a dict\. Pass pandas\.DataFrame\(\[X\]\)"),
    "list of dicts": (FRAME.to_dict("records"), r"got a list of dicts\. Pass pandas\.DataFrame"),
    "repeated names": (FRAME.set_axis(["a"] * FRAME.shape[1], axis=1), r"same name, \['a'\]"),
    "repeated names of Arrow": (
        pa.RecordBatch.from_arrays([pa.array(X[:, 0])] * 2, names=["a", "a"]),
        r"same name, \['a'\]",
    ),
    "LazyFrame": (pl.DataFrame(COLUMNS).lazy(), r"got a LazyFrame.*Pass X\.collect\(\)"),
    "record array": (FRAME.to_records(), r"named fields\. Pass pandas\.DataFrame\(X\)"),
    "generator": ((row for row in X), r"got a generator\. Pass a list of rows"),
    "zip": (zip(X, strict=True), r"got a zip\."),
    "set": ({1.0, 2.0}, r"got a set\."),
    "text": ("a,b", r"got a str\."),
    "None": (None, r"got None\."),
}


@pytest.mark.parametrize(("table", "words"), OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("encoder", [None, "auto"])
def test_what_is_no_table_is_refused_with_what_to_do(table, words, encoder):
    estimator = encoded(encoder=encoder)
    with pytest.raises(TypeError, match=f"X must be a table.*{words}"):
        estimator.fit(table, Y)
    with pytest.raises(TypeError, match=f"X must be a table.*{words}"):
        estimator.partial_fit(table, Y, classes=[0, 1])
    estimator.fit(X, Y)
    for method in ("predict", "predict_proba", "decision_function", "input_gradients"):
        with pytest.raises(TypeError, match=f"X must be a table.*{words}"):
            getattr(estimator, method)(table)
    if table is not None:
        with pytest.raises(TypeError, match=f"X_val.*{words}"):
            encoded(encoder=encoder, early_stopping=True).fit(X, Y, X_val=table, y_val=Y)
    if encoder == "auto":
        with pytest.raises(TypeError, match=words):
            TabularEncoder().fit(table)
        with pytest.raises(TypeError, match=words):
            TabularEncoder().fit(X).transform(table)


@pytest.mark.parametrize("table", [X[0], X[0].tolist(), pl.Series(X[0]), FRAME["a"], 3.0, ["a"]])
def test_tables_of_other_shapes_are_refused_as_by_scikit_learn(table):
    estimator = encoded().fit(X, Y)
    for call in (estimator.predict, estimator.input_gradients, lambda T: encoded().fit(T, Y)):
        with pytest.raises(ValueError, match=r"Expected (2D array|a 2-dimensional container)"):
            call(table)


def test_tables_of_arrow_are_read_by_their_columns():
    levels = ["a", "b", "c"] * 20
    table = pa.table({**COLUMNS, "level": levels})
    model = encoded().fit(table, Y)
    frame = FRAME.assign(level=levels)
    assert model.feature_names_in_.tolist() == list(frame)
    assert_array_equal(model.params_, encoded().fit(frame, Y).params_)
    assert_array_equal(model.predict_proba(table), model.predict_proba(frame))


def test_encoders_of_the_user_may_take_other_rows():
    records = FRAME.to_dict("records")
    model = encoded(encoder=DictVectorizer(), early_stopping=True).fit(
        records, Y, X_val=records, y_val=Y
    )
    assert_array_equal(model.predict_proba(records), model.predict_proba(records * 2)[:60])
    texts = [f"word{i % 3} word{i % 5}" for i in range(60)]
    for table in (texts, pd.Series(texts), np.array(texts)):
        model = encoded(encoder=TfidfVectorizer()).fit(table, Y).partial_fit(table, Y)
        assert len(model.predict(table[:3])) == 3
    for table in (COLUMNS, pl.DataFrame(COLUMNS).lazy(), None):
        with pytest.raises(TypeError, match="X must be a table"):
            encoded(encoder=StandardScaler()).fit(table, Y)


def nested(values, dtype):
    return pd.Series(pd.array(pa.array(values, dtype), dtype=pd.ArrowDtype(dtype)))


@pytest.mark.parametrize(
    "column",
    [
        nested([[1, 2]] * 60, pa.list_(pa.int64())),
        nested([[1, 2]] * 60, pa.list_(pa.int64(), 2)),
        nested([[1]] * 60, pa.large_list(pa.int64())),
        nested([{"u": 1}] * 60, pa.struct([("u", pa.int64())])),
        pytest.param(
            nested([[("u", 1)]] * 60, pa.map_(pa.string(), pa.int64())),
            marks=needs("narwhals>=2.29", "a word for maps, which are else unhashable lists"),
        ),
    ],
    ids=lambda column: str(column.dtype),
)
def test_nested_columns_of_arrow_are_named(column):
    with pytest.raises(ValueError, match=r"Columns \['odd'\] of X hold neither numbers"):
        encoded().fit(FRAME.assign(odd=column), Y)


@pytest.mark.parametrize(
    "weights", [dict.fromkeys(range(60), 1.0), {1.0}, iter([1.0]), [pd.NA] * 60]
)
def test_weights_that_are_no_numbers_are_refused_by_name(weights):
    with pytest.raises(TypeError, match="sample_weight must be numbers, one for each row"):
        encoded().fit(X, Y, weights)
    with pytest.raises(TypeError, match="sample_weight_val must be numbers"):
        encoded(early_stopping=True).fit(X, Y, X_val=X, y_val=Y, sample_weight_val=weights)
    with pytest.raises(ValueError, match="sample_weight must be numbers, one for each row: could"):
        encoded().fit(X, Y, ["heavy"] * 60)


@pytest.mark.parametrize("dtype", ["U", "S", np.dtypes.StringDType(), object], ids=str)
def test_text_in_an_array_is_named_by_its_column(dtype):
    table = np.column_stack([np.arange(60).astype(str), np.take(["p", "q"], Y)]).astype(dtype)
    with pytest.raises(ValueError, match="Column 1 of X is read as numbers"):
        encoded(categorical_features=None).fit(table, Y)
    numbers = encoded().fit(table[:, :1], Y)
    assert_array_equal(numbers.params_, encoded().fit(np.arange(60.0)[:, None], Y).params_)


# Names of features: one warning for one mistake.


@pytest.mark.parametrize("encoder", [None, "auto", StandardScaler()], ids=str)
@pytest.mark.parametrize(("first", "second"), [(FRAME, X), (X, FRAME)], ids=["lost", "new"])
def test_names_are_warned_of_once(encoder, first, second):
    estimator = encoded(encoder=encoder, early_stopping=True).fit(first, Y)
    many = pd.concat([second] * 200) if second is FRAME else np.tile(second, (200, 1))
    calls = {
        "predict": lambda: estimator.predict(second),
        "many rows": lambda: estimator.predict(many),
        "partial_fit": lambda: clone(estimator).fit(first, Y).partial_fit(second, Y),
        "X_val": lambda: clone(estimator).fit(first, Y, X_val=second, y_val=Y),
    }
    if not isinstance(encoder, StandardScaler):
        calls["gradients"] = lambda: estimator.input_gradients(second)
        calls["integrated"] = lambda: estimator.input_gradients(
            second, method="integrated", steps=2
        )
    for name, call in calls.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        messages = [str(w.message) for w in caught if "feature names" in str(w.message)]
        n_warners = 2 if isinstance(encoder, StandardScaler) else 1  # which warns by itself
        assert len(messages) == n_warners, (name, messages)


def test_names_are_warned_of_by_the_encoder_itself():
    for first, second in ((FRAME, X), (X, FRAME)):
        encoder = TabularEncoder().fit(first)
        for call in (encoder.transform, encoder.input_slopes):
            with pytest.warns(UserWarning, match="feature names, but TabularEncoder was fitted"):
                call(second)


def test_names_are_compared_with_those_of_a_frozen_encoder():
    from sklearn.frozen import FrozenEstimator

    frozen = FrozenEstimator(TabularEncoder().fit(FRAME))
    with pytest.raises(ValueError, match="feature names should match"):
        encoded(encoder=frozen).fit(FRAME[list("bacdef")], Y)


# Parameters.

PARAMETERS = {
    "hidden_layer_sizes": [np.array(4), np.int64(4), pd.Series([4]), (4,)],
    "activation": [np.array("tanh"), np.str_("tanh"), np.array(["tanh"]), pd.Series(["tanh"])],
    "dropout": [np.array(0.5), np.float32(0.5), np.array([0.5]), pd.Series([0.5])],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name in PARAMETERS for value in PARAMETERS[name]], ids=str
)
def test_arrays_of_one_value_are_that_value(name, value):
    plain = {"hidden_layer_sizes": 4, "activation": "tanh", "dropout": 0.5}[name]
    odd, usual = (encoded(**{"hidden_layer_sizes": 4, name: v}).fit(X, Y) for v in (value, plain))
    assert_array_equal(odd.params_, usual.params_)


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize(
    "value",
    [{4, 8}, frozenset({0.1}), {4: 1}, {"tanh"}, np.array(None), np.array([[4, 4]])],
    ids=str,
)
def test_parameters_without_order_or_sense_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}.* must be"):
        encoded(**{name: value}).fit(X, Y)


@pytest.mark.parametrize("encoder", ["auto", None])
def test_parameters_of_an_encoder_need_one(encoder):
    estimator = encoded(encoder=encoder)
    message = r"encoder__max_one_hot is a parameter.*Set encoder=TabularEncoder\(\)"
    with pytest.raises(ValueError, match=message):
        estimator.set_params(encoder__max_one_hot=3)
    with pytest.raises(ValueError, match=message):
        GridSearchCV(estimator, {"encoder__max_one_hot": [2, 3]}, cv=2).fit(X, Y)
    estimator.set_params(encoder=TabularEncoder(), encoder__max_one_hot=3)
    assert estimator.encoder.max_one_hot == 3


class Narrow(DeepBinaryClassifier):
    """Has few parameters of its own, one of which is new."""

    def __init__(self, alpha=0.0, extra="a", random_state=0):
        super().__init__(
            (4,), alpha=alpha, n_members=2, max_iter=2, batch_size=60, random_state=random_state
        )
        self.extra = extra


def test_subclass_may_take_few_parameters():
    narrow = clone(Narrow(alpha=0.5)).fit(FRAME, Y)
    wide = DeepBinaryClassifier(
        (4,), alpha=0.5, n_members=2, max_iter=2, batch_size=60, random_state=0
    ).fit(FRAME, Y)
    assert_array_equal(narrow.params_, wide.params_)
    assert narrow.resolved_params_.keys() == wide.resolved_params_.keys()
    narrow.partial_fit(FRAME, Y).input_gradients(FRAME)
    Narrow().fit(FRAME, Y, X_val=FRAME, y_val=Y)
    search = GridSearchCV(Narrow(), {"alpha": [0.0, 1.0]}, cv=2).fit(FRAME, Y)
    assert search.best_estimator_.extra == "a"


# NumPy's errors, which a user's process may have turned into exceptions.


def use(estimator):
    estimator.fit(X, Y)
    if estimator.solver != "lbfgs":
        estimator.partial_fit(X, Y)
    far = X * (1e200 if estimator.encoder_ is not None else 1.0)
    estimator.predict_log_proba(far)
    estimator.predict(far)
    estimator.input_gradients(far)
    return estimator


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"solver": "rmsprop"},
        {"activation": "silu", "n_members": 5, "early_stopping": True},
        {"dtype": "float32", "learning_rate_init": 1e-300},
        {"loss": "focal", "calibration": "temperature", "early_stopping": True},
        {"encoder": None},
    ],
    ids=str,
)
def test_errors_of_numpy_may_be_turned_into_exceptions(settings):
    usual = use(encoded(max_iter=3, **settings))
    with np.errstate(all="raise"):
        odd = use(encoded(max_iter=3, **settings))
        assert np.geterr()["under"] == "raise"
    assert_array_equal(odd.params_, usual.params_)


def test_errors_of_numpy_may_be_exceptions_in_threads():
    failures = []

    def fit():
        np.seterr(all="raise")
        try:
            use(encoded(n_members=4, n_jobs=2, max_iter=3, solver="rmsprop"))
            TabularEncoder().fit(X * 1e-300).transform(X)
        except FloatingPointError as error:
            failures.append(error)

    threads = [threading.Thread(target=fit) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
