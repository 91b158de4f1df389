"""L-BFGS: the whole cost as a function of one flat vector, given to `scipy.optimize`.

Members are independent, so that each is minimised by itself, one after the other. An iteration is
recorded, judged and reported as an epoch is.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import minimize

from .interrupt import Interrupt
from .progress import (
    EarlyStopping,
    End,
    EpochMetrics,
    History,
    Tasks,
    TrainingProgress,
    record,
    report,
)
from .rows import Rows
from .state import TrainingPlan, TrainingState
from .threads import limit_blas_threads
from .trainer import Trainer, Validation, fingerprint
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
    first, seconds = state.params.copy(), plan.max_time / len(state.params)
    plan = replace(plan, network=replace(plan.network, n_members=1), batch_size=len(rows))
    together = _Together(state, len(rows))
    progresses: list[TrainingProgress] = []
    messages: list[str] = []
    largest_product = plan.network.layout.largest_matrix * len(rows)
    with (
        np.errstate(over="ignore", invalid="ignore"),
        limit_blas_threads(largest_product),
    ):
        for member in range(len(first)):
            state.params[member] = first[member]
            part = replace(state, params=state.params[member : member + 1], history={})
            timed, started_at = replace(plan, max_time=seconds), time.perf_counter()
            own = replace(plan.network, first_member=member)
            trainer = Trainer(replace(timed, network=own), part, rows, validation, interrupt)
            state.executor = part.executor
            minimisation = _Minimisation(trainer, together, mark, started_at, tasks)
            minimisation.run(interrupt)
            progresses.append(minimisation.progress)
            messages.append(minimisation.message)
            if minimisation.is_last:
                break
    _repeat(state.params, len(progresses))
    progress = _join([progresses[member % len(progresses)] for member in range(len(first))])
    select_weights(
        plan, state, progress, Ending(validation is not None, message=max(messages, key=bool))
    )


def _repeat(params: np.ndarray, n_trained: int) -> None:
    """Give untrained members the weights of those that are trained, lest they spoil the average."""
    for member in range(n_trained, len(params)):
        params[member] = params[member % n_trained]


class _Together:
    """What the members have come to together; each iteration of one changes it.

    Parameters
    ----------
    state : TrainingState
        Of all members.
    n_rows : int
    """

    def __init__(self, state: TrainingState, n_rows: int) -> None:
        self.state, self.n_rows = state, n_rows
        self._n_seen_before = state.n_samples_seen
        self._n_before = max((len(column) for column in state.history.values()), default=0)
        self._histories: list[History] = []

    def begin_member(self, history: History) -> None:
        """Take note of the next member, by its history, which is empty as yet."""
        self._histories.append(history)

    def end_iteration(self) -> None:
        """Take note of an iteration of the last member: histories are averaged."""
        state, n_done = self.state, len(self._histories[-1]["loss"])
        rows = [
            [column[n_done - 1] for column in history.values()]
            for history in self._histories
            if len(history.get("loss", [])) >= n_done
        ]
        names, means = self._histories[-1], np.mean(rows, axis=0).tolist()
        if len(state.history.get("loss", [])) < self._n_before + n_done:
            record(state.history, np.ones(0), **dict(zip(names, means, strict=True)))
        for name, mean in zip(names, means, strict=True):
            state.history[name][self._n_before + n_done - 1] = mean
        n_seen = self._n_seen_before + self.n_rows * n_done
        state.n_samples_seen = max(state.n_samples_seen, n_seen)
        _repeat(state.params, len(self._histories))


class _Minimisation:
    """The minimisation of one member's cost."""

    def __init__(
        self, trainer: Trainer, together: _Together, mark: int, started_at: float, tasks: Tasks
    ) -> None:
        self.trainer, self.together, self.tasks = trainer, together, tasks
        self.started_at = started_at
        self.plan, self.state = trainer.plan, trainer.state
        self._n_trainable = self.plan.network.layout.n_trainable
        self.message = ""
        self.is_last = False  # whether somebody has asked to stop
        together.begin_member(self.state.history)
        early_stopping = EarlyStopping(
            1, tol=self.plan.tol, n_iter_no_change=self.plan.n_iter_no_change
        )
        self.progress = TrainingProgress.begin(
            self.state.params,
            trainer.evaluate_first(),
            early_stopping,
            n_epochs_planned=self.plan.max_iter,
            fingerprint=mark,
        )
        self.plan.network.reset_statistics(self.state.params)
        self._first_statistics = self._statistics.copy()

    @property
    def _statistics(self) -> np.ndarray:
        return self.state.params[:, self._n_trainable :]

    def run(self, interrupt: Interrupt) -> None:
        """Iterate until the gradient vanishes, a limit is met, or somebody asks to stop."""
        progress, start = (
            self.progress,
            self.state.params[0, : self._n_trainable].astype(np.float64),
        )
        self._looked_at = time.perf_counter()
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
            is_unfinished = bool(
                result.status != 0 and not progress.ended_by and progress.running[0]
            )
            self.message = str(result.message) if is_unfinished else ""
            interrupt.check()
        except KeyboardInterrupt:
            interrupt.answer()
            progress.ended_by, self.is_last = "interrupt", True
            self._move_to(self._iterate if progress.n_epochs else start)
        metrics = interrupt.complete(self.trainer.evaluate)
        progress.set_last(metrics, np.array([0]))
        if progress.n_epochs == 0:  # where it began is all there is, and may be the minimum
            progress.early_stopping.update(metrics.objective)
        progress.running[:] = is_unfinished or bool(progress.ended_by)

    def _cost(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the cost and its gradient at some weights."""
        params, n_decayed = self.state.params, self.plan.network.layout.n_decayed
        params[0, : self._n_trainable] = weights
        loss, gradient = self.trainer.compute_gradient()
        gradient[:n_decayed] += self.plan.l2 * params[0, :n_decayed]
        cost = loss + float(self.trainer.penalty(params)[0])
        return cost, gradient.astype(np.float64)

    def _move_to(self, weights: np.ndarray) -> None:
        """Take these weights; let statistics of the rows be those under them."""
        self.state.params[0, : self._n_trainable] = weights
        if self._first_statistics.size:
            self._statistics[...] = self._first_statistics
            self.trainer.compute_gradient()

    def _end_iteration(self, intermediate_result) -> None:
        """Judge an iteration, write it down, and stop if there is a reason to."""
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
        progress.add_epoch(metrics, self.state.params)
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
        self.together.end_iteration()
        report(plan.verbose, progress, self.state.history)
        end: End = ""
        self.is_last = self.tasks.end_epoch()
        if self.is_last:
            end = "callback"
        elif now - self.started_at >= plan.max_time:
            end = "max_time"
        self._stop_if(end)

    def _stop_if(self, end: End) -> None:
        """Stop where there is a reason to, or where validation shows no progress any more."""
        progress = self.progress
        is_exhausted = self.trainer.validation is not None and progress.early_stopping.exhausted[0]
        if is_exhausted:
            progress.running[:] = False
        elif end and progress.n_epochs < self.plan.max_iter:
            progress.ended_by = end
        if is_exhausted or progress.ended_by:
            raise StopIteration


def _join(progresses: list[TrainingProgress]) -> TrainingProgress:
    """Make one progress of those of all members."""
    first = progresses[0]
    early_stopping = EarlyStopping(
        len(progresses),
        tol=first.early_stopping.tol,
        n_iter_no_change=first.early_stopping.n_iter_no_change,
    )
    for name in ("best", "waited", "running"):
        setattr(
            early_stopping,
            name,
            np.concatenate([getattr(c.early_stopping, name) for c in progresses]),
        )
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(progress, name) for progress in progresses])
        for name, value in vars(first).items()
        if isinstance(value, np.ndarray)
    }
    ends = [progress.ended_by for progress in progresses if progress.ended_by]
    return replace(
        first,
        early_stopping=early_stopping,
        n_epochs=max(progress.n_epochs for progress in progresses),
        ended_by=ends[0] if ends else "",
        **arrays,
    )
