"""The plan of a training, which it only reads, and its state, which it changes."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from ..nn.losses import Loss
from ..nn.network import Network
from ..optim.schedules import Schedule
from ..optim.solvers import Optimizer
from ..utils import check_fields, to_plain

End = Literal["", "interrupt", "callback", "max_time"]

Purpose = Literal["initialization", "shuffling", "dropout", "split", "parts"]
"""What random numbers are for."""

STREAMS = ("shuffling", "dropout")
"""Those of which a training keeps the state."""


@dataclass(frozen=True)
class TrainingPlan:
    """The decisions of a fit before it begins."""

    network: Network
    optimizer: Optimizer
    schedule: Schedule
    loss: Loss
    batch_size: int
    max_iter: int
    learning_rate_init: float
    l2: float
    shuffle: bool
    tol: float  # an epoch is progress if it lowers the best objective by at least this much
    stops_early: bool
    n_iter_no_change: float  # epochs without progress after which a member stops
    # How many epochs more it waits for each epoch until its last progress: the next low of a
    # schedule with growing cycles is as far away as the last one from the beginning.
    patience_growth: float = 0.0
    ema_decay: float = 0.0
    max_time: float = np.inf
    max_fun: int = 15_000
    is_adaptive: bool = False
    is_part: bool = False
    is_scaled: bool = False
    n_threads: int = 1
    verbose: int = 0


class EpochMetrics(NamedTuple):
    """The results of an epoch: arrays of shape (n_members,)."""

    loss: np.ndarray  # of the training rows
    cost: np.ndarray  # loss and penalty
    objective: np.ndarray  # what is to fall: the cost, or on validation rows the loss or - score


@dataclass
class TrainingProgress:
    """The results of each member's training since it began; arrays have one entry for each member.

    Plain data, kept with the estimator, so that a resumed training equals an uninterrupted one.
    """

    n_epochs_planned: int
    fingerprint: int  # of the rows, and of what is to fall on them
    best: np.ndarray  # (n_members, n_params), the weights with the lowest objective
    best_objective: np.ndarray
    best_cost: np.ndarray  # the cost that goes with it
    best_epoch: np.ndarray  # counts from 1; 0 stands for the weights before training
    last_epoch: np.ndarray  # likewise: the last one that changed the weights
    last_loss: np.ndarray
    last_cost: np.ndarray
    n_diverged: np.ndarray  # epochs whose loss was not finite
    running: np.ndarray  # which members are still training
    lowest: np.ndarray  # the lowest objective of an epoch
    waited: np.ndarray  # epochs without progress
    n_epochs: int = 0
    ended_by: End = ""
    keeps_best: bool = False  # whether the best weights are to be kept, and not the last ones
    has_diverged: bool = False  # whether weights were rejected in the end
    is_dead: bool = False  # whether a member predicts the same for every row in the end
    message: str = ""  # of SciPy's solver where it did not converge

    @classmethod
    def begin(
        cls, params: np.ndarray, metrics: EpochMetrics, n_epochs_planned: int, fingerprint: int
    ) -> TrainingProgress:
        """Start from the weights before training."""
        n_members = len(params)
        return cls(
            n_epochs_planned=n_epochs_planned,
            fingerprint=fingerprint,
            best=params.copy(),
            best_objective=metrics.objective.copy(),
            best_cost=metrics.cost.copy(),
            best_epoch=np.zeros(n_members, dtype=int),
            last_epoch=np.zeros(n_members, dtype=int),
            last_loss=metrics.loss.copy(),
            last_cost=metrics.cost.copy(),
            n_diverged=np.zeros(n_members, dtype=int),
            running=np.ones(n_members, dtype=bool),
            lowest=np.full(n_members, np.inf),
            waited=np.zeros(n_members, dtype=int),
        )

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do."""
        return self.n_epochs >= self.n_epochs_planned or not self.running.any()

    def exhausted(self, plan: TrainingPlan) -> np.ndarray:
        """Say which running members have waited as long as the patience allows."""
        wait = plan.n_iter_no_change + plan.patience_growth * (self.n_epochs - self.waited)
        return self.running & (self.waited >= wait)

    def add_epoch(
        self, metrics: EpochMetrics, params: np.ndarray, tol: float, *, is_before: bool = False
    ) -> None:
        """Record an epoch: its metrics, and the weights that its objective is about.

        `is_before` says that they are those from before the epoch.
        """
        self.n_epochs += 1
        epoch_before = self.last_epoch.copy()
        is_finite = self.running & np.isfinite(metrics.loss)
        self.last_epoch[is_finite] = self.n_epochs
        self.last_loss[is_finite] = metrics.loss[is_finite]
        self.last_cost[is_finite] = metrics.cost[is_finite]
        self.keep_best(metrics, params, epoch_before if is_before else self.last_epoch)
        # An objective of NaN is not counted.
        is_progress = metrics.objective <= self.lowest - tol
        self.waited = np.where(is_progress, 0, self.waited + ~np.isnan(metrics.objective))
        self.lowest = np.where(self.running, np.fmin(self.lowest, metrics.objective), self.lowest)

    def keep_best(self, metrics: EpochMetrics, params: np.ndarray, epoch: np.ndarray) -> None:
        """Keep weights of running members that are better than any before, and their epoch."""
        is_best = self.running & (metrics.objective < self.best_objective)
        self.best[is_best] = params[is_best]
        self.best_objective[is_best] = metrics.objective[is_best]
        self.best_cost[is_best] = metrics.cost[is_best]
        self.best_epoch[is_best] = epoch[is_best]

    def can_resume(self, fingerprint: int) -> bool:
        """Say whether this is the same training, with something left to train."""
        is_sound = self.ended_by != "interrupt" and not self.has_diverged
        return is_sound and self.fingerprint == fingerprint and bool(self.running.any())


def make_stream(seed: int, purpose: Purpose, member: int = 0) -> np.random.Generator:
    """Make one of many independent streams of random numbers.

    Each purpose has a stream for each member, so that drawing more from one changes no other, and
    member k of an ensemble draws what it would draw alone.
    """
    number = get_args(Purpose).index(purpose)
    sequence = np.random.SeedSequence(seed, spawn_key=(number, member))
    return np.random.Generator(np.random.PCG64(sequence))


@dataclass
class TrainingState:
    """All that training changes, and all that resuming it needs: plain data, no views."""

    params: np.ndarray  # (n_members, n_params), the weights that the next step starts from
    optimizer: dict[str, Any]
    seed: int
    shuffling: list[np.random.Generator]  # a stream for each member
    dropout: list[np.random.Generator]
    rate_factor: np.ndarray  # (n_members, 1), factor of the rate after plateaus and divergence
    ema_params: np.ndarray | None = None  # (n_members, n_params), the moving average of the weights
    n_averaged: int = 0
    n_samples_seen: int = 0
    n_epochs_before: int = 0  # in the history, from earlier fits
    history: dict[str, list[float]] = field(default_factory=dict)
    progress: TrainingProgress | None = None
    final_params: np.ndarray | None = None  # (n_members, n_params), what training chose in the end
    executor: str = "numpy"  # the name of what runs the steps
    best_iter: int = 0  # the epoch in the history after which these did not change

    def pack(self) -> dict[str, Any]:
        """Return what a warm start needs beside the history and the final weights: plain data.

        Arrays are those of the state.
        """
        packed = vars(self).copy()
        del packed["history"], packed["final_params"]
        for name in STREAMS:
            packed[name] = [rng.bit_generator.state for rng in packed[name]]
        packed["progress"] = None if self.progress is None else vars(self.progress).copy()
        return packed

    @classmethod
    def unpack(cls, packed: dict[str, Any], n_members: int, **others: Any) -> TrainingState:
        """Return a state with copies of what was packed, and `others` as they are."""
        packed = deepcopy(to_plain(packed))
        optimizer = packed["optimizer"]
        packed["optimizer"] = {"step": optimizer["step"], "arrays": dict(optimizer["arrays"])}
        for name in STREAMS:
            streams = [make_stream(0, "dropout") for _ in range(n_members)]
            for rng, stands_at in zip(streams, packed[name], strict=True):
                rng.bit_generator.state = stands_at
            packed[name] = streams
        if packed["progress"] is not None:
            packed["progress"] = TrainingProgress(**packed["progress"])
            check_fields(packed["progress"])
        state = cls(**packed, **others)
        check_fields(state)
        return state

    @property
    def weights(self) -> np.ndarray:
        """The weights to evaluate and to predict with."""
        return self.params if self.ema_params is None else self.ema_params

    @property
    def n_epochs(self) -> int:
        """Epochs in the history, from earlier fits too."""
        return len(self.history.get("loss", []))

    def begin_anew(self, plan: TrainingPlan) -> None:
        """Go back to the weights kept, if there are any, and reset the optimizer.

        Moments and average belong to weights that may have been rejected, and would lead back.
        """
        if self.final_params is None:
            return
        self.params = self.final_params.copy()
        self.rate_factor = np.ones((len(self.params), 1), self.params.dtype)
        self.optimizer = first_optimizer_state(plan, self.params)
        self.ema_params = self.progress = None


def first_optimizer_state(plan: TrainingPlan, params: np.ndarray) -> dict[str, Any]:
    """Return the state before the first step: a count, and arrays (n_members, n_trainable)."""
    arrays: dict[str, np.ndarray] = {}
    for member, own in enumerate(params[:, : plan.network.layout.n_trainable]):
        for name, array in plan.optimizer.init(own).items():
            arrays.setdefault(name, np.empty((len(params), *array.shape), array.dtype))
            arrays[name][member] = array
    return {"step": 0, "arrays": arrays}


def can_continue(plan: TrainingPlan, state: TrainingState, params: np.ndarray) -> bool:
    """Say whether a state is one of this plan, and of weights like these: (n_members, n_params)."""
    expected, known = first_optimizer_state(plan, params)["arrays"], state.optimizer["arrays"]
    pairs = [(known.get(name), array) for name, array in expected.items()]
    pairs += [(state.params, params), (state.rate_factor, params[:, :1])]
    pairs += [] if state.ema_params is None else [(state.ema_params, params)]
    if state.progress is not None:
        before = EpochMetrics(*np.zeros((3, len(params))))
        for name, value in vars(TrainingProgress.begin(params, before, 0, 0)).items():
            if isinstance(value, np.ndarray):
                pairs.append((getattr(state.progress, name), value))
    return known.keys() == expected.keys() and all(
        isinstance(array, np.ndarray) and (array.shape, array.dtype) == (like.shape, like.dtype)
        for array, like in pairs
    )
