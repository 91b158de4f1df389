"""When to stop, for each member by itself.

A member that has stopped is frozen: what it would have done afterwards does not count. Training
several members together therefore ends with the weights that training each alone would give.
"""

from __future__ import annotations

import numpy as np


class Patience:
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
