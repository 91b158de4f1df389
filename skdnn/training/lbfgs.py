"""L-BFGS: the whole cost as a function of one flat vector, given to `scipy.optimize`.

Members are independent, so that their costs are minimised one after the other. An iteration is
recorded, validated and reported as an epoch is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from scipy.optimize import OptimizeResult, minimize

from .interrupt import Interrupt
from .loop import History, Tasks, begin_progress, end_epoch, record
from .report import Report
from .rows import Rows
from .state import EpochMetrics, TrainingPlan, TrainingProgress, TrainingState
from .trainer import Trainer
from .validation import Validation, fingerprint
from .weight_selection import Ending, select_weights


def train_lbfgs(
    plan: TrainingPlan,
    state: TrainingState,
    rows: Rows,
    validation: Validation | None,
    tasks: Tasks,
    interrupt: Interrupt,
) -> None:
    """Minimise the cost of each member; the counterpart of `skdnn.training.loop.train`.

    SciPy keeps no state between two calls: a warm start begins with the weights that were kept.
    """
    mark = fingerprint(plan, rows, validation)
    state.begin_anew(plan)
    first = state.params.copy()
    progresses, histories, message = list[TrainingProgress](), list[History](), ""
    plan = replace(plan, batch_size=len(rows), patience_growth=0.0)
    report = Report(plan.verbose, state.n_epochs_before)
    with np.errstate(over="ignore", invalid="ignore"):
        for member in range(len(first)):
            started_at = time.perf_counter()
            state.params[member] = first[member]
            part = replace(state, params=state.params[member : member + 1], history={})
            network = replace(plan.network, n_members=1, first_member=member)
            own = replace(plan, network=network, max_time=plan.max_time / len(first))
            trainer = Trainer(own, part, rows, validation, interrupt)
            state.executor = part.executor
            with trainer.hold_blas():
                progress = begin_progress(trainer, mark)
                if member == 0:
                    tasks.begin_fit(plan.max_iter * len(first))
                histories.append(part.history)
                average = partial(_average, state, histories, len(rows))
                minimisation = _Minimisation(trainer, progress, tasks, started_at, average, report)
                minimisation.run(interrupt)
            progresses.append(progress)
            message = message or minimisation.message
            if minimisation.is_last:
                break
    n_trained = len(progresses)
    _repeat(state.params, n_trained)
    progress = TrainingProgress.join([progresses[i % n_trained] for i in range(len(first))])
    select_weights(plan, state, progress, Ending(validation is not None, message=message))


def _repeat(params: np.ndarray, n_trained: int) -> None:
    """Give untrained members the weights of trained ones: theirs would spoil the average."""
    params[n_trained:] = params[np.arange(n_trained, len(params)) % n_trained]


def _average(state: TrainingState, histories: list[History], n_rows: int) -> None:
    """Record an iteration of the last member: the mean of all members that have got so far."""
    last = len(histories[-1]["loss"]) - 1
    values = [
        [column[last] for column in history.values()]
        for history in histories
        if len(history.get("loss", [])) > last
    ]
    means = dict(zip(histories[-1], np.mean(values, axis=0).tolist(), strict=True))
    place = state.n_epochs_before + last
    if len(state.history.get("loss", [])) == place:
        record(state.history, np.ones(0), **means)
        state.n_samples_seen += n_rows
    for name, mean in means.items():
        state.history[name][place] = mean
    _repeat(state.params, len(histories))


class _Minimisation:
    """The minimisation of one member's cost.

    Parameters
    ----------
    trainer : Trainer
        Of this member alone.
    progress : TrainingProgress
        Likewise.
    tasks : Tasks
    started_at : float
    average : callable
        Called after each iteration.
    report : Report
        Shows each iteration.
    """

    def __init__(
        self,
        trainer: Trainer,
        progress: TrainingProgress,
        tasks: Tasks,
        started_at: float,
        average: Callable[[], None],
        report: Report,
    ) -> None:
        self.trainer, self.progress, self.tasks = trainer, progress, tasks
        self.plan, self.state = trainer.plan, trainer.state
        self.started_at, self.average, self.report = started_at, average, report
        self.message = ""
        self.is_last = False  # whether a stop was asked for
        n_trainable = self.plan.network.layout.n_trainable
        self.weights = self.state.params[0, :n_trainable]
        self.statistics = self.state.params[0, n_trainable:]
        self.plan.network.reset_statistics(self.state.params)
        self._first_statistics = self.statistics.copy()

    def run(self, interrupt: Interrupt) -> None:
        """Iterate until the gradient vanishes, a limit is met, or a stop is asked for."""
        plan, progress = self.plan, self.progress
        self._iterate = self.weights.astype(np.float64)
        self._looked_at = time.perf_counter()
        is_unfinished = False
        try:
            result = minimize(
                self._cost,
                self._iterate,
                method="L-BFGS-B",
                jac=True,
                callback=self._end_iteration,
                options={"maxiter": plan.max_iter, "maxfun": plan.max_fun, "gtol": plan.tol},
            )
            self._move_to(result.x)
            is_stopped = bool(progress.ended_by) or not progress.running[0]
            is_unfinished = result.status != 0 and not is_stopped
            self.message = str(result.message) if is_unfinished else ""
            interrupt.check()
        except KeyboardInterrupt:
            interrupt.answer()
            progress.ended_by, self.is_last = "interrupt", True
            self._move_to(self._iterate)
        metrics = self.trainer.evaluate()
        progress.set_last(metrics, np.array([0]))
        if progress.n_epochs == 0:  # where it began is all there is, and may be the minimum
            progress.lowest[:] = metrics.cost
        progress.running[:] = is_unfinished or bool(progress.ended_by)

    def _cost(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the cost and its gradient at some weights."""
        n_decayed = self.plan.network.layout.n_decayed
        self.weights[:] = weights
        loss, gradient = self.trainer.compute_gradient()
        gradient[:n_decayed] += self.plan.l2 * self.weights[:n_decayed]
        cost = loss + float(self.trainer.penalty(self.state.params)[0])
        return cost, gradient.astype(np.float64)

    def _move_to(self, weights: np.ndarray) -> None:
        """Set the weights, and the statistics of the rows under them."""
        self.weights[:] = weights
        if self.statistics.size:
            self.statistics[:] = self._first_statistics
            self.trainer.compute_gradient()

    def _end_iteration(self, intermediate_result: OptimizeResult) -> None:
        """Evaluate and record an iteration, and stop if there is a reason to."""
        plan, trainer, progress = self.plan, self.trainer, self.progress
        self._iterate = intermediate_result.x.copy()
        self.tasks.begin_epoch()
        self._move_to(self._iterate)
        penalty = trainer.penalty(self.state.params)
        cost = np.array([intermediate_result.fun])
        metrics, validation_loss, score = EpochMetrics(cost - penalty, cost, cost), None, None
        if trainer.validation is not None:
            validation_loss, objective, score = trainer.validate()
            metrics = metrics._replace(objective=objective)
        progress.add_epoch(metrics, self.state.params, plan.tol)
        now = time.perf_counter()
        record(
            self.state.history,
            np.ones(1, dtype=bool),
            loss=metrics.loss,
            penalty=penalty,
            validation_loss=validation_loss,
            validation_score=score,
            learning_rate=1.0,
            seconds=now - self._looked_at,
        )
        self._looked_at = now
        self.average()
        if trainer.validation is not None and progress.exhausted(plan)[0]:
            progress.running[:] = False
        self.is_last = end_epoch(plan, progress, self.tasks, self.started_at)
        self.report.add_epoch(progress, self.state.history)
        if progress.ended_by or not progress.running[0]:
            raise StopIteration
