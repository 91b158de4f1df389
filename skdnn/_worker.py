"""The steps of an epoch, for some of the members side by side.

Members know nothing of each other: whether one worker trains all of them, or several workers, in
threads of their own or in turn, a part each, is the same training to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ._batch_gradient import BatchGradient, Use
from ._batches import Minibatches
from ._chain import powers
from ._network import Pass
from ._passes import ArrayModule
from ._random import RandomWords
from ._sparse import InputBatch
from ._tape import Series, is_recordable
from ._workspace import Workspace
from .training.folds import Folds
from .training.interrupt import Interrupt
from .training.rows import Rows
from .training.state import TrainingPlan, TrainingState
from .training.threads import ThreadPool

MULTIPLICATIONS_AT_ONCE = 1 << 32
"""Multiplications, a tenth of a second's, after which a worker looks up from its work: whether
somebody wants to stop."""


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
    pool : ThreadPool
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
        pool: ThreadPool,
        xp: ArrayModule,
    ) -> None:
        self.plan, self.state, self.members = plan, state, members
        self.grads, self.scratch, self.xp = grads, scratch, xp
        self.interrupt, self.pool = interrupt, pool
        n_members, dtype, streams = len(members), state.params.dtype, state.streams
        self.network = replace(plan.network, n_members=n_members)
        shuffling = streams.shuffling if plan.shuffle else None
        self.batches = Minibatches(rows, plan.batch_size, shuffling, folds, members)
        self.trainable = state.params[:, self.network.layout.trainable]
        self.logits = np.empty((n_members, self.batches.block_size), dtype)
        self._loss = np.zeros(n_members)  # the sum over the rows of an epoch
        self.words, self.workspace = RandomWords(streams.dropout, xp), workspace
        self._updates_at_once = is_recordable(plan.optimizer)
        most_steps = self._count_steps()
        self._numbers = plan.optimizer.make_numbers(state.params, most_steps)
        self._shares = np.empty((most_steps, n_members, 2), dtype)
        self._gradients = self._make_gradients()
        self._predictions: dict[int, Pass] = {}
        self._n_begun = 0
        self._part = None if state.ema_params is None else np.empty_like(state.ema_params)

    def _count_steps(self) -> int:
        """Return how many steps are to be taken without a look up from the work."""
        if not self._updates_at_once:
            return 1
        size = self.batches.batch_size
        n_multiplications = 3 * size * self.state.params.size
        most_steps = max(1, MULTIPLICATIONS_AT_ONCE // n_multiplications)
        return min(most_steps, self.batches.block_size // size)

    def _make_gradients(self) -> dict[int, BatchGradient]:
        """Make what computes the gradients on batches, by their number of rows.

        Several steps are taken at once on full batches only: a shorter one is the last of all.
        """
        plan, full = self.plan, self.batches.batch_size
        series = [Series(array, array.strides[0]) for array in (*self._numbers, self._shares)]
        return {
            size: BatchGradient(
                self.network,
                plan.loss,
                self.state.params,
                self.grads,
                size,
                len(self._shares) if size == full else 1,
                plan.max_iter * n_batches,
                series=series,
                words=self.words,
                xp=self.xp,
                workspace=self.workspace,
            )
            for size, n_batches in sorted(self.batches.sizes.items(), reverse=True)
        }

    def run_epoch(self, first_step: int, n_steps: int) -> float:
        """Take one step for each batch; return the last learning rate.

        A step needs the gradient of the loss and not its value: that is computed once for a block
        of batches, from the logits that they had.
        """
        self._loss[:] = 0.0
        self.words.discard()
        batches, n_done = self.batches, first_step
        rate = self.plan.learning_rate_init
        for x in batches:
            for columns in batches.cut(x.shape[1], len(self._shares)):
                self._look_up()
                rates = self._learning_rates(n_done, batches.count(columns), n_steps)
                self.begin_steps(rates)
                self.take_steps(columns, x[:, columns])
                n_done, rate = n_done + len(rates), rates[-1]
            self._loss += self.block_loss()
        return rate

    def _learning_rates(self, n_done: int, n_ahead: int, n_steps: int) -> list[float]:
        """Return the rates of the next steps, by the schedule."""
        plan = self.plan
        counted: Sequence[int] = range(n_done, n_done + n_ahead)
        if plan.schedule.counts == "samples":
            counted = [self.state.n_samples_seen] * n_ahead
        return [plan.learning_rate_init * plan.schedule(n, n_steps) for n in counted]

    def epoch_loss(self) -> np.ndarray:
        """Return each member's mean loss by the logits that the batches of an epoch had."""
        return self._loss / self.batches.n_samples

    def block_loss(self) -> np.ndarray:
        """Return each member's loss, summed over the rows of the current block."""
        batches = self.batches
        logits = self.logits[:, : batches.y.shape[1]]
        return self.plan.loss.total(batches.y, logits, batches.sample_weight)

    def begin_steps(self, learning_rates: Sequence[float]) -> None:
        """Write down what the next steps need to know."""
        state, self._n_begun = self.state, len(learning_rates)
        rates = np.array(learning_rates).reshape(-1, 1, 1)
        if (state.rate_factor != 1.0).any():
            rates = rates * state.rate_factor
        self.plan.optimizer.begin(state.optimizer, self._numbers, rates)
        if state.ema_params is not None:
            shares = self._count_for_average()
            self._shares[: self._n_begun] = np.concatenate([1.0 - shares, shares], axis=2)

    def take_steps(self, columns: slice, x: InputBatch) -> None:
        """Take the steps begun: compute the gradient on a batch, update the weights by it.

        `columns` is where the batches, which follow each other in x, lie in the current block.
        """
        if self._updates_at_once:
            self.compute_gradient(columns, x, self._update)
        else:
            self.compute_gradient(columns, x)
            self._update(self.xp, 0)

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
        """Fill the gradients by batches, keep their logits, and `then` do something with each."""
        y, weight = self.batches.y, self.batches.sample_weight
        weight = None if weight is None else weight[:, columns]
        gradient = self._gradients[x.shape[1] // self.batches.count(columns)]
        self.logits[:, columns] = gradient.compute(x, y[:, columns], weight, then)

    def _update(self, xp: ArrayModule, step: int) -> None:
        """Update the weights by the gradients, and their average by the weights.

        Steps that run by Python look up after each; those of a tape do not come here.
        """
        state, numbers = self.state, [array[step] for array in self._numbers]
        self.plan.optimizer.update(
            self.grads, self.trainable, state.optimizer, numbers, self.scratch, xp
        )
        if state.ema_params is not None:
            xp.move_towards(state.ema_params, state.params, self._shares[step], self._part)
        if step + 1 < self._n_begun:
            self._look_up()

    def _look_up(self) -> None:
        """Stop if somebody wants to, or another thread has failed; weights are consistent here."""
        self.interrupt.check()
        self.pool.check()

    def _count_for_average(self) -> np.ndarray:
        """Return by how much the steps begun move the average: ``A = d A + (1 - d) w``.

        With ``1 - d`` replaced by ``(1 - d) / (1 - d^t)`` it is freed of its bias to zero, and the
        weighted mean of all weights so far; the first one counts as one. Adam does so too.
        """
        decay, first = self.plan.ema_decay, self.state.n_averaged + 1
        self.state.n_averaged += self._n_begun
        return (1.0 - decay) / (1.0 - powers(decay, range(first, first + self._n_begun)))
