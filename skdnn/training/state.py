"""What a training is made of: the plan, which it only reads, and the state, which it changes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from .._chain import Optimizer
from .._network import Network
from .._values import frozen
from ..losses import Loss
from ..schedules import Schedule
from .progress import TrainingProgress
from .random_streams import RandomStreams


@frozen
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
        self.params[...] = self.final_params
        self.optimizer = plan.optimizer.init(self.params[:, plan.network.layout.trainable])
        self.ema_params = self.progress = None

    def of_members(self, members: range) -> TrainingState:
        """Return the state of some members by themselves: their arrays are shared, counts are not.

        The history and the training progress are left out.
        """
        part = slice(members.start, members.stop)
        arrays = {
            transform: {
                name: array[part] if array.ndim == 2 else array.copy()
                for name, array in by_name.items()
            }
            for transform, by_name in self.optimizer["arrays"].items()
        }
        return replace(
            self,
            params=self.params[part],
            optimizer={**self.optimizer, "arrays": arrays},
            streams=self.streams.of_members(part),
            rate_factor=self.rate_factor[part],
            ema_params=None if self.ema_params is None else self.ema_params[part],
            history={},
            progress=None,
            final_params=None,
        )

    def take_counts(self, part: TrainingState) -> None:
        """Take over what some members have counted: all members have taken the same steps."""
        self.n_averaged = part.n_averaged
        self.optimizer["step"] = part.optimizer["step"]
        for transform, by_name in part.optimizer["arrays"].items():
            for name, array in by_name.items():
                if array.ndim != 2:
                    self.optimizer["arrays"][transform][name][...] = array
