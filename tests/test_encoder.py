"""Any table becomes one finite matrix, with the same meaning whoever made the table."""

import datetime
import pickle
from decimal import Decimal
from enum import IntEnum, StrEnum
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from skdnn.preprocessing import TabularEncoder

NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1.0, 2.0, np.nan, 1e308, -1e308, 5e-324]),
)
LEVELS = st.sampled_from(["red", "green", "blue", 1, 1.0, 2.5, False, None, np.nan, ""])
MAY_BE_RARE = pytest.mark.filterwarnings("ignore:In columns .* most rows have a rare level")
MAY_BE_UNKNOWN = pytest.mark.filterwarnings("ignore:In columns .* no level is among those of fit")
MAY_BE_EMPTY = pytest.mark.filterwarnings("ignore:Columns .* have no value in any row")


@parametrize_with_checks(
    [
        TabularEncoder(),
        TabularEncoder(None),
        TabularEncoder([0], max_one_hot=3, min_frequency=1),
    ]
)
@MAY_BE_RARE
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


# ---------------------------------------------------------------------------------------- helpers


def people(n=24):
    """A table with each kind of column, twice as long as the period of the longest one."""
    i = np.arange(n)
    return pd.DataFrame(
        {
            "age": np.where(i % 7 == 3, np.nan, i**2.0),
            "sex": pd.Series(np.array(["male", "female"])[i % 2]),
            "color": pd.Categorical(np.array(["red", "green", "blue"])[i % 3]),
            "zip": pd.Series(np.array([f"z{j:02}" for j in range(12)])[i % 12]),
            "is_new": i % 4 == 1,
            "count": i % 5,
            "half": np.where(i % 2, 2.5, 1.5),
        }
    )


def to_polars(frame):
    objects = frame.astype(object).where(frame.notna(), None)
    table = pl.DataFrame(objects.to_dict("list"))
    return table.with_columns(pl.col("color").cast(pl.Categorical))


def encode(column, **params):
    """Encode one category column; return the matrix, the ends of its names, and the encoder."""
    frame = pd.DataFrame({"c": pd.Series(column, dtype=object)})
    encoder = TabularEncoder(**params).fit(frame)
    names = [name.removeprefix("c") for name in encoder.get_feature_names_out()]
    return encoder.transform(frame), names, encoder


def transform_level(encoder, level):
    return encoder.transform(pd.DataFrame({"c": pd.Series([level], dtype=object)}))[0].tolist()


def assert_flags(encoded, flags):
    """Compare with flags of the rows of `fit`, of which the mean of each is subtracted."""
    flags = np.array(flags, dtype=np.float64)
    assert_allclose(encoded, flags - flags.mean(axis=0), atol=1e-15)


def expected_numbers(x):
    """The formula of the docstring, by NumPy's quantiles."""
    q25, median, q75 = np.nanquantile(x, [0.25, 0.5, 0.75], method="inverted_cdf")
    spread = q75 - q25
    if spread == 0.0:
        distances = np.abs(x[~np.isnan(x) & (x != median)] - median)
        spread = np.quantile(distances, 0.5, method="inverted_cdf")
    u = (x - median) / spread
    return np.where(np.isnan(x), 0.0, u / np.sqrt(1 + (u / 3) ** 2))


# -------------------------------------------------------------------------------- numeric columns


def test_number_is_scaled_by_its_quartiles_and_clipped_smoothly():
    x = np.array([3.0, 1.0, 4.0, 1.5, 9.0, 2.6, 5.0, 300.0])
    encoded = TabularEncoder().fit_transform(x[:, None])[:, 0]
    # q25, median and q75 are 1.5, 3 and 5.
    assert_allclose(encoded, expected_numbers(x), rtol=1e-14)
    assert_allclose(encoded[6], (2 / 3.5) / np.sqrt(1 + (2 / 3.5 / 3) ** 2))
    assert encoded[0] == 0.0
    assert 2.99 < encoded[7] < 3.0


def test_number_with_equal_quartiles_is_scaled_by_its_other_values():
    """One huge value among many zeros does not hide the others."""
    x = np.array([0.0] * 30 + [-1.0, 2.0, 7.0, 9.0, 1e6])
    encoded = TabularEncoder().fit_transform(x[:, None])[:, 0]
    assert_allclose(encoded, expected_numbers(x), rtol=1e-14)
    assert_allclose(encoded[-3], 1.0 / np.sqrt(1 + (1 / 3) ** 2))  # 7 is the usual distance
    assert 0.2 < encoded[-4] < encoded[-3] < encoded[-2] < 1.3


HEAVY_TAILS = {
    "Cauchy": lambda rng: rng.standard_cauchy(300),
    "t": lambda rng: rng.standard_t(2, 300),
    "lognormal": lambda rng: rng.lognormal(0.0, 3.0, 300),
    "lognormal, of both signs": lambda rng: rng.lognormal(0.0, 2, 300) * rng.choice([-1, 1], 300),
    "Pareto": lambda rng: rng.pareto(0.5, 300),
    "mostly zero": lambda rng: np.maximum(0.0, rng.lognormal(0.0, 2.0, 300) - 3.0),
    "counts": lambda rng: rng.negative_binomial(0.2, 0.02, 300) * 1.0,
    "two groups": lambda rng: rng.normal(size=300) + 1e3 * (rng.random(300) < 0.2),
    "a value for missing ones": lambda rng: np.where(rng.random(300) < 0.2, -9999, rng.random(300)),
    "a few in another unit": lambda rng: rng.normal(size=300) * np.repeat([1e3, 1], [15, 285]),
}


@pytest.mark.parametrize("draw", HEAVY_TAILS.values(), ids=HEAVY_TAILS)
def test_heavy_tails_and_outliers_are_scaled_by_the_quartiles(draw):
    x = draw(np.random.default_rng(0))
    encoded = TabularEncoder().fit_transform(x[:, None])[:, 0]
    assert_allclose(encoded, expected_numbers(x), rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, -3.7, 1e308, 5e-324])
def test_constant_number_is_zero_whatever_comes_later(value):
    encoder = TabularEncoder().fit(np.full((5, 1), value))
    assert encoder.n_continuous_ == 1
    assert_array_equal(encoder.transform([[value], [17.0], [-1e308], [np.nan]]), np.zeros((4, 1)))


def test_number_of_two_values_becomes_a_flag():
    encoder = TabularEncoder().fit([[0.1], [0.3], [0.1]])
    assert encoder.n_continuous_ == 0
    assert encoder.code_sizes_ == ()
    later = [[0.1], [0.3], [0.2], [0.25], [9.0], [-9.0], [1e308], [np.nan]]
    mean = -1 / 3
    expected = np.array([-1, 1, 0, 0.5, 1, -1, 1, mean]) - mean
    assert_allclose(encoder.transform(later)[:, 0], expected, atol=1e-15)
    wider = TabularEncoder().fit([[0.0], [1.0]])
    assert_array_equal(wider.transform([[1.7e308], [-1.7e308]])[:, 0], [1.0, -1.0])


def test_missing_number_is_the_median_and_has_a_flag():
    X = np.array([[1.0, np.nan], [2.0, 4.0], [5.0, 5.0], [9.0, 4.0], [7.0, np.nan]])
    encoder = TabularEncoder().fit(X)
    encoded = encoder.transform(X)
    assert encoder.get_feature_names_out().tolist() == ["x0", "x1", "x1_missing"]
    assert_allclose(encoded[:, 1], np.array([0, -2, 4, -2, 0]) / 3)
    assert_flags(encoded[:, 2], [1, 0, 0, 0, 1])


def test_number_missing_only_later_is_the_median_without_a_flag():
    encoder = TabularEncoder().fit([[1.0], [2.0], [4.0]])
    assert_array_equal(encoder.transform([[np.nan], [2.0]]), [[0.0], [0.0]])


@pytest.mark.parametrize("power", [-300, -10, 6, 300, 308])
def test_numbers_of_any_size_are_scaled_alike(power):
    x = np.array([[-1.5], [-0.5], [0.25], [1.0], [1.7]])
    expected = TabularEncoder().fit_transform(x)
    assert_allclose(TabularEncoder().fit_transform(x * 10.0**power), expected, rtol=1e-13)


def test_largest_and_smallest_numbers():
    largest, smallest = np.finfo(np.float64).max, 5e-324
    encoder = TabularEncoder().fit([[-largest], [largest], [0.0], [1.0]])
    # q25, median and q75 are -largest, 0 and 1.
    u = np.array([-1.0, 1.0])
    assert_allclose(encoder.transform([[-largest], [largest]])[:, 0], u / np.sqrt(1 + u**2 / 9))
    encoder = TabularEncoder().fit([[-largest], [largest]])
    assert_array_equal(encoder.transform([[-largest], [largest]])[:, 0], [-1, 1])
    encoder = TabularEncoder().fit([[0.0], [smallest], [2 * smallest], [3 * smallest]])
    encoded = encoder.transform([[0.0], [2 * smallest], [1.0], [largest]])[:, 0]
    assert encoded[0] < 0.0 < encoded[1] < encoded[2] == encoded[3] == pytest.approx(3.0)


def test_ordinary_quartiles_beside_one_huge_number():
    x = np.array([1.0, 2.0, 3.0, 4.0, 1e308])
    encoded = TabularEncoder().fit_transform(x[:, None])[:, 0]
    assert_allclose(encoded[:4], expected_numbers(np.array([1.0, 2, 3, 4, 99]))[:4])
    assert encoded[4] == pytest.approx(3.0)


def test_float32_is_computed_in_float64_and_returned_as_float32():
    x = np.array([[-3e38], [3e38], [0.0], [1e38], [2e38]], dtype=np.float32)
    encoded = TabularEncoder().fit_transform(x)
    assert encoded.dtype == np.float32
    assert_allclose(encoded[:, 0], expected_numbers(x[:, 0].astype(np.float64)), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int8, np.uint64, np.float16, bool, object])
def test_other_dtypes_become_float64(dtype):
    X = np.array([[0, 1], [1, 0], [1, 1]]).astype(dtype)
    encoded = TabularEncoder().fit_transform(X)
    assert encoded.dtype == np.float64
    assert_flags(encoded, [[-1, 1], [1, -1], [1, 1]])


# ------------------------------------------------------------------------------- category columns


def test_two_levels_become_one_flag():
    encoded, names, encoder = encode(["m", "f", "f", "m"])
    assert names == ["_m"]
    assert_array_equal(encoded[:, 0], [1, -1, -1, 1])
    assert transform_level(encoder, None) == [0.0]
    assert transform_level(encoder, "x") == [0.0]


def test_two_levels_and_missing_values_have_a_flag_for_these():
    encoded, names, encoder = encode(["m", "f", None, "f", "m"])
    assert names == ["_m", "_missing"]
    assert_flags(encoded, [[1, 0], [-1, 0], [0, 1], [-1, 0], [1, 0]])
    assert transform_level(encoder, "x") == [0.0, 0.0]


def test_flag_of_two_levels_has_mean_zero_over_the_rows_that_have_one():
    encoded, _, encoder = encode(["m", "f", None, "f", "f", "m", "f", "f", "f"])
    assert_allclose(encoded[:, 0], [1.5, -0.5, 0, -0.5, -0.5, 1.5, -0.5, -0.5, -0.5])
    assert transform_level(encoder, "x") == [0.0, 0.0]


def test_few_levels_become_one_flag_each():
    encoded, names, encoder = encode(["b", "a", "c", "a", "c", "b"])
    assert names == ["_a", "_b", "_c"]
    assert_flags(encoded[:3], [[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    assert transform_level(encoder, "x") == [0.0, 0.0, 0.0]
    assert transform_level(encoder, None) == [0.0, 0.0, 0.0]
    assert encoder.categories_ == [["a", "b", "c"]]


def test_rare_levels_share_a_flag_with_unseen_ones():
    encoded, names, encoder = encode(["a", "a", "b", "b", "c", "c", "d", "e", np.nan])
    assert names == ["_a", "_b", "_c", "_rare", "_missing"]
    places = [0, 0, 1, 1, 2, 2, 3, 3, 4]
    assert_flags(encoded, np.eye(5)[places])
    assert transform_level(encoder, "x") == encoded[6].tolist()
    assert transform_level(encoder, None) == encoded[8].tolist()


def test_one_or_two_levels_beside_rare_ones_become_flags_each():
    assert encode(["a", "a", "b"])[1] == ["_a", "_rare"]
    assert encode(["a", "a", "b", "b", "c"])[1] == ["_a", "_b", "_rare"]


def test_many_levels_become_a_code():
    column = ["a", "b", "c", "d"] * 2 + ["e", None]
    encoded, names, encoder = encode(column, max_one_hot=3, min_frequency=2)
    assert names == [""]
    assert encoder.code_sizes_ == (6,)
    assert_array_equal(encoded[:, 0], [2, 3, 4, 5, 2, 3, 4, 5, 0, 1])
    assert transform_level(encoder, "x") == [0.0]


def test_max_one_hot_counts_levels_that_are_not_rare():
    column = ["a", "b", "c"] * 2 + ["d", None]
    assert encode(column, max_one_hot=3)[2].code_sizes_ == ()
    assert encode(column, max_one_hot=2, min_frequency=2)[2].code_sizes_ == (5,)
    assert encode(["a", "b"] * 2, max_one_hot=0)[2].code_sizes_ == ()


def test_no_level_of_codes_with_few_rows_each_is_rare_by_default():
    few = [*"abc" * 2, *"de"]  # 8 rows of 5 levels
    assert encode(few, max_one_hot=2)[2].categories_ == [[*"abcde"]]
    assert encode(few, max_one_hot=2, min_frequency=2)[2].categories_ == [[*"abc"]]
    assert encode(few, max_one_hot=3)[1] == ["_a", "_b", "_c", "_rare"]
    assert encode([*"abc" * 8, "d"], max_one_hot=2)[2].categories_ == [[*"abc"]]
    assert encode(few, max_one_hot=2, max_categories=4)[2].categories_ == [[*"abcd"]]


def test_columns_that_identify_rows_stay_rare_and_warn():
    with pytest.warns(UserWarning, match="most rows have a rare level"):
        assert encode([f"row {i}" for i in range(50)])[2].categories_ == [[]]
    names = [f"row {i // 2 if i < 20 else i}" for i in range(50)]
    with pytest.warns(UserWarning, match="most rows have a rare level"):
        assert len(encode(names)[2].categories_[0]) == 40  # ten levels occur twice


def test_single_level_is_zero():
    encoded, names, encoder = encode(["a", "a", None, "a"])
    assert names == ["", "_missing"]
    assert_flags(encoded, [[0, 0], [0, 0], [0, 1], [0, 0]])
    assert encoder.n_continuous_ == 0
    assert transform_level(encoder, "b") == [0.0, 0.0]


def test_column_of_rare_levels_warns_and_is_zero():
    with pytest.warns(UserWarning, match=r"In columns \['c'\] of X most rows have a rare"):
        encoded, names, encoder = encode(["a", "b", None])
    assert names == ["", "_missing"]
    assert_flags(encoded, [[0, 0], [0, 0], [0, 1]])
    assert encoder.categories_ == [[]]


def test_min_frequency_as_a_count_and_as_a_fraction():
    column = ["a"] * 5 + ["b"] * 3 + ["c"] * 2
    assert encode(column, min_frequency=3)[1] == ["_a", "_b", "_rare"]
    assert encode(column, min_frequency=4)[1] == ["_a", "_rare"]
    assert encode(column, min_frequency=0.3)[1] == ["_a", "_b", "_rare"]
    assert encode(column, min_frequency=0.31)[1] == ["_a", "_rare"]
    assert encode(column, min_frequency=1)[1] == ["_a", "_b", "_c"]


def test_min_frequency_as_a_fraction_is_of_the_weight():
    frame = pd.DataFrame({"c": ["a", "b", "c", "c"]})
    encoder = TabularEncoder(min_frequency=0.2).fit(frame, sample_weight=[0.5, 0.3, 0.1, 0.05])
    assert encoder.categories_ == [["a", "b"]]


def test_declared_categories_that_do_not_occur_do_not_count():
    column = pd.Categorical(["a", "b", "a", "b"], categories=["z", "b", "a", "y"])
    encoder = TabularEncoder().fit(pd.DataFrame({"c": column}))
    assert encoder.categories_ == [["a", "b"]]
    enum = pl.DataFrame({"c": pl.Series(["a", "b", "a", "b"], dtype=pl.Enum(["z", "b", "a"]))})
    assert TabularEncoder().fit(enum).categories_ == [["a", "b"]]


def test_many_declared_categories_and_few_rows():
    many = [f"k{i}" for i in range(500)]
    frame = pd.DataFrame({"c": pd.Categorical(["k7", "k3", None, "k7", "k3"], categories=many)})
    encoder = TabularEncoder().fit(frame)
    assert_flags(encoder.transform(frame), [[1, 0], [-1, 0], [0, 1], [1, 0], [-1, 0]])


def test_numbers_as_categories_compare_by_value():
    encoder = TabularEncoder([0]).fit(np.array([[1], [2], [3]] * 2))
    assert encoder.get_feature_names_out().tolist() == ["x0_1", "x0_2", "x0_3"]
    expected = np.array([[2, -1, -1], [-1, -1, 2]]) / 3
    objects = np.array([[np.int8(1)], [np.float64(3)]], dtype=object)
    decimals = [[Decimal(1)], [Fraction(3)]]
    for rows in ([[1.0], [3.0]], [[True], [3]], objects, decimals):
        assert_allclose(encoder.transform(rows), expected)
    with pytest.warns(UserWarning, match=r"In columns \[0\] of X no level"):
        assert_allclose(encoder.transform(np.array([["1"], ["3"]])), np.zeros((2, 3)))


def test_whole_numbers_as_categories_have_the_same_names_in_any_dtype():
    X = np.array([[1], [2], [3]] * 2)
    for dtype in (np.int64, np.float32, object):
        encoder = TabularEncoder([0]).fit(X.astype(dtype))
        assert encoder.get_feature_names_out().tolist() == ["x0_1", "x0_2", "x0_3"]


def test_large_whole_numbers_as_categories_stay_apart():
    X = np.array([[2**53], [2**53 + 1], [2**53 + 2]] * 2)
    assert TabularEncoder([0]).fit(X).categories_ == [[2**53, 2**53 + 1, 2**53 + 2]]


def test_codes_that_are_read_as_numbers_keep_their_dtype():
    table = pd.DataFrame({"c": list("abcdef") * 4, "x": np.arange(24.0)})
    codes = TabularEncoder(max_one_hot=0).fit_transform(table).astype(np.float32)
    assert TabularEncoder().fit(codes).is_categorical_.tolist() == [False, True]
    encoder = TabularEncoder(categorical_features=None)
    encoded = encoder.fit_transform(codes)
    assert encoded.dtype == np.float32
    assert_array_equal(encoded, encoder.fit_transform(np.asarray(codes)))


def test_mixed_levels_are_sorted_numbers_first():
    column = ["b", 10, "a", 2.5, True, (1, 2)] * 2
    assert encode(column)[1] == ["_1", "_2.5", "_10", "_a", "_b", "_(1, 2)"]


def test_booleans_keep_their_names():
    frame = pd.DataFrame({"b": [True, False, True, False]})
    for table in (frame, pl.from_dict({"b": frame["b"].to_list()}), frame.astype("boolean")):
        encoder = TabularEncoder().fit(table)
        # scikit-learn 1.6 does not see the names of the latest polars
        assert encoder.get_feature_names_out()[0] in ("b_True", "x0_True")
        assert_array_equal(encoder.transform(table)[:, 0], [1, -1, 1, -1])


def test_booleans_among_other_numbers_are_numbers():
    assert encode([True, True, "a", "a"])[1] == ["_a"]
    assert encode([True, True, False, False, "a", "a"])[1] == ["_False", "_True", "_a"]
    assert encode([True, True, False, False, 7, 7], categorical_features=["c"])[1] == [
        *("_0", "_1", "_7")
    ]
    assert encode([True, True, "a", "a", 7])[1] == ["_1", "_a", "_rare"]


def test_intervals_are_levels():
    frame = pd.DataFrame({"c": pd.cut([1, 5, 9, 2, 6, 8], [0, 3, 7, 10])})
    encoder = TabularEncoder().fit(frame)
    assert encoder.get_feature_names_out()[0] == "c_(0, 3]"
    assert_flags(encoder.transform(frame), np.eye(3)[[0, 1, 2, 0, 1, 2]])


class Answer(StrEnum):
    YES = "yes"


class Rank(IntEnum):
    FIRST = 1


class Share(float):
    """A number of the user's own."""


@pytest.mark.parametrize(
    ("value", "plain"),
    [(Answer.YES, "yes"), (np.str_("yes"), "yes"), (Rank.FIRST, 1), (Share(1.5), 1.5)],
)
def test_levels_of_subclasses_become_plain_values(value, plain):
    encoder = TabularEncoder([0]).fit(np.array([[value], ["other"]] * 5, dtype=object))
    (levels,) = encoder.categories_
    assert plain in levels
    assert {type(level) for level in levels} == {type(plain), str}
    assert_array_equal(*map(encoder.transform, ([[value]], [[plain]])))


# --------------------------------------------------------------------- groups, names and attributes


def test_groups_stand_in_the_order_of_the_features():
    encoder = TabularEncoder(max_one_hot=4).fit(people())
    assert encoder.get_feature_names_out().tolist() == [
        *("age", "count"),
        *("age_missing", "sex_male", "color_blue", "color_green", "color_red"),
        *("is_new_True", "half"),
        "zip",
    ]
    assert encoder.n_continuous_ == 2
    assert encoder.code_sizes_ == (14,)
    assert encoder.source_features_.tolist() == [0, 5, 0, 1, 2, 2, 2, 4, 6, 3]
    assert encoder.is_categorical_.tolist() == [False, True, True, True, True, False, False]
    assert encoder.categories_[0] is None
    assert encoder.categories_[3] == [f"z{i:02}" for i in range(12)]
    codes = encoder.transform(people())[:, -1]
    assert_array_equal(codes, np.arange(24) % 12 + 2)


def test_values_of_each_group_are_what_the_attributes_say():
    encoder = TabularEncoder(max_one_hot=4).fit(people())
    encoded = encoder.transform(people())
    continuous, flags = np.split(encoded[:, :-1], [encoder.n_continuous_], axis=1)
    assert len(np.unique(continuous)) > 20
    assert_allclose(flags.mean(axis=0), 0.0, atol=1e-15)
    # age_missing, sex_male, three colors, is_new_True, half
    assert_allclose(np.ptp(flags, axis=0), [1, 2, 1, 1, 1, 2, 2])


def missing_at(column, *rows):
    """Return the column as objects, without a value in some rows."""
    column = np.array(column, dtype=object)
    column[list(rows)] = None
    return column


KINDS = {
    "constant": np.full(24, 7.0),
    "two values": np.arange(24) % 2 * 1.0,
    "two values, missing": np.where(np.arange(24) % 5 == 1, np.nan, np.arange(24) % 2),
    "continuous": np.arange(24.0) ** 2,
    "continuous, missing": np.where(np.arange(24) % 5 == 3, np.nan, np.arange(24.0)),
    "mostly zero": np.maximum(0.0, np.arange(24.0) - 18),
    "one level": ["a"] * 24,
    "pair": ["a", "b", "b"] * 8,
    "pair, missing": missing_at(["a", "b", "b"] * 8, 3, 7),
    "flags": ["a", "b", "c", "c"] * 6,
    "flags, missing": missing_at(["a", "b", "c", "c"] * 6, 3, 8),
    "flags, rare": ["a", "b", "c", "c"] * 5 + ["a", "b", "d", "e"],
    "codes": list("abcdef") * 4,
    "codes, rare and missing": missing_at([*"abcdef" * 3, *"abcghi"], 3, 11),
}
NUMERIC_KINDS = [kind for kind, column in KINDS.items() if isinstance(column[0], float)]


def mix(kinds, container):
    """Return a table of columns of these kinds, and the numbers of those that are categories."""
    frame = pd.DataFrame({f"c{j}": pd.Series(KINDS[kind]) for j, kind in enumerate(kinds)})
    categories = [j for j, kind in enumerate(kinds) if kind not in NUMERIC_KINDS]
    if container == "array":
        return frame.to_numpy(dtype=object if categories else float), categories
    if container == "list":
        return frame.to_numpy(dtype=object).tolist(), categories
    if container == "polars":
        objects = frame.astype(object).where(frame.notna(), None)
        return pl.DataFrame(objects.to_dict("list")), categories
    return frame.astype({f"c{j}": np.float32 for j in range(len(kinds)) if j not in categories}), (
        categories if container == "positions" else "from_dtype"
    )


@given(
    kinds=st.one_of(
        st.lists(st.sampled_from(names), min_size=1, max_size=7)
        for names in (list(KINDS), NUMERIC_KINDS)
    ),
    container=st.sampled_from(["pandas", "positions", "array", "list", "polars"]),
)
@example(kinds=["two values", "continuous"], container="array")
@example(kinds=["two values", "constant", "two values", "mostly zero"], container="pandas")
def test_columns_of_a_mix_are_those_of_each_column_alone(kinds, container):
    table, categories = mix(kinds, container)
    encoder = TabularEncoder(categories, max_one_hot=4, min_frequency=2).fit(table)
    encoded = encoder.transform(table)
    names = encoder.get_feature_names_out([f"c{j}" for j in range(len(kinds))]).tolist()
    groups = {"continuous": [], "flag": [], "code": []}  # of each: feature, name and values
    for j, kind in enumerate(kinds):
        column, is_category = mix([kind], container)
        alone = TabularEncoder(is_category, max_one_hot=4, min_frequency=2).fit(column)
        ends = [name[2:] for name in alone.get_feature_names_out(["c0"])]
        for place, values in enumerate(alone.transform(column).T):
            is_code = place >= len(ends) - len(alone.code_sizes_)
            group = "continuous" if place < alone.n_continuous_ else "code" if is_code else "flag"
            groups[group].append((j, f"c{j}{ends[place]}", values))
    expected = [output for outputs in groups.values() for output in outputs]
    assert names == [name for _, name, _ in expected]
    assert encoder.source_features_.tolist() == [j for j, _, _ in expected]
    assert encoder.n_continuous_ == len(groups["continuous"])
    assert encoder.code_sizes_ == tuple(8 for _ in groups["code"])
    # float32 where all numbers of the mix are
    values = np.array([values for _, _, values in expected], dtype=encoded.dtype)
    assert_array_equal(encoded, values.T)
    if not encoder.is_categorical_.any():
        expected = [
            TabularEncoder().fit(column).input_slopes(column)
            for column in (np.asarray(table, dtype=float)[:, [j]] for j in range(len(kinds)))
        ]
        slopes = encoder.input_slopes(table)
        for j, of_column in enumerate(expected):
            assert_array_equal(slopes[:, encoder.source_features_ == j], of_column)


def test_names_are_unique():
    frame = pd.DataFrame(
        [[1, 1, "missing"], [None, 2, "b"], [3, 4, None], [5, 5, "b"], [4, 3, "missing"]],
        columns=["a", "a_missing", "c"],
    )
    names = TabularEncoder().fit(frame).get_feature_names_out().tolist()
    assert names == ["a", "a_missing", "a_missing_2", "c_missing", "c_missing_2"]
    with pytest.warns(UserWarning, match="read the same"):
        assert encode([1, "1", 2] * 2)[1] == ["_1", "_2", "_1_2"]


def test_names_take_those_of_the_caller():
    encoder = TabularEncoder().fit([[1.0], [2.0], [np.nan]])
    assert encoder.get_feature_names_out(["age"]).tolist() == ["age", "age_missing"]
    with pytest.raises(ValueError, match="should have length equal"):
        encoder.get_feature_names_out(["age", "size"])


# ------------------------------------------------------------------------------------------ tables


@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
@pytest.mark.parametrize("max_one_hot", [0, 8, 20])
def test_pandas_polars_and_numpy_agree(max_one_hot):
    frame = people()
    frame.loc[[2, 9], "sex"] = None
    tables = [frame, to_polars(frame), frame.to_numpy(dtype=object)]
    expected = TabularEncoder(max_one_hot=max_one_hot).fit(frame)
    X_encoded = expected.transform(frame)
    for table, categories in zip(tables, ["from_dtype"] * 2 + [[1, 2, 3, 4]], strict=True):
        encoder = TabularEncoder(categories, max_one_hot=max_one_hot).fit(table)
        assert encoder.categories_ == expected.categories_
        for other in tables:
            assert_array_equal(encoder.transform(other), X_encoded)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_encoder_of_a_frame_takes_arrays_and_lists():
    frame = people()
    encoder = TabularEncoder().fit(frame)
    rows = frame.to_numpy(dtype=object)
    assert_array_equal(encoder.transform(rows), encoder.transform(frame))
    assert_array_equal(encoder.transform(rows[:3].tolist()), encoder.transform(frame[:3]))


def test_extension_dtypes_of_pandas():
    x, flag = [1.0, None, 4.0, 9.0], ["a", None, "b", "a"]
    plain = pd.DataFrame({"x": x, "c": pd.Series(flag, dtype=object)})
    expected = TabularEncoder(min_frequency=1).fit_transform(plain)
    for numbers, strings in [("Int64", "string"), ("Float64", "category"), (object, object)]:
        frame = pd.DataFrame(
            {"x": pd.Series(x, dtype=numbers), "c": pd.Series(flag, dtype=strings)}
        )
        encoder = TabularEncoder(["c"], min_frequency=1)
        assert_array_equal(encoder.fit_transform(frame), expected)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT, float("nan")])
def test_each_way_of_missing(missing):
    X = np.array([[1, "a"], [missing, missing], [3, "b"], [4, "a"], [5, "b"]], dtype=object)
    for table in (X, X.tolist(), pd.DataFrame(X, columns=["x", "c"]).astype({"x": object})):
        encoded = TabularEncoder([1]).fit_transform(table)
        assert_flags(encoded[:, 1], [0, 1, 0, 0, 0])
        assert_flags(encoded[:, 2], [-1, 0, 1, -1, 1])
        assert_flags(encoded[:, 3], [0, 1, 0, 0, 0])
    numbers = TabularEncoder().fit_transform([[1.0], [missing], [4.0], [9.0]])
    assert_flags(numbers[:, 1], [0, 1, 0, 0])


def test_missing_in_polars():
    frame = pl.DataFrame({"x": [1, None, 3, 4], "f": [1.0, 2.0, float("nan"), None]})
    encoded = TabularEncoder().fit_transform(frame)
    # x, x_missing, f, f_missing
    assert_flags(encoded[:, 1:], [[0, -1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1]])
    levels = pl.DataFrame({"c": [None, None, "a"]})
    encoder = TabularEncoder(min_frequency=1).fit(levels)
    assert_flags(encoder.transform(levels), [[0, 1], [0, 1], [0, 0]])
    numbers = pl.DataFrame({"c": [1.0, None, float("nan"), 2.0]})
    encoded = TabularEncoder([0], min_frequency=1).fit_transform(numbers)
    assert_flags(encoded, [[-1, 0], [0, 1], [0, 1], [1, 0]])


def test_dtypes_of_polars():
    frame = pl.DataFrame(
        {
            "f": pl.Series([1.0, 2.0, 4.0], dtype=pl.Float32),
            "s": ["a", "b", "a"],
            "o": pl.Series(["a", ("x",), "a"], dtype=pl.Object),
        }
    )
    encoder = TabularEncoder(min_frequency=1).fit(frame)
    assert encoder.is_categorical_.tolist() == [False, True, True]
    assert encoder.transform(frame).dtype == np.float32
    decimal = pl.DataFrame({"d": ["1.5", "2.5", "9"], "i": [1, 2, 3]})
    decimal = decimal.with_columns(pl.col("d").cast(pl.Decimal(10, 2)))
    assert TabularEncoder().fit(decimal).n_continuous_ == 2


def test_float32_columns_of_frames_give_float32():
    frame = pd.DataFrame({"x": np.float32([1, 2, 4]), "c": ["a", "b", "a"]})
    encoder = TabularEncoder(min_frequency=1).fit(frame)
    assert encoder.transform(frame).dtype == np.float32
    assert encoder.transform(frame.astype({"x": np.float64})).dtype == np.float64
    assert encoder.transform(frame.astype({"x": "Float32"})).dtype == np.float32


def test_table_of_categories_only():
    frame = people()[["sex", "color"]]
    assert TabularEncoder().fit_transform(frame).shape == (24, 4)


def test_table_is_not_changed():
    frame, X = people(), np.array([[1.0, np.nan], [2.0, 3.0], [4.0, 5.0]])
    before, X_before = frame.copy(), X.copy()
    TabularEncoder().fit_transform(frame)
    TabularEncoder().fit(X).input_slopes(X)
    pd.testing.assert_frame_equal(frame, before)
    assert_array_equal(X, X_before)


# ----------------------------------------------------------------------------- choice of categories


@pytest.mark.parametrize(
    "categories", [["b"], [1], np.array([1]), [False, True, False], np.array(["b"]), ("b",)]
)
def test_categories_by_name_index_and_mask(categories):
    frame = pd.DataFrame({"a": [1.0, 2, 3, 4], "b": [7, 8, 8, 7], "c": [3.0, 1, 2, 5]})
    encoder = TabularEncoder(categories).fit(frame)
    assert encoder.is_categorical_.tolist() == [False, True, False]


def test_categories_from_dtype():
    frame = people()
    expected = [False, True, True, True, True, False, False]
    assert TabularEncoder().fit(frame).is_categorical_.tolist() == expected
    assert TabularEncoder().fit(to_polars(frame)).is_categorical_.tolist() == expected
    assert not TabularEncoder().fit(np.array([[True], [False]])).is_categorical_.any()


@pytest.mark.parametrize("categories", [None, [], np.array([], dtype=bool), [False, False]])
def test_no_categories(categories):
    frame = pd.DataFrame({"a": [1.0, 2, 4], "b": [True, False, True]})
    encoder = TabularEncoder(categories).fit(frame)
    assert not encoder.is_categorical_.any()
    assert encoder.get_feature_names_out().tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        (["a", "z"], r"has \['z'\], which X does not have; its 2 features are \['a', 'b'\]"),
        ([5], r"has \[5\], which X does not have"),
        ([-1], r"has \[-1\], which X does not have"),
        ([True], "one entry for each of the 2 features of X, got 1"),
        ([0, "a"], "all names, all indices or all booleans, got int, str"),
        ([0.5], "all names, all indices or all booleans, got float"),
    ],
)
def test_unknown_categories_are_refused(categories, message):
    frame = pd.DataFrame({"a": [1.0, 2, 4], "b": [4.0, 5, 7]})
    with pytest.raises(ValueError, match=message):
        TabularEncoder(categories).fit(frame)


def test_names_for_a_table_without_names_are_refused():
    with pytest.raises(ValueError, match=r"\['a'\] are names, but X has no feature names"):
        TabularEncoder(["a"]).fit([[1.0], [2.0]])


# -------------------------------------------------- columns whose dtype does not say what they are


def as_objects(column):
    return pd.DataFrame({"c": pd.Series(list(column), dtype=object)})


def as_polars_objects(column):
    return pl.DataFrame({"c": pl.Series(list(column), dtype=pl.Object)})


N = np.random.default_rng(0).normal(size=60).round(2).tolist()

NUMBERS_AS_OBJECTS = {
    "float": N,
    "int": [round(100 * x) for x in N],
    "Decimal": [Decimal(str(x)) for x in N],
    "Fraction": [Fraction(str(x)) for x in N],
    "NumPy": [*map(np.float32, N[:20]), *map(np.int64, range(20)), *map(np.uint8, range(20))],
    "mixed": [*N[:20], *range(20), *map(Decimal, range(18)), True, False],
    "None": [*N[:50], *[None] * 10],
    "NA, NaT and NaN": [*N[:50], *[pd.NA, pd.NaT, np.nan, None, Decimal("NaN")] * 2],
    "NaT of NumPy": [*N[:58], np.datetime64("NaT"), np.timedelta64("NaT")],
}


@pytest.mark.parametrize("column", NUMBERS_AS_OBJECTS.values(), ids=NUMBERS_AS_OBJECTS)
@pytest.mark.parametrize("make", [as_objects, as_polars_objects])
def test_objects_that_are_numbers_are_a_number(make, column):
    numbers = np.array([[np.nan if pd.isna(x) else float(x)] for x in column])
    expected = TabularEncoder().fit(numbers)
    encoder = TabularEncoder().fit(make(column))
    assert not encoder.is_categorical_.any()
    assert encoder.n_continuous_ == 1
    assert_array_equal(encoder.transform(make(column)), expected.transform(numbers))
    for rows in (slice(0, 1), slice(40, 60)):  # whatever a part of the rows is
        assert_array_equal(encoder.transform(make(column[rows])), expected.transform(numbers[rows]))
    as_array = np.array([[x] for x in column], dtype=object)
    for table in (as_array, as_array.tolist()):
        assert_array_equal(TabularEncoder().fit_transform(table), expected.transform(numbers))


def test_tables_that_lost_their_dtypes_are_encoded_as_before():
    frame = people()
    expected = TabularEncoder().fit_transform(frame)
    for table in (frame.T.T, pd.DataFrame(frame.to_numpy(), columns=frame.columns)):
        assert [str(dtype) for dtype in table.dtypes].count("object") > 3
        assert_array_equal(TabularEncoder().fit_transform(table), expected)


def test_numbers_of_arrow_are_numbers():
    decimal = pd.ArrowDtype(pytest.importorskip("pyarrow").decimal128(6, 2))
    frame = pd.DataFrame({"c": pd.Series([Decimal(str(x)) for x in N], dtype=decimal)})
    expected = TabularEncoder().fit_transform(np.array(N)[:, None])
    assert_array_equal(TabularEncoder().fit_transform(frame), expected)


@pytest.mark.parametrize("make", [as_objects, as_polars_objects])
def test_objects_that_are_booleans_are_a_category(make):
    for column in ([True, False, True, False], [True, False, None, True, False]):
        encoder = TabularEncoder().fit(make(column))
        assert encoder.categories_ == [[False, True]]
    assert TabularEncoder().fit(as_objects([True, np.nan, True, False, False])).is_categorical_[0]


def test_named_numbers_are_a_category_all_the_same():
    assert TabularEncoder(["c"]).fit(as_objects([1, 2, 1, 2])).categories_ == [[1, 2]]
    decimals = [Decimal("0.1"), Decimal("2.0"), Decimal("2.00"), Decimal(10) ** 20 + 1] * 2
    encoder = TabularEncoder(["c"]).fit(as_objects(decimals))
    assert encoder.categories_ == [[0.1, 2, 10**20 + 1]]
    expected = encoder.transform(as_objects([Decimal("0.1")]))
    assert_array_equal(encoder.transform(pd.DataFrame({"c": [0.1]})), expected)


TIMES_AS_OBJECTS = {
    "datetime64": np.datetime64("2020-01-01"),
    "nanoseconds": np.datetime64(1, "ns"),
    "timedelta64": np.timedelta64(3, "D"),
    "date": datetime.date(2020, 1, 1),
    "datetime": datetime.datetime(2020, 1, 1),
    "Timestamp": pd.Timestamp("2020-01-01"),
    "Timedelta": pd.Timedelta(1, "s"),
    "Period": pd.Period("2020-01", "M"),
}


@pytest.mark.parametrize("time", TIMES_AS_OBJECTS.values(), ids=TIMES_AS_OBJECTS)
def test_times_among_objects_are_refused(time):
    for column in ([time, time], [1.0, time], ["a", time], [None, time]):
        array = np.empty((2, 1), dtype=object)
        array[:, 0] = column
        for table in (as_objects(column), as_polars_objects(column), array, array.tolist()):
            for categories in ("from_dtype", None, [0]):
                if categories is None and "a" in column:
                    continue
                with pytest.raises(ValueError, match="hold dates, times or durations"):
                    TabularEncoder(categories, min_frequency=1).fit(table)
            encoder = TabularEncoder().fit(pd.DataFrame({"c": [1.0, 2.0, 3.0]}))
            with pytest.raises(ValueError, match="hold dates, times or durations"):
                encoder.transform(pd.DataFrame({"c": pd.Series([time, time], dtype=object)}))


def test_offsets_of_pandas_are_durations():
    """They stand by themselves: pandas 2 warns where one is compared with a string."""
    for offset in (pd.offsets.Hour(2), pd.offsets.MonthEnd()):
        with pytest.raises(ValueError, match="hold dates, times or durations"):
            TabularEncoder().fit(as_objects([offset, None, offset]))


FORMS = {
    "decimals": ("numeric", [f"{x}" for x in N]),
    "decimals and markers": ("numeric", [*(f"{x}" for x in N), "?", "NA", "", " - ", "n/a", None]),
    "decimals of few levels": ("numeric", ["1.0", "2.5", "1.0", "2.5"] * 9),
    "exponents": ("numeric", [f"{x:.2e}" for x in N]),
    "whole numbers, mostly rare": ("numeric", [f"{i}" for i in range(60)]),
    "numbers and markers": ("numeric", [*N, "?"]),
    "beyond float64": ("numeric", [10**400, "1.5"] * 9),
    "bytes": ("numeric", [f"{x}".encode() for x in N]),
    "thousands": ("numeric", [f"{1e4 * x:,.1f}" for x in N]),
    "few thousands": ("numeric", ["1,200", "2,400"] * 9),
    "percent": ("numeric", [f"{x}%" for x in N]),
    "few percent": ("numeric", ["5 %", "10 %", "20 %"] * 9),
    "money": ("numeric", [f"${abs(x)}" for x in N]),
    "decimal commas": ("numeric", [f"{x}".replace(".", ",") for x in N]),
    "ISO dates": ("dates", [f"2020-{i % 12 + 1:02}-{i % 28 + 1:02}" for i in range(60)]),
    "ISO times": ("dates", [f"2020-05-17T{i % 24:02}:{i:02}:00Z" for i in range(60)]),
    "days": ("dates", [f"{i % 28 + 1}.{i % 12 + 1}.2020" for i in range(60)]),
    "hours": ("dates", [f"{i % 24:02}:30" for i in range(60)]),
}
OF_FORM = {
    "numeric": r"Columns \['c'\] of X hold strings that read as numbers, .*pandas.to_numeric.*name",
    "dates": r"Columns \['c'\] of X hold strings that read as dates .*pandas.to_datetime.*name",
}


@pytest.mark.parametrize(("form", "column"), FORMS.values(), ids=FORMS)
def test_strings_that_read_as_numbers_or_times_warn(form, column):
    tables = [as_objects(column), as_polars_objects(column)]
    if all(isinstance(x, str | None) for x in column):
        tables += [
            pd.DataFrame({"c": pd.Series(column, dtype="string")}),
            pl.DataFrame({"c": column}),
        ]
    for table in tables:
        with pytest.warns(UserWarning, match=OF_FORM[form]) as caught:
            encoder = TabularEncoder().fit(table)
        assert len(caught) == 1
        assert encoder.is_categorical_.all()


NO_FORMS = {
    "leading zeros": [f"{i:02}" for i in range(20)] * 2,
    "one leading zero": ["0.5", "1.5", "02"] * 9,
    "few whole numbers": ["1", "2", "3"] * 9,
    "whole numbers and markers": ["1", "2", "?"] * 9,
    "words": ["1.5", "2.5", "many"] * 9,
    "ranges": ["18-25", "26-40", "41-65"] * 9,
    "versions": ["1.2.3", "1.2.4"] * 9,
    "markers only": ["?", "NA", "-"] * 9,
    "tuples": [(1, 2), (3, 4)] * 9,
}


@pytest.mark.parametrize("column", NO_FORMS.values(), ids=NO_FORMS)
def test_codes_and_words_do_not_warn(column):
    assert TabularEncoder().fit(as_objects(column)).is_categorical_.all()


@pytest.mark.parametrize("column", [[1, 2, "1"] * 9, [True, "True", "a"] * 9, [2.5, "2.5"] * 9])
def test_numbers_beside_strings_that_read_the_same_warn(column):
    """As a table does that was read from a file in parts."""
    with pytest.warns(UserWarning, match=r"Columns \['c'\] of X have numbers .* read the same"):
        TabularEncoder().fit(as_objects(column))


def test_declared_categories_do_not_warn():
    column = [*(f"{x:.1f}" for x in N), *(f"{x:.1f}" for x in N)]
    TabularEncoder(["c"]).fit(pd.DataFrame({"c": column}))
    TabularEncoder([0]).fit(np.array(column)[:, None])
    TabularEncoder().fit(pd.DataFrame({"c": pd.Categorical(column)}))
    TabularEncoder().fit(pl.DataFrame({"c": pl.Series(column, dtype=pl.Categorical)}))


UNKNOWN_LATER = {
    "codes read as numbers": ([f"{i:02}" for i in range(5)] * 4, [1], True),
    "numbers read as strings": ([1, 2, 3] * 4 + ["a", "a"], [None, "x"], False),
    "booleans read as strings": ([True, False] * 9, ["True"], True),
    "strings read as booleans": (["True", "False"] * 9, [True], True),
    "other spelling": (["a", "b", "c"] * 9, ["A", "B", "C"] * 4, True),
    "other levels in many rows": (["a", "b", "c"] * 9, ["x"] * 10, True),
    "one new level": (["a", "b", "c"] * 9, ["x", "x", "x", None], False),
    "one of several is known": (["a", "b", "c"] * 9, [*"uvwxyz"] * 9 + ["a"], False),
    "only gaps": (["a", "b", "c"] * 9, [None, np.nan, None], False),
    "few new levels": ([*"abcdefghijkl"] * 3, [*"uvwxyz"], False),
    "whole numbers as floats": ([1, 2, "a"] * 9, [1.0, 2.0], False),
}


@pytest.mark.parametrize(("column", "later", "warns"), UNKNOWN_LATER.values(), ids=UNKNOWN_LATER)
@pytest.mark.parametrize("make", [as_objects, as_polars_objects])
def test_column_of_unknown_levels_warns(make, column, later, warns):
    encoder = TabularEncoder().fit(make(column))
    if warns:
        with pytest.warns(UserWarning, match=r"In columns \['c'\] of X no level is among"):
            encoder.transform(make(later))
    else:
        encoder.transform(make(later))


def test_declared_levels_that_do_not_occur_do_not_count_as_known():
    encoder = TabularEncoder().fit(pd.DataFrame({"c": ["a", "b"] * 9}))
    later = pd.DataFrame({"c": pd.Categorical(["x"] * 10, ["a", "x"])})
    with pytest.warns(UserWarning, match="no level is among those of fit"):
        encoder.transform(later)
    encoder.transform(later[:9])


@MAY_BE_RARE
def test_unknown_levels_are_no_surprise_where_most_were_rare():
    encoder = TabularEncoder().fit(as_objects([*(f"n{i}" for i in range(50)), *"aabb"]))
    encoder.transform(as_objects([f"m{i}" for i in range(30)]))


# ------------------------------------------------------------------------------------------ errors


EMPTY = {
    "NaN": [np.nan] * 5,
    "None": [None] * 5,
    "strings": pd.Series([None] * 5, dtype="string"),
    "whole numbers": pd.Series([None] * 5, dtype="Int64"),
    "declared categories": pd.Categorical([None] * 5, ["a", "b"]),
    "booleans": pd.Series([None] * 5, dtype="boolean"),
    "a number in a row without weight": [7.0, *[np.nan] * 4],
    "a level in a row without weight": ["a", *[None] * 4],
}
LATER = {"numbers": [1.0, 2.0, np.nan, -7.0, 0.0], "strings": ["a", "b", None, "c", ""]}


@pytest.mark.parametrize("later", LATER.values(), ids=LATER)
@pytest.mark.parametrize("column", EMPTY.values(), ids=EMPTY)
def test_column_without_a_value_is_zero_whatever_comes_later(column, later):
    """It is empty in one fold of a cross-validation, or in the first part of a stream."""
    frame = pd.DataFrame({"x": [9.0, 1, 2, 3, 5], "gone": column, "c": ["a", "a", "b", "b", "a"]})
    weights, others = [0, 1, 1, 1, 1], frame.drop(columns="gone")
    encoder = TabularEncoder(min_frequency=1)
    with pytest.warns(UserWarning, match=r"Columns \['gone'\] of X have no value in any row"):
        encoder.fit(frame, sample_weight=weights)
    names = encoder.get_feature_names_out().tolist()
    expected = TabularEncoder(min_frequency=1).fit(others, sample_weight=weights).transform(others)
    for table in (frame, frame.assign(gone=later)):
        encoded = dict(zip(names, encoder.transform(table).T, strict=True))
        assert_array_equal(encoded.pop("gone"), np.zeros(5))
        assert list(encoded) == ["x", "c_b"]
        assert_array_equal(np.array(list(encoded.values())).T, expected)


def test_empty_columns_of_arrays_and_polars():
    for table in (
        np.array([[1.0, np.nan], [2.0, np.nan], [4.0, np.nan]]),
        [[1.0, None], [2.0, None], [4.0, None]],
        pl.DataFrame({"x": [1.0, 2.0, 4.0], "gone": [None] * 3}),
        pl.DataFrame({"x": [1.0, 2.0, 4.0], "gone": pl.Series([None] * 3, dtype=pl.String)}),
        pl.DataFrame({"x": [1.0, 2.0, 4.0], "gone": pl.Series([None] * 3, dtype=pl.Object)}),
    ):
        with pytest.warns(UserWarning, match="have no value in any row"):
            encoder = TabularEncoder().fit(table)
        encoded = encoder.transform(table)
        assert_array_equal(encoded[:, 0], expected_numbers(np.array([1.0, 2.0, 4.0])))
        assert_array_equal(encoded[:, 1], np.zeros(3))


@MAY_BE_EMPTY
def test_table_of_empty_columns_only():
    X = np.full((3, 2), np.nan)
    encoder = TabularEncoder().fit(X)
    assert_array_equal(encoder.transform(X), np.zeros((3, 2)))
    assert_array_equal(encoder.transform(np.ones((3, 2))), np.zeros((3, 2)))
    assert_array_equal(encoder.input_slopes(X), np.zeros((3, 2)))


def test_most_frequent_levels_are_kept_and_the_others_rare():
    frame = pd.DataFrame({"c": list("dddaabbccceef")})
    with pytest.warns(UserWarning, match=r"Columns \['c'\] .* more levels than max_categories"):
        encoder = TabularEncoder(max_categories=3).fit(frame)
    assert encoder.categories_ == [["a", "c", "d"]]  # a, b and e are as frequent, a comes first
    assert encoder.get_feature_names_out().tolist() == ["c_a", "c_c", "c_d", "c_rare"]
    encoded = encoder.transform(frame)
    assert_array_equal(encoded[frame["c"].isin(["b", "e"])], np.tile(encoded[-1], (4, 1)))


def test_rare_levels_do_not_count_against_max_categories():
    frame = pd.DataFrame({"c": list("aaabbbcdef")})
    assert TabularEncoder(max_categories=2).fit(frame).categories_ == [["a", "b"]]


def test_levels_are_ranked_by_their_rows_not_by_their_weight():
    frame = pd.DataFrame({"c": list("aaabbcc")})
    weights = [1, 1, 1, 9, 9, 0, 1]
    encoder = TabularEncoder(max_categories=1, min_frequency=1)
    with pytest.warns(UserWarning, match="max_categories"):
        encoder.fit(frame, sample_weight=weights)
    assert encoder.categories_ == [["a"]]


def test_identifiers_warn():
    frame = pd.DataFrame({"x": range(6), "id": list("abcdef"), "c": list("aabbcc")})
    for params in ({}, {"max_categories": 5}):
        with pytest.warns(
            UserWarning, match=r"In columns \['id'\] of X most rows have a rare"
        ) as w:
            encoder = TabularEncoder(**params).fit(frame)
        assert w[0].filename == __file__
        assert encoder.categories_ == [None, [], ["a", "b", "c"]]


def test_warning_of_rare_levels_goes_by_the_rows():
    """One level that occurs twice does not silence it."""
    names = [*(f"n{i}" for i in range(30)), "n0", None, None]
    with pytest.warns(UserWarning, match=r"In columns \['c'\] of X most rows have a rare"):
        encode(names)
    encode([*(f"n{i}" for i in range(30)), *["n0"] * 31])


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_is_refused_by_column(value):
    frame = pd.DataFrame({"a": [1.0, 2, 3], "b": [4.0, 5, 7], "c": [1.0, 1, 2]})
    encoder = TabularEncoder(["c"], min_frequency=1).fit(frame)
    for name in ("b", "c"):
        bad = frame.copy()
        bad.loc[1, name] = value
        for table in (bad, pl.from_dict(bad.to_dict("list"))):
            with pytest.raises(ValueError, match=rf"infinity .* in columns \['{name}'\]"):
                encoder.transform(table)
            with pytest.raises(ValueError, match=rf"infinity .* in columns \['{name}'\]"):
                clone(encoder).fit(table)


DAYS = [datetime.date(2020, 1, i) for i in (1, 2, 3)]


@pytest.mark.parametrize(
    "times",
    [
        pd.to_datetime(DAYS),
        pd.to_datetime(DAYS).tz_localize("UTC"),
        pd.to_timedelta([1, 2, 3], unit="s"),
        pd.period_range("2020-01", periods=3, freq="M"),
        pd.Series(DAYS, dtype=object),
        pd.Categorical(pd.to_datetime(DAYS)),
    ],
    ids=lambda times: str(times.dtype),
)
def test_times_in_pandas_are_refused(times):
    frame = pd.DataFrame({"x": [1.0, 2, 3], "day": times})
    with pytest.raises(ValueError, match=r"Columns \['day'\] of X hold dates.*year, month"):
        TabularEncoder().fit(frame)


@pytest.mark.parametrize("dtype", [pl.Date, pl.Datetime, pl.Duration, pl.Time])
def test_times_in_polars_are_refused(dtype):
    frame = pl.DataFrame({"x": [1, 2, 3], "day": pl.Series([1, 2, 3]).cast(dtype)})
    with pytest.raises(ValueError, match=r"Columns \['day'\] of X hold dates.*year, month"):
        TabularEncoder().fit(frame)


def test_times_in_arrays_are_refused():
    X = np.array(DAYS, dtype="datetime64[s]")[:, None]
    for dtype in ("datetime64[s]", "timedelta64[s]"):
        with pytest.raises(ValueError, match=r"Columns \[0\] of X hold dates.*year, month"):
            TabularEncoder().fit((X - X[0]) if dtype.startswith("time") else X)


def test_strings_among_numbers_are_refused_by_column():
    X = np.array([[1.0, "a"], [2.0, "b"]], dtype=object)
    with pytest.raises(ValueError, match="Column 1 of X is read as numbers, but could not convert"):
        TabularEncoder(None).fit(X)
    frame = pd.DataFrame({"a": ["1", "2"], "b": ["x", "y"], "c": [1, 2]})
    for table in (frame, pl.DataFrame(frame.to_dict("list"))):
        with pytest.raises(ValueError, match="Column 'b' of X is read as numbers, but could not"):
            TabularEncoder(None).fit(table)
        numbers = table[["a", "c"]]
        assert_array_equal(TabularEncoder(None).fit_transform(numbers), [[-1, -1], [1, 1]])


ROWS = [[1.5, "a", "1"], [2.5, "b", "2"], [3.5, "a", "4"], [4.5, "b", "3"]]


@pytest.mark.parametrize(
    "X",
    [
        np.array(ROWS, dtype=object),
        np.array(ROWS),
        np.array(ROWS, dtype=np.dtypes.StringDType()),
        ROWS,
    ],
    ids=["objects", "strings", "strings of any length", "lists"],
)
def test_strings_in_an_array_are_categories_unless_they_are_numbers(X):
    encoder = TabularEncoder().fit(X)
    assert encoder.is_categorical_.tolist() == [False, True, False]
    frame = pd.DataFrame(ROWS, columns=[0, 1, 2]).astype({2: float})
    assert_array_equal(encoder.transform(X), TabularEncoder().fit_transform(frame))
    new = [[1.5, "never seen", "2"]]
    assert_array_equal(encoder.transform(new)[:, -1], [0.0])
    with pytest.raises(ValueError, match="Column 2 of X is read as numbers, but could not convert"):
        encoder.transform([[1.5, "a", "many"]])


def test_strings_that_simple_imputer_returns_are_categories():
    frame = pd.DataFrame({"x": [1.0, np.nan, 3.0, 4.0], "c": ["a", "b", np.nan, "b"]})
    frame = frame.astype({"c": object})
    impute = make_column_transformer(
        (SimpleImputer(), ["x"]), (SimpleImputer(strategy="most_frequent"), ["c"])
    )
    imputed = impute.fit_transform(frame)
    assert imputed.dtype == object
    by_name = pd.DataFrame({"x": imputed[:, 0].astype(float), "c": imputed[:, 1]})
    assert_array_equal(
        TabularEncoder().fit_transform(imputed), TabularEncoder().fit_transform(by_name)
    )


def test_times_among_objects_of_an_array_are_refused():
    with pytest.raises(ValueError, match=r"Columns \[1\] of X hold dates"):
        TabularEncoder().fit(np.array([["a", DAYS[0]], ["b", DAYS[1]]], dtype=object))


def test_number_too_large_is_refused():
    with pytest.raises(ValueError, match=r"Column 1 of X .* too large"):
        TabularEncoder().fit(np.array([[1, 10**400], [2, 3]], dtype=object))


def test_values_that_are_no_levels_are_refused():
    frame = pd.DataFrame({"c": pd.Series([[1], [2]], dtype=object)})
    X = np.empty((2, 1), dtype=object)
    X[:, 0] = [[1], [2]]
    for table, label in ((frame, "'c'"), (X, "0")):
        with pytest.raises(TypeError, match=f"Column {label} of X cannot be read as categories"):
            TabularEncoder([0]).fit(table)


@pytest.mark.parametrize(
    "table",
    [
        pl.DataFrame({"x": [1.0], "odd": [[1, 2]]}),
        pl.DataFrame({"x": [1.0], "odd": [{"a": 1}]}),
        pd.DataFrame({"x": [1.0], "odd": [1 + 2j]}),
        pd.DataFrame({"x": [1.0], "odd": pd.Series([1 + 2j], dtype=object)}),
        pl.DataFrame({"x": [1.0], "odd": pl.Series([1 + 2j], dtype=pl.Object)}),
    ],
)
def test_columns_of_other_kinds_are_refused(table):
    with pytest.raises(ValueError, match=r"Columns \['odd'\] of X hold neither numbers nor"):
        TabularEncoder().fit(table)


@pytest.mark.parametrize(
    "X",
    [
        sparse.csr_array(np.eye(3)),
    ],
)
def test_sparse_tables_are_refused(X):
    with pytest.raises(TypeError, match="Sparse data was passed"):
        TabularEncoder().fit(X)


@pytest.mark.parametrize(
    "X", [pd.DataFrame({"a": []}), pl.DataFrame({"a": []}), pd.DataFrame(index=[0, 1])]
)
def test_empty_frames_are_refused(X):
    with pytest.raises(ValueError, match="Found array with 0 "):
        TabularEncoder().fit(X)


@pytest.mark.parametrize("series", [pd.Series([1.0, 2.0]), pd.Series(["a", "b"])])
def test_single_columns_are_refused(series):
    with pytest.raises(ValueError, match="Expected a 2-dimensional container"):
        TabularEncoder().fit(series)


def test_columns_that_changed_are_refused():
    encoder = TabularEncoder().fit(people())
    with pytest.raises(ValueError, match="Feature names must be in the same order"):
        encoder.transform(people().iloc[:, ::-1])
    with pytest.raises(ValueError, match="now missing:\n- half"):
        encoder.transform(people().drop(columns="half"))


@pytest.mark.parametrize(
    "params", [{"max_one_hot": -1}, {"min_frequency": 0}, {"min_frequency": 1.5}]
)
def test_parameters_are_checked(params):
    with pytest.raises(ValueError, match=next(iter(params))):
        TabularEncoder(**params).fit([[1.0]])


# -------------------------------------------------------------------------------- weights and order


def tables(min_size=1):
    row = st.tuples(NUMBERS, NUMBERS, LEVELS, st.sampled_from("ab"))
    return st.lists(row, min_size=min_size, max_size=12).map(
        lambda rows: np.array([list(row) for row in rows], dtype=object)
    )


def fit(X, min_frequency=2, **kwargs):
    return TabularEncoder([2, 3], max_one_hot=2, min_frequency=min_frequency).fit(X, **kwargs)


@MAY_BE_RARE
@MAY_BE_EMPTY
@given(X=tables(), seed=st.integers(0, 1000), min_frequency=st.sampled_from([1, 0.2, 0.34]))
def test_weight_is_repetition(X, seed, min_frequency):
    """But for a `min_frequency` above 1, which counts rows as they are given."""
    weights = np.random.default_rng(seed).integers(0, 4, len(X))
    assume(weights.any())
    weighted = fit(X, min_frequency, sample_weight=weights)
    repeated = fit(np.repeat(X, weights, axis=0), min_frequency)
    assert weighted.get_feature_names_out().tolist() == repeated.get_feature_names_out().tolist()
    assert weighted.code_sizes_ == repeated.code_sizes_
    assert_array_equal(weighted.transform(X), repeated.transform(X))


@MAY_BE_RARE
@MAY_BE_EMPTY
@given(X=tables())
def test_no_weights_are_weights_of_one(X):
    expected = fit(X).transform(X)
    assert_array_equal(fit(X, sample_weight=np.ones(len(X))).transform(X), expected)


@MAY_BE_RARE
@MAY_BE_EMPTY
@given(X=tables(min_size=2), seed=st.integers(0, 1000))
def test_order_of_rows_does_not_matter(X, seed):
    rng = np.random.default_rng(seed)
    weights, order = rng.choice([0.1, 0.7, 0.2, 1.3, 2.0], len(X)), rng.permutation(len(X))
    encoder = fit(X, sample_weight=weights)
    shuffled = fit(X[order], sample_weight=weights[order])
    assert encoder.categories_ == shuffled.categories_
    assert_allclose(shuffled.transform(X), encoder.transform(X), rtol=1e-12, atol=1e-14)


def test_weight_of_a_level_does_not_depend_on_the_order_of_its_rows():
    weights = np.array([0.7, 0.2, 0.1, 1.0])  # in this order the sum of the first is less than 1
    X = pd.DataFrame({"c": ["a", "a", "a", "b"]})
    for order in ([0, 1, 2, 3], [2, 1, 0, 3]):
        encoder = TabularEncoder(min_frequency=0.5).fit(X, sample_weight=weights[order])
        assert encoder.categories_ == [["a", "b"]]


@pytest.mark.parametrize("min_frequency", [2, 0.1])
@pytest.mark.parametrize("weight", [0.1, 1 / 3, 1e-300, 1e300])
def test_equal_weights_are_as_none(weight, min_frequency):
    frame = people(30)
    frame["c"] = [*"abcdef" * 4, *"aaabgh"]  # d, e and f: 4 of 30 rows
    expected = TabularEncoder(min_frequency=min_frequency).fit(frame)
    encoder = TabularEncoder(min_frequency=min_frequency)
    encoder.fit(frame, sample_weight=np.full(30, weight))
    assert encoder.categories_ == expected.categories_
    assert_allclose(encoder.transform(frame), expected.transform(frame), atol=1e-13)
    frame.loc[len(frame)] = frame.loc[0]
    encoder.fit(frame, sample_weight=np.append(np.full(30, weight), 0.0))
    assert_allclose(encoder.transform(frame), expected.transform(frame), atol=1e-13)


def test_number_of_rows_that_min_frequency_counts_has_no_unit():
    X = pd.DataFrame({"c": ["a", "a", "b", "b", "c", "d", "d"]})
    weights = np.array([1e-3, 1e-3, 5.0, 0.1, 90.0, 1.0, 0.0])
    for factor in (1e-30, 1.0, 1e30):
        encoder = TabularEncoder().fit(X, sample_weight=weights * factor)
        assert encoder.categories_ == [["a", "b"]]


@MAY_BE_UNKNOWN
@MAY_BE_RARE
@MAY_BE_EMPTY
@given(X=tables(), later=tables())
def test_everything_is_finite(X, later):
    encoder = fit(X)
    for table in (X, later):
        encoded = encoder.transform(table)
        assert np.isfinite(encoded).all()
        assert np.abs(encoded[:, : encoder.n_continuous_]).max(initial=0.0) <= 3.0 + 1e-15
        for codes, size in zip(encoded.T[::-1], encoder.code_sizes_[::-1], strict=False):
            assert set(codes) <= set(range(size))


@given(
    x=st.lists(st.integers(-1000, 1000), min_size=2, max_size=15),
    factor=st.sampled_from([1e6, -3.0, 1e-6, 0.1]),
    shift=st.sampled_from([0.0, 1.0, -12345.0]),
)
def test_unit_does_not_matter(x, factor, shift):
    X = np.array(x, dtype=np.float64)[:, None] / 8.0
    moved = X * factor + (shift * factor)
    if factor < 0:  # the quartiles of an even number of rows are not symmetric
        X, factor = -X, -factor
        moved = X * factor - shift * factor
    encoder, other = TabularEncoder().fit(X), TabularEncoder().fit(moved)
    assert_allclose(other.transform(moved), encoder.transform(X), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("n_samples", [1, 2, 3, 4, 5, 8, 11, 100])
def test_quartiles_are_those_of_numpy(n_samples):
    rng = np.random.default_rng(n_samples)
    x, weights = rng.normal(size=n_samples), rng.integers(1, 5, n_samples)
    encoder = TabularEncoder().fit(x[:, None], sample_weight=weights)
    quartiles = np.quantile(x, [0.25, 0.5, 0.75], weights=weights, method="inverted_cdf")
    u = encoder.transform(quartiles[:, None])[:, 0]
    if n_samples > 2:
        u = u / np.sqrt(1 - (u / 3) ** 2)  # the inverse of the clipping
        assert u[1] == 0.0
        assert_allclose(u[2] - u[0], 1.0)


def weighted_table(seed):
    """Return columns whose quartiles and shares lie on edges, and weights that are small counts."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 40))
    frame = pd.DataFrame(
        {
            "number": rng.integers(0, 9, n) ** 2.0,
            "step": rng.integers(0, 2, n) * 1.0,
            "gap": np.where(rng.random(n) < 0.3, np.nan, rng.integers(0, 5, n)),
            "zeros": np.where(rng.random(n) < 0.8, 0.0, rng.integers(0, 5, n)),
            "pair": rng.choice(list("ab"), n),
            "level": rng.choice(list("abcde"), n),
        }
    )
    return frame, rng.integers(0, 6, n)


@MAY_BE_RARE
@MAY_BE_EMPTY
@given(
    seed=st.integers(0, 10_000),
    factor=st.one_of(
        st.sampled_from([0.1, 1 / 3, 1 / 7, 1e-300, 1e-30, 1e30, 1e300]), st.floats(1e-30, 1e30)
    ),
    min_frequency=st.sampled_from([2, 3, 0.1, 0.2, 0.25]),
)
def test_unit_of_weights_does_not_matter(seed, factor, min_frequency):
    """Shares are on edges here, where rounding would choose other quartiles and rare levels."""
    table, weights = weighted_table(seed)
    assume(weights.any())
    plain, scaled = (
        TabularEncoder(min_frequency=min_frequency).fit(table, sample_weight=w)
        for w in (weights, weights * factor)
    )
    assert scaled.categories_ == plain.categories_
    assert scaled.get_feature_names_out().tolist() == plain.get_feature_names_out().tolist()
    assert_allclose(scaled.transform(table), plain.transform(table), rtol=1e-12, atol=1e-14)


def test_bad_weights_are_refused():
    for weights, message in (([1, -1], "Negative values"), ([0, 0], "zero"), ([1], "shape")):
        with pytest.raises(ValueError, match=message):
            TabularEncoder().fit([[1.0], [2.0]], sample_weight=weights)


# ------------------------------------------------------------------------------------ large tables


def mixed_arrays():
    """Return a table of numbers with gaps, a step, a constant and categories, and which these are.

    All values are numbers, so that it is an array as well as a DataFrame.
    """
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 6))
    X[:, 1] = rng.integers(2, size=60)
    X[:, 2] = 5.0
    X[:, 3] = rng.integers(15, size=60)
    X[:, 4] = rng.integers(3, size=60)
    X[rng.random(X.shape) < 0.1] = np.nan
    return X, [3, 4]


MAKERS = {
    "array": np.asarray,
    "objects": lambda X: X.astype(object),
    "float32": np.float32,
    "pandas": lambda X: pd.DataFrame(X, columns=[f"c{j}" for j in range(X.shape[1])]),
    "polars": lambda X: pl.DataFrame({f"c{j}": x for j, x in enumerate(X.T)}),
}
each_table = pytest.mark.parametrize("make_table", MAKERS.values(), ids=MAKERS)


@each_table
def test_encoder_of_a_large_table_is_that_of_its_columns_and_parts(make_table):
    """To the last bit: it is read in blocks of some columns in fit, and of some rows after it."""
    X, categories = mixed_arrays()
    weight = np.random.default_rng(1).exponential(size=len(X))
    X, weight = np.tile(X, (1000, 1)), np.tile(weight, 1000)
    table = make_table(X)
    encoder = TabularEncoder(categories, max_one_hot=4).fit(table, sample_weight=weight)
    encoded = encoder.transform(table)
    n_columns = 0
    for j in range(X.shape[1]):
        column = make_table(X[:, [j]])
        alone = TabularEncoder([0] if j in categories else None, max_one_hot=4)
        alone = alone.fit_transform(column, sample_weight=weight).astype(encoded.dtype)
        np.testing.assert_array_equal(encoded[:, encoder.source_features_ == j], alone)
        n_columns += alone.shape[1]
    assert encoded.shape == (len(X), n_columns)
    parts = [encoder.transform(table[i : i + 7000]) for i in range(0, len(X), 7000)]
    np.testing.assert_array_equal(encoded, np.concatenate(parts))
    assert {part.dtype for part in parts} == {encoded.dtype}


@each_table
def test_infinity_is_found_in_whichever_block_it_is(make_table):
    X, categories = mixed_arrays()
    X = np.tile(X, (1000, 1))
    table = make_table(X)
    encoder = TabularEncoder(categories).fit(table)
    X[-1, 5] = -np.inf
    wrong = make_table(X)
    label = repr([table.columns[5] if hasattr(table, "columns") else 5])
    for learn in (encoder.transform, TabularEncoder(categories).fit):
        with pytest.raises(ValueError, match="infinity") as caught:
            learn(wrong)
        assert label in str(caught.value)


# ------------------------------------------------------------------------------------------ slopes


@pytest.mark.parametrize("power", [-3, 0, 6])
def test_input_slopes_are_those_of_central_differences(power):
    rng = np.random.default_rng(0)
    X = rng.standard_t(2, (60, 4))
    X[:, 1] = rng.integers(0, 2, 60)
    X[::7, 2] = np.nan
    X[:, 3] = 5.0
    X *= 10.0**power
    encoder = TabularEncoder().fit(X)
    later = X.copy()
    later[:, 1] = np.where(np.arange(60) % 3 == 0, 7.0, 0.3) * 10.0**power
    step = 1e-6 * 10.0**power
    expected = (encoder.transform(later + step) - encoder.transform(later - step)) / (2 * step)
    slopes = encoder.input_slopes(later)
    assert slopes.shape == (60, 5)
    assert encoder.source_features_.tolist() == [0, 2, 3, 1, 2]
    assert_allclose(slopes * 10.0**power, expected * 10.0**power, rtol=1e-5, atol=1e-8)
    assert (slopes[:, [2, 4]] == 0.0).all()
    assert (slopes[::7, 1] == 0.0).all()


def test_slope_of_a_flag_includes_its_ends():
    encoder = TabularEncoder().fit([[2.0], [6.0]])
    slopes = encoder.input_slopes([[2.0], [6.0], [4.0], [1.9], [6.1], [np.nan]])[:, 0]
    assert_array_equal(slopes, [0.5, 0.5, 0.5, 0.0, 0.0, 0.0])


def test_slope_beyond_all_numbers_is_the_largest_one():
    x = np.arange(4.0)[:, None] * 5e-324
    slopes = TabularEncoder().fit(x).input_slopes(x)
    assert np.isfinite(slopes).all()
    assert slopes.min() > 1e307


@given(x=st.lists(NUMBERS, min_size=1, max_size=8), later=NUMBERS)
def test_slopes_are_finite(x, later):
    assume(not np.isnan(x).all())
    encoder = TabularEncoder().fit(np.array(x)[:, None])
    assert np.isfinite(encoder.input_slopes(np.array([*x, later])[:, None])).all()


def test_categories_have_no_slopes_but_booleans_have():
    encoder = TabularEncoder().fit(people())
    slopes = encoder.input_slopes(people())
    names = encoder.get_feature_names_out()
    has_none = np.isnan(slopes).all(axis=0)
    assert_array_equal(has_none, [name.startswith(("sex", "color", "zip")) for name in names])
    assert np.isfinite(slopes[:, ~has_none]).all()
    assert_array_equal(slopes[:, names == "is_new_True"], 2.0)
    # One of many levels, as codes: nothing lies between two of them.
    codes = TabularEncoder(max_one_hot=0).fit(people())
    is_code = slice(-len(codes.code_sizes_), None)
    assert np.isnan(codes.input_slopes(people())[:, is_code]).all()


# --------------------------------------------------------------------------------------- ecosystem


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_set_output(container):
    encoder = TabularEncoder().set_output(transform=container)
    encoded = encoder.fit_transform(people())
    assert type(encoded).__module__.startswith(container)
    assert list(encoded.columns) == encoder.get_feature_names_out().tolist()
    expected = TabularEncoder().fit_transform(people())
    numbers = [encoded[name].to_numpy().astype(float) for name in encoded.columns]
    assert_array_equal(np.column_stack(numbers), expected)


def test_pickle_and_clone():
    encoder = TabularEncoder(max_one_hot=2, min_frequency=1).fit(people())
    copy = pickle.loads(pickle.dumps(encoder))
    assert_array_equal(copy.transform(people()), encoder.transform(people()))
    assert clone(encoder).get_params() == encoder.get_params()
    assert not hasattr(clone(encoder), "code_sizes_")


def test_pipeline_and_column_transformer():
    frame, y = people(), np.arange(24) % 2
    transformer = make_column_transformer(
        (TabularEncoder(), make_column_selector(dtype_include="number")),
        (TabularEncoder(max_one_hot=20), ["sex", "zip"]),
        verbose_feature_names_out=False,
    )
    pipeline = make_pipeline(transformer, LogisticRegression()).fit(frame, y)
    assert pipeline.score(frame, y) == 1.0
    names = pipeline[:-1].get_feature_names_out().tolist()
    assert names[:6] == ["age", "count", "age_missing", "half", "sex_male", "zip_z00"]


def test_refit_forgets():
    encoder = TabularEncoder().fit(people())
    encoder.fit(np.arange(3.0)[:, None])
    assert not hasattr(encoder, "feature_names_in_")
    assert encoder.get_feature_names_out().tolist() == ["x0"]
    assert encoder.code_sizes_ == ()


# ------------------------------------------------------------------------------- part after part


def fit_parts(table, sizes, **parameters):
    """Return an encoder that has learnt from parts of these sizes, and the rest as one."""
    encoder, ends = TabularEncoder(**parameters), np.cumsum(sizes).tolist()
    for start, stop in zip([0, *ends], [*ends, len(table)], strict=True):
        encoder.partial_fit(table[start:stop])
    return encoder


def assert_same_encoder(first, second, table):
    assert first.categories_ == second.categories_
    assert first.get_feature_names_out().tolist() == second.get_feature_names_out().tolist()
    assert_array_equal(first.transform(table), second.transform(table))


@MAY_BE_RARE
@pytest.mark.parametrize("parameters", [{}, {"max_one_hot": 2}, {"min_frequency": 0.1}], ids=str)
@pytest.mark.parametrize("make", [people, lambda n: to_polars(people(n))], ids=["pandas", "polars"])
def test_parts_are_learnt_as_the_whole(parameters, make):
    table = make(96)
    expected = TabularEncoder(**parameters).fit(table)
    for sizes in ([1, 1, 50], [10] * 9, [95]):
        assert_same_encoder(fit_parts(table, sizes, **parameters), expected, table)


@MAY_BE_EMPTY
@MAY_BE_RARE
@given(
    X=tables(min_size=2),
    seed=st.integers(0, 1000),
    min_frequency=st.sampled_from([1, 2, 0.2]),
    weighted=st.booleans(),
)
def test_parts_in_any_order_are_learnt_as_the_whole(X, seed, min_frequency, weighted):
    rng = np.random.default_rng(seed)
    weights = rng.integers(1, 4, len(X)) * 0.5 if weighted else None
    expected = fit(X, min_frequency, sample_weight=weights)
    encoder = TabularEncoder([2, 3], max_one_hot=2, min_frequency=min_frequency)
    for rows in np.array_split(rng.permutation(len(X)), min(3, len(X))):
        of_part = None if weights is None else weights[rows]
        encoder.partial_fit(X[rows], sample_weight=of_part)
    assert_same_encoder(encoder, expected, X)


@MAY_BE_RARE
def test_weights_of_parts_count_beside_each_other():
    frame, rng = people(96), np.random.default_rng(0)
    for weights in (rng.random(96) + 0.1, np.repeat([0.25, 3.0], 48), np.full(96, 0.1)):
        expected = TabularEncoder(min_frequency=0.2).fit(frame, sample_weight=weights)
        encoder = TabularEncoder(min_frequency=0.2)
        for rows in (slice(0, 40), slice(40, 48), slice(48, 96)):
            encoder.partial_fit(frame[rows], sample_weight=weights[rows])
        assert encoder.categories_ == expected.categories_
        assert_allclose(encoder.transform(frame), expected.transform(frame), atol=1e-12)


def test_max_categories_counts_the_levels_of_all_parts():
    table = pd.DataFrame({"c": [f"k{i % 7}" for i in range(40)] + ["k8"] * 30})
    with pytest.warns(UserWarning, match="more levels than max_categories"):
        expected = TabularEncoder(max_categories=3).fit(table)
    with pytest.warns(UserWarning, match="more levels than max_categories"):
        encoder = fit_parts(table, [20, 20, 20], max_categories=3)
    assert_same_encoder(encoder, expected, table)


def draw_column(name, n):
    rng = np.random.default_rng(3)
    columns = {
        "normal": rng.normal(size=n),
        "sorted": np.arange(n) * 1.0,
        "heavy": rng.standard_cauchy(n),
        "mostly zero": np.where(rng.random(n) < 0.9, 0.0, rng.lognormal(size=n)),
        "rarely not zero": np.where(np.arange(n) % 10_000, 0.0, np.arange(n)),
        "missing": np.where(rng.random(n) < 0.3, np.nan, rng.exponential(size=n)),
    }
    return columns[name][:, None]


@pytest.mark.parametrize("n_parts", [3, 40])
@pytest.mark.parametrize(
    "name", ["normal", "sorted", "heavy", "mostly zero", "rarely not zero", "missing"]
)
def test_quantiles_of_a_long_stream_have_a_small_error(name, n_parts):
    n = 60_000
    x = draw_column(name, n)
    encoder = TabularEncoder()
    for part in np.array_split(x, n_parts):
        encoder.partial_fit(part)
    bound = (1 + np.log2(n_parts)) / 8188
    # By its formula, the encoder says where the median and the quartiles are.
    u = encoder.transform(np.vstack([x, np.nanquantile(x, [0.5 - bound, 0.5 + bound])[:, None]]))
    assert u[-2, 0] <= 0.0 <= u[-1, 0]
    assert len(pickle.dumps(encoder)) < 16 * 4096 * (2 + np.log2(n_parts)) + 5000
    expected = TabularEncoder().fit_transform(x)
    assert_allclose(encoder.transform(x), expected, atol=20 * bound)


def test_parts_go_on_after_fit_and_pickling():
    frame = people(96)
    expected = TabularEncoder().fit(frame)
    encoder = TabularEncoder().fit(frame[:30]).partial_fit(frame[30:60])
    encoder = pickle.loads(pickle.dumps(encoder)).partial_fit(frame[60:])
    assert_same_encoder(encoder, expected, frame)
    encoder.fit(frame[:30])  # forgets
    assert_same_encoder(encoder, TabularEncoder().fit(frame[:30]), frame[:30])


def test_part_that_is_refused_changes_nothing():
    frame = people(96)
    encoder, expected = TabularEncoder().partial_fit(frame[:48]), TabularEncoder().fit(frame[:48])
    wrong = {
        "feature names should match": frame.iloc[48:, ::-1],
        "contains infinity": frame[48:].assign(count=np.inf),
        "is read as numbers": frame[48:].assign(age="old"),
    }
    for message, part in wrong.items():
        with pytest.raises(ValueError, match=message):
            encoder.partial_fit(part)
    with pytest.raises(ValueError, match="zero"):
        encoder.partial_fit(frame[48:], sample_weight=np.zeros(48))
    assert_same_encoder(encoder, expected, frame[:48])
    encoder.partial_fit(frame[48:])
    assert_same_encoder(encoder, TabularEncoder().fit(frame), frame)


def test_parts_warn_as_the_whole_does_but_not_too_soon():
    def part(i):
        keys = [f"{j}.5" for j in range(10 * i, 10 * i + 10)]
        return pd.DataFrame(
            {"empty": [np.nan] * 10, "number": keys, "id": [f"id{k}" for k in keys]}
        )

    encoder = TabularEncoder()
    with pytest.warns(UserWarning, match=r"Columns \['number'\] of X hold strings") as caught:
        encoder.partial_fit(part(0))
    assert len(caught) == 1
    with pytest.warns(UserWarning, match=r"Columns \['number'\] of X hold strings"):
        encoder.partial_fit(part(1))


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_encoder_whose_only_fit_failed_is_not_fitted(method):
    encoder = TabularEncoder()
    with pytest.raises(ValueError, match="contains infinity"):
        getattr(encoder, method)([[1.0], [np.inf]])
    for use in (encoder.transform, encoder.input_slopes, encoder.get_feature_names_out):
        with pytest.raises(NotFittedError):
            use([[1.0]])
