"""The parts of one fit, joined: workers that take the steps of an epoch, and judging them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from ._loading import choose_module
from ._sparse import InputBatch, is_sparse
from ._values import frozen
from ._worker import Worker
from ._workspace import Workspace
from .losses import BLOCK_ROWS
from .training.calibration import find_least_loss
from .training.folds import Folds, HeldOut
from .training.interrupt import Interrupt
from .training.progress import EpochMetrics
from .training.rows import Rows, checksum
from .training.state import TrainingPlan, TrainingState
from .training.threads import ThreadPool, limit_blas_threads
from .utils import cut_rows

ROWS_TO_TELL_APART = 1_000
"""Rows that are looked at to see whether a network still tells rows apart."""

ROWS_TO_JUDGE = 2 * BLOCK_ROWS
"""Rows whose logits are kept together where the loss of a whole table is computed."""

NUMBERS_TO_SHARE = 1 << 16
"""Numbers that a worker is to compute in one call of NumPy, in the widest layer: with fewer, it
waits for Python, and for other threads that have Python's lock, longer than it computes."""

ROWS_TO_JUDGE_FIRST = 1_000
"""Rows, or a few more, by which the first weights are judged where there are others to validate."""

EPOCHS_BEFORE_STOPPING = 0.25
"""The share of its epochs after which early stopping usually ends a training."""

MULTIPLICATIONS_A_SECOND = 1.5e10
"""Of a training by NumPy on one thread: 7e9 to 3.6e10 were measured, from small networks to large
ones. Decides nothing but whether to load numba."""

N_DECIMALS = 12
"""Of a score; what is beyond is rounding of sums, which must not decide what is better."""

Result = TypeVar("Result")


@frozen
class Validation:
    """Rows to judge each epoch by, and the score to judge with, if it is not the loss.

    Attributes
    ----------
    rows : Rows
        With folds they are the rows to train on, with the labels as they were.
    score : callable or None
        ``score(params, held_out_logits)``, the more the better: each member's, of shape
        (n_members,), or with folds one of all rows held out; see `training.scoring`.
    name : str
        Of the score; scores of different names are not compared.
    folds : Folds or None
        Which rows each member holds out. One fold is few rows to choose an epoch by: what counts is
        the loss of all that are held out (see `training.calibration`), or their
        score, one number for all members.
    """

    rows: Rows
    score: Callable[[np.ndarray, np.ndarray | None], np.ndarray] | None = None
    name: str = "loss"
    folds: Folds | None = None


class Trainer:
    """The parts of one fit, joined: workers that take the steps of an epoch, and judging them."""

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
        self.folds = None if validation is None else validation.folds
        n_members = len(state.params)
        _check_folds(self.folds, n_members, len(rows))
        self._held_out: HeldOut | None = None
        self._held_out_logits: np.ndarray | None = None
        if validation is not None and self.folds is not None:
            self._held_out = self.folds.hold_out(validation.rows)
        self.trainable = state.params[:, plan.network.layout.trainable]
        self.grads = np.empty_like(self.trainable)
        n_threads = min(plan.n_threads, self._count_workers(n_members))
        self._threads = share_out(range(n_members), n_threads)
        self.pool = ThreadPool(n_threads)
        self._employ()
        self._checkpoint = [array.copy() for array in self._arrays()]

    def hold_blas(self) -> AbstractContextManager:
        """Hold BLAS to one thread, unless it has a single network with large products.

        The threads share the members, however many threads there are: BLAS rounds differently where
        it takes several.
        """
        plan, is_alone = self.plan, len(self.state.params) == 1
        n_largest = plan.network.layout.largest_matrix * min(plan.batch_size, len(self.rows))
        return limit_blas_threads(n_largest if is_alone else 0)

    def _count_workers(self, n_members: int) -> int:
        """Return how many workers some members keep busy."""
        n_rows = min(self.plan.batch_size, len(self.rows))
        n_numbers = n_members * n_rows * self.plan.network.widest
        return min(n_members, max(1, n_numbers // NUMBERS_TO_SHARE))

    def _estimate_seconds(self) -> float:
        """Return about how long NumPy takes for the whole training, what is done of it included.

        A stream is trained part by part: what makes it a long training is what it has seen before.
        """
        plan, state = self.plan, self.state
        n_epochs = plan.max_iter * (EPOCHS_BEFORE_STOPPING if plan.stops_early else 1.0)
        n_samples = state.n_samples_seen + len(self.rows) * n_epochs
        return 3.0 * state.params.size * n_samples / MULTIPLICATIONS_A_SECOND

    def _employ(self) -> None:
        """Give the members of each thread to a team of workers, who take turns in its memory.

        What few members compute in stays in the cache, and only those at work need the order of
        their rows: a large table takes a fraction of the memory, and less time.
        """
        state, scratch = self.state, np.empty_like(self.grads)
        xp = choose_module(state.params.dtype, self._estimate_seconds(), self.plan.max_time)

        def employ(members: range, workspace: Workspace) -> Worker:
            part = slice(members.start, members.stop)
            return Worker(
                self.plan,
                state if len(members) == len(state.params) else state.of_members(members),
                self.rows,
                members,
                self.folds,
                grads=self.grads[part],
                scratch=scratch[part],
                workspace=workspace,
                interrupt=self.interrupt,
                pool=self.pool,
                xp=xp,
            )

        self.teams: list[list[Worker]] = []
        for of_thread in self._threads:
            shares = share_out(of_thread, self._count_workers(len(of_thread)))
            workspace = Workspace()
            self.teams.append([employ(members, workspace) for members in shares])
        self.workers = [worker for team in self.teams for worker in team]
        self.batches = self.workers[0].batches

    def _let_work(self, task: Callable[[Worker], Result]) -> list[Result]:
        """Let all workers do something: teams side by side, and those of a team in turn."""

        def work(worker: Worker) -> Result:
            self.pool.check()
            return task(worker)

        def let_team_work(team: list[Worker]) -> list[Result]:
            return [work(worker) for worker in team]

        results = self.pool.run([partial(let_team_work, team) for team in self.teams])
        return [result for of_team in results for result in of_team]

    def run_epoch(self, first_step: int, n_steps: int) -> tuple[np.ndarray, float]:
        """Take one step for each batch; return each member's mean loss, and the last rate."""
        state = self.state
        for worker in self.workers:
            worker.state.n_samples_seen = state.n_samples_seen
        try:
            rates = self._let_work(lambda worker: worker.run_epoch(first_step, n_steps))
        finally:
            if len(self.workers) > 1:  # an interrupt finds them at different steps
                parts = [worker.state for worker in self.workers]
                state.take_counts(max(parts, key=lambda part: part.optimizer["step"]))
        state.n_samples_seen += self.batches.n_seen
        return self.epoch_loss(), rates[0] * float(state.rate_factor.mean())

    def epoch_loss(self) -> np.ndarray:
        """Return each member's mean loss by the logits that the batches of an epoch had."""
        return np.concatenate([worker.epoch_loss() for worker in self.workers])

    def compute_gradient(self, x: InputBatch) -> None:
        """Fill `grads` by all rows as one batch, where one worker has all members."""
        [worker] = self.workers
        worker.compute_gradient(slice(0, x.shape[1]), x)

    def batch_loss(self) -> np.ndarray:
        """Return the members' mean loss by that batch."""
        [worker] = self.workers
        return worker.block_loss() / self.batches.n_samples

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
        return self._checkpoint[0 if self.state.ema_params is None else 1]

    def _arrays(self) -> list[np.ndarray]:
        """All arrays of the state that have a row for each member."""
        state = self.state
        arrays = [state.params] if state.ema_params is None else [state.params, state.ema_params]
        for by_name in state.optimizer["arrays"].values():
            arrays += [array for array in by_name.values() if array.ndim == 2]
        return arrays

    def predict(self, X: Any) -> np.ndarray:
        """Return the members' logits on rows for all, or on each one's own, as they are now."""
        is_own, params = len(X.shape) == 3, self.state.params
        logits = np.empty((len(params), X.shape[-2]), params.dtype)

        def predict_own(worker: Worker) -> None:
            part = worker.members
            own = X.of_members(part) if is_own else X
            worker.predict(own, logits[part.start : part.stop])

        self._let_work(predict_own)
        return logits

    def mean_loss(self, rows: Rows, folds: Folds | None = None, every: int = 1) -> np.ndarray:
        """Return each member's mean loss on some rows, or one of `every` many, as it predicts now.

        With folds, it is that on the rows that the member learns from.
        """
        n_members = len(self.state.params)
        total, total_weight = np.zeros(n_members), np.zeros(n_members)
        for start in range(0, len(rows), ROWS_TO_JUDGE * every):
            block = slice(start, start + ROWS_TO_JUDGE * every, every)
            logits = self.predict(rows.X[block])
            weight = rows.sample_weight
            if folds is not None:
                weight = folds.unscaled_weights(rows, block=block)
                total_weight += weight.sum(axis=1)
            else:
                weight = None if weight is None else weight[np.newaxis, block]
                total_weight += logits.shape[1]
            total += self.plan.loss.total(rows.y[np.newaxis, block], logits, weight)
        return total / total_weight

    def _held_out_loss(
        self, held_out: HeldOut, logits: np.ndarray, factor: float = 1.0
    ) -> np.ndarray:
        """Return each member's share of the mean loss, of logits multiplied by a factor."""
        total = np.zeros(len(logits))
        for block in cut_rows(logits.shape[1], n_values=BLOCK_ROWS):
            y, weight = held_out.labels_and_weights(block)
            total += self.plan.loss.total(y, logits[:, block] * factor, weight)
        return total / logits.shape[1]

    def penalty(self, params: np.ndarray) -> np.ndarray:
        """Return the L2 penalty of each member: half of `l2` times the squared weights."""
        weights = params[:, self.plan.network.layout.decayed].astype(np.float64, copy=False)
        return 0.5 * self.plan.l2 * np.einsum("ij,ij->i", weights, weights)

    def is_dead(self) -> bool:
        """Say whether a member answers the same to every row, of some that are not all the same."""
        X = self.rows.X[:ROWS_TO_TELL_APART]
        is_varied = X.nnz > 0 if is_sparse(X) else bool((X[:1] != X).any())
        logits = self.predict(X)
        return is_varied and bool((logits == logits[:, :1]).all(axis=1).any())

    def judge(self, every: int = 1) -> EpochMetrics:
        """Judge the weights as they are now, the loss by one of `every` many rows."""
        metrics = self.judge_training(every)
        objective = metrics.cost if self.validation is None else self.validate()[1]
        return metrics._replace(objective=objective)

    def judge_training(self, every: int = 1) -> EpochMetrics:
        """Judge the weights as they are now by rows that are trained on, without dropout."""
        loss = self.mean_loss(self.rows, self.folds, every)
        cost = loss + self.penalty(self.state.weights)
        return EpochMetrics(loss, cost, cost)

    def judge_others(self, weights: np.ndarray) -> EpochMetrics:
        """Judge other weights in the same way."""
        now = self.state.weights.copy()
        self.state.weights[...] = weights
        try:
            return self.judge_training()
        finally:
            self.state.weights[...] = now

    def judge_first(self) -> EpochMetrics:
        """Judge the weights before training.

        On validation rows, untrained weights are never chosen as the best. Their loss decides
        nothing then, and is computed from about a thousand rows.

        Raises
        ------
        ValueError
            If a score cannot judge them.
        """
        every = 1 if self.validation is None else max(1, len(self.rows) // ROWS_TO_JUDGE_FIRST)
        metrics = self.judge(every)
        is_scored = self.validation is not None and self.validation.score is not None
        if is_scored and not np.isfinite(metrics.objective).all():
            raise ValueError(
                f"scoring gives {-metrics.objective.max()} on the validation rows, before "
                "training begins. Take a score that is a number there; some need rows of both "
                "classes."
            )
        if self.validation is None or self.state.final_params is not None:  # which has been trained
            return metrics
        return metrics._replace(objective=np.full_like(metrics.objective, np.inf))

    def validation_losses(self) -> np.ndarray:
        """Return each member's loss on its validation rows: not finite if it has diverged.

        With folds, it is the member's share of the mean over all rows that are held out.
        """
        if self.validation is None:
            raise ValueError("There are no validation rows.")
        if self._held_out is None:
            return self.mean_loss(self.validation.rows)
        self._held_out_logits = self.predict(self._held_out.X)
        return self._held_out_loss(self._held_out, self._held_out_logits)

    def validate(
        self, losses: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return loss, objective and score on the validation rows; `losses` if they are known.

        With folds, each is the same number for all members, and the loss to judge by is that of
        `skdnn.training.calibration.find_least_loss`.
        """
        if self.validation is None:
            raise ValueError("There are no validation rows.")
        loss, score = self.validation_losses() if losses is None else losses, None
        if self.validation.score is not None:
            score = self.validation.score(self.state.weights, self._held_out_logits)
        if self._held_out is not None:
            pooled = -self._tempered_loss(self._held_out) if score is None else float(score)
            objective = np.round(-pooled, N_DECIMALS)
            same = np.ones(len(loss))
            return same * loss.sum(), same * objective, same * pooled
        if score is None:
            return loss, loss, -loss
        return loss, np.round(-score, N_DECIMALS), score

    def _tempered_loss(self, held_out: HeldOut) -> float:
        """Return the loss of all rows held out, as members of an average are to be judged."""
        logits = self._held_out_logits
        if logits is None or not np.isfinite(logits).all():
            return np.inf
        return find_least_loss(
            lambda factor: float(self._held_out_loss(held_out, logits, factor).sum())
        )


def share_out(members: range, n_parts: int) -> list[range]:
    """Return so many parts, as equal as can be; none has more members than the first."""
    starts = [members.start - (-len(members) * i // n_parts) for i in range(n_parts + 1)]
    return [range(*ends) for ends in pairwise(starts)]


def _check_folds(folds: Folds | None, n_members: int, n_rows: int) -> None:
    if folds is not None and (folds.n_members, len(folds)) != (n_members, n_rows):
        raise ValueError(
            f"Folds must be for the {n_members} members and {n_rows} rows of the training, got "
            f"those for {folds.n_members} members and {len(folds)} rows; make them anew."
        )


def fingerprint(plan: TrainingPlan, rows: Rows, validation: Validation | None) -> int:
    """Return a number that changes with the rows and with what training is to lower on them."""
    parts = [f"{plan.loss} {plan.l2} {plan.ema_decay > 0.0}".encode(), *rows.arrays()]
    if validation is not None:
        parts += [validation.name.encode(), *validation.rows.arrays()]
        if validation.folds is not None:
            parts += [validation.folds.holders, validation.folds.of_row]
    return checksum(*parts)
