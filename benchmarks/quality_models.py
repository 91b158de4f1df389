"""The models that `quality.py` compares, each at its own defaults but for what stands here.

A model is fitted on the raw table (numbers with NaN, pandas categories) and does for itself, inside
the timed fit, what its library asks of its input. All get a seed, a number of threads where they
have such a parameter, and are silent. Logistic regression may converge; MLPClassifier has its 200
epochs, converged or not; pytabkit's networks take a GPU if there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import pandas as pd
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

NUMBERS = make_column_selector(dtype_include="number")
CATEGORIES = make_column_selector(dtype_include="category")


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


def named(classifier) -> Any:
    """Give plain strings for categories, "missing" for a missing one."""

    def strings(table: pd.DataFrame) -> pd.DataFrame:
        levels = table[CATEGORIES(table)].astype(object).fillna("missing").astype(str)
        return table.assign(**levels)

    return make_pipeline(FunctionTransformer(strings), classifier)


class Model(NamedTuple):
    """A classifier: what to install for it, where it is, its parameters and its preparation.

    `threads` is the name of its number of threads; a parameter that is a function is one of the
    table to train on.
    """

    package: str
    path: str
    params: dict[str, Any]
    prepare: Callable = lambda classifier: classifier
    threads: str | None = None

    def make(self, table: pd.DataFrame, seed: int, threads: int) -> Any:
        """Return the classifier for a table; ImportError says that it is not installed."""
        module, _, name = self.path.rpartition(".")
        params = {k: v(table) if callable(v) else v for k, v in self.params.items()}
        if self.threads:
            params[self.threads] = threads
        classifier = getattr(import_module(module), name)
        return self.prepare(classifier(**{"random_state": seed, **params}))


def pytabkit(name: str, **params: Any) -> Model:
    """Return one of pytabkit's networks, which take categories by dtype, but no NaN."""
    path = f"pytabkit.models.sklearn.sklearn_interfaces.{name}_Classifier"
    return Model("pytabkit", path, params, lambda model: prepared(model, imputer()), "n_threads")


SKLEARN, SKDNN = "scikit-learn", Model("skdnn", "skdnn.DeepBinaryClassifier", {})
SILENT = {"logging_level": "Silent", "allow_writing_files": False}
MODELS = {
    "skdnn": SKDNN,
    "skdnn-standardized": SKDNN._replace(prepare=lambda model: prepared(model, StandardScaler())),
    "skdnn-scaled": SKDNN._replace(prepare=scaled),
    "LogisticRegression": Model(
        SKLEARN, "sklearn.linear_model.LogisticRegression", {"max_iter": 5000}, scaled
    ),
    "MLPClassifier": Model(SKLEARN, "sklearn.neural_network.MLPClassifier", {}, scaled),
    "HistGradientBoosting": Model(SKLEARN, "sklearn.ensemble.HistGradientBoostingClassifier", {}),
    "XGBoost": Model(
        "xgboost",
        "xgboost.XGBClassifier",
        {"enable_categorical": True, "verbosity": 0},
        threads="n_jobs",
    ),
    "LightGBM": Model("lightgbm", "lightgbm.LGBMClassifier", {"verbose": -1}, threads="n_jobs"),
    "CatBoost": Model(
        "catboost",
        "catboost.CatBoostClassifier",
        {"cat_features": CATEGORIES, **SILENT},
        named,
        "thread_count",
    ),
    "RealMLP-TD-S": pytabkit("RealMLP_TD_S"),
    "RealMLP-TD": pytabkit("RealMLP_TD"),
    "RealMLP-TD-probabilities": pytabkit(
        "RealMLP_TD", use_ls=False, val_metric_name="cross_entropy"
    ),
    "TabM": pytabkit("TabM_D"),
}
