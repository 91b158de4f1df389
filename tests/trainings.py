"""What tests of training share: a noisy table, callbacks by epoch, and what a fit says."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from data import needs
from sklearn.exceptions import ConvergenceWarning


def noisy_table(n_samples: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return three features, and labels that depend on the first of them in part."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, 3))
    return X, (X[:, 0] + rng.normal(size=n_samples) > 0).astype(int)


def outcome_of(action: Callable[[], Any]) -> str:
    """Return the message of the ValueError that an action raises, or of the warning it gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            action()
        except ValueError as error:
            return str(error)
    messages = [str(w.message) for w in caught if w.category is ConvergenceWarning]
    return messages[0] if messages else "silence"


needs_callbacks = needs("scikit-learn>=1.9", "callbacks")


class AfterEpoch:
    """A callback that acts at the end of one epoch; what the action returns says whether to stop.

    Attributes
    ----------
    n_epochs : int
        Counted from 1.
    action : callable
        Called without arguments.
    """

    def __init__(self, n_epochs: int, action: Callable[[], Any] = lambda: True) -> None:
        self.n_epochs, self.action = n_epochs, action

    def setup(self, estimator, context):
        self._n_done = 0

    def on_fit_task_begin(self, estimator, context, **kwargs):
        pass

    def on_fit_task_end(self, estimator, context, **kwargs):
        if context.task_name != "epoch":
            return False
        self._n_done += 1
        return self._n_done == self.n_epochs and bool(self.action())

    def teardown(self, estimator, context):
        pass
