"""The training loop: repeat forward pass, cost, backward pass, update.

`train` is the loop; a `Trainer` takes the steps of an epoch.
"""

from __future__ import annotations

import time
from copy import deepcopy
from typing import Any

import numpy as np
from scipy.sparse import issparse

from .interrupt import Interrupt
from .report import (
    MAX_HALVINGS,
    Report,
    advise,
    describe_end,
    print_end,
    useless_loss,
    warn_about_end,
)
from .rows import Rows
from .state import EpochMetrics, TrainingPlan, TrainingProgress, TrainingState
from .trainer import Trainer
from .validation import Validation, fingerprint

ROWS_TO_JUDGE = 2_000
"""Rows, or a few more, by which weights are judged before training."""

ROWS_TO_TELL_APART = 1_000
"""Rows that are looked at to see whether a network still tells rows apart."""

ADAPTIVE_DIVISOR = 5.0
SMALLEST_ADAPTIVE_RATE = 1e-6

History = dict[str, list[float]]


def train(
    plan: TrainingPlan,
    state: TrainingState,
    rows: Rows,
    validation: Validation | None,
    tasks: Any,
    interrupt: Interrupt,
) -> None:
    """Train until all epochs are done or no member makes progress any more.

    With validation rows, each member ends with the weights of its best epoch on them; without, with
    its last ones. `select_weights` chooses them, and warns.

    Parameters
    ----------
    plan : TrainingPlan
    state : TrainingState
        Changed in place. It may hold an unfinished progress on the same rows, which is resumed.
    rows : Rows
        To learn from.
    validation : Validation or None
        Rows to validate on.
    tasks : skdnn.estimator.fitted.FitTasks or None
        Tells callbacks of the fit and of each epoch; may ask to stop.
    interrupt : Interrupt
        Ctrl-C; may ask to stop.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # divergence is reported in words
        mark = 0 if plan.is_part else fingerprint(plan, rows, validation)
        progress = resume_progress(plan, state, mark)
        started_at = time.perf_counter()  # preparation and compilation count too
        trainer = Trainer(plan, state, rows, validation, interrupt)
        trainer.compile()
        with trainer.hold_blas:
            if progress is None:
                progress = begin_progress(trainer, mark)
            if tasks is not None:
                tasks.begin_fit(progress.n_epochs_planned - progress.n_epochs)
            n_before = state.n_epochs - progress.n_epochs
            report = Report(plan.verbose, n_before, not plan.is_part or n_before == 0)
            try:
                while not (progress.is_over or progress.ended_by):
                    if tasks is not None:
                        tasks.begin_epoch()
                    _train_epoch(trainer, progress)
                    end_epoch(plan.max_time, progress, tasks, started_at)
                    if plan.verbose:
                        report.add_epoch(progress, state.history)
                interrupt.check()
            except KeyboardInterrupt:
                interrupt.answer()
                progress.ended_by = "interrupt"
            if not plan.is_part:
                _evaluate_end(trainer, progress)
    select_weights(plan, state, progress)


def _evaluate_end(trainer: Trainer, progress: TrainingProgress) -> None:
    """Evaluate the weights in the end, and those to keep.

    The loss of the last epoch was computed before its last steps, which can ruin the weights, and
    under dropout, which makes it noisy where rows are few. It is replaced by that of the weights at
    the end: of members whose last loss is bad, or of all that are running without validation rows.
    """
    members = progress.running
    if progress.keeps_best:
        members = progress.last_cost > useless_loss(trainer.plan)
    if members.any():
        metrics = trainer.evaluate()
        progress.last_loss[members] = metrics.loss[members]
        progress.last_cost[members] = metrics.cost[members]
        if not progress.keeps_best:
            progress.keep_best(metrics, trainer.state.weights, progress.last_epoch)
    X = trainer.rows.X[:ROWS_TO_TELL_APART]
    logits = trainer.predict(X, np.arange(X.shape[0]))
    is_varied = X.nnz > 0 if issparse(X) else bool((X[:1] != X).any())
    progress.is_dead = is_varied and bool((logits == logits[:, :1]).all(axis=1).any())


def resume_progress(plan: TrainingPlan, state: TrainingState, mark: int) -> TrainingProgress | None:
    """Return the progress to resume, or None after preparing the state for a new training.

    A training that was cut short is brought to its end. One that came to its end gets `max_iter`
    epochs more, unless the schedule had an end of its own, which another cycle follows.
    """
    progress = state.progress
    if progress is not None and progress.can_resume(mark) and not plan.is_part:
        if progress.is_over and not plan.schedule.needs_horizon:
            progress.n_epochs_planned += plan.max_iter
        if not progress.is_over:
            progress.ended_by = ""
            return progress
    if not plan.is_part:
        state.begin_anew(plan)
    if not plan.ema_decay:
        state.ema_params = None
    elif state.ema_params is None:
        state.ema_params, state.n_averaged = state.params.copy(), 0
    return None


def begin_progress(trainer: Trainer, mark: int) -> TrainingProgress:
    """Begin the training progress with the weights as they are, judged by some rows.

    On validation rows, untrained weights are only better than useless ones, and never by a score.

    Raises
    ------
    ValueError
        If a score cannot judge them.
    """
    plan, state, validation = trainer.plan, trainer.state, trainer.validation
    metrics = EpochMetrics(*np.full((3, len(state.params)), np.inf))
    if not plan.is_part:
        metrics = trainer.evaluate(every=max(1, len(trainer.rows) // ROWS_TO_JUDGE))
    if validation is not None:
        is_scored = validation.score is not None
        logits = trainer.predict(validation.rows.X, validation.places)
        objective = validation.judge(plan.loss, state.weights, logits)[1]
        if is_scored and not np.isfinite(objective).all():
            raise ValueError(
                f"scoring gives {-objective.max()} on the validation rows, before training "
                "begins. Take a score that is a number there; some need rows of both classes."
            )
        if state.final_params is None:  # which would have been trained
            objective = np.maximum(objective, np.inf if is_scored else useless_loss(plan))
        metrics = metrics._replace(objective=objective)
    progress = TrainingProgress.begin(state.weights, metrics, plan.max_iter, mark)
    progress.keeps_best = validation is not None
    if not plan.is_part:  # the next part is another one
        state.progress = progress
    return progress


def end_epoch(max_time: float, progress: TrainingProgress, tasks: Any, started_at: float) -> bool:
    """End the training if a callback asks for it, or its time is over; return the former."""
    wants_to_stop = tasks is not None and tasks.end_epoch()
    is_late = time.perf_counter() - started_at >= max_time
    if (wants_to_stop or is_late) and not progress.is_over:
        progress.ended_by = "callback" if wants_to_stop else "max_time"
    return wants_to_stop


def _train_epoch(trainer: Trainer, progress: TrainingProgress) -> None:
    """Train for one epoch, evaluate the weights, and record it.

    Members whose loss is not finite go back to where the epoch began, and on at half the learning
    rate.
    """
    plan, state, validation = trainer.plan, trainer.state, trainer.validation
    started_at, running = time.perf_counter(), progress.running.copy()
    before, weights = deepcopy(trainer.arrays), state.weights.copy()
    penalty = trainer.penalty(state.params)
    loss, rate = trainer.run_epoch(progress)
    # The training loss describes the weights on the way, not those at the end.
    metrics = EpochMetrics(loss, loss + penalty, loss + penalty)
    is_sound = np.isfinite(loss) & np.isfinite(state.params).all(axis=1)
    validation_loss = score = None
    if validation is not None:
        logits = trainer.predict(validation.rows.X, validation.places)
        is_sound &= np.isfinite(logits).all(axis=1)
    is_diverged = running & ~is_sound
    if is_diverged.any():
        for name, array in trainer.arrays.items():
            array[is_diverged] = before[name][is_diverged]
        _halve_rates(plan, state, progress, is_diverged)
        metrics = EpochMetrics(*np.where(is_diverged, np.nan, metrics))
    if validation is not None:
        if is_diverged.any():
            logits = trainer.predict(validation.rows.X, validation.places)
        validation_loss, objective, score = validation.judge(plan.loss, state.weights, logits)
        objective = np.where(is_diverged, np.nan, objective)
        metrics, weights = metrics._replace(objective=objective), state.weights
    progress.add_epoch(metrics, weights, plan.tol, is_before=validation is None)
    record(
        state.history,
        running & is_sound,
        loss=loss,
        penalty=penalty,
        validation_loss=validation_loss,
        validation_score=score,
        learning_rate=rate,
        seconds=time.perf_counter() - started_at,
    )
    is_stopped = progress.exhausted(plan)
    if plan.is_adaptive:
        is_stopped = _lower_rates(plan, state, progress.waited, is_stopped)
    progress.running[is_stopped] = False


def _halve_rates(
    plan: TrainingPlan, state: TrainingState, progress: TrainingProgress, is_diverged: np.ndarray
) -> None:
    """Halve the rates of diverged members; the last time, stop them with their best weights."""
    state.rate_factor[is_diverged] *= 0.5
    progress.n_diverged[is_diverged] += 1
    given_up = is_diverged & (progress.n_diverged > (0 if plan.is_part else MAX_HALVINGS))
    progress.running[given_up] = False
    progress.last_epoch[given_up] = progress.best_epoch[given_up]
    state.params[given_up] = state.weights[given_up] = progress.best[given_up]


def _lower_rates(
    plan: TrainingPlan, state: TrainingState, waited: np.ndarray, waiting: np.ndarray
) -> np.ndarray:
    """Divide the rates of members on a plateau; return those whose rate has become too small."""
    is_small = plan.learning_rate_init * state.rate_factor[:, 0] <= SMALLEST_ADAPTIVE_RATE
    lowered = waiting & ~is_small
    state.rate_factor[lowered] /= ADAPTIVE_DIVISOR
    waited[lowered] = 0
    return waiting & is_small


def select_weights(plan: TrainingPlan, state: TrainingState, progress: TrainingProgress) -> None:
    """Choose the weights to keep, and warn if training went wrong.

    Weights that diverged are replaced by better ones. For a part of a stream only the loss has to
    be finite, since losses of different parts do not compare.

    Raises
    ------
    ValueError
        If a member never had a finite loss, so that there are no weights to keep.

    Warns
    -----
    ConvergenceWarning
        If training diverged, was cut short, or ended while the loss was still falling.
    """
    chosen, epoch = state.weights.copy(), progress.last_epoch
    if progress.keeps_best:
        chosen, epoch = progress.best, progress.best_epoch
    is_bad = ~np.isfinite(chosen).all(axis=1)
    if progress.n_epochs:
        is_bad |= ~np.isfinite(progress.last_loss)
    if not plan.is_part:
        # Huge weights show in the penalty where activations saturate.
        is_high = progress.last_cost > useless_loss(plan)
        is_bad |= is_high & (progress.last_cost > 2.0 * progress.best_cost)
    has_nothing = progress.n_epochs > 0 and not np.isfinite(progress.lowest).all()
    if has_nothing or (plan.is_part and is_bad.any()):
        raise ValueError(
            f"Training diverged: {describe_end(plan, state, progress)}. No better weights can be "
            f"kept. {advise(plan)}"
        )
    progress.has_diverged = bool(is_bad.any())
    state.final_params = np.where(is_bad[:, np.newaxis], progress.best, chosen)
    epoch = np.where(is_bad, progress.best_epoch, epoch)
    n_before = state.n_epochs - progress.n_epochs
    if epoch.any():  # else training gained nothing
        state.best_iter = n_before + int(epoch.max())
    if plan.verbose and not plan.is_part:
        print_end(plan, progress, epoch, n_before)
    warn_about_end(plan, state, progress, is_bad)


def record(history: History, members: np.ndarray, **values: np.ndarray | float | None) -> None:
    """Append an epoch's values, averaged over some members; NaN where there is none.

    All lists stay of the same length, whatever earlier fits have recorded.
    """
    n_before = len(history.get("loss", []))
    for name, value in values.items():
        if value is not None:
            if isinstance(value, np.ndarray):
                value = float(value[members].mean()) if members.any() else np.nan
            history.setdefault(name, [np.nan] * n_before).append(value)
    for column in history.values():
        column += [np.nan] * (n_before + 1 - len(column))
