"""What a training is made of: the plan, which it only reads, and the state, which it changes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ._course import Course
from ._network import Network
from ._random import RandomStreams
from .losses import Loss
from .optimizers import Optimizer
from .schedules import Schedule


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
    ema_decay: float = 0.0
    max_time: float = np.inf
    max_fun: int = 15_000
    is_adaptive: bool = False
    is_part: bool = False
    verbose: int = 0


@dataclass
class TrainingState:
    """All that training changes, and all that resuming it needs: plain data, no views."""

    params: np.ndarray  # (n_members, n_params), the weights that the next step starts from
    optimizer: dict
    streams: RandomStreams
    rate_factor: np.ndarray  # (n_members, 1), what plateaus and divergence left of the rate
    average: np.ndarray | None = None  # (n_members, n_params), the moving average of the weights
    n_averaged: int = 0
    n_samples_seen: int = 0
    n_epochs_before: int = 0  # in the history, from earlier fits
    history: dict[str, list[float]] = field(default_factory=dict)
    course: Course | None = None
    kept: np.ndarray | None = None  # (n_members, n_params), what training chose in the end

    @property
    def weights(self) -> np.ndarray:
        """The weights to judge and to predict with."""
        return self.params if self.average is None else self.average
