"""The steps of an epoch, for some of the members side by side.

Members know nothing of each other: whether one worker trains all of them, or several workers, in
threads of their own or in turn, a part each, is the same training to the last bit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ._batch_gradient import BatchGradient, Use
from ._batches import Minibatches
from ._folds import Folds
from ._interrupt import Interrupt
from ._network import Pass
from ._passes import ArrayModule
from ._random import RandomWords
from ._rows import Rows
from ._sparse import InputBatch
from ._state import TrainingPlan, TrainingState
from ._tape import is_recordable
from ._threads import Crew
from ._workspace import Workspace
from .optimizers import LearningRate


class Worker:
    """Batches, passes and buffers of some members, and the steps that they take.

    Parameters
    ----------
    plan : TrainingPlan
        Of the whole training.
    state : TrainingState
        Of these members alone; changed in place.
    rows : Rows
    members : range
        Their numbers.
    folds : Folds or None
    grads, scratch : ndarray of shape (n_members, n_trainable)
        Space for the gradients, and to compute in.
    workspace : Workspace
        For the buffers of passes; other workers may have it in turn.
    interrupt : Interrupt
    crew : Crew
        The threads; one that fails halts the others.
    xp : ArrayModule
    """

    def __init__(
        self,
        plan: TrainingPlan,
        state: TrainingState,
        rows: Rows,
        members: range,
        folds: Folds | None,
        *,
        grads: np.ndarray,
        scratch: np.ndarray,
        workspace: Workspace,
        interrupt: Interrupt,
        crew: Crew,
        xp: ArrayModule,
    ) -> None:
        self.plan, self.state, self.members = plan, state, members
        self.grads, self.scratch, self.xp = grads, scratch, xp
        self.interrupt, self.crew = interrupt, crew
        n_members, dtype, streams = len(members), state.params.dtype, state.streams
        self.network = network = replace(plan.network, n_members=n_members)
        shuffling = streams.shuffling if plan.shuffle else None
        self.batches = Minibatches(rows, plan.batch_size, shuffling, folds, members)
        self.trainable = state.params[:, network.layout.trainable]
        self.logits = np.empty((n_members, self.batches.block_size), dtype)
        self._loss = np.zeros(n_members)  # the sum over the rows of an epoch
        self.words, self.workspace = RandomWords(streams.dropout, xp), workspace
        self._numbers = plan.optimizer.make_numbers(state.params)
        self._shares = np.empty((n_members, 2), dtype)
        self._updates_at_once = is_recordable(plan.optimizer)
        self._gradients = {
            size: BatchGradient(
                network,
                plan.loss,
                state.params,
                grads,
                size,
                words=self.words,
                xp=xp,
                workspace=workspace,
            )
            for size in sorted(self.batches.sizes, reverse=True)
        }
        self._predictions: dict[int, Pass] = {}
        self._part = None if state.average is None else np.empty_like(state.average)

    def run_epoch(self, first_step: int, n_steps: int) -> float:
        """Take one step for each batch; return the last learning rate.

        A step needs the gradient of the loss and not its value: that is computed once for a block
        of batches, from the logits that they had.
        """
        self._loss[:] = 0.0
        self.words.discard()
        plan, state, batches = self.plan, self.state, self.batches
        n_samples_before, rate = state.n_samples_seen, plan.learning_rate_init
        factor = None if (state.rate_factor == 1.0).all() else state.rate_factor
        for i, (columns, x) in enumerate(batches):
            self.interrupt.check()
            if self.crew.is_halted:
                break
            done = n_samples_before if plan.schedule.counts == "samples" else first_step + i
            rate = plan.learning_rate_init * plan.schedule(done, n_steps)
            self.take_step(columns, x, rate if factor is None else rate * factor)
            if columns.stop == batches.y.shape[1]:
                self._loss += self.block_loss()
        return rate

    def epoch_loss(self) -> np.ndarray:
        """Return each member's mean loss by the logits that the batches of an epoch had."""
        return self._loss / self.batches.n_samples

    def block_loss(self) -> np.ndarray:
        """Return each member's loss, summed over the rows of the current block."""
        batches = self.batches
        logits = self.logits[:, : batches.y.shape[1]]
        return self.plan.loss.total(batches.y, logits, batches.sample_weight)

    def take_step(self, columns: slice, x: InputBatch, learning_rate: LearningRate) -> None:
        """Compute the gradient on a batch, and update the weights by it."""
        self.plan.optimizer.begin(self.state.optimizer, self._numbers, learning_rate)
        self._count_for_average()
        if self._updates_at_once:
            self.compute_gradient(columns, x, self._update)
        else:
            self.compute_gradient(columns, x)
            self._update(self.xp)

    def predict(self, X: Any, out: np.ndarray) -> None:
        """Write the members' logits on some rows, as they are now, into (n_members, n_samples)."""
        self.network.logits(
            self.state.weights,
            X,
            passes=self._predictions,
            workspace=self.workspace,
            out=out,
            xp=self.xp,
        )

    def compute_gradient(self, columns: slice, x: InputBatch, then: Use | None = None) -> None:
        """Fill the gradients by a batch, keep its logits, and `then` do something with them."""
        y, weight = self.batches.y, self.batches.sample_weight
        weight = None if weight is None else weight[:, columns]
        gradient = self._gradients[x.shape[1]]
        self.logits[:, columns] = gradient.compute(x, y[:, columns], weight, then)

    def _update(self, xp: ArrayModule) -> None:
        """Update the weights by the gradients, and their average by the weights."""
        state, optimizer = self.state, self.plan.optimizer
        optimizer.update(
            self.grads, self.trainable, state.optimizer, self._numbers, self.scratch, xp
        )
        if state.average is not None:
            xp.move_towards(state.average, state.params, self._shares, self._part)

    def _count_for_average(self) -> None:
        """Note by how much the next step moves the average: ``A = d A + (1 - d) w``.

        With ``1 - d`` replaced by ``(1 - d) / (1 - d^t)`` it is freed of its bias to zero, and the
        weighted mean of all weights so far; the first one counts as one. Adam does so too.
        """
        if self.state.average is not None:
            self.state.n_averaged += 1
            decay = self.plan.ema_decay
            share = (1.0 - decay) / (1.0 - decay**self.state.n_averaged)
            self._shares[:] = 1.0 - share, share
