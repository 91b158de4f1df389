"""The models that `quality.py` compares: name -> what to install, and a function that makes one.

Each is at its own defaults but for the seed, the threads and silence, unless its function says
what it sets and why. A model is fitted on the raw table (numbers with NaN, pandas categories) and
does for itself, inside the timed fit, what its library asks of its input.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

NUMBERS = make_column_selector(dtype_include="number")
CATEGORIES = make_column_selector(dtype_include="category")


class Model(NamedTuple):
    """What to install for a model, and how to make it for (training table, seed, threads)."""

    package: str
    make: Callable[[pd.DataFrame, int, int], Any]


def prepared(classifier, numbers, categories="passthrough") -> Any:
    """Put a preparation of numbers and one of categories before a classifier."""
    columns = ColumnTransformer(
        [("numbers", numbers, NUMBERS), ("categories", categories, CATEGORIES)]
    )
    return make_pipeline(columns.set_output(transform="pandas"), classifier)


def imputer() -> SimpleImputer:
    """Return the imputer of models that take no NaN: the median, and a column that says so."""
    return SimpleImputer(strategy="median", add_indicator=True)


def scaled(classifier) -> Any:
    """Put the usual preparation before a classifier that takes nothing but complete numbers.

    Numbers: the median for a missing one, a 0/1 column for having been missing, mean 0 and
    variance 1. Categories: one column for each level, a missing value being a level; a level not
    seen in training is all zeros.
    """
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return prepared(classifier, make_pipeline(imputer(), StandardScaler()), one_hot)


def strings(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with plain strings for categories, "missing" for a missing one."""
    columns = CATEGORIES(table)
    return table.assign(
        **{name: table[name].astype(object).fillna("missing").astype(str) for name in columns}
    )


def make_skdnn(table, seed, threads, **params):
    """Our classifier, with its own encoder for the raw table."""
    from skdnn import DeepBinaryClassifier

    return DeepBinaryClassifier(**{"random_state": seed, **params})


def make_skdnn_standardized(table, seed, threads, **params):
    """Our classifier behind a StandardScaler for the numbers, missing ones left as they are."""
    return prepared(make_skdnn(table, seed, threads, **params), StandardScaler())


def make_skdnn_scaled(table, seed, threads, **params):
    """Our classifier behind the preparation that MLPClassifier gets."""
    return scaled(make_skdnn(table, seed, threads, **params))


def make_logistic_regression(table, seed, threads):
    """Logistic regression; max_iter is 5000 instead of 100 for it to converge everywhere."""
    return scaled(LogisticRegression(max_iter=5000, random_state=seed))


def make_mlp(table, seed, threads):
    """scikit-learn's network, with its default of 200 epochs, converged or not."""
    return scaled(MLPClassifier(random_state=seed))


def make_hist_gradient_boosting(table, seed, threads):
    """scikit-learn's boosting, which takes categories by dtype and limited threads."""
    return HistGradientBoostingClassifier(random_state=seed)


def make_xgboost(table, seed, threads):
    """XGBoost, which takes categories by dtype."""
    from xgboost import XGBClassifier

    return XGBClassifier(enable_categorical=True, random_state=seed, n_jobs=threads, verbosity=0)


def make_lightgbm(table, seed, threads):
    """LightGBM, which takes categories by dtype."""
    from lightgbm import LGBMClassifier

    return LGBMClassifier(random_state=seed, n_jobs=threads, verbose=-1)


def make_catboost(table, seed, threads):
    """CatBoost, which takes categories as strings."""
    from catboost import CatBoostClassifier

    classifier = CatBoostClassifier(
        cat_features=CATEGORIES(table),
        random_seed=seed,
        thread_count=threads,
        logging_level="Silent",
        allow_writing_files=False,
    )
    return make_pipeline(FunctionTransformer(strings), classifier)


def make_pytabkit(table, seed, threads, *, name, **params):
    """One of pytabkit's networks, on a GPU if there is one: categories by dtype, but no NaN."""
    from pytabkit.models.sklearn import sklearn_interfaces

    make = getattr(sklearn_interfaces, name)
    return prepared(make(random_state=seed, n_threads=threads, **params), imputer())


OURS = ("skdnn", "skdnn-standardized", "skdnn-scaled")
REALMLP = partial(make_pytabkit, name="RealMLP_TD_Classifier")
MODELS = {
    "skdnn": Model("skdnn", make_skdnn),
    "skdnn-standardized": Model("skdnn", make_skdnn_standardized),
    "skdnn-scaled": Model("skdnn", make_skdnn_scaled),
    "LogisticRegression": Model("scikit-learn", make_logistic_regression),
    "MLPClassifier": Model("scikit-learn", make_mlp),
    "HistGradientBoosting": Model("scikit-learn", make_hist_gradient_boosting),
    "XGBoost": Model("xgboost", make_xgboost),
    "LightGBM": Model("lightgbm", make_lightgbm),
    "CatBoost": Model("catboost", make_catboost),
    "RealMLP-TD-S": Model("pytabkit", partial(make_pytabkit, name="RealMLP_TD_S_Classifier")),
    "RealMLP-TD": Model("pytabkit", REALMLP),
    "RealMLP-TD-probabilities": Model(
        "pytabkit", partial(REALMLP, use_ls=False, val_metric_name="cross_entropy")
    ),
    "TabM": Model("pytabkit", partial(make_pytabkit, name="TabM_D_Classifier")),
}
