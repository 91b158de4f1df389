"""L-BFGS: the whole cost as a function of one flat vector, given to `scipy.optimize`.

Members are independent, so that their costs are minimised one after the other. An iteration is
recorded, validated and reported as an epoch is; those of a member follow those of another.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import OptimizeResult, minimize

from .interrupt import Interrupt
from .loop import begin_progress, end_epoch, record, select_weights
from .report import Report
from .rows import Rows
from .state import End, EpochMetrics, TrainingPlan, TrainingProgress, TrainingState
from .trainer import Trainer
from .validation import Validation, fingerprint


def train_lbfgs(
    plan: TrainingPlan,
    state: TrainingState,
    rows: Rows,
    validation: Validation | None,
    tasks: Any,
    interrupt: Interrupt,
) -> None:
    """Minimise the cost of each member; the counterpart of `skdnn.training.loop.train`.

    SciPy keeps no state between two calls: a warm start begins with the weights that were kept.
    """
    mark = fingerprint(plan, rows, validation)
    state.begin_anew(plan)
    n_members = len(state.params)
    ended_by: End = ""
    plan = replace(plan, batch_size=len(rows), patience_growth=0.0)
    is_unfinished = np.zeros(n_members, dtype=bool)
    with np.errstate(over="ignore", invalid="ignore"):
        trainer = Trainer(plan, state, rows, validation, interrupt)
        trainer.compile()
        with trainer.hold_blas:
            progress = begin_progress(trainer, mark)
            progress.n_epochs_planned = plan.max_iter * n_members
            if tasks is not None:
                tasks.begin_fit(progress.n_epochs_planned)
            plan.network.reset_statistics(state.params)
            first = state.params.copy()
            minimisation = _Minimisation(trainer, progress, tasks)
            for member in range(n_members):
                state.params[member] = first[member]
                is_unfinished[member] = minimisation.run(member)
                ended_by, progress.ended_by = progress.ended_by or ended_by, ""
                if minimisation.is_last:
                    break
    progress.running, progress.ended_by = is_unfinished, ended_by
    for array in vars(progress).values():
        if isinstance(array, np.ndarray):
            _repeat(array, member + 1)
    select_weights(plan, state, progress)


def _repeat(of_members: np.ndarray, n_trained: int) -> None:
    """Give untrained members what trained ones have: their weights would spoil the average."""
    others = np.arange(n_trained, len(of_members))
    of_members[others] = of_members[others % n_trained]


class _Minimisation:
    """The minimisation of the cost of one member after the other.

    Parameters
    ----------
    trainer : Trainer
    progress : TrainingProgress
    tasks : FitTasks or None
    """

    def __init__(self, trainer: Trainer, progress: TrainingProgress, tasks: Any) -> None:
        self.trainer, self.progress, self.tasks = trainer, progress, tasks
        self.plan, self.state = trainer.plan, trainer.state
        self.report = Report(self.plan.verbose, self.state.n_epochs)
        self.max_time = self.plan.max_time / len(self.state.params)
        self.is_last = False  # whether a stop was asked for

    def run(self, member: int) -> bool:
        """Iterate until the gradient vanishes, a limit is met, or a stop is asked for.

        Returns whether there is something left to do.
        """
        plan, progress, interrupt = self.plan, self.progress, self.trainer.interrupt
        self._member, n_before = member, progress.n_epochs
        self._started_at = self._looked_at = time.perf_counter()
        progress.running[:] = np.arange(len(progress.running)) == member
        n_trainable = plan.network.layout.n_trainable
        self._weights = self.state.params[member, :n_trainable]
        self._statistics = self.state.params[member, n_trainable:]
        self._first_statistics = self._statistics.copy()
        self._iterate = self._weights.astype(np.float64)
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
            is_stopped = bool(progress.ended_by) or not progress.running[member]
            is_unfinished = result.status != 0 and not is_stopped
            if is_unfinished and not progress.message:
                progress.message = str(result.message)
            interrupt.check()
        except KeyboardInterrupt:
            interrupt.answer()
            progress.ended_by, self.is_last = "interrupt", True
            self._move_to(self._iterate)
        metrics = self.trainer.evaluate()
        progress.last_loss[member] = metrics.loss[member]
        progress.last_cost[member] = metrics.cost[member]
        if progress.n_epochs == n_before:  # where it began is all there is, and may be the minimum
            progress.lowest[member] = metrics.cost[member]
        return is_unfinished or bool(progress.ended_by)

    def _cost(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the cost and its gradient at some weights."""
        n_decayed = self.plan.network.layout.n_decayed
        self._weights[:] = weights
        loss, gradient = self.trainer.compute_gradient(self._member)
        gradient[:n_decayed] += self.plan.l2 * self._weights[:n_decayed]
        cost = loss + float(self.trainer.penalty(self.state.params)[self._member])
        return cost, gradient.astype(np.float64)

    def _move_to(self, weights: np.ndarray) -> None:
        """Set the weights, and the statistics of the rows under them."""
        self._weights[:] = weights
        if self._statistics.size:
            self._statistics[:] = self._first_statistics
            self.trainer.compute_gradient(self._member)

    def _end_iteration(self, intermediate_result: OptimizeResult) -> None:
        """Evaluate and record an iteration, and stop if there is a reason to."""
        plan, trainer, progress = self.plan, self.trainer, self.progress
        self._iterate, validation = intermediate_result.x.copy(), trainer.validation
        if self.tasks is not None:
            self.tasks.begin_epoch()
        self._move_to(self._iterate)
        penalty = trainer.penalty(self.state.params)
        cost = np.where(progress.running, intermediate_result.fun, np.nan)
        metrics, validation_loss, score = EpochMetrics(cost - penalty, cost, cost), None, None
        if validation is not None:
            logits = trainer.predict(validation.rows.X, validation.places)
            params = self.state.weights
            validation_loss, objective, score = validation.judge(plan.loss, params, logits)
            metrics = metrics._replace(objective=np.where(progress.running, objective, np.nan))
        progress.add_epoch(metrics, self.state.params, plan.tol)
        self.state.n_samples_seen += len(trainer.rows)
        now = time.perf_counter()
        record(
            self.state.history,
            progress.running,
            loss=metrics.loss,
            penalty=penalty,
            validation_loss=validation_loss,
            validation_score=score,
            learning_rate=1.0,
            seconds=now - self._looked_at,
        )
        self._looked_at = now
        _repeat(self.state.params, self._member + 1)
        if validation is not None and progress.exhausted(plan)[self._member]:
            progress.running[:] = False
        self.is_last = end_epoch(self.max_time, progress, self.tasks, self._started_at)
        if plan.verbose:
            self.report.add_epoch(progress, self.state.history)
        if progress.ended_by or not progress.running[self._member]:
            raise StopIteration
