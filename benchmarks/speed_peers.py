"""Compare with peers: default fits and predictions, and how soon we are as good as MLPClassifier.

In the race MLPClassifier is fitted to its end, scaled and one-hot; its log-loss on held-out rows is
the goal. Ours looks at these rows after each epoch, and stops when it reaches the goal; the time of
looking is taken off the whole time of the fit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from measure import ENDLESS, Row, alternate, compare_times, make_rows, show_time
from quality import read_table, split_rows
from quality_models import MODELS
from sklearn.metrics import log_loss
from speed_steps import OURS, PRODUCTS, make_products
from threadpoolctl import threadpool_limits

from skdnn import DeepBinaryClassifier
from skdnn.callbacks import Callback
from skdnn.datasets import load_rain

# ---- the default beside peers at their defaults, on one thread

PEERS = ("CatBoost", "LightGBM", "MLPClassifier")
N_NEW, BLOCK = 10_000, 512


def make_table(n_rows: int, *, is_mixed: bool):
    """Return a table and its labels: 20 numbers, or 10 of them, some missing, and 10 categories."""
    X, y = make_rows(n_rows, 20)
    table = pd.DataFrame(X, columns=[f"x{j}" for j in range(20)])
    for j in range(10, 20) if is_mixed else ():
        levels = np.round(X[:, j] * 1.5 ** (j - 10))  # about 6 to 200 of them
        table[f"x{j}"] = pd.Categorical(levels.astype(int).astype(str))
        table.loc[X[:, j] > 1.6, f"x{j - 10}"] = np.nan
    return table, y


def default_rows(repeats: int) -> Iterator[Row]:
    """Compare default fits, and predictions of 10,000 rows, with peers and with their products."""
    for n_rows, is_mixed in ((2_000, False), (10_000, False), (50_000, False), (10_000, True)):
        columns = "10 numbers, 10 categories" if is_mixed else "20 numbers"
        tables = (make_table(n, is_mixed=is_mixed) for n in (n_rows, N_NEW))
        yield from rows_of_default(f"{n_rows:,} x {columns}", *tables, repeats)


def rows_of_default(name: str, old: tuple, new: tuple, repeats: int) -> Iterator[Row]:
    """Measure a table to fit, and one to predict."""
    models = {}
    for peer in (OURS, *PEERS):
        with suppress(ImportError):
            models[peer] = MODELS[peer].make(old[0], 0, 1)
    fits = {peer: partial(model.fit, *old) for peer, model in models.items()}
    predictions = {peer: partial(model.predict_proba, new[0]) for peer, model in models.items()}
    with threadpool_limits(1):
        fits[OURS]()  # loads what is loaded once
        in_fit = alternate(fits, repeats, is_warm=True)
        in_prediction = alternate(predictions, 3 * repeats)
        shares = measure_products(models[OURS], old, new, repeats)
    paths = f"default fit, {name}, 1 thread", f"predict_proba of {N_NEW:,} rows, fit of {name}"
    for path, seconds, share in zip(paths, (in_fit, in_prediction), shares, strict=True):
        for peer in PEERS:
            if peer in seconds:
                yield compare_times(path, peer, seconds, peer, OURS)
            else:
                yield Row(path, peer, missing=f"{peer} is not installed")
        yield Row(path, PRODUCTS, tuple(share), "%")


def measure_products(model, old: tuple, new: tuple, repeats: int) -> Iterator[list[float]]:
    """Yield the shares of the linear layers' products alone, in the fit and in the prediction.

    Each member trains on all rows but its fold, which it predicts after each epoch. The fit is one
    in which no member stops before the others.
    """
    n_members, *sizes = model.coefs_[0].shape[:2]
    sizes += [W.shape[-1] for W in model.coefs_]
    n_epochs, batch_size = model.n_iter_, model.resolved_params_["batch_size"]
    n_held_out = len(old[0]) // n_members
    step = make_products(sizes, batch_size, is_input_trained=True)
    forward = make_products(sizes, BLOCK, has_backward=False)

    def products(n_steps: int, n_predicted: int) -> None:
        for _ in range(n_steps):
            step()
        for _ in range(round(n_predicted / BLOCK)):
            forward()

    same = DeepBinaryClassifier(max_iter=n_epochs, **ENDLESS)
    n_steps = (len(old[0]) - n_held_out) // batch_size
    fit = {"all": partial(same.fit, *old), "part": partial(products, n_steps, n_held_out)}
    predict = {"all": partial(model.predict_proba, new[0]), "part": partial(products, 0, N_NEW)}
    for calls, n_times in ((fit, n_members * n_epochs), (predict, n_members)):
        seconds = alternate(calls, repeats)
        yield [n_times * part / whole for whole, part in zip(*seconds.values(), strict=True)]


# ---- the race

TABLES = ("rain", "adult", "bank_marketing", "magic_gamma")


class Table(NamedTuple):
    """Rows to train on, and held-out ones: DataFrames and labels."""

    X_train: Any
    y_train: np.ndarray
    X_test: Any
    y_test: np.ndarray

    def loss(self, model) -> float:
        """Return the log-loss of a model on the held-out rows, with float64's clipping."""
        return log_loss(self.y_test, model.predict_proba(self.X_test)[:, 1].astype(np.float64))

    def fit(self, model) -> float:
        """Fit a model, and return the seconds."""
        started = time.perf_counter()
        model.fit(self.X_train, self.y_train)
        return time.perf_counter() - started


def load_table(folder: Path | None, name: str) -> Table:
    """Return a table of `quality.py` on its first split, or the rain data, split in September."""
    if name == "rain":
        X, y = load_rain(return_X_y=True, as_frame=True)
        is_early = (X.pop("month") <= 9).to_numpy()
        return Table(X[is_early], y[is_early].to_numpy(), X[~is_early], y[~is_early].to_numpy())
    if folder is None:
        raise FileNotFoundError("large tables need --data DIR")
    X, y = read_table(folder / f"{name}.csv.gz")
    train, held_out = split_rows(y, 15_000, seed=0)
    return Table(X.iloc[train], y[train], X.iloc[held_out], y[held_out])


class Goal(Callback):
    """Stop after the first epoch whose weights are kept and good enough.

    Early stopping keeps the best epoch by our own folds: a later one that reaches the goal does not
    count where an earlier one would be kept.
    """

    def __init__(self, table: Table, loss: float) -> None:
        self.table, self.loss = table, loss
        self.seconds, self.n_epochs, self.is_reached = 0.0, 0, False

    def on_epoch_end(self, *, estimator: DeepBinaryClassifier, epoch: int) -> bool:
        """Evaluate the model as it would be if the fit stopped after this epoch."""
        started, self.n_epochs = time.perf_counter(), epoch
        is_kept = estimator.best_iter_ == epoch
        self.is_reached = is_kept and self.table.loss(estimator) <= self.loss
        self.seconds += time.perf_counter() - started
        return self.is_reached


def race(table: Table, seed: int) -> tuple[float, float, float, float]:
    """Return the seconds and the loss of MLPClassifier, and the seconds and epochs of ours."""
    mlp = MODELS["MLPClassifier"].make(table.X_train, seed, 1)
    mlp_seconds, loss = table.fit(mlp), table.loss(mlp)
    goal = Goal(table, loss)
    seconds = table.fit(DeepBinaryClassifier(random_state=seed).set_callbacks(goal)) - goal.seconds
    return mlp_seconds, loss, seconds if goal.is_reached else np.inf, goal.n_epochs


def reach_rows(folder: Path | None, n_seeds: int) -> Iterator[Row]:
    """Race on the rain data and on tables of a folder; a goal not reached takes for ever."""
    for name in TABLES:
        path = f"time to the final held-out log-loss of MLPClassifier, {name}"
        row = partial(Row, path, "MLPClassifier", least=5.0)
        try:
            table = load_table(folder, name)
        except FileNotFoundError as error:
            yield row(missing=" ".join(str(error).split()))
            continue
        races = [race(table, seed) for seed in range(n_seeds)]
        theirs, loss, ours, n_epochs = map(median, zip(*races, strict=True))
        details = f"MLPClassifier {show_time(theirs)} to {loss:.4f}; "
        details += f"skdnn {show_time(ours)}, {n_epochs:.0f} epochs"
        yield row(tuple(theirs / ours for theirs, _, ours, _ in races), details=details)
