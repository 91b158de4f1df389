"""A transformer from any table to one matrix of floats that a network can learn from.

Each numeric column is a shift, a scale and a squashing; each category column is a lookup table,
whose rows are what the column becomes for an unknown level, for a missing one, and for each level.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar, Literal, Self

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from ..typing import TableLike
from ..utils import (
    BLOCK_VALUES,
    DocumentedMixin,
    Interval,
    RealNotInt,
    StrOptions,
    add_format,
    check_feature_names_in,
    check_weights,
    cut_rows,
    fit_context,
    get_output_container,
    is_checked,
    refuse_damage,
    remove_format,
    with_usual_errors,
)
from .categories import (
    EMPTY,
    FIRST_LEVEL,
    LARGEST_CODE,
    MANY_ROWS,
    PREMATURE,
    UNKNOWN_LEVELS,
    Category,
    LevelMatch,
    advise,
    count_levels,
    fit_category,
)
from .columns import FLOAT32, OBJECT, STRING, Levels, Table, find_categories, open_columns, warn_of
from .encoded_array import CONTINUOUS, FLAG, mark, to_frame
from .scaling import SCALE_LENGTH, Scale, Scaling, fit_number


class TabularEncoder(DocumentedMixin, TransformerMixin, BaseEstimator):
    """Turn a table into one matrix of numbers that a network can learn from.

    Numbers of any unit and with any outliers come out between -3 and 3, missing values are filled
    and flagged, and categories become flags or, where they have many levels, codes for embeddings.

    Parameters
    ----------
    categorical_features : array-like of {bool, int, str} or "from_dtype" or None, \
            default="from_dtype"
        Which columns are categories: a boolean mask, indices, or names. "from_dtype" takes the
        columns of a DataFrame that hold categories, strings or booleans, and those of objects that
        are not all numbers; in a NumPy array or list those with strings that are no numbers, and
        codes that another TabularEncoder has made. None takes none at all.
    max_one_hot : int, default=8
        Up to so many levels, a category column becomes flags; above, one column of codes. Rare
        levels do not count.
    min_frequency : int, float or "auto", default="auto"
        A level of fewer rows than this is rare, and treated as one that was never seen. Rows count
        that have a `sample_weight` above 0, whatever it is. A float in (0, 1) is a fraction of the
        total weight, which the rows of a level must have together. "auto" is 2, but no level is
        rare in a column of codes in which most rows have a level of fewer than 8 rows: target
        encoding can use a single row, an embedding cannot.
    max_categories : int, default=10_000
        Of a category column with more levels than this that are not rare, those with the most rows
        are kept, and all others are rare; of levels with as many rows, those that come first in
        the order of levels. This warns, since such a column probably identifies rows.

    Attributes
    ----------
    is_categorical_ : ndarray of shape (n_features_in_,), dtype=bool
        Which columns of X are categories.
    categories_ : list of length n_features_in_
        For each category column its levels that are not rare, in the order of their flags or codes;
        None for each numeric column.
    n_continuous_ : int
        How many columns of the result, the leading ones, are continuous numbers.
    code_sizes_ : tuple of int
        For each of the trailing columns of the result that hold codes, how many codes there are:
        its values are 0.0, 1.0, ... up to this number less 1. The columns between are flags.
    source_features_ : ndarray of shape (n_features_out,), dtype=int
        For each column of the result, the column of X that it comes from.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features seen in `fit`, where X has names that are all strings.

    See Also
    --------
    DeepBinaryClassifier : What the result is for.
    sklearn.preprocessing.RobustScaler : Shift and scale by the same quartiles, without clipping.
    sklearn.preprocessing.OneHotEncoder : One flag for each level.

    Notes
    -----
    A **numeric column** x, with the weighted quartiles q25, m and q75 of its values, becomes

        ``u = (x - m) / (q75 - q25)``, and ``u / sqrt(1 + (u / 3)^2)``,

    after [1]_. If the quartiles are equal, as those of a column that is mostly zero, it is divided
    by the median of ``|x - m|`` over the distinct values that are not m, by their weights, so that
    these are told apart. A constant column becomes 0. A column of two distinct values becomes a
    flag: -1 for the lower, 1 for the higher, linear between them, and -1 or 1 outside. Missing
    values become 0, and a column with missing values in `fit` has a flag ``name_missing`` as well:
    1 where the value is missing, else 0. A column of which all values are missing in `fit` becomes
    0, whatever comes later; this warns.

    From each **flag** its weighted mean in `fit` is subtracted, for a column of two values or
    levels that of the rows that have one: 0 is the average row, and where nothing is known. Without
    that, hundreds of flags that are nearly always the same act like one huge bias, and a network
    learns slowly.

    A **category column** has the levels seen in `fit`; numbers first, then strings. Numbers count
    by value: 1, 1.0 and True are one level. By its levels that are not rare it becomes,

    - if there are two, and no rare ones: one flag, -1 for the first and 1 for the second level,
      each less the mean, and 0 for a missing value or an unseen level. It has the name of the
      second. If values were missing in `fit`, there is a flag ``name_missing``.
    - if there are up to `max_one_hot`: a flag of 0 or 1, less the mean, for each; one for all rare
      levels together, if there are any, which unseen levels raise too; and one for missing values,
      if there were any in `fit`. Without those, all flags of such a row are 0.
    - if there are more: a code. 0 is a level that is rare or unseen, 1 a missing value, and 2, 3,
      ... are the levels. Codes 0 and 1 exist even if no row of `fit` has them.
    - if there is one, and nothing else, or none: a flag that is always 0, and ``name_missing`` if
      values were missing in `fit`; of a column without any value only the former.

    **Warnings**: `fit` warns of columns in which more than half of the rows that have a value have
    a rare level. If it chose them by their dtype, it warns of columns of strings (and numbers) that
    all read as numbers, or all but markers such as "?", "NA", "" and "-", where they have decimals
    or signs, as "1,234.5" and "12%", or most rows have a rare level; or are dates and times. A
    leading zero makes a code of all. Of these columns it also warns where they have both 1 and "1".
    `transform` warns of category columns in which no row has a level of `fit`, if these are ten
    rows (unless most levels were rare in `fit`), or if they are of another kind, as 1 where there
    were strings; what a column is stays as in `fit`.

    **Objects** are numbers if all values of the column in `fit` are: int, float, Decimal, Fraction,
    those of NumPy, and bool among others.

    **Missing** are NaN, None, pandas' NA and NaT, and what a NumPy array masks. A value may be
    missing in a column where none was in `fit`.

    **Weights**: only their ratios count. In quartiles, means and shares, and in a `min_frequency`
    that is a fraction, a row of integer weight k counts exactly as k rows; an integer
    `min_frequency` and `max_categories` count rows as they are given, so that no unit of weights
    makes a level rare. A row of weight 0 counts as none. Quantiles are those of
    :func:`numpy.quantile` with ``method="inverted_cdf"``. Nothing depends on the order of the rows,
    but for the rounding of sums of weights.

    **Names**: ``age``, ``age_missing``, ``sex_male``, ``color_red``, ``color_rare``,
    ``color_missing``, ``zip``. A name that is taken already has ``_2``, ``_3``, ... added.

    The result is float64, and float32 if all numeric columns are float32; the computation is in
    float64.

    References
    ----------
    .. [1] D. Holzmüller, L. Grinsztajn, I. Steinwart, "Better by default: strong pre-tuned MLPs and
       boosted trees on tabular data", NeurIPS 2024, arXiv:2407.04491.

    Examples
    --------
    >>> import numpy as np
    >>> from skdnn.preprocessing import TabularEncoder
    >>> X = np.array([[1.0, 0], [2.0, 7], [4.0, 0], [np.nan, 7], [90.0, 0]])
    >>> encoder = TabularEncoder().fit(X)
    >>> encoder.get_feature_names_out().tolist()
    ['x0', 'x0_missing', 'x1']
    >>> encoder.transform(X).round(2)
    array([[-0.33, -0.2 , -0.8 ],
           [ 0.  , -0.2 ,  1.2 ],
           [ 0.65, -0.2 , -0.8 ],
           [ 0.  ,  0.8 ,  1.2 ],
           [ 2.98, -0.2 , -0.8 ]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
        "max_one_hot": [Interval(Integral, 0, None, closed="left")],
        "min_frequency": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            StrOptions({"auto"}),
        ],
        "max_categories": [Interval(Integral, 1, LARGEST_CODE - FIRST_LEVEL, closed="both")],
    }

    # What `fit` sets; declared only, so that there is none before.
    is_categorical_: NDArray[np.bool_]
    categories_: list[list[Any] | None]
    n_continuous_: int
    code_sizes_: tuple[int, ...]
    source_features_: NDArray[np.intp]
    n_features_in_: int
    feature_names_in_: NDArray[np.object_]
    _summaries: list[Any] | None  # what is kept of the rows of each column, as plain data

    def __init__(
        self,
        categorical_features: ArrayLike | Literal["from_dtype"] | None = "from_dtype",
        *,
        max_one_hot: int = 8,
        min_frequency: float | Literal["auto"] = "auto",
        max_categories: int = 10_000,
    ) -> None:
        self.categorical_features = categorical_features
        self.max_one_hot = max_one_hot
        self.min_frequency = min_frequency
        self.max_categories = max_categories

    @fit_context(prefer_skip_nested_validation=True)
    @with_usual_errors
    def fit(self, X: TableLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Learn scales and levels.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Numbers, and categories in columns that `categorical_features` names. DataFrames are
            those of pandas, polars and other libraries that narwhals reads, and Tables of Arrow.
            One of dask is computed; sparse columns of pandas are made dense, with a warning.
        y : object, default=None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts beside the others. None is the same for all.

        Returns
        -------
        self : TabularEncoder
            The fitted encoder.

        Raises
        ------
        ValueError
            If a column holds infinity or times, or if `categorical_features` has unknown columns.
        TypeError
            If X is sparse.
        """
        self._learn(self._open(X, reset=True), sample_weight, [])
        return self

    @fit_context(prefer_skip_nested_validation=True)
    @with_usual_errors
    def partial_fit(
        self, X: TableLike, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Learn scales and levels from part after part of a table that does not fit into memory.

        It goes on from what `fit` or other calls have learnt. The encoder is the one that `fit`
        makes of all rows so far, whatever the order of the parts, as long as each column of numbers
        has at most 4096 distinct values. Of more a sketch is kept, whose quantiles are off by at
        most ``(1 + log2(n_parts)) / 8188`` of the weight: 0.13% for a thousand parts. All levels
        are kept, and how many rows they have.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            A part of the table. The first one decides which columns are categories.
        y : object, default=None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts beside those of all parts.

        Returns
        -------
        self : TabularEncoder
            The encoder, fitted to all rows so far.

        Raises
        ------
        ValueError
            As by `fit`; if X has other columns than the first part; and if the encoder is part of a
            fitted model, which does not keep what it has learnt from.

        Notes
        -----
        It warns as `fit` does, but not of rare levels and of columns without a value, since later
        parts may have more.

        Examples
        --------
        >>> import numpy as np
        >>> from skdnn.preprocessing import TabularEncoder
        >>> X = np.arange(3_000.0).reshape(1_000, 3)
        >>> encoder = TabularEncoder()
        >>> for part in np.array_split(X, 10):
        ...     encoder = encoder.partial_fit(part)
        >>> np.array_equal(encoder.transform(X), TabularEncoder().fit_transform(X))
        True
        """
        before = getattr(self, "_summaries", [])
        if before is None:
            raise ValueError(
                "This encoder is part of a model, which does not keep what it has learnt from: "
                "partial_fit cannot go on. Take a clone, or the encoder that the model was given."
            )
        self._learn(self._open(X, reset=not before), sample_weight, before, PREMATURE)
        return self

    def _learn(
        self, table: Table, sample_weight: Any, before: list[Any], untold: Sequence[str] = ()
    ) -> None:
        """Learn from the rows of a table and of those before; leave some warnings `untold`."""
        if not before:
            self._labels = list(table.labels)
            self.is_categorical_ = find_categories(table, self.categorical_features)
        weights = check_weights(sample_weight, table, may_vanish=False)
        rows = slice(None) if weights is None else np.flatnonzero(weights)
        weights = None if weights is None else weights[rows]
        summaries: list[Any] = [*before] or [None] * len(self._labels)
        numbers: list[Scale] = []
        categories: dict[int, Category] = {}
        numeric = np.flatnonzero(~self.is_categorical_).tolist()
        # As many at a time as make a block: a DataFrame takes its time to find each column.
        for group in cut_rows(len(numeric), len(table)):
            block = np.ascontiguousarray(table.numbers(numeric[group]).T)
            for j, x in zip(numeric[group], block, strict=True):
                summaries[j], scale = fit_number(summaries[j], x[rows], weights)
                numbers.append(scale)
        for j in np.flatnonzero(self.is_categorical_).tolist():
            levels, codes = table.levels(j)
            counts = count_levels(summaries[j] or (), Levels(levels, codes[rows]), weights)
            summaries[j] = list(counts.items())
            categories[j] = fit_category(
                counts, self.max_one_hot, self.min_frequency, self.max_categories
            )
        self._arrange(np.array(numbers, np.float64).reshape(-1, SCALE_LENGTH), categories)
        self._summaries = summaries
        self._warn_of_columns(table, summaries, untold)

    def _warn_of_columns(self, table: Table, summaries: list[Any], untold: Sequence[str]) -> None:
        """Warn of columns that are probably not of the kind that they are read as."""
        warned = defaultdict(list)  # columns by message
        is_read = {*self._numeric, *self._category_places}
        for j, label in enumerate(self._labels):
            message = None if j in is_read else EMPTY
            if j in self._category_places:
                is_guess = isinstance(self.categorical_features, str)
                is_guess = is_guess and table.kinds[j] in (STRING, OBJECT)
                message = advise(self._categories[j], summaries[j] if is_guess else ())
            warned[message].append(label)
        for message, labels in warned.items():
            if message is not None and message not in untold:
                warn_of(message, labels)

    @with_usual_errors
    def transform(self, X: TableLike) -> Any:
        """Encode a table.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            The columns seen in `fit`.

        Returns
        -------
        X_encoded : ndarray of shape (n_samples, n_features_out)
            Continuous columns, then flags, then codes; every value is finite. The array remembers
            which columns are codes, and tells the next encoder or classifier; in a DataFrame, by
            ``set_output``, they are categories.
        """
        check_is_fitted(self)
        matrix, matches = self._encode(self._open(X, reset=False))
        self._warn_of_unknown([matches])
        encoded = mark(matrix, self._marks)
        container = get_output_container(self)
        return encoded if container == "default" else to_frame(encoded, container, X)

    def _encode(
        self, table: Table, dtype: np.dtype | None = None
    ) -> tuple[np.ndarray, list[LevelMatch]]:
        """Encode a table, or a block of one; also return the matches of each category column."""
        # Columns without any value in `fit` stay 0.
        shape = (len(table), len(self.source_features_))
        is_single = self._numeric and (table.kinds[self._numeric] == FLOAT32).all()
        X_encoded = np.zeros(shape, dtype or (np.float32 if is_single else np.float64))
        n_numeric = len(self._numeric)
        # In parts of a block, as the formulas take several arrays of their size.
        for rows in cut_rows(len(table) if n_numeric else 0, n_numeric, BLOCK_VALUES // 4):
            numbers, flags = self._scaling.encode(table[rows].numbers(self._numeric))
            X_encoded[rows, self._places] = numbers
            X_encoded[rows, self._missing_places] = flags
        matches = []
        for j, places in self._category_places.items():
            out = X_encoded[:, places]
            matches.append(self._categories[j].encode_into(table.levels(j), out))
        return X_encoded, matches

    def _warn_of_unknown(self, blocks: list[list[LevelMatch]]) -> None:
        """Warn of category columns in which no row of these blocks has a level of `fit`."""
        unknown, examples = [], []
        for j, *matches in zip(self._category_places, *blocks, strict=True):
            category = self._categories[j]
            n_rows, n_known, types = zip(*matches, strict=True)
            # A few rows with a new level are usual, and so are many where most levels were rare.
            is_surprise = sum(n_rows) >= MANY_ROWS and not category.is_mostly_rare
            is_other_type = frozenset().union(*types).isdisjoint(category.types)
            is_unknown = category.levels and any(n_rows) and not any(n_known)
            if is_unknown and (is_surprise or is_other_type):
                unknown.append(self._labels[j])
                examples.append(category.levels[0])
        warn_of(UNKNOWN_LEVELS, unknown, examples)

    def _find_constant(self) -> list[Any]:
        """Name the columns that had a single value in `fit`, and are encoded as 0 ever after."""
        numbers = np.array(self._numeric)[np.isinf(self._scaling.spread)].tolist()
        categories = [j for j in self._category_places if self._categories[j].is_constant]
        return [self._labels[j] for j in sorted(numbers + categories)]

    @with_usual_errors
    def input_slopes(self, X: TableLike) -> NDArray[np.float64]:
        """Differentiate the encoding of a table with respect to the table.

        Entry (i, j) is the derivative of column j of the result, in row i, with respect to the one
        feature that it comes from, ``source_features_[j]``. So a gradient with respect to the
        result becomes one with respect to X, by multiplication with these slopes and sums over the
        columns of each feature.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            The columns seen in `fit`.

        Returns
        -------
        slopes : ndarray of shape (n_samples, n_features_out), dtype=float64
            The derivatives. They are 0 where the value is missing, for constant columns, and for
            flags of missing values. A flag of two values has the slope of the line between them,
            ends included, and 0 outside; that of a boolean is the difference between False, 0, and
            True, 1. NaN stands in the columns of other categories, along which there is none.
        """
        check_is_fitted(self)
        return self._input_slopes(X, reset=False)

    def _input_slopes(self, X: Any, *, reset: bool | None = None) -> np.ndarray:
        """Return the slopes; names are compared as in `_open`."""
        table = self._open(X, reset=reset)
        slopes = np.zeros((len(table), len(self.source_features_)))
        if self._numeric:
            slopes[:, self._places] = self._scaling.slopes(table.numbers(self._numeric))
        for j, places in self._category_places.items():
            is_present = table.levels(j).codes[:, np.newaxis] >= 0
            slopes[:, places] = self._categories[j].boolean_slopes * is_present
        return slopes

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """Return the names of the columns of the result.

        Parameters
        ----------
        input_features : array-like of str of shape (n_features,), default=None
            Names of the features of X. None takes `feature_names_in_`, or x0, x1, ... where X had
            no names.

        Returns
        -------
        feature_names_out : ndarray of str of shape (n_features_out,)
            The names, each of which occurs once.
        """
        check_is_fitted(self)
        names_in = check_feature_names_in(self, input_features)
        names: dict[str, None] = {}
        for feature, suffix in zip(self.source_features_, self._suffixes, strict=True):
            name = f"{names_in[feature]}{suffix}"
            unique, i = name, 2
            while unique in names:
                unique, i = f"{name}_{i}", i + 1
            names[unique] = None
        return np.array(list(names), dtype=object)

    def _open(self, X: Any, *, reset: bool | None = None) -> Table:
        """Return the columns of a table.

        Their names and number are learnt by a `reset`, compared if that is False, and left to the
        caller if it is None.
        """
        if not reset and is_checked(self, X):
            return Table(X)
        table = open_columns(X, self)
        if reset is not None:
            native = nw.to_native(table.X, pass_through=True)
            validate_data(self, native, reset=reset, skip_check_array=True)
        return table

    def __sklearn_is_fitted__(self) -> bool:
        # A fit that failed leaves attributes too.
        return hasattr(self, "_numbers")

    def _arrange(self, numbers: np.ndarray, categories: dict[int, Category]) -> None:
        """Give each output its place: continuous columns, then flags, then codes."""
        self._numbers, self._categories = numbers, categories
        n_numeric, n_features = len(numbers), len(numbers) + len(categories)
        numeric, scaling = np.delete(np.arange(n_features), list(categories)), Scaling(numbers)
        is_read = ~np.isnan(scaling.spread)  # a column without values is not, whatever comes later
        flagged = numeric[scaling.has_missing & is_read]
        sources, suffixes = [*numeric, *flagged], [""] * n_numeric + ["_missing"] * len(flagged)
        marks = [*np.where(scaling.is_step, FLAG, CONTINUOUS), *[FLAG] * len(flagged)]
        for j, category in categories.items():
            for kind, suffix in category.outputs:
                sources.append(j)
                marks.append(kind)
                suffixes.append(suffix)
        order = np.lexsort((sources, np.minimum(marks, FLAG + 1)))
        self._marks, self.source_features_ = np.array(marks)[order], np.array(sources)[order]
        self._suffixes = np.array(suffixes, dtype=object)[order]
        self.n_continuous_ = int(np.count_nonzero(self._marks == CONTINUOUS))
        self.code_sizes_ = tuple(self._marks[self._marks > FLAG].tolist())
        self._numeric, self._scaling = numeric[is_read].tolist(), Scaling(numbers[is_read])
        places = np.argsort(order)
        self._places = places[:n_numeric][is_read]
        self._missing_places = places[n_numeric : n_numeric + len(flagged)]
        self.categories_ = [None] * n_features
        self._category_places = {}
        for j, category in categories.items():
            self.categories_[j] = category.levels.copy()
            if not category.is_empty:
                first = int(np.argmax(self.source_features_ == j))
                self._category_places[j] = slice(first, first + len(category.outputs))

    def __getstate__(self) -> dict[str, Any]:
        """Return plain data, without attributes that are computed from the columns."""
        state = super().__getstate__()
        if "_numbers" in state:
            arranged = object.__new__(TabularEncoder)
            arranged._arrange(self._numbers, self._categories)
            state = {name: value for name, value in state.items() if name not in vars(arranged)}
            categories = [category.pack() for category in self._categories.values()]
            columns = {"numbers": self._numbers, "categories": categories}
            state |= {"labels": state.pop("_labels"), "columns": columns}
        return add_format(state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what `__getstate__` has returned, here or in another version."""
        state = remove_format(state, self)
        with refuse_damage(f"This {type(self).__name__}"):
            if not {"columns", "labels"}.isdisjoint(state):
                self._labels = state.pop("labels")
                columns, places = state.pop("columns"), np.flatnonzero(state["is_categorical_"])
                unpacked = map(Category.unpack, columns["categories"])
                # Files of 0.1.0 have one more number in front, 1 unless numbers are beyond 1e289.
                numbers = columns["numbers"][:, -SCALE_LENGTH:]
                self._arrange(numbers, dict(zip(places.tolist(), unpacked, strict=True)))
                if len(self._labels) != len(self.categories_):
                    raise ValueError(f"{len(self._labels)} of {len(self.categories_)} labels")
            super().__setstate__(state)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        # Strings that are no numbers are categories, unless others are named.
        tags.input_tags.string = isinstance(self.categorical_features, str)
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
