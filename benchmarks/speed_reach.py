"""Time how soon our classifier predicts as well as MLPClassifier does in the end.

MLPClassifier is fitted to its end, scaled and one-hot; its log-loss on held-out rows is the goal.
Ours is fitted twice with the same seed, and so with the same weights. The first fit looks at the
held-out rows after each epoch, to find the one that reaches the goal. The second stops after this
epoch, and its whole time counts, with the encoder's and what follows the last epoch, and without
any looking.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from measure import Row, show_time
from sklearn.metrics import log_loss

from skdnn import DeepBinaryClassifier
from skdnn.datasets import load_rain

LAST_TRAINING_MONTH = 9


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


def load_rain_table() -> Table:
    """Return the rain data, the first nine months to train on; the month itself is no column."""
    X, y = load_rain(return_X_y=True, as_frame=True)
    is_early = (X.pop("month") <= LAST_TRAINING_MONTH).to_numpy()
    y = y.to_numpy()
    return Table(X[is_early], y[is_early], X[~is_early], y[~is_early])


def load_table(folder: Path | None, name: str, max_rows: int) -> Table:
    """Return a table of `quality.py`, on its first split."""
    from quality import read_table, split_rows

    if folder is None:
        raise FileNotFoundError("large tables need --data DIR")
    X, y = read_table(folder / f"{name}.csv.gz")
    train, held_out = split_rows(y, max_rows, seed=0)
    return Table(X.iloc[train], y[train], X.iloc[held_out], y[held_out])


class Watcher:
    """A callback that stops a fit after the first epoch for which a condition holds."""

    def __init__(self, is_enough: Callable[[Any, int], bool]) -> None:
        self.is_enough, self.n_epochs, self.has_stopped = is_enough, 0, False

    def setup(self, estimator, context) -> None:
        """Prepare nothing."""

    def teardown(self, estimator, context) -> None:
        """Leave nothing behind."""

    def on_fit_task_begin(self, estimator, context) -> None:
        """Wait for the end."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None) -> bool:
        """Count epochs, and judge the model as it would be if the fit stopped here."""
        if context.task_name == "epoch":
            self.n_epochs += 1
            self.has_stopped = self.is_enough(fitted_estimator, self.n_epochs)
        return self.has_stopped


class Race(NamedTuple):
    """The seconds of both, and their losses on the held-out rows; ours may not get there."""

    mlp_seconds: float
    mlp_loss: float
    n_epochs: int | None = None
    seconds: float = np.inf
    loss: float = np.nan


def race(table: Table, seed: int) -> Race:
    """Fit MLPClassifier to its end, and ours until it is as good.

    Early stopping keeps the best epoch by our own folds: a later one that reaches the goal does not
    count where an earlier one would be kept.
    """
    from quality_models import make_mlp

    mlp = make_mlp(table.X_train, seed, None)
    mlp_seconds, goal = table.fit(mlp), table.loss(mlp)
    finder = Watcher(lambda model, n: model.best_iter_ == n and table.loss(model) <= goal)
    table.fit(DeepBinaryClassifier(random_state=seed).set_callbacks(finder))
    if not finder.has_stopped:
        return Race(mlp_seconds, goal)
    stopper = Watcher(lambda model, n: n >= finder.n_epochs)
    ours = DeepBinaryClassifier(random_state=seed).set_callbacks(stopper)
    return Race(mlp_seconds, goal, finder.n_epochs, table.fit(ours), table.loss(ours))


def reach_rows(
    folder: Path | None, tables: list[str], max_rows: int, n_seeds: int
) -> Iterator[Row]:
    """Race on the rain data and on tables of a folder; say where pandas or a file is missing."""
    for name in ("rain", *tables):
        path = f"time to the final held-out log-loss of MLPClassifier, {name}"
        try:
            table = load_rain_table() if name == "rain" else load_table(folder, name, max_rows)
            races = [race(table, seed) for seed in range(n_seeds)]
        except (ImportError, FileNotFoundError) as error:
            reason = " ".join(str(error).split())
            yield Row(path, "MLPClassifier", least=5.0, missing=reason)
            continue
        ratios = tuple(r.mlp_seconds / r.seconds for r in races)
        yield Row(path, "MLPClassifier", ratios, least=5.0, details=describe(races))


def describe(races: list[Race]) -> str:
    """Summarize the races on a table; one that we do not finish counts as infinitely slow."""
    done = [r for r in races if r.n_epochs is not None]
    seconds, loss = (median(values) for values in list(zip(*races, strict=True))[:2])
    text = f"MLPClassifier {show_time(seconds)} to {loss:.4f}"
    if len(done) < len(races):
        text += f"; not reached with {len(races) - len(done)} of {len(races)} seeds"
    if done:
        n_epochs, seconds, loss = (median(v) for v in list(zip(*done, strict=True))[2:])
        text += f"; skdnn {show_time(seconds)}, {n_epochs:.0f} epochs, to {loss:.4f}"
    return text
