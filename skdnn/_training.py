"""The training loop: repeat forward pass, cost, backward pass, update.

`train` is the loop that one reads aloud; a `Trainer` holds the fixed buffers and takes the steps.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

import numpy as np

from ._callbacks import NO_TASKS, Tasks
from ._course import MAX_HALVINGS, Course, Judgement
from ._history import record, report
from ._interrupt import Interrupt
from ._rows import Rows
from ._state import TrainingPlan, TrainingState
from ._stopping import Patience
from ._trainer import Trainer, Validation, fingerprint
from ._verdict import Ending, looks_useless, settle

ADAPTIVE_DIVISOR = 5.0
SMALLEST_ADAPTIVE_RATE = 1e-6


def train(
    plan: TrainingPlan,
    state: TrainingState,
    rows: Rows,
    validation: Validation | None = None,
    tasks: Tasks = NO_TASKS,
    interrupt: Interrupt | None = None,
) -> None:
    """Train until all epochs are done or no member makes progress any more.

    With validation rows, each member ends with the weights of its best epoch on them; without, with
    its last ones. `skdnn._verdict` chooses them, and warns.

    Parameters
    ----------
    plan : TrainingPlan
    state : TrainingState
        Changed in place. It may hold an unfinished course on the same rows, which is resumed.
    rows : Rows
        To learn from.
    validation : Validation or None, default=None
        To judge by.
    tasks : Tasks, default=NO_TASKS
        Told of each epoch; may ask to stop.
    interrupt : Interrupt or None, default=None
        Ctrl-C; may ask to stop.
    """
    interrupt = Interrupt() if interrupt is None else interrupt
    with np.errstate(over="ignore", invalid="ignore"):  # divergence is reported in words
        mark = 0 if plan.is_part else fingerprint(plan, rows, validation)
        course, kept_cost = resume_course(plan, state, mark), None
        started_at = time.perf_counter()  # to get ready, and compile, takes its time too
        trainer = Trainer(plan, state, rows, validation, interrupt)
        with trainer.hold_blas(), trainer.crew:
            if course is None:
                course = begin_course(trainer, mark)
            else:
                kept_cost = (course.last_cost if validation is None else course.best_cost).copy()
            try:
                _train_epochs(trainer, course, tasks, started_at)
                interrupt.check()
            except KeyboardInterrupt:
                interrupt.answer()
                course.ended_by = "interrupt"
            course.end(state.weights)
            ending = interrupt.complete(partial(_judge_end, trainer, course))
    settle(plan, state, course, replace(ending, kept_cost=kept_cost))


def _judge_end(trainer: Trainer, course: Course) -> Ending:
    """Judge the weights in the end, and those to keep.

    The loss of the last epoch was computed before its last steps, which can ruin the weights, and
    under dropout, which says little where rows are few. It is replaced by that of the weights at
    the end: of members that look bad by it, or of all that are running without validation rows.
    """
    keeps_best = trainer.validation is not None
    if trainer.plan.is_part:
        return Ending(keeps_best)
    members = looks_useless(trainer.plan, course) if keeps_best else course.running
    kept_loss = np.zeros(len(members))
    if members.any():
        course.judge_last(trainer.judge_training(), members)
        if keeps_best:
            kept_loss[members] = trainer.judge_others(course.best).loss[members]
    return Ending(keeps_best, is_dead=trainer.is_dead(), kept_loss=float(kept_loss.max()))


def resume_course(plan: TrainingPlan, state: TrainingState, mark: int) -> Course | None:
    """Return the course to go on with; without one, make the state ready for a new one.

    A course that was cut short is brought to its end. One that came to its end gets `max_iter`
    epochs more, unless the schedule had an end of its own, which another cycle follows.
    """
    course = state.course
    if course is not None and course.can_go_on(mark) and not plan.is_part:
        if course.is_over and not plan.schedule.needs_horizon:
            course.n_epochs_planned += plan.max_iter
        if not course.is_over:
            course.ended_by = ""
            course.patience.tol, course.patience.n_iter_no_change = plan.tol, plan.n_iter_no_change
            course.patience.growth = plan.patience_growth
            return course
    if not plan.is_part:
        state.begin_anew(plan)
        state.rate_factor[...] = 1.0
    if not plan.ema_decay:
        state.average = None
    elif state.average is None:
        state.average, state.n_averaged = state.params.copy(), 0
    return None


def begin_course(trainer: Trainer, mark: int) -> Course:
    """Begin a course with the weights as they are."""
    plan, state = trainer.plan, trainer.state
    unknown = np.full(len(state.params), np.inf)
    judgement = Judgement(unknown, unknown, unknown) if plan.is_part else trainer.judge_first()
    course = Course.begin(
        state.weights,
        judgement,
        Patience(
            len(unknown),
            tol=plan.tol,
            n_iter_no_change=plan.n_iter_no_change,
            growth=plan.patience_growth,
        ),
        n_epochs_planned=plan.max_iter,
        fingerprint=mark,
    )
    if not plan.is_part:  # the next part is another one
        state.course = course
    return course


def _train_epochs(trainer: Trainer, course: Course, tasks: Tasks, started_at: float) -> None:
    """Train epoch by epoch until the course is over, or somebody asks to stop."""
    plan, state = trainer.plan, trainer.state
    while not course.is_over:
        tasks.begin_epoch()
        _train_epoch(trainer, course)
        is_stopped = course.patience.exhausted
        if plan.is_adaptive:
            is_stopped = _lower_rates(plan, state, course.patience, is_stopped)
        course.stop(is_stopped, state.weights)
        report(plan, course, state.history)
        wants_to_stop = tasks.end_epoch()
        if wants_to_stop and not course.is_over:
            course.ended_by = "callback"
            break
        if time.perf_counter() - started_at >= plan.max_time and not course.is_over:
            course.ended_by = "max_time"
            break


def _train_epoch(trainer: Trainer, course: Course) -> None:
    """Train for one epoch, judge the weights, and write it down.

    Members whose loss is not finite lose the epoch: they go back to where it began, and on at half
    the learning rate.
    """
    plan, state, n_batches = trainer.plan, trainer.state, trainer.batches.n_batches
    started_at, running = time.perf_counter(), course.running.copy()
    trainer.save_checkpoint()
    loss, rate = trainer.run_epoch(course.n_epochs * n_batches, course.n_epochs_planned * n_batches)
    penalty = trainer.penalty(trainer.params_before)
    # The training loss describes the weights on the way, not those at the end.
    judgement, candidate = Judgement(loss, loss + penalty, loss + penalty), trainer.weights_before
    is_sound = np.isfinite(loss) & np.isfinite(state.params).all(axis=1)
    if not running.all():
        trainer.restore_checkpoint(~running)  # who has ended stays as it is
    validation_losses = validation_loss = score = None
    if trainer.validation is not None:
        validation_losses = trainer.validation_losses()
        is_sound &= np.isfinite(validation_losses)
    is_lost = running & ~is_sound
    if is_lost.any():
        trainer.restore_checkpoint(is_lost)
        state.rate_factor[is_lost] *= 0.5
        course.note_lost(is_lost, 0 if plan.is_part else MAX_HALVINGS)
        if trainer.folds is not None:
            validation_losses = None  # the mean over all is of the weights that are back
    if trainer.validation is not None:
        validation_loss, objective, score = trainer.validate(validation_losses)
        judgement, candidate = judgement._replace(objective=objective), state.weights
    if is_lost.any():
        judgement = Judgement(*(np.where(is_lost, np.nan, values) for values in judgement))
    course.note(judgement, candidate, is_before=trainer.validation is None)
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


def _lower_rates(
    plan: TrainingPlan, state: TrainingState, patience: Patience, waiting: np.ndarray
) -> np.ndarray:
    """Divide the rates of members on a plateau; return those whose rate has become too small."""
    is_small = plan.learning_rate_init * state.rate_factor[:, 0] <= SMALLEST_ADAPTIVE_RATE
    lowered = waiting & ~is_small
    state.rate_factor[lowered] /= ADAPTIVE_DIVISOR
    patience.waited[lowered] = 0
    return waiting & is_small
