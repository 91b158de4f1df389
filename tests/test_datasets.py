"""The rain table: every form it can be had in, and every figure its description states."""

import gzip
import sys
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest

import skdnn.datasets
from skdnn.datasets import load_rain

FEATURES = [
    "airport",
    "month",
    "hour",
    "temp_f",
    "dewpoint_f",
    "humidity_pct",
    "wind_dir_deg",
    "wind_speed_mph",
    "wind_gust_mph",
    "pressure_hpa",
    "visibility_mi",
]


@pytest.fixture(scope="module")
def rain():
    return load_rain()


@pytest.fixture(scope="module")
def frame():
    return load_rain(as_frame=True).frame


def test_load_rain_gives_arrays_with_the_names_of_columns_and_classes(rain):
    assert skdnn.datasets.__all__ == ["load_rain"]
    assert rain.data.shape == (26115, 11)
    assert rain.data.dtype == np.float64
    assert rain.data.flags.c_contiguous
    assert rain.target.shape == (26115,)
    assert rain.target.dtype == np.int64
    assert rain.frame is None
    assert rain.feature_names == FEATURES
    assert rain.target_names == ["dry", "rain"]
    assert rain.airport_names == ["EWR", "JFK", "LGA"]


def test_first_and_last_rows_are_those_of_the_source(rain):
    first = [0, 1, 1, 39.02, 26.06, 59.37, 270, 10.35702, np.nan, 1012.0, 10]
    last = [2, 12, 18, 28.94, 10.94, 46.41, 330, 18.41248, np.nan, 1020.9, 10]
    np.testing.assert_array_equal(rain.data[[0, -1]], [first, last])


def test_values_are_in_the_range_of_their_unit(rain):
    low, high = np.nanmin(rain.data, axis=0), np.nanmax(rain.data, axis=0)
    expected = {
        "airport": (0, 2),
        "month": (1, 12),
        "hour": (0, 23),
        "temp_f": (10.94, 100.04),
        "dewpoint_f": (-9.94, 78.08),
        "humidity_pct": (12.74, 100),
        "wind_dir_deg": (0, 360),
        "wind_speed_mph": (0, 42.57886),
        "wind_gust_mph": (16.11092, 66.74524),
        "pressure_hpa": (983.8, 1042.1),
        "visibility_mi": (0, 10),
    }
    found = dict(zip(rain.feature_names, zip(low, high, strict=True), strict=True))
    assert found == expected


def test_missing_values_are_left_in(rain):
    missing = dict(zip(rain.feature_names, np.isnan(rain.data).sum(axis=0).tolist(), strict=True))
    assert missing == dict.fromkeys(FEATURES, 0) | {
        "temp_f": 1,
        "dewpoint_f": 1,
        "humidity_pct": 1,
        "wind_dir_deg": 460,
        "wind_speed_mph": 5,
        "wind_gust_mph": 20778,
        "pressure_hpa": 2729,
    }


def test_airport_codes_are_whole_numbers_with_the_stated_counts(rain):
    codes, counts = np.unique(rain.data[:, 0], return_counts=True)
    assert codes.tolist() == [0.0, 1.0, 2.0]
    assert counts.tolist() == [8703, 8706, 8706]


def test_rows_are_in_the_order_of_time_for_each_airport(rain):
    airport, month = rain.data[:, 0], rain.data[:, 1]
    assert (np.diff(airport) >= 0).all()
    for code in range(3):
        assert (np.diff(month[airport == code]) >= 0).all()


def test_direction_is_zero_exactly_when_calm(rain):
    direction, speed = rain.data[:, 6], rain.data[:, 7]
    is_known = ~np.isnan(direction) & ~np.isnan(speed)
    np.testing.assert_array_equal(direction[is_known] == 0.0, speed[is_known] == 0.0)


def test_return_x_y_gives_the_same_arrays(rain):
    X, y = load_rain(return_X_y=True)
    np.testing.assert_array_equal(X, rain.data)
    np.testing.assert_array_equal(y, rain.target)


def test_every_call_gives_its_own_arrays_and_lists(rain):
    other = load_rain()
    other.data[0, 0] = 99.0
    other.target_names.append("snow")
    again = load_rain()
    assert again.data[0, 0] == 0.0
    assert again.target_names == ["dry", "rain"]


def test_as_frame_gives_the_same_values(rain, frame):
    assert list(frame) == [*FEATURES, "target"]
    codes = frame["airport"].cat.codes.to_numpy()
    np.testing.assert_array_equal(codes, rain.data[:, 0])
    np.testing.assert_array_equal(frame[FEATURES[1:]].to_numpy(np.float64), rain.data[:, 1:])
    np.testing.assert_array_equal(frame["target"], rain.target)


def test_as_frame_gives_fitting_dtypes(frame):
    assert frame["airport"].cat.categories.tolist() == ["EWR", "JFK", "LGA"]
    assert frame.dtypes[["month", "hour", "target"]].tolist() == [np.int64] * 3
    assert frame.dtypes[FEATURES[3:]].tolist() == [np.float64] * 8


def test_parts_of_the_frame_are_given_too(frame):
    bunch = load_rain(as_frame=True)
    for X, y in ((bunch.data, bunch.target), load_rain(return_X_y=True, as_frame=True)):
        pd.testing.assert_frame_equal(X, frame[FEATURES])
        pd.testing.assert_series_equal(y, frame["target"])


def test_arguments_are_by_keyword_only():
    with pytest.raises(TypeError, match="positional"):
        load_rain(True)


def test_without_pandas_there_are_arrays_and_words_on_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert load_rain().data.shape == (26115, 11)
    with pytest.raises(ImportError, match=r"needs pandas.*pip install pandas"):
        load_rain(as_frame=True)


def test_file_is_found_where_the_bunch_says(rain):
    content = files(rain.data_module).joinpath(rain.filename).read_bytes()
    header, first, *_ = gzip.decompress(content).decode("ascii").splitlines()
    assert header == ",".join([*FEATURES, "target"])
    assert first == "EWR,1,1,39.02,26.06,59.37,270,10.35702,,1012,10,0"


def test_file_is_small_and_carries_neither_time_nor_name(rain):
    content = files(rain.data_module).joinpath(rain.filename).read_bytes()
    assert len(content) < 400_000
    assert content[3] == 0  # flags: no file name
    assert content[4:8] == bytes(4)  # time of modification


def test_description_lists_every_column(rain):
    lines = rain.DESCR.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("- ")] == [
        f"- {name}" for name in FEATURES
    ]


def test_stated_figures_are_those_of_the_data(rain):
    text = " ".join(rain.DESCR.split())
    is_without_pressure = np.isnan(rain.data[:, 9])
    missing = np.isnan(rain.data).mean(axis=0)
    figures = [
        f"{len(rain.target):,} hours",
        f"{rain.target.sum():,} hours, {rain.target.mean():.1%}",
        f"{is_without_pressure.sum():,} hours",
        f"{missing[9]:.1%}",
        f"{missing[8]:.1%}",
        f"{rain.target[is_without_pressure].mean():.1%}",
        f"{rain.target[~is_without_pressure].mean():.1%}",
    ]
    assert [figure for figure in figures if figure not in text] == []
