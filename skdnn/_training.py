"""The training loop: repeat forward pass, cost, backward pass, update.

`train` is the loop that one reads aloud; a `Trainer` holds the fixed buffers and takes the steps.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, field
from math import log

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ._batches import Minibatches
from ._network import Network
from ._random import RandomStreams
from ._rows import Rows
from ._stopping import Patience
from ._threads import limit_blas_threads
from .losses import BinaryCrossEntropy
from .optimizers import LearningRate, Optimizer
from .schedules import Schedule

USELESS_LOSS = 2.0 * log(2.0)
"""Twice the loss of answering 1/2 to everything: a model that ends above it has not converged."""

ADAPTIVE_DIVISOR = 5.0
SMALLEST_ADAPTIVE_RATE = 1e-6


@dataclass(frozen=True)
class TrainingPlan:
    """What a fit has decided before it begins."""

    network: Network
    optimizer: Optimizer
    schedule: Schedule
    loss: BinaryCrossEntropy
    batch_size: int
    max_iter: int
    learning_rate_init: float
    l2: float
    shuffle: bool
    tol: float
    n_iter_no_change: float
    is_adaptive: bool = False
    is_part: bool = False
    verbose: int = 0


@dataclass
class TrainingState:
    """All that training changes, and all that resuming it needs: plain data, no views."""

    params: np.ndarray  # (n_members, n_params)
    optimizer: dict
    streams: RandomStreams
    rate_factor: np.ndarray  # (n_members, 1), what "adaptive" has left of the learning rate
    n_samples_seen: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)


class Trainer:
    """The parts of one fit, joined: buffers, passes, and one epoch of steps."""

    def __init__(self, plan: TrainingPlan, state: TrainingState, rows: Rows) -> None:
        self.plan, self.state = plan, state
        rngs, n_members = state.streams, len(state.params)
        self.batches = Minibatches(rows, plan.batch_size, rngs.shuffling if plan.shuffle else None)
        self.grads, self.scratch = np.empty_like(state.params), np.empty_like(state.params)
        self.logits = np.empty((n_members, len(rows)), state.params.dtype)
        self.passes = {
            size: (
                plan.network.bind(state.params, size, grads=self.grads, rngs=rngs.dropout),
                np.empty((n_members, size), state.params.dtype),
            )
            for size in self.batches.sizes
        }

    def run_epoch(self, first_step: int, n_steps: int) -> tuple[np.ndarray, float]:
        """Take one step for each batch; return each member's mean loss, and the last rate.

        A step needs the gradient of the loss and not its value: that is computed once for the
        epoch, from the logits that the batches had.
        """
        plan, state, batches = self.plan, self.state, self.batches
        n_samples_before, multiplier = state.n_samples_seen, 1.0
        for i, (columns, x) in enumerate(batches):
            done = n_samples_before if plan.schedule.counts == "samples" else first_step + i
            multiplier = plan.schedule(done, n_steps)
            self._take_step(columns, x, plan.learning_rate_init * multiplier)
        state.n_samples_seen += len(batches.rows)
        loss = plan.loss.mean(batches.y, self.logits, batches.sample_weight)
        return loss, plan.learning_rate_init * multiplier * float(state.rate_factor.mean())

    def _take_step(self, columns: slice, x: np.ndarray, learning_rate: LearningRate) -> None:
        """Forward pass, gradient of the cost, backward pass, update."""
        plan, state, batches = self.plan, self.state, self.batches
        passage, grad_logits = self.passes[x.shape[1]]
        weight = None if batches.sample_weight is None else batches.sample_weight[:, columns]
        logits = passage.forward(x)
        self.logits[:, columns] = logits
        plan.loss.gradient(batches.y[:, columns], logits, weight, grad_logits)
        passage.backward(grad_logits)
        if plan.is_adaptive:
            learning_rate = learning_rate * state.rate_factor
        plan.optimizer.update(
            self.grads, state.params, state.optimizer, learning_rate, self.scratch
        )

    def mean_loss(self, rows: Rows) -> np.ndarray:
        """Return each member's mean loss on some rows, as it predicts them now."""
        logits = self.plan.network.logits(self.state.params, rows.X)
        weight = None if rows.sample_weight is None else rows.sample_weight[np.newaxis]
        return self.plan.loss.mean(rows.y[np.newaxis], logits, weight)

    def penalty(self, params: np.ndarray) -> np.ndarray:
        """Return the L2 penalty of each member: half of `l2` times the squared weights."""
        weights = params[:, self.plan.network.layout.decayed].astype(np.float64, copy=False)
        return 0.5 * self.plan.l2 * np.einsum("ij,ij->i", weights, weights)


def train(
    plan: TrainingPlan, state: TrainingState, rows: Rows, validation: Rows | None = None
) -> None:
    """Train until `max_iter` epochs are done or no member makes progress any more.

    With validation rows, each member ends with the weights of its best epoch on them; without, with
    its last ones. Weights that diverged are replaced by the best so far.

    Raises
    ------
    ValueError
        If the loss is not finite in the first epoch, so that there are no weights to keep.

    Warns
    -----
    ConvergenceWarning
        If training diverged, or ended while the loss was still falling.
    """
    trainer = Trainer(plan, state, rows)
    patience = Patience(len(state.params), tol=plan.tol, n_iter_no_change=plan.n_iter_no_change)
    largest_product = plan.network.layout.largest_matrix * trainer.batches.batch_size
    with (
        limit_blas_threads(largest_product),
        np.errstate(over="ignore", invalid="ignore"),  # divergence is reported below, in words
    ):
        unknown = np.full(len(state.params), np.inf)
        judges = rows if validation is None else validation
        course = Course.begin(state.params, unknown if plan.is_part else trainer.mean_loss(judges))
        for epoch in range(plan.max_iter):
            _train_epoch(trainer, epoch, validation, patience, course)
            _report(plan, epoch, state.history)
            stopped = patience.exhausted
            if plan.is_adaptive:
                stopped = _lower_rates(plan, state, patience, stopped)
            course.final[stopped] = state.params[stopped]
            patience.running &= ~stopped
            if not patience.running.any():
                break
        course.final[patience.running] = state.params[patience.running]
        if validation is not None:
            course.final = course.best
        elif not plan.is_part:
            # The last step comes after the last loss, and can ruin the weights by itself.
            course.judge_last(trainer.mean_loss(rows), is_running=patience.running)
    _settle(plan, state, patience, course)


def _train_epoch(
    trainer: Trainer, epoch: int, validation: Rows | None, patience: Patience, course: Course
) -> None:
    """Train for one epoch, judge the weights, and write it down."""
    state, n_batches = trainer.state, trainer.batches.n_batches
    started_at, started_with = time.perf_counter(), state.params.copy()
    loss, rate = trainer.run_epoch(epoch * n_batches, trainer.plan.max_iter * n_batches)
    penalty = trainer.penalty(started_with)
    if validation is None:
        # The training loss describes the weights on the way, not those at the end.
        judged, objective, candidate = loss, loss + penalty, started_with
    else:
        judged = objective = trainer.mean_loss(validation)
        candidate = state.params
    patience.update(objective)
    course.note(epoch, judged, candidate, is_running=patience.running)
    _record(
        state.history,
        running=patience.running,
        loss=loss,
        penalty=penalty,
        validation_loss=None if validation is None else judged,
        learning_rate=rate,
        seconds=time.perf_counter() - started_at,
    )
    patience.running &= np.isfinite(judged)  # where it is not, the others train on


@dataclass
class Course:
    """What each member's training has come to: its best and last weights, and their losses."""

    best: np.ndarray  # (n_members, n_params)
    final: np.ndarray  # (n_members, n_params)
    best_epoch: np.ndarray  # (n_members,), -1 stands for the weights before training
    best_loss: np.ndarray  # (n_members,), without the penalty
    last_loss: np.ndarray  # (n_members,), without the penalty

    @classmethod
    def begin(cls, params: np.ndarray, loss: np.ndarray) -> Course:
        """Start from the weights before training."""
        epoch = np.full(len(params), -1)
        return cls(params.copy(), params.copy(), epoch, loss.copy(), loss.copy())

    def note(
        self, epoch: int, loss: np.ndarray, params: np.ndarray, *, is_running: np.ndarray
    ) -> None:
        """Take note of an epoch's loss, and of the weights that it describes."""
        is_best = is_running & (loss < self.best_loss)
        self.best[is_best], self.best_loss[is_best] = params[is_best], loss[is_best]
        self.best_epoch[is_best] = epoch
        self.last_loss[is_running] = loss[is_running]

    def judge_last(self, loss: np.ndarray, *, is_running: np.ndarray) -> None:
        """Replace the loss of the last epoch, where it was finite, by that of the last weights."""
        is_judged = is_running & np.isfinite(self.last_loss)
        self.last_loss[is_judged] = loss[is_judged]


def _lower_rates(
    plan: TrainingPlan, state: TrainingState, patience: Patience, waiting: np.ndarray
) -> np.ndarray:
    """Divide the rates of members on a plateau; return those whose rate has become too small."""
    is_small = plan.learning_rate_init * state.rate_factor[:, 0] <= SMALLEST_ADAPTIVE_RATE
    lowered = waiting & ~is_small
    state.rate_factor[lowered] /= ADAPTIVE_DIVISOR
    patience.waited[lowered] = 0
    return waiting & is_small


def _record(
    history: dict[str, list[float]], *, running: np.ndarray, **values: np.ndarray | float | None
) -> None:
    """Append an epoch's values, averaged over the members that are still training."""
    for name, value in values.items():
        if value is not None:
            if isinstance(value, np.ndarray):
                value = float(value[running].mean())
            history.setdefault(name, []).append(value)


def _report(plan: TrainingPlan, epoch: int, history: dict[str, list[float]]) -> None:
    """Print one line for every `verbose`-th epoch."""
    if not plan.verbose or (epoch + 1) % plan.verbose:
        return
    parts = [f"epoch {epoch + 1:4d}/{plan.max_iter}", f"loss {history['loss'][-1]:.5f}"]
    if "validation_loss" in history:
        parts.append(f"validation loss {history['validation_loss'][-1]:.5f}")
    parts.append(f"learning rate {history['learning_rate'][-1]:.2e}")
    parts.append(f"{history['seconds'][-1]:.2f} s")
    print("  ".join(parts), flush=True)


def _settle(plan: TrainingPlan, state: TrainingState, patience: Patience, course: Course) -> None:
    """Put the weights to keep in place, and say what went wrong if anything did."""
    is_bad = ~np.isfinite(course.last_loss) | ~np.isfinite(course.final).all(axis=1)
    is_useless = course.last_loss > USELESS_LOSS
    if not plan.is_part:  # in a stream, one part says little about the next
        is_bad |= is_useless & (course.last_loss > 2.0 * course.best_loss)
    state.params[...] = np.where(is_bad[:, np.newaxis], course.best, course.final)
    place = (
        f"the loss was {np.max(course.last_loss):.4g} in epoch {len(state.history['loss'])} at "
        f"learning rate {state.history['learning_rate'][-1]:.3g}"
    )
    advice = (
        "Scale the features, for example with StandardScaler, or lower "
        f"learning_rate_init={plan.learning_rate_init!r}."
    )
    if (plan.is_part and is_bad.any()) or not np.isfinite(patience.best_loss).all():
        raise ValueError(f"Training diverged: {place}. No better weights can be kept. {advice}")
    if is_bad.any():
        epoch = course.best_epoch[is_bad].min() + 1
        kept = f"those of epoch {epoch}" if epoch else "those from before training"
        message = f"Training diverged: {place}. The weights kept are {kept}. {advice}"
    elif is_useless.any() and not plan.is_part:
        message = (
            f"Training has not converged: {place}, and answering 1/2 to everything would cost "
            f"{log(2.0):.4g}. Raise max_iter={plan.max_iter}. {advice}"
        )
    elif patience.running.any() and np.isfinite(plan.n_iter_no_change):
        message = (
            f"The loss was still falling when max_iter={plan.max_iter} epochs were done. Raise "
            f"max_iter, or learning_rate_init={plan.learning_rate_init!r}."
        )
    else:
        return
    warnings.warn(message, ConvergenceWarning, stacklevel=4)
