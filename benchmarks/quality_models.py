"""The models that `quality.py` compares, at their own defaults but for what stands here, and tuned.

A model is fitted on the raw table (numbers with NaN, pandas categories) and does for itself, inside
the timed fit, what its library asks of its input. All get a seed, a number of threads where they
have such a parameter, and are silent. Logistic regression may converge; MLPClassifier has its 200
epochs, converged or not; pytabkit's networks take a GPU if there is one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import loguniform, uniform
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.metrics import log_loss
from sklearn.model_selection import ParameterSampler, StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

NUMBERS = make_column_selector(dtype_include="number")
CATEGORIES = make_column_selector(dtype_include="category")

# ---- what libraries ask of their input


def prepare(numbers, categories="passthrough") -> ColumnTransformer:
    """Return a preparation of numbers and one of categories, that keeps a DataFrame."""
    columns = ColumnTransformer(
        [("numbers", numbers, NUMBERS), ("categories", categories, CATEGORIES)]
    )
    return columns.set_output(transform="pandas")


def name_levels(table: pd.DataFrame) -> pd.DataFrame:
    """Give plain strings for categories, "missing" for a missing one."""
    levels = table[CATEGORIES(table)].astype(object).fillna("missing").astype(str)
    return table.assign(**levels)


# The median for a missing number, and a column that says so.
IMPUTED = SimpleImputer(strategy="median", add_indicator=True)
# For models that take nothing but complete numbers: mean 0 and variance 1, and a 0/1 column for
# each level, a missing value being a level; a level not seen in training is all zeros.
SCALED = prepare(
    make_pipeline(IMPUTED, StandardScaler()),
    OneHotEncoder(handle_unknown="ignore", sparse_output=False),
)
NAMED = FunctionTransformer(name_levels)

# ---- models


class Model(NamedTuple):
    """A classifier: what to install for it, where it is, its parameters and its preparation.

    `threads` is the name of its number of threads; a parameter that is a function is one of the
    table to train on. With a `space` of parameters, and `n_draws` from it, it is tuned, in at most
    `max_seconds` of the process beside what the defaults take.
    """

    package: str
    path: str
    params: dict[str, Any]
    preparation: Any = "passthrough"
    threads: str | None = None
    space: dict[str, Any] | None = None
    n_draws: int = 50
    max_seconds: float = np.inf

    def make(self, table: pd.DataFrame, seed: int, threads: int) -> Any:
        """Return the classifier for a table."""
        module, _, name = self.path.rpartition(".")
        classifier = getattr(import_module(module), name)
        params = {k: v(table) if callable(v) else v for k, v in self.params.items()}
        params |= {self.threads: threads} if self.threads else {}

        def make_one(**drawn: Any) -> Pipeline:
            preparation = clone(self.preparation, safe=False)
            one = classifier(**{"random_state": seed, **params, **drawn})
            return make_pipeline(preparation, one)

        if self.space is None:
            return make_one()
        candidates = [{}, *ParameterSampler(self.space, self.n_draws, random_state=seed)]
        splitter = StratifiedKFold(5, shuffle=True, random_state=seed)
        return Tuned(make_one, candidates, splitter, self.max_seconds)


class Tuned:
    """The candidate that is best on inner folds: the mean of its models of these folds.

    As in TabArena, the defaults are the first candidate, a boosting stops after rounds without a
    smaller loss on the fold, and nothing is fitted again on all rows.
    """

    def __init__(self, make: Callable[..., Pipeline], candidates, splitter, max_seconds) -> None:
        self.make, self.candidates, self.splitter = make, candidates, splitter
        self.max_seconds = max_seconds

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> Tuned:
        """Choose by the log-loss of predictions out of fold, among what is done in time."""
        end = time.process_time() + self.max_seconds
        folds = list(self.splitter.split(X, y))
        least, probability = np.inf, np.empty(len(y))
        for params in self.candidates:
            pipelines = []
            for train, held_out in folds:
                if params and time.process_time() > end:
                    return self
                pipeline, new = self.make(**params), (X.iloc[held_out], y[held_out])
                fit_stopped(pipeline, (X.iloc[train], y[train]), new)
                probability[held_out] = pipeline.predict_proba(new[0])[:, 1]
                pipelines.append(pipeline)
            loss = log_loss(y, probability)
            if loss < least:
                least, self.pipelines = loss, pipelines
        return self

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Return the mean of the probabilities of the folds' models."""
        return np.mean([pipeline.predict_proba(X) for pipeline in self.pipelines], axis=0)


def fit_stopped(pipeline: Pipeline, train: tuple, held_out: tuple) -> None:
    """Fit to some rows; a boosting is stopped by others."""
    preparation, classifier = pipeline[:-1], pipeline[-1]
    rows = preparation.fit_transform(*train)
    if isinstance(classifier, MLPClassifier):  # which holds out rows for itself
        classifier.fit(rows, train[1])
    else:
        new = preparation.transform(held_out[0])
        classifier.fit(rows, train[1], eval_set=[(new, held_out[1])])


def log_integers(low: int, high: int) -> list[int]:
    """Return integers of which to choose one, about evenly on the scale of their logarithms."""
    return np.geomspace(low, high, 200).round().astype(int).tolist()


def pytabkit(name: str, **params: Any) -> Model:
    """Return one of pytabkit's networks, which take categories by dtype, but no NaN."""
    path = f"pytabkit.models.sklearn.sklearn_interfaces.{name}_Classifier"
    return Model("pytabkit", path, params, prepare(IMPUTED), "n_threads")


SKLEARN, SKDNN = "scikit-learn", Model("skdnn", "skdnn.DeepBinaryClassifier", {})
MLP = Model(SKLEARN, "sklearn.neural_network.MLPClassifier", {}, SCALED)
LIGHTGBM = Model("lightgbm", "lightgbm.LGBMClassifier", {"verbose": -1}, threads="n_jobs")
SILENT = {"logging_level": "Silent", "allow_writing_files": False, "cat_features": CATEGORIES}
CATBOOST = Model("catboost", "catboost.CatBoostClassifier", SILENT, NAMED, "thread_count")

# Spaces of CatBoost and LightGBM: TabArena's (N. Erickson et al., 2025, arXiv:2506.16791;
# tabarena/models/*/generate.py in github.com/autogluon/tabarena). Of MLPClassifier: auto-sklearn's
# (M. Feurer et al., 2022, arXiv:2007.04074; its component "mlp").
CATBOOST_SPACE = {
    "learning_rate": loguniform(5e-3, 0.1),
    "bootstrap_type": ["Bernoulli"],
    "subsample": uniform(0.7, 0.3),
    "grow_policy": ["SymmetricTree", "Depthwise"],
    "depth": [4, 5, 6, 7, 8],
    "colsample_bylevel": uniform(0.85, 0.15),
    "l2_leaf_reg": loguniform(1e-4, 5.0),
    "leaf_estimation_iterations": log_integers(1, 20),
    "one_hot_max_size": log_integers(8, 100),
    "model_size_reg": loguniform(0.1, 1.5),
    "max_ctr_complexity": [2, 3, 4, 5],
    "boosting_type": ["Plain"],
    "max_bin": [254],
}
LIGHTGBM_SPACE = {
    "learning_rate": loguniform(5e-3, 0.1),
    "colsample_bytree": uniform(0.4, 0.6),
    "subsample": uniform(0.7, 0.3),
    "subsample_freq": [1],
    "num_leaves": log_integers(2, 200),
    "min_child_samples": log_integers(1, 64),
    "extra_trees": [False, True],
    "min_data_per_group": log_integers(2, 100),
    "cat_l2": loguniform(5e-3, 2.0),
    "cat_smooth": loguniform(1e-3, 100.0),
    "max_cat_to_onehot": log_integers(8, 100),
    "reg_alpha": uniform(1e-4, 1.0),
    "reg_lambda": uniform(1e-4, 2.0),
}
MLP_SPACE = {
    "hidden_layer_sizes": [(n,) * k for k in (1, 2, 3) for n in log_integers(16, 264)],
    "activation": ["tanh", "relu"],
    "alpha": loguniform(1e-7, 0.1),
    "learning_rate_init": loguniform(1e-4, 0.5),
    "early_stopping": [True, False],
    "n_iter_no_change": [32],
    "max_iter": [512],
}
BOOSTING = {"n_estimators": 10_000, "early_stopping_rounds": 100}

MODELS = {
    "skdnn": SKDNN,
    "skdnn-standardized": SKDNN._replace(preparation=prepare(StandardScaler())),
    "skdnn-scaled": SKDNN._replace(preparation=SCALED),
    "skdnn-CV": Model("skdnn", "skdnn.DeepBinaryClassifierCV", {}),
    "skdnn-boosted-CV": Model("skdnn", "skdnn.DeepBinaryClassifierCV", {"blend_boosting": True}),
    "LogisticRegression": Model(
        SKLEARN, "sklearn.linear_model.LogisticRegression", {"max_iter": 5000}, SCALED
    ),
    "MLPClassifier": MLP,
    "HistGradientBoosting": Model(SKLEARN, "sklearn.ensemble.HistGradientBoostingClassifier", {}),
    "XGBoost": Model(
        "xgboost",
        "xgboost.XGBClassifier",
        {"enable_categorical": True, "verbosity": 0},
        threads="n_jobs",
    ),
    "LightGBM": LIGHTGBM,
    "CatBoost": CATBOOST,
    "MLPClassifier-tuned": MLP._replace(space=MLP_SPACE),
    "LightGBM-tuned": LIGHTGBM._replace(params=LIGHTGBM.params | BOOSTING, space=LIGHTGBM_SPACE),
    "CatBoost-tuned": CATBOOST._replace(params=SILENT | BOOSTING, space=CATBOOST_SPACE),
    "RealMLP-TD-S": pytabkit("RealMLP_TD_S"),
    "RealMLP-TD": pytabkit("RealMLP_TD"),
    "RealMLP-TD-probabilities": pytabkit(
        "RealMLP_TD", use_ls=False, val_metric_name="cross_entropy"
    ),
    "TabM": pytabkit("TabM_D"),
}
