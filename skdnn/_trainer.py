"""The parts of one fit, joined: fixed buffers, passes, the steps of an epoch, and judging them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ._batches import Minibatches
from ._course import Judgement
from ._interrupt import Interrupt
from ._passes import fastest_module
from ._rows import Rows, checksum
from ._sparse import InputBatch, is_sparse
from ._state import TrainingPlan, TrainingState
from .optimizers import LearningRate

ROWS_TO_TELL_APART = 1_000
"""Rows that are looked at to see whether a network still tells rows apart."""


N_DECIMALS = 12
"""Of a score; what is beyond is rounding of sums, which must not decide what is better."""


@dataclass(frozen=True)
class Validation:
    """Rows to judge each epoch by, and the score to judge with, if it is not the loss.

    Attributes
    ----------
    rows : Rows
    score : callable or None
        ``score(params) -> array of shape (n_members,)``, each member's score: the more the better.
    name : str
        Of the score; scores of different names are not compared.
    """

    rows: Rows
    score: Callable[[np.ndarray], np.ndarray] | None = None
    name: str = "loss"


class Trainer:
    """The parts of one fit, joined: buffers, passes, and one epoch of steps."""

    def __init__(
        self,
        plan: TrainingPlan,
        state: TrainingState,
        rows: Rows,
        validation: Validation | None = None,
        interrupt: Interrupt | None = None,
    ) -> None:
        self.plan, self.state, self.rows, self.validation = plan, state, rows, validation
        self.interrupt = Interrupt() if interrupt is None else interrupt
        rngs, n_members, dtype = state.streams, len(state.params), state.params.dtype
        self.batches = Minibatches(rows, plan.batch_size, rngs.shuffling if plan.shuffle else None)
        self.xp = fastest_module()
        self.trainable = state.params[:, plan.network.layout.trainable]
        self.grads, self.scratch = np.empty_like(self.trainable), np.empty_like(self.trainable)
        self.logits = np.empty((n_members, len(rows)), dtype)
        self.passes = {
            size: (
                plan.network.bind(
                    state.params,
                    size,
                    grads=self.grads,
                    training=True,
                    rngs=rngs.dropout,
                    xp=self.xp,
                ),
                np.empty((n_members, size), dtype),
            )
            for size in self.batches.sizes
        }
        self._checkpoint = [array.copy() for array in self._arrays()]
        self._part = None if state.average is None else np.empty_like(state.average)

    def run_epoch(self, first_step: int, n_steps: int) -> tuple[np.ndarray, float]:
        """Take one step for each batch; return each member's mean loss, and the last rate.

        A step needs the gradient of the loss and not its value: that is computed once for the
        epoch, from the logits that the batches had.
        """
        plan, state, batches = self.plan, self.state, self.batches
        n_samples_before, rate = state.n_samples_seen, plan.learning_rate_init
        factor = None if (state.rate_factor == 1.0).all() else state.rate_factor
        for i, (columns, x) in enumerate(batches):
            self.interrupt.check()
            done = n_samples_before if plan.schedule.counts == "samples" else first_step + i
            rate = plan.learning_rate_init * plan.schedule(done, n_steps)
            self._take_step(columns, x, rate if factor is None else rate * factor)
        state.n_samples_seen += len(batches.rows)
        return self.epoch_loss(), rate * float(state.rate_factor.mean())

    def epoch_loss(self) -> np.ndarray:
        """Return each member's mean loss by the logits that the batches of an epoch had."""
        batches = self.batches
        return self.plan.loss.mean(batches.y, self.logits, batches.sample_weight)

    def _take_step(self, columns: slice, x: InputBatch, learning_rate: LearningRate) -> None:
        """Compute the gradient on a batch, and update the weights by it."""
        state = self.state
        self.compute_gradient(columns, x)
        self.plan.optimizer.update(
            self.grads, self.trainable, state.optimizer, learning_rate, self.scratch, self.xp
        )
        if state.average is not None:
            self._move_average(state.average)

    def compute_gradient(self, columns: slice, x: InputBatch) -> None:
        """Forward pass, gradient of the cost at the logits, backward pass."""
        plan, batches = self.plan, self.batches
        passage, grad_logits = self.passes[x.shape[1]]
        weight = None if batches.sample_weight is None else batches.sample_weight[:, columns]
        logits = passage.forward(x, weight)
        self.logits[:, columns] = logits
        plan.loss.gradient(batches.y[:, columns], logits, weight, grad_logits)
        passage.backward(grad_logits)

    def _move_average(self, average: np.ndarray) -> None:
        """Move the average of the weights on: ``A = d A + (1 - d) w``, freed of its bias to zero.

        With ``1 - d`` replaced by ``(1 - d) / (1 - d^t)`` it is the weighted mean of all weights so
        far, and the first one counts as one: what Adam does for its moments.
        """
        self.state.n_averaged += 1
        decay = self.plan.ema_decay
        share = (1.0 - decay) / (1.0 - decay**self.state.n_averaged)
        average *= 1.0 - share
        average += np.multiply(self.state.params, share, out=self._part)

    def save_checkpoint(self) -> None:
        """Remember the weights and the state of the optimizer."""
        for saved, array in zip(self._checkpoint, self._arrays(), strict=True):
            saved[...] = array

    def restore_checkpoint(self, members: np.ndarray) -> None:
        """Put some members back to where they were."""
        for saved, array in zip(self._checkpoint, self._arrays(), strict=True):
            array[members] = saved[members]

    @property
    def params_before(self) -> np.ndarray:
        """The parameters as they were at the last checkpoint."""
        return self._checkpoint[0]

    @property
    def weights_before(self) -> np.ndarray:
        """The weights to predict with as they were at the last checkpoint."""
        return self._checkpoint[0 if self.state.average is None else 1]

    @property
    def has_score(self) -> bool:
        """Whether something else than the loss is to be judged by."""
        return self.validation is not None and self.validation.score is not None

    def _arrays(self) -> list[np.ndarray]:
        """All arrays of the state that have a row for each member."""
        state = self.state
        arrays = [state.params] if state.average is None else [state.params, state.average]
        for by_name in state.optimizer["arrays"].values():
            arrays += [array for array in by_name.values() if array.ndim == 2]
        return arrays

    def mean_loss(self, rows: Rows) -> np.ndarray:
        """Return each member's mean loss on some rows, as it predicts them now."""
        logits = self.plan.network.logits(self.state.weights, rows.X)
        weight = None if rows.sample_weight is None else rows.sample_weight[np.newaxis]
        return self.plan.loss.mean(rows.y[np.newaxis], logits, weight)

    def penalty(self, params: np.ndarray) -> np.ndarray:
        """Return the L2 penalty of each member: half of `l2` times the squared weights."""
        weights = params[:, self.plan.network.layout.decayed].astype(np.float64, copy=False)
        return 0.5 * self.plan.l2 * np.einsum("ij,ij->i", weights, weights)

    @property
    def is_dead(self) -> bool:
        """Whether a member answers the same to every row, of some that are not all the same."""
        X = self.rows.X[:ROWS_TO_TELL_APART]
        is_varied = X.nnz > 0 if is_sparse(X) else bool((X[:1] != X).any())
        logits = self.plan.network.logits(self.state.weights, X)
        return is_varied and bool((logits == logits[:, :1]).all(axis=1).any())

    def judge(self) -> Judgement:
        """Judge the weights as they are now."""
        loss = self.mean_loss(self.rows)
        cost = loss + self.penalty(self.state.weights)
        return Judgement(loss, cost, cost if self.validation is None else self.validate()[1])

    def judge_first(self) -> Judgement:
        """Judge the weights before training.

        Untrained ones are none of those to choose the best from on validation rows.

        Raises
        ------
        ValueError
            If a score cannot judge them.
        """
        judgement = self.judge()
        if self.has_score and not np.isfinite(judgement.objective).all():
            raise ValueError(
                f"scoring gives {-judgement.objective.max()} on the validation rows, before "
                "training begins. Take a score that is a number there; some need rows of both "
                "classes."
            )
        is_trained = self.state.kept is not None
        if self.validation is None or is_trained:
            return judgement
        return judgement._replace(objective=np.full_like(judgement.objective, np.inf))

    def validate(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return loss, objective and score on the validation rows."""
        if self.validation is None:
            raise ValueError("There are no validation rows.")
        loss = self.mean_loss(self.validation.rows)
        if self.validation.score is None:
            return loss, loss, -loss
        score = self.validation.score(self.state.weights)
        return loss, np.round(-score, N_DECIMALS), score


def fingerprint(plan: TrainingPlan, rows: Rows, validation: Validation | None) -> int:
    """Return a number that changes with the rows and with what training is to lower on them."""
    parts = [f"{plan.loss} {plan.l2} {plan.ema_decay > 0.0}".encode(), *rows.arrays()]
    if validation is not None:
        parts += [validation.name.encode(), *validation.rows.arrays()]
    return checksum(*parts)
