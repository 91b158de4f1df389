"""Tables, labels and weights of other libraries: each gives what pandas with NumPy gives."""

import datetime
import subprocess
import sys
import warnings
from decimal import Decimal

import narwhals
import numpy as np
import pandas as pd
import polars as pl
import pytest
from data import classifier, make_table
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skdnn import DeepBinaryClassifier
from skdnn.preprocessing import TabularEncoder

pa = pytest.importorskip("pyarrow")
dd = pytest.importorskip("dask.dataframe")

N = 60
NUMBERS, Y = make_table(N)
WEIGHTS = np.random.default_rng(0).random(N) + 0.1
LEVELS = np.take(["high", "low", "mid"], np.arange(N) % 3)
FRAME = pd.DataFrame(
    {
        "x": np.where(np.arange(N) % 7 == 0, np.nan, NUMBERS[:, 0]),
        "count": np.arange(N) % 11,
        "price": NUMBERS[:, 1].round(2),
        "is_new": np.arange(N) % 2 == 0,
        "text": LEVELS,
        "level": pd.Categorical(LEVELS),
    }
)
ARROW = pa.table(
    {
        "x": pa.array(FRAME["x"], from_pandas=True),
        "count": pa.array(FRAME["count"], pa.uint8()),
        "price": pa.array([Decimal(str(x)) for x in FRAME["price"]], pa.decimal128(9, 2)),
        "is_new": pa.array(FRAME["is_new"]),
        "text": pa.array(LEVELS.tolist()),
        "level": pa.array(LEVELS.tolist()).dictionary_encode(),
    }
)
FRAMES = {
    "pandas": lambda: FRAME,
    "pandas nullable": FRAME.convert_dtypes,
    "pandas with pyarrow": lambda: ARROW.to_pandas(types_mapper=pd.ArrowDtype),
    "pandas objects": lambda: FRAME.astype(object),
    "polars": lambda: pl.from_arrow(ARROW),
    "pyarrow": lambda: ARROW,
    "pyarrow in chunks": lambda: pa.concat_tables([ARROW.slice(0, 7), ARROW.slice(7)]),
    "RecordBatch": lambda: ARROW.combine_chunks().to_batches()[0],
    "dask": lambda: dd.from_pandas(FRAME, npartitions=3),
    "narwhals": lambda: narwhals.from_native(FRAME),
}
each_frame = pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)


def encoded(**parameters):
    return classifier(**{"encoder": "auto", "max_iter": 1, "batch_size": N, **parameters})


@each_frame
def test_encoder_reads_tables_of_each_library(make):
    expected = TabularEncoder().fit(FRAME)
    encoder = TabularEncoder().fit(make())
    assert encoder.feature_names_in_.tolist() == list(FRAME)
    assert encoder.categories_ == expected.categories_
    assert_array_equal(encoder.is_categorical_, expected.is_categorical_)
    for one, other in ((encoder, FRAME), (encoder, make()), (expected, make())):
        assert_array_equal(one.transform(other), expected.transform(FRAME))


@each_frame
def test_classifier_reads_tables_of_each_library(make):
    table = make()
    expected = encoded().fit(FRAME, Y, WEIGHTS)
    model = encoded().fit(table, Y, WEIGHTS)
    assert_array_equal(model.params_, expected.params_)
    assert model.feature_names_in_.tolist() == list(FRAME)
    assert_array_equal(model.predict_proba(table), expected.predict_proba(FRAME))
    assert_array_equal(model.partial_fit(table, Y).params_, expected.partial_fit(FRAME, Y).params_)
    val = encoded(early_stopping=True).fit(table, Y, X_val=table, y_val=Y)
    assert_array_equal(val.predict(table), val.predict(FRAME))


@each_frame
def test_numbers_and_booleans_are_read_without_an_encoder_and_have_gradients(make):
    names = ["count", "price", "is_new"]
    table = make()
    table = table.select(names) if hasattr(table, "select") else table[names]
    array = FRAME[names].to_numpy(float)
    for settings in ({"encoder": None}, {"categorical_features": None}):
        model = encoded(learning_rate_init=1e-3, **settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it converges or not
            expected = model.fit(table, Y).input_gradients(table)
            names_in = model.feature_names_in_.tolist()
            model.fit(array, Y)
        assert names_in == names
        assert_array_equal(expected, model.input_gradients(array))


@pytest.mark.parametrize("name", sorted(FRAMES.keys() - {"pandas objects"}))
def test_booleans_are_read_as_numbers_without_a_call_for_each(name, monkeypatch):
    columns, table = ["is_new", "count"], FRAMES[name]()
    table = table.select(columns) if hasattr(table, "select") else table[columns]
    expected = TabularEncoder(None).fit_transform(FRAME[columns].to_numpy(float))
    monkeypatch.setattr("skdnn.preprocessing.columns.to_floats", None)
    assert_array_equal(TabularEncoder(None).fit_transform(table), expected)


SERIES = {
    "pandas": pd.Series,
    "pandas nullable": lambda values: pd.Series(values).convert_dtypes(),
    "pandas with pyarrow": lambda values: pd.Series(values).convert_dtypes(dtype_backend="pyarrow"),
    "polars": pl.Series,
    "pyarrow": lambda values: pa.array(values.tolist()),
    "ChunkedArray": lambda values: pa.chunked_array([values[:9].tolist(), values[9:].tolist()]),
    "dask": lambda values: dd.from_pandas(pd.Series(values), npartitions=2),
    "narwhals": lambda values: narwhals.from_native(pd.Series(values), series_only=True),
}


@pytest.mark.parametrize("make", SERIES.values(), ids=SERIES)
@pytest.mark.parametrize("labels", [[0, 1], [False, True], ["no", "yes"]], ids=str)
def test_labels_and_weights_are_series_of_each_library(make, labels):
    y = np.take(labels, Y)
    given, weights = make(y), make(WEIGHTS)
    expected = encoded().fit(FRAME, y, WEIGHTS)
    model = encoded().fit(FRAME, given, weights)
    assert model.classes_.tolist() == labels
    assert_array_equal(model.params_, expected.params_)
    assert model.score(FRAME, given, weights) == expected.score(FRAME, y, WEIGHTS)
    first = encoded().partial_fit(FRAME, given, classes=labels, sample_weight=weights)
    assert_array_equal(first.encoder_.transform(FRAME), expected.encoder_.transform(FRAME))
    rows = {"X_val": FRAME, "y_val": given, "sample_weight_val": weights}
    encoded(early_stopping=True).fit(FRAME, given, weights, **rows)


@pytest.mark.parametrize("make", [pl.Series, lambda levels: pa.chunked_array([levels.tolist()])])
def test_labels_may_be_levels(make):
    y = np.take(["no", "yes"], Y)
    given = make(y)
    given = given.cast(pl.Categorical) if hasattr(given, "rename") else given.dictionary_encode()
    assert_array_equal(encoded().fit(FRAME, given).classes_, ["no", "yes"])


TIMES = {
    "timestamp": pa.array([datetime.datetime(2020, 1, 1)] * N),
    "with a zone": pa.array([0] * N, pa.timestamp("s", "UTC")),
    "date": pa.array([1] * N, pa.date32()),
    "time": pa.array([1] * N, pa.time64("us")),
    "duration": pa.array([1] * N, pa.duration("s")),
}


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES)
@pytest.mark.parametrize("encoder", ["auto", None])
def test_times_are_named_as_such(times, encoder):
    table = pa.table({"x": NUMBERS[:, 0], "when": times})
    for given in (table, table.to_batches()[0], table.to_pandas(), pl.from_arrow(table)):
        with pytest.raises(ValueError, match=r"Columns \['when'\] of X hold dates, times or dur"):
            encoded(encoder=encoder).fit(given, Y)


@pytest.mark.parametrize("encoder", ["auto", None])
def test_intervals_of_arrow_are_times_too(encoder):
    """Polars does not read them."""
    when = pa.array([(i % 3, 2, 3) for i in range(N)], pa.month_day_nano_interval())
    table = pa.table({"x": NUMBERS[:, 0], "when": when})
    for given in (table, table.to_pandas()):
        with pytest.raises(ValueError, match=r"Columns \['when'\] of X hold dates, times or dur"):
            encoded(encoder=encoder).fit(given, Y)


def test_times_in_an_array_are_named_without_an_encoder():
    with pytest.raises(ValueError, match=r"Columns \[0\] of X hold dates"):
        encoded(encoder=None).fit(np.full((N, 1), "2020-01-01", dtype="datetime64[s]"), Y)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1, 2]] * N),
        pa.array([[1, 2]] * N, pa.list_(pa.int64(), 2)),
        pa.array([{"u": 1}] * N),
    ],
    ids=lambda column: str(column.type),
)
def test_nested_columns_are_named(column):
    table = pa.table({"x": NUMBERS[:, 0], "odd": column})
    for given in (table, pl.from_arrow(table)):
        for encoder in ("auto", None):
            with pytest.raises(ValueError, match=r"Columns \['odd'\] of X hold neither numbers"):
                encoded(encoder=encoder).fit(given, Y)


def test_missing_values_of_arrow():
    table = pa.table(
        {
            "number": [1.5, None, 2.5, 4.5],
            "large": [2**60, None, 2**60 + 1, 2**60],
            "code": pa.array([7, None, 9, 9]).dictionary_encode(),
            "flag": [True, None, False, True],
            "text": ["a", None, "b", "a"],
            "bytes": [b"a", None, b"b", b"a"],
            "empty": pa.nulls(4),
        }
    )
    names = ["large", "code", "flag", "text", "bytes"]
    with pytest.warns(UserWarning, match=r"Columns \['empty'\] of X have no value"):
        encoder = TabularEncoder(names, min_frequency=1).fit(table)
    levels = [[2**60, 2**60 + 1], [7, 9], [False, True], ["a", "b"], [b"a", b"b"]]
    assert encoder.categories_ == [None, *levels, None]
    encoded = encoder.transform(table)
    is_missing = [j for j, name in enumerate(encoder.get_feature_names_out()) if "_miss" in name]
    assert len(is_missing) == 6
    assert (encoded[1, is_missing] > 0.0).all()
    assert (encoded[[0, 2, 3]][:, is_missing] < 0.0).all()


def test_decimals_are_the_nearest_numbers():
    numbers = np.random.default_rng(0).normal(size=N).round(2)
    expected = TabularEncoder().fit_transform(numbers[:, None])
    decimals = {"d": [Decimal(str(x)) for x in numbers]}
    for table in (pa.table(decimals), pl.DataFrame(decimals), pd.DataFrame(decimals)):
        assert_array_equal(TabularEncoder().fit_transform(table), expected)


def test_order_of_columns_is_checked_in_each_library():
    model = encoded().fit(FRAME, Y)
    for make in FRAMES.values():
        table = make()
        names = list(FRAME)[::-1]
        table = table.select(names) if hasattr(table, "select") else table[names]
        with pytest.raises(ValueError, match="feature names should match"):
            model.predict(table)


def test_blocks_of_a_large_table_are_read_as_the_whole():
    table = pa.concat_tables([ARROW] * 200)
    encoder = TabularEncoder().fit(ARROW)
    encoded = encoder.transform(table)
    assert_array_equal(encoded, np.tile(encoder.transform(ARROW), (200, 1)))
    model = classifier(encoder=encoder, dtype="float64").fit(ARROW, Y)
    assert_allclose(model.predict_proba(table)[-N:], model.predict_proba(ARROW), rtol=1e-12)


def test_sparse_columns_are_made_dense_with_one_warning():
    dense = pd.DataFrame({"a": np.maximum(NUMBERS[:, 0], 0.0), "b": NUMBERS[:, 1]})
    some = dense.assign(a=pd.arrays.SparseArray(dense["a"], fill_value=0.0))
    expected = encoded(dtype="float64").fit(dense, Y)
    for encoder, table in (("auto", some), (TabularEncoder(), some.astype("Sparse[float]"))):
        with pytest.warns(UserWarning, match=r"sparse columns found.*\['a'") as caught:
            model = encoded(encoder=encoder, dtype="float64").fit(table, Y)
        assert len(caught) == 1
        assert_array_equal(model.params_, expected.params_)
        for method in ("predict", "explain", "input_gradients"):
            with pytest.warns(UserWarning, match="sparse columns found") as caught:
                result = getattr(model, method)(table)
            assert [warning.filename for warning in caught] == [__file__]
            of_dense = getattr(expected, method)(dense)
            assert_array_equal(*(getattr(r, "values", r) for r in (result, of_dense)))
    with pytest.warns(UserWarning, match="sparse columns found") as caught:
        encoded(encoder=None).fit(some, Y)
    assert len(caught) == 1


SPARSE = {
    "float": (np.maximum(NUMBERS[:, 0], 0.0), 0.0),
    "mostly missing": (np.where(NUMBERS[:, 0] > 0.0, NUMBERS[:, 0], np.nan), np.nan),
    "mostly ones": (np.arange(N) % 2, 1),
    "booleans": (np.arange(N) % 3 == 0, False),
    "mostly true": (np.arange(N) % 3 > 0, True),
    "strings": (LEVELS, "low"),
}


def make_sparse(*names):
    arrays = {
        name: pd.arrays.SparseArray(values, fill_value=fill)
        for name, (values, fill) in SPARSE.items()
    }
    return pd.DataFrame({name: arrays[name] for name in names})


@pytest.mark.parametrize(
    "names",
    [
        *(("mostly missing",), ("mostly ones",), ("mostly true",), ("strings",)),
        *(("float", "booleans"), ("float", "mostly ones"), ("booleans", "strings"), tuple(SPARSE)),
    ],
)
def test_sparse_columns_that_are_no_matrix_are_made_dense(names):
    table, dense = make_sparse(*names), pd.DataFrame({name: SPARSE[name][0] for name in names})
    with pytest.warns(UserWarning, match="sparse columns found") as caught:
        model = encoded().fit(table, Y)
    assert len(caught) == 1
    assert_allclose(model.params_, encoded().fit(dense, Y).params_, rtol=1e-12)


@pytest.mark.parametrize("names", [("float",), ("booleans",)])
def test_sparse_columns_that_leave_out_zeros_stay_sparse(names):
    table, matrix = make_sparse(*names), csr_array(np.transpose([SPARSE[n][0] for n in names]))
    model, expected = (encoded().fit(X, Y) for X in (table, matrix.astype(np.float64)))
    assert_allclose(model.params_, expected.params_, rtol=1e-12)


def test_encoder_of_the_user_gets_the_table_as_it_is():
    own = make_column_transformer((StandardScaler(), ["count"]), (OneHotEncoder(), ["text"]))
    expected = encoded(encoder=own).fit(FRAME, Y)
    for table in (pl.from_arrow(ARROW), dd.from_pandas(FRAME, npartitions=2)):
        model = encoded(encoder=own).fit(table, Y)
        assert_array_equal(model.params_, expected.params_)


WITHOUT_LIBRARIES = """
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pandas", "polars", "pyarrow", "dask"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NotInstalled())
import numpy as np
from skdnn.preprocessing import TabularEncoder
rows = [[1.0, "a"], [2.0, "b"], [4.0, "a"], [None, "b"]]
print(TabularEncoder([1]).fit_transform(np.array(rows, dtype=object)).shape)
"""


def test_none_of_these_libraries_is_needed():
    command = [sys.executable, "-c", WITHOUT_LIBRARIES]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "(4, 3)"


def test_default_classifier_learns_from_arrow():
    model = DeepBinaryClassifier((4,), max_iter=2, random_state=0).fit(ARROW, Y)
    assert np.isfinite(model.predict_proba(ARROW)).all()
