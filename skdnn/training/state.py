"""What a training is made of: the plan, which it only reads, and the state, which it changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..nn.losses import Loss
from ..nn.network import Network
from ..optim.schedules import Schedule
from ..optim.transforms import Optimizer
from .progress import TrainingProgress
from .random_streams import RandomStreams


@dataclass(frozen=True)
class TrainingPlan:
    """What a fit has decided before it begins."""

    network: Network
    optimizer: Optimizer
    schedule: Schedule
    loss: Loss
    batch_size: int
    max_iter: int
    learning_rate_init: float
    l2: float
    shuffle: bool
    tol: float
    stops_early: bool
    n_iter_no_change: float
    patience_growth: float = 0.0
    ema_decay: float = 0.0
    max_time: float = np.inf
    max_fun: int = 15_000
    is_adaptive: bool = False
    is_part: bool = False
    is_scaled: bool = False
    n_threads: int = 1
    verbose: int = 0


@dataclass
class TrainingState:
    """All that training changes, and all that resuming it needs: plain data, no views."""

    params: np.ndarray  # (n_members, n_params), the weights that the next step starts from
    optimizer: dict
    streams: RandomStreams
    rate_factor: np.ndarray  # (n_members, 1), what plateaus and divergence left of the rate
    ema_params: np.ndarray | None = None  # (n_members, n_params), the moving average of the weights
    n_averaged: int = 0
    n_samples_seen: int = 0
    n_epochs_before: int = 0  # in the history, from earlier fits
    history: dict[str, list[float]] = field(default_factory=dict)
    progress: TrainingProgress | None = None
    final_params: np.ndarray | None = None  # (n_members, n_params), what training chose in the end
    executor: str = "numpy"  # the name of what runs the steps
    best_iter: int = 0  # the epoch in the history after which these did not change

    @property
    def weights(self) -> np.ndarray:
        """The weights to judge and to predict with."""
        return self.params if self.ema_params is None else self.ema_params

    def set_weights(self, members: np.ndarray, params: np.ndarray) -> None:
        """Give some members other weights."""
        self.params[members] = params[members]
        if self.ema_params is not None:
            self.ema_params[members] = params[members]

    def begin_anew(self, plan: TrainingPlan) -> None:
        """Go back to the weights kept, if there are any, and to an optimizer that knows nothing.

        Moments and average are about weights that may have been rejected, and would lead back.
        """
        if self.final_params is None:
            return
        self.params = self.final_params.copy()
        self.rate_factor = np.ones((len(self.params), 1), self.params.dtype)
        self.optimizer = first_optimizer_state(plan, self.params)
        self.ema_params = self.progress = None


def first_optimizer_state(plan: TrainingPlan, params: np.ndarray) -> dict[str, Any]:
    """Return the state before the first step: a count, and arrays (n_members, n_trainable)."""
    states = [plan.optimizer.init(own[: plan.network.layout.n_trainable]) for own in params]
    arrays = {name: np.stack([state[name] for state in states]) for name in states[0]}
    return {"step": 0, "arrays": arrays}


def can_continue(plan: TrainingPlan, state: TrainingState, params: np.ndarray) -> bool:
    """Say whether a state is one of this plan, and of weights like these: (n_members, n_params)."""
    expected, known = first_optimizer_state(plan, params)["arrays"], state.optimizer["arrays"]
    pairs = [(known.get(name), array) for name, array in expected.items()]
    pairs += [(state.params, params), (state.rate_factor, params[:, :1])]
    pairs += [] if state.ema_params is None else [(state.ema_params, params)]
    if state.progress is not None:
        pairs += [(state.progress.best, params), (state.progress.fallback, params)]
    return known.keys() == expected.keys() and all(
        isinstance(array, np.ndarray) and (array.shape, array.dtype) == (like.shape, like.dtype)
        for array, like in pairs
    )
