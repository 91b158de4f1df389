"""Training progress: best weights of each member, whether it still improves, how it ended.

Plain data, kept with the estimator, so that a warm start can go on to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

MAX_HALVINGS = 5
"""How often a member whose loss is not finite tries again at half the learning rate."""

End = Literal["", "interrupt", "callback", "max_time"]

History = dict[str, list[float]]


class EpochMetrics(NamedTuple):
    """What an epoch has come to: arrays of shape (n_members,)."""

    loss: np.ndarray  # of the training rows
    cost: np.ndarray  # loss and penalty
    objective: np.ndarray  # what is to fall: the cost, or on validation rows the loss or - score


class EarlyStopping:
    """Follow an objective by epoch; give up on members for which it has stopped falling.

    Parameters
    ----------
    n_members : int
    tol : float
        An epoch counts as progress if it lowers the best objective by at least this much.
    n_iter_no_change : float
        Epochs without progress after which a member stops.
    growth : float, default=0
        How many epochs more it waits for each epoch until its last progress: a schedule that swings
        ever more slowly takes as long to its next low as it took to the last one.
    """

    def __init__(
        self, n_members: int, *, tol: float, n_iter_no_change: float, growth: float = 0.0
    ) -> None:
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.growth = growth
        self.n_epochs = 0
        self.best = np.full(n_members, np.inf)
        self.waited = np.zeros(n_members, dtype=int)
        self.running = np.ones(n_members, dtype=bool)

    def update(self, objective: np.ndarray) -> None:
        """Take note of an epoch's objective; one that is not a number counts for nothing."""
        self.n_epochs += 1
        is_progress = objective <= self.best - self.tol
        is_best = self.running & (objective < self.best)
        self.waited = np.where(is_progress, 0, self.waited + ~np.isnan(objective))
        self.best[is_best] = objective[is_best]

    @property
    def exhausted(self) -> np.ndarray:
        """Which running members have waited long enough."""
        wait = self.n_iter_no_change + self.growth * (self.n_epochs - self.waited)
        return self.running & (self.waited >= wait)


@dataclass
class TrainingProgress:
    """What each member's training has come to since it began; arrays have an entry a member."""

    n_epochs_planned: int
    fingerprint: int  # of the rows, and of what is to fall on them
    early_stopping: EarlyStopping
    fallback: np.ndarray  # (n_members, n_params), weights from before training: for who diverges
    fallback_cost: np.ndarray
    best: np.ndarray  # (n_members, n_params), the weights with the lowest objective
    best_objective: np.ndarray
    best_cost: np.ndarray  # the cost that goes with it
    best_epoch: np.ndarray  # counts from 1; 0 stands for the weights before training
    last_epoch: np.ndarray  # likewise: the last one that changed the weights
    last_loss: np.ndarray
    last_cost: np.ndarray
    n_diverged: np.ndarray  # epochs whose loss was not finite
    n_epochs: int = 0
    ended_by: End = ""
    has_diverged: bool = False  # whether weights were rejected in the end

    @classmethod
    def begin(
        cls,
        params: np.ndarray,
        metrics: EpochMetrics,
        early_stopping: EarlyStopping,
        *,
        n_epochs_planned: int,
        fingerprint: int,
    ) -> TrainingProgress:
        """Start from the weights before training."""
        return cls(
            n_epochs_planned=n_epochs_planned,
            fingerprint=fingerprint,
            early_stopping=early_stopping,
            fallback=params.copy(),
            fallback_cost=metrics.cost.copy(),
            best=params.copy(),
            best_objective=metrics.objective.copy(),
            best_cost=metrics.cost.copy(),
            best_epoch=np.zeros(len(params), dtype=int),
            last_epoch=np.zeros(len(params), dtype=int),
            last_loss=metrics.loss.copy(),
            last_cost=metrics.cost.copy(),
            n_diverged=np.zeros(len(params), dtype=int),
        )

    @property
    def running(self) -> np.ndarray:
        """Which members are still training."""
        return self.early_stopping.running

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do."""
        return self.n_epochs >= self.n_epochs_planned or not self.running.any()

    def add_epoch(
        self, metrics: EpochMetrics, params: np.ndarray, *, is_before: bool = False
    ) -> None:
        """Record an epoch: its metrics, and the weights that its objective is about.

        `is_before` says that they are those from before the epoch.
        """
        self.n_epochs += 1
        epoch_before = self.last_epoch.copy()
        is_finite = self.running & np.isfinite(metrics.loss)
        self.last_epoch[is_finite] = self.n_epochs
        self.set_last(metrics, is_finite)
        is_best = self.running & (metrics.objective < self.best_objective)
        self.best[is_best] = params[is_best]
        self.best_objective[is_best] = metrics.objective[is_best]
        self.best_cost[is_best] = metrics.cost[is_best]
        self.best_epoch[is_best] = (epoch_before if is_before else self.last_epoch)[is_best]
        self.early_stopping.update(metrics.objective)

    def set_last(self, metrics: EpochMetrics, members: np.ndarray) -> None:
        """Set the loss and cost of the last weights of some members."""
        self.last_loss[members] = metrics.loss[members]
        self.last_cost[members] = metrics.cost[members]

    def count_diverged(self, is_diverged: np.ndarray, n_most: int) -> np.ndarray:
        """Count an epoch that diverged; stop members with more than `n_most`, and return which.

        They are to end with their best weights.
        """
        self.n_diverged[is_diverged] += 1
        is_stopped = is_diverged & (self.n_diverged > n_most)
        self.running[is_stopped] = False
        self.last_epoch[is_stopped] = self.best_epoch[is_stopped]
        return is_stopped

    def can_resume(self, fingerprint: int) -> bool:
        """Say whether this is the same training, with something left to train."""
        is_sound = self.ended_by != "interrupt" and not self.has_diverged
        return is_sound and self.fingerprint == fingerprint and bool(self.running.any())


def record(history: History, members: np.ndarray, **values: np.ndarray | float | None) -> None:
    """Append an epoch's values, averaged over some members; not a number where there is none.

    All lists stay of the same length, whatever earlier fits have recorded.
    """
    n_before = max((len(column) for column in history.values()), default=0)
    for name, value in values.items():
        if value is not None:
            if isinstance(value, np.ndarray):
                value = float(value[members].mean()) if members.any() else np.nan
            history.setdefault(name, [np.nan] * n_before).append(value)
    for column in history.values():
        column += [np.nan] * (n_before + 1 - len(column))


def report(verbose: int, progress: TrainingProgress, history: History) -> None:
    """Print one line for every `verbose`-th epoch, and for the last."""
    epoch, n_epochs = progress.n_epochs, progress.n_epochs_planned
    if not verbose or (epoch % verbose and not progress.is_over):
        return
    parts = [f"Iteration {epoch:{len(str(n_epochs))}d}/{n_epochs}"]
    parts.append(f"loss = {history['loss'][-1]:.6f}")
    loss, score = (history.get(f"validation_{name}", [np.nan])[-1] for name in ("loss", "score"))
    if not np.isnan(loss):
        parts.append(f"validation loss = {loss:.6f}")
        if score != -loss:
            parts.append(f"validation score = {score:.6f}")
    parts.append(f"learning rate = {history['learning_rate'][-1]:.2e}")
    left = np.mean(history["seconds"][-epoch:]) * (n_epochs - epoch)
    parts.append(f"time left = {left:.1f} s")
    print(", ".join(parts), flush=True)


class Tasks:
    """What the training loop tells of its progress; this one does nothing with it."""

    def begin_epoch(self) -> None:
        """Say that an epoch begins."""

    def end_epoch(self) -> bool:
        """Say that an epoch has ended; return whether training should stop."""
        return False

    def end_fit(self) -> None:
        """Say that the estimator is fitted."""


NO_TASKS = Tasks()
