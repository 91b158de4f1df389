"""The course of one training: each member's best weights, whether it still improves, how it ended.

Plain data, kept with the estimator, so that a warm start can go on to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from ._stopping import Patience

MAX_HALVINGS = 5
"""How often a member whose loss is not finite tries again at half the learning rate."""

End = Literal["", "interrupt", "callback", "max_time"]


class Judgement(NamedTuple):
    """What an epoch has come to, member by member: arrays of shape (n_members,)."""

    loss: np.ndarray  # of the training rows
    cost: np.ndarray  # loss and penalty
    objective: np.ndarray  # what is to fall: the cost, or on validation rows the loss or - score


@dataclass
class Course:
    """What each member's training has come to since it began."""

    n_epochs_planned: int
    fingerprint: int  # of the rows, and of what is to fall on them
    patience: Patience
    first: np.ndarray  # (n_members, n_params), the weights before training
    best: np.ndarray  # (n_members, n_params), the weights with the lowest objective
    final: np.ndarray  # (n_members, n_params), the weights with which a member stopped
    first_cost: np.ndarray  # (n_members,), the cost of the weights before training
    best_objective: np.ndarray  # (n_members,)
    best_cost: np.ndarray  # (n_members,), the cost that goes with it
    best_epoch: np.ndarray  # (n_members,), counts from 1; 0 stands for the weights at the beginning
    last_epoch: np.ndarray  # (n_members,), likewise: the last one that changed the weights
    final_epoch: np.ndarray  # (n_members,), likewise: that of the weights with which it stopped
    last_loss: np.ndarray  # (n_members,)
    last_cost: np.ndarray  # (n_members,)
    n_lost: np.ndarray  # (n_members,), epochs whose loss was not finite
    n_epochs: int = 0
    ended_by: End = ""
    has_diverged: bool = False  # whether weights that it came to were rejected in the end

    @classmethod
    def begin(
        cls,
        params: np.ndarray,
        judgement: Judgement,
        patience: Patience,
        *,
        n_epochs_planned: int,
        fingerprint: int,
    ) -> Course:
        """Start from the weights before training."""
        return cls(
            n_epochs_planned=n_epochs_planned,
            fingerprint=fingerprint,
            patience=patience,
            first=params.copy(),
            best=params.copy(),
            final=params.copy(),
            first_cost=judgement.cost.copy(),
            best_objective=judgement.objective.copy(),
            best_cost=judgement.cost.copy(),
            best_epoch=np.zeros(len(params), dtype=int),
            last_epoch=np.zeros(len(params), dtype=int),
            final_epoch=np.zeros(len(params), dtype=int),
            last_loss=judgement.loss.copy(),
            last_cost=judgement.cost.copy(),
            n_lost=np.zeros(len(params), dtype=int),
        )

    @property
    def running(self) -> np.ndarray:
        """Which members are still training."""
        return self.patience.running

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do."""
        return self.n_epochs >= self.n_epochs_planned or not self.running.any()

    def note(self, judgement: Judgement, params: np.ndarray, *, is_before: bool = False) -> None:
        """Take note of an epoch's judgement, and of the weights that its objective is about.

        `is_before` says that they are those from before the epoch.
        """
        epoch = self.last_epoch.copy()
        self.n_epochs += 1
        is_best = self.running & (judgement.objective < self.best_objective)
        self.best[is_best] = params[is_best]
        self.best_objective[is_best] = judgement.objective[is_best]
        self.best_cost[is_best] = judgement.cost[is_best]
        is_judged = self.running & np.isfinite(judgement.loss)
        self.last_epoch[is_judged] = self.n_epochs
        self.best_epoch[is_best] = (epoch if is_before else self.last_epoch)[is_best]
        self.last_loss[is_judged] = judgement.loss[is_judged]
        self.last_cost[is_judged] = judgement.cost[is_judged]
        self.patience.update(judgement.objective)

    def note_lost(self, is_lost: np.ndarray, max_lost: int) -> None:
        """Take note of members that lost an epoch; end those that lost too many at their best."""
        self.n_lost[is_lost] += 1
        is_stopped = is_lost & (self.n_lost > max_lost)
        self._freeze(is_stopped, self.best, self.best_epoch)
        self.running[is_stopped] = False

    def stop(self, is_stopped: np.ndarray, params: np.ndarray) -> None:
        """Freeze members with the weights that they have now."""
        self._freeze(is_stopped, params, self.last_epoch)
        self.running[is_stopped] = False

    def end(self, params: np.ndarray) -> None:
        """Freeze members that are still running; they may go on from there."""
        self._freeze(self.running, params, self.last_epoch)

    def _freeze(self, members: np.ndarray, params: np.ndarray, epoch: np.ndarray) -> None:
        self.final[members], self.final_epoch[members] = params[members], epoch[members]

    def judge_last(self, judgement: Judgement, members: np.ndarray) -> None:
        """Replace what is known of the last epoch by what is of the weights at its end."""
        self.last_loss[members] = judgement.loss[members]
        self.last_cost[members] = judgement.cost[members]

    def can_go_on(self, fingerprint: int) -> bool:
        """Say whether this is the same training, with something left to train."""
        is_sound = self.ended_by != "interrupt" and not self.has_diverged
        return is_sound and self.fingerprint == fingerprint and bool(self.running.any())
