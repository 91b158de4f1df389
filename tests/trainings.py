"""Trainings that several test files share: rows to learn from, and losses by a script.

In a training by script each epoch's loss of each member is given, and each step moves every
parameter by the same known amount, so that the weights tell in which epoch they were kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from tables import pose_training

from skdnn._trainer import Validation
from skdnn._training import train
from skdnn.training.folds import Folds
from skdnn.training.rows import Rows
from skdnn.training.state import TrainingState


def noisy_rows(n_samples: int = 60, seed: int = 0) -> Rows:
    """Return rows with labels that depend on them in part."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, 3))
    return Rows(X, (X[:, 0] + rng.normal(size=n_samples) > 0).astype(np.float64))


def assign_evenly(y: np.ndarray, n_folds: int, seed: int = 0) -> np.ndarray:
    """Return the fold of each row: each class is assigned at random, in turn."""
    order = np.random.default_rng(seed).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    of_row = np.empty(len(y), np.int8)
    of_row[order] = np.arange(len(y)) % n_folds
    return of_row


def even_folds(of_row: np.ndarray, n_members: int, n_folds: int) -> Folds:
    """Let member m hold out fold ``m % n_folds``."""
    return Folds(of_row, np.arange(n_members) % n_folds == np.arange(n_folds)[:, np.newaxis])


@dataclass
class ScriptedLoss:
    """Report the losses that are written down; the gradient is a constant."""

    script: list  # by call, then by member; the last is repeated
    n_calls: int = field(default=0)

    def gradient(self, y_true, logits, sample_weight, gradient_out, xp=np):
        gradient_out.fill(-1.0 / logits.shape[1])
        return gradient_out

    def losses(self, y_true, logits):
        return np.full(logits.shape, np.log(2.0))

    def mean(self, y_true, logits, sample_weight):
        self.n_calls += 1
        return np.array(self.script[min(self.n_calls, len(self.script)) - 1], dtype=np.float64)

    def total(self, y_true, logits, sample_weight):
        return self.mean(y_true, logits, sample_weight) * logits.shape[1]


def train_by_script(
    script: Sequence[Sequence[float]],
    *,
    with_validation: bool = False,
    before: float = np.inf,
    at_the_end: Sequence[float] | None = None,
    loss: ScriptedLoss | None = None,
    learning_rate: str = "constant",
    **changes: Any,
) -> tuple[list[float], TrainingState]:
    """Train until the script ends; return how many steps each member's kept weights have taken.

    The loss is asked for before the first epoch and for each epoch, twice if there is validation:
    for the training rows, then for those; and without validation once more `at_the_end`, where
    it is the last of the script if nothing else is said. Another `loss` has a script of its own.
    """
    rows = Rows(np.zeros((4, 1)), np.array([0.0, 1.0, 0.0, 1.0]))
    plan, state = pose_training(
        rows,
        members=range(len(script[0])),
        hidden_layer_sizes=(),
        initialization="zeros",
        solver="gd",
        alpha=0.0,
        learning_rate=learning_rate,
        learning_rate_init=1.0,
        max_iter=len(script),
        tol=0.01,
    )
    calls = [[before] * len(script[0])] * (2 if with_validation else 1)
    calls += [losses for losses in script for _ in range(2 if with_validation else 1)]
    calls += [] if at_the_end is None else [at_the_end]
    plan = replace(plan, loss=ScriptedLoss(calls) if loss is None else loss, **changes)
    train(plan, state, rows, Validation(rows) if with_validation else None)
    return n_steps_of(state.final_params, plan), state


def n_steps_of(params: np.ndarray, plan: Any) -> list[float]:
    """Return how many steps each member has taken in a training by script."""
    return plan.network.layout.view(params, "dense_1.b")[:, 0, 0].tolist()


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


needs_callbacks = pytest.mark.skipif(
    find_spec("sklearn.callback") is None, reason="scikit-learn has callbacks from 1.9 on"
)


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
