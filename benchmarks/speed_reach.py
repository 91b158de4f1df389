"""Time how soon our classifier predicts as well as MLPClassifier does in the end.

MLPClassifier is fitted to its end, scaled and one-hot; its log-loss on held-out rows is the goal.
Ours is fitted twice with the same seed, and so with the same weights. The first fit looks at the
held-out rows after each epoch, to find the one that reaches the goal. The second stops after this
epoch, and its whole time counts, with the encoder's and what follows the last epoch, and without
any looking.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from speed_report import Row, at_least, show_time

from skdnn import DeepBinaryClassifier
from skdnn.datasets import load_rain

LAST_TRAINING_MONTH = 9
PATH = "time to the final held-out log-loss of MLPClassifier, {}"
TARGET = at_least(5.0)


@dataclass(frozen=True)
class Table:
    """Rows to train on, and held-out ones: DataFrames and labels."""

    X_train: object
    y_train: np.ndarray
    X_test: object
    y_test: np.ndarray

    def loss(self, model) -> float:
        """Return the log-loss of a model on the held-out rows, with float64's clipping."""
        return log_loss(self.y_test, model.predict_proba(self.X_test)[:, 1].astype(np.float64))


def load_rain_table() -> Table:
    """Return the rain data, the first nine months to train on; the month itself is no column."""
    X, y = load_rain(return_X_y=True, as_frame=True)
    is_early = (X.pop("month") <= LAST_TRAINING_MONTH).to_numpy()
    y = y.to_numpy()
    return Table(X[is_early], y[is_early], X[~is_early], y[~is_early])


def load_table(path: Path, max_rows: int) -> Table:
    """Return a table of `quality.py`, on its first split."""
    from quality import read_table, split_rows

    X, y = read_table(path)
    train, held_out = split_rows(y, max_rows, seed=0)
    return Table(X.iloc[train], y[train], X.iloc[held_out], y[held_out])


class Listener:
    """A callback that counts epochs and may stop after one of them."""

    def __init__(self) -> None:
        self.n_epochs = 0

    def setup(self, estimator, context) -> None:
        """Prepare nothing."""

    def teardown(self, estimator, context) -> None:
        """Leave nothing behind."""

    def on_fit_task_begin(self, estimator, context) -> None:
        """Wait for the end."""


class Finder(Listener):
    """Stop after the first epoch from which a fit that stops there keeps weights that are good.

    Early stopping keeps the best epoch by our own folds: a later one that reaches the goal does not
    count where an earlier one would be kept.
    """

    def __init__(self, table: Table, goal: float) -> None:
        super().__init__()
        self.table, self.goal, self.is_reached = table, goal, False

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None) -> bool:
        """Judge the weights as they are now, if they are those to keep."""
        if context.task_name != "epoch":
            return False
        self.n_epochs += 1
        is_best = fitted_estimator.best_iter_ == self.n_epochs
        self.is_reached = is_best and self.table.loss(fitted_estimator) <= self.goal
        return self.is_reached


class Stopper(Listener):
    """Stop after a number of epochs, and look at nothing."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self.last = last

    def on_fit_task_end(self, estimator, context) -> bool:
        """Count."""
        self.n_epochs += context.task_name == "epoch"
        return self.n_epochs >= self.last


@dataclass(frozen=True)
class Race:
    """The seconds of both, and their losses on the held-out rows; ours may not get there."""

    mlp_seconds: float
    mlp_loss: float
    n_epochs: int | None
    seconds: float = np.inf
    loss: float = np.nan


def race(table: Table, seed: int) -> Race:
    """Fit MLPClassifier to its end, and ours until it is as good."""
    mlp_seconds, goal = fit_peer(table, seed)
    finder = Finder(table, goal)
    ours = DeepBinaryClassifier(random_state=seed).set_callbacks(finder)
    ours.fit(table.X_train, table.y_train)
    if not finder.is_reached:
        return Race(mlp_seconds, goal, None)
    ours = DeepBinaryClassifier(random_state=seed).set_callbacks(Stopper(finder.n_epochs))
    seconds = _time_fit(ours, table)
    return Race(mlp_seconds, goal, finder.n_epochs, seconds, table.loss(ours))


def fit_peer(table: Table, seed: int) -> tuple[float, float]:
    """Return the seconds of MLPClassifier's fit, with its preparation, and its loss."""
    from quality_models import make_mlp

    mlp = make_mlp(table.X_train, seed, None)
    return _time_fit(mlp, table), table.loss(mlp)


def _time_fit(model, table: Table) -> float:
    started = time.perf_counter()
    model.fit(table.X_train, table.y_train)
    return time.perf_counter() - started


def row_of_races(name: str, races: list[Race]) -> Row:
    """Summarize the races on a table; one that we do not finish counts as infinitely slow."""
    lost = sum(r.n_epochs is None for r in races)
    details = (
        f"MLPClassifier {show_time(median(r.mlp_seconds for r in races))} to "
        f"{median(r.mlp_loss for r in races):.4f}"
    )
    if lost:
        details += f"; not reached with {lost} of {len(races)} seeds"
    if lost < len(races):
        done = [r for r in races if r.n_epochs is not None]
        details += (
            f"; skdnn {show_time(median(r.seconds for r in done))}, "
            f"{median(r.n_epochs for r in done):.0f} epochs, to {median(r.loss for r in done):.4f}"
        )
    ratios = tuple(r.mlp_seconds / r.seconds for r in races)
    return Row(PATH.format(name), "MLPClassifier", ratios, "x", TARGET, details)


def reach_rows(
    folder: Path | None, tables: list[str], max_rows: int, n_seeds: int
) -> Iterator[Row]:
    """Race on the rain data, and on some tables of a folder."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    yield race_on("rain", load_rain_table, n_seeds)
    for name in tables:
        if folder is None:
            reason = "large tables need --data DIR"
            yield Row(PATH.format(name), "MLPClassifier", target=TARGET, missing=reason)
        else:
            path = folder / f"{name}.csv.gz"
            yield race_on(name, lambda path=path: load_table(path, max_rows), n_seeds)


def race_on(name: str, load: Callable[[], Table], n_seeds: int) -> Row:
    """Race on a table, or say what is missing: pandas, scikit-learn's callbacks, the file."""
    try:
        table = load()
        return row_of_races(name, [race(table, seed) for seed in range(n_seeds)])
    except (ImportError, FileNotFoundError) as error:
        reason = " ".join(str(error).split())
        return Row(PATH.format(name), "MLPClassifier", target=TARGET, missing=reason)
