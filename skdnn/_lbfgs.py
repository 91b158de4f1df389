"""L-BFGS: the whole cost as a function of one flat vector, given to `scipy.optimize`.

Members are independent, so that each is minimised by itself, one after the other. An iteration is
recorded, judged and reported as an epoch is.
"""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import numpy as np
from scipy.optimize import minimize

from ._callbacks import Tasks
from ._course import Course, End, Judgement
from ._history import History, record, report
from ._interrupt import Interrupt, listen_for_interrupts
from ._rows import Rows
from ._state import TrainingPlan, TrainingState
from ._stopping import Patience
from ._threads import limit_blas_threads
from ._trainer import Trainer, Validation, fingerprint
from ._verdict import Ending, settle


def train_lbfgs(
    plan: TrainingPlan,
    state: TrainingState,
    rows: Rows,
    validation: Validation | None,
    tasks: Tasks,
) -> None:
    """Minimise the cost of each member; the counterpart of `skdnn._training.train`.

    SciPy keeps no state between two calls. To go on exactly, a warm start on the same rows
    therefore begins again where the course began and runs as many iterations more.
    """
    mark = fingerprint(plan, rows, validation)
    state.average, state.n_averaged = None, 0  # of another solver
    plan, n_known = _plan_iterations(plan, state, mark)
    plan = replace(plan, network=replace(plan.network, n_members=1), batch_size=len(rows))
    seconds, n_seen = plan.max_time / len(state.params), state.n_samples_seen
    minimisations: list[_Minimisation] = []
    largest_product = plan.network.layout.largest_matrix * len(rows)
    with (
        listen_for_interrupts() as interrupt,
        np.errstate(over="ignore", invalid="ignore"),
        limit_blas_threads(largest_product),
    ):
        for member in range(len(state.params)):
            # What the only member does is seen as it happens; of several, what they did together.
            history = state.history if len(state.params) == 1 else {}
            part = replace(state, params=state.params[member : member + 1], history=history)
            trainer = Trainer(plan, part, rows, validation, interrupt)
            n_repeated = state.optimizer["n_done"][member]
            minimisations.append(
                _Minimisation(trainer, state, n_seen, mark, n_known, n_repeated, seconds, tasks)
            )
            minimisations[-1].run(interrupt)
            if minimisations[-1].course.ended_by in ("interrupt", "callback"):
                break
    for member in range(len(minimisations), len(state.params)):
        # Nothing was learned here before the end: an untrained member must not join the average.
        state.params[member] = state.params[member % len(minimisations)]
        minimisations.append(minimisations[member % len(minimisations)])
    if len(state.params) > 1:
        _extend(state.history, [m.history for m in minimisations])
    state.course = _join([m.course for m in minimisations])
    state.optimizer["n_done"] = [m.course.n_epochs for m in minimisations]
    message = next((m.message for m in minimisations if m.message), "")
    settle(plan, state, state.course, Ending(validation is not None, message=message))


def _plan_iterations(
    plan: TrainingPlan, state: TrainingState, mark: int
) -> tuple[TrainingPlan, int]:
    """Go to where to begin; return the plan, and how many iterations are known already."""
    known = state.course
    if known is not None and known.can_go_on(mark):
        state.params[...] = state.optimizer["origin"]
        state.optimizer["n_fits"] += 1
        n_planned = known.n_epochs_planned + (plan.max_iter if known.is_over else 0)
        max_fun = plan.max_fun * state.optimizer["n_fits"]
        return replace(plan, max_iter=n_planned, max_fun=max_fun), known.n_epochs
    if state.kept is not None:
        state.params[...] = state.kept
    n_done = [0] * len(state.params)
    state.optimizer.update(origin=state.params.copy(), n_fits=1, n_done=n_done)
    return plan, 0


class _Minimisation:
    """The minimisation of one member's cost."""

    def __init__(
        self,
        trainer: Trainer,
        whole: TrainingState,
        n_seen_before: int,
        mark: int,
        n_known: int,
        n_repeated: int,
        seconds: float,
        tasks: Tasks,
    ) -> None:
        self.whole, self.n_seen_before = whole, n_seen_before
        self.trainer, self.tasks = trainer, tasks
        self.seconds_left = seconds  # to repeat what is known does not count
        self.n_known = n_known  # iterations that are in the history
        self.n_repeated = n_repeated  # iterations of this member that an earlier fit has done
        self.plan, self.state = trainer.plan, trainer.state
        self.history: History = self.state.history  # of the iterations that are not known yet
        self.message = ""
        self.plan.network.reset_statistics(self.state.params)
        self._first_statistics = self._statistics.copy()
        [self._x] = trainer.batches  # all rows
        patience = Patience(1, tol=self.plan.tol, n_iter_no_change=self.plan.n_iter_no_change)
        self.course = Course.begin(
            self.state.params,
            trainer.judge_first(),
            patience,
            n_epochs_planned=self.plan.max_iter,
            fingerprint=mark,
        )

    @property
    def _statistics(self) -> np.ndarray:
        return self.state.params[:, self.plan.network.layout.trainable.stop :]

    def run(self, interrupt: Interrupt) -> None:
        """Iterate until the gradient vanishes, a limit is met, or somebody asks to stop."""
        course, start = self.course, self.trainer.trainable[0].astype(np.float64)
        self._started_at = time.perf_counter()
        is_unfinished = False
        try:
            result = minimize(
                self._cost,
                start,
                method="L-BFGS-B",
                jac=True,
                callback=self._end_iteration,
                options={
                    "maxiter": self.plan.max_iter,
                    "maxfun": self.plan.max_fun,
                    "gtol": self.plan.tol,
                },
            )
            self._move_to(result.x)
            is_unfinished = bool(result.status != 0 and not course.ended_by and course.running[0])
            self.message = str(result.message) if is_unfinished else ""
            interrupt.check()
        except KeyboardInterrupt:
            if interrupt.is_abort:
                raise
            course.ended_by = "interrupt"
            self._move_to(self._iterate if course.n_epochs else start)
        judgement = self.trainer.judge()
        course.last_loss[:], course.last_cost[:] = judgement.loss, judgement.cost
        if course.n_epochs == 0:  # where it began is all there is, and may be the minimum
            course.patience.update(judgement.objective)
        course.stop(course.running.copy(), self.state.params)
        course.running[:] = is_unfinished or bool(course.ended_by)

    def _cost(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the cost and its gradient at some weights."""
        trainer = self.trainer
        trainer.interrupt.check()
        trainer.trainable[0] = weights
        trainer.compute_gradient(self._x)
        decayed = self.plan.network.layout.decayed
        trainer.grads[:, decayed] += self.plan.l2 * self.state.params[:, decayed]
        cost = trainer.batch_loss() + trainer.penalty(self.state.params)
        return float(cost[0]), trainer.grads[0].astype(np.float64)

    def _move_to(self, weights: np.ndarray) -> None:
        """Take these weights; let statistics of the rows be those under them."""
        self.trainer.trainable[0] = weights
        if self._first_statistics.size:
            self._statistics[...] = self._first_statistics
            self.trainer.compute_gradient(self._x)

    def _end_iteration(self, intermediate_result) -> None:
        """Judge an iteration, write it down, and stop if there is a reason to."""
        plan, trainer, course = self.plan, self.trainer, self.course
        self._iterate = intermediate_result.x.copy()
        is_known = course.n_epochs < self.n_known
        if not is_known:
            self.tasks.begin_epoch()
        self._move_to(self._iterate)
        penalty = trainer.penalty(self.state.params)
        cost = np.array([intermediate_result.fun])
        judgement, validation_loss, score = Judgement(cost - penalty, cost, cost), None, None
        if trainer.validation is not None:
            validation_loss, objective, score = trainer.validate()
            judgement = judgement._replace(objective=objective)
        course.note(judgement, self.state.params)
        now = time.perf_counter()
        if not is_known:
            record(
                self.history,
                np.ones(1, dtype=bool),
                loss=judgement.loss,
                penalty=penalty,
                validation_loss=validation_loss,
                validation_score=score,
                learning_rate=1.0,
                seconds=now - self._started_at,
            )
            report(plan, course, self.history)
            n_seen = self.n_seen_before + len(trainer.rows) * (course.n_epochs - self.n_known)
            self.whole.n_samples_seen = max(self.whole.n_samples_seen, n_seen)
        is_repeated = course.n_epochs <= self.n_repeated
        if not is_repeated:
            self.seconds_left -= now - self._started_at
        self._started_at = now
        end: End = ""
        if not is_known and self.tasks.end_epoch():
            end = "callback"
        elif not is_repeated and self.seconds_left <= 0.0:
            end = "max_time"
        self._stop_if(end)

    def _stop_if(self, end: End) -> None:
        """Stop where there is a reason to, or where validation shows no progress any more."""
        course = self.course
        is_exhausted = self.trainer.validation is not None and course.patience.exhausted[0]
        if is_exhausted:
            course.running[:] = False
        elif end and course.n_epochs < self.plan.max_iter:
            course.ended_by = end
        if is_exhausted or course.ended_by:
            raise StopIteration


def _extend(history: History, parts: list[History]) -> None:
    """Append the members' histories, averaged over the members still at work."""
    names = max(parts, key=len)  # a member that begins at its minimum records nothing
    for values in zip_longest(*(zip(*part.values(), strict=True) for part in parts)):
        means = np.mean([value for value in values if value is not None], axis=0)
        record(history, np.ones(0), **dict(zip(names, means.tolist(), strict=True)))


def _join(courses: list[Course]) -> Course:
    """Make one course of those of all members."""
    first = courses[0]
    patience = Patience(
        len(courses), tol=first.patience.tol, n_iter_no_change=first.patience.n_iter_no_change
    )
    for name in ("best", "waited", "running"):
        setattr(patience, name, np.concatenate([getattr(c.patience, name) for c in courses]))
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(course, name) for course in courses])
        for name, value in vars(first).items()
        if isinstance(value, np.ndarray)
    }
    ends = [course.ended_by for course in courses if course.ended_by]
    return replace(
        first,
        patience=patience,
        n_epochs=max(course.n_epochs for course in courses),
        ended_by=ends[0] if ends else "",
        **arrays,
    )
