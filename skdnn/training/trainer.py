"""The parts of one fit, joined: members that take the steps of an epoch, and judging them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from scipy.sparse import issparse

from ..engine.executors import Memory
from ..engine.feed import Feed
from ..engine.formula import Formula
from ..engine.loading import choose_executor
from ..engine.plan import Program
from ..engine.trace import UntraceableError, locate
from .batches import Batches
from .interrupt import Interrupt
from .members import draw_bits, group_members, load, store, view_state
from .prediction import Predictor
from .rows import Rows
from .state import EpochMetrics, TrainingPlan, TrainingState
from .step import training_formula
from .threads import limit_blas_threads, run_in_threads
from .validation import Validation, find_least_loss

ROWS_TO_TELL_APART = 1_000
"""Rows that are looked at to see whether a network still tells rows apart."""

ROWS_AT_ONCE = 1 << 16
"""Rows whose logits are kept together, for a loss or of some steps."""

MULTIPLICATIONS_AT_ONCE = 1 << 32
"""Multiply-adds between two checks for interrupts, about a tenth of a second's."""

STEPS_AT_ONCE = 1_000
"""Steps between two such checks at most: NumPy takes longer to begin them than to multiply."""

BITS_AT_ONCE = 1 << 19
"""Random numbers of 16 bits that are drawn ahead for some steps: they are to stay in the cache."""

EPOCHS_BEFORE_STOPPING = 0.25
"""The share of its epochs after which early stopping usually ends a training."""

MULTIPLICATIONS_A_SECOND = 1.5e10
"""Of a training by NumPy on one thread: 7e9 to 3.6e10 were measured, from small networks to large
ones. Decides nothing but whether to load numba."""

N_DECIMALS = 12
"""Of a score; what is beyond is rounding of sums, which must not decide what is better."""


class Trainer:
    """The parts of one fit, joined: members that take the steps of an epoch, and judging them.

    Members know nothing of each other: each trains by itself, for whole epochs, in the memory of
    the thread that has it, and so it is the same training however many threads there are.
    """

    def __init__(
        self,
        plan: TrainingPlan,
        state: TrainingState,
        rows: Rows,
        validation: Validation | None,
        interrupt: Interrupt,
    ) -> None:
        self.plan, self.state = plan, state
        self.validation, self.interrupt = validation, interrupt
        self._held_out_logits: np.ndarray | None = None
        self.batches = Batches(rows, plan.batch_size, plan.shuffle)
        self.rows, self._is_sparse = self.batches.rows, issparse(self.batches.X)
        self._n_threads = min(plan.n_threads, len(state.params))
        self._memories = [Memory(state.params.dtype) for _ in range(self._n_threads)]
        # Views of all that a step changes, by the names of a program's inputs.
        layout = plan.network.layout
        self._arrays = view_state(layout, state.params)
        if state.ema_params is not None:
            self._arrays |= view_state(layout, state.ema_params, "ema_")
        for name, array in state.optimizer["arrays"].items():
            self._arrays[f"optimizer.{name}"] = array
        self._choose_programs()

    def _choose_programs(self) -> None:
        """Compile for the executor that suits the work, and does what the formulas ask."""
        plan, state = self.plan, self.state
        n_epochs = plan.max_iter * (EPOCHS_BEFORE_STOPPING if plan.stops_early else 1.0)
        # What a stream has seen counts: its parts together make a long training.
        n_samples = state.n_samples_seen + len(self.rows) * n_epochs
        seconds = 3.0 * state.params.size * n_samples / MULTIPLICATIONS_A_SECOND
        wanted = choose_executor(state.params.dtype, seconds, plan.max_time)
        n_judged = len(self.rows)
        if self.validation is not None:
            n_judged = self.validation.places.shape[-1]
        reason = ""
        for executor in dict.fromkeys((wanted, "numpy", "eager")):
            self.predictor = Predictor(plan.network, executor)
            self._steps: dict[tuple[int, int], Program | Formula] = {}
            self._n_predicted = self.predictor.batch_rows(n_judged, state.params.itemsize)
            try:
                for member in range(len(state.params)):
                    for size in self.batches.sizes:
                        self._compile(member, size)
                    if not plan.is_part:  # which nobody judges
                        n_rows = self._n_predicted
                        self.predictor.compile(member, n_rows, is_sparse=self._is_sparse)
                break
            except UntraceableError as error:
                reason = locate(error)
        state.executor = self.predictor.executor
        if plan.verbose and state.executor == "eager":
            print(f"The formulas run one by one, and not as a program: {reason}.")

    def _compile(self, member: int, size: int) -> Program | Formula:
        """Return what takes a step of a member on a batch of so many rows."""
        plan, state, kind = self.plan, self.state, self.plan.network.kind_of_member(member)
        if (kind, size) not in self._steps:
            formula = training_formula(
                plan.network,
                plan.network.of_member(member),
                size,
                is_sparse=self._is_sparse,
                loss=plan.loss,
                optimizer=plan.optimizer if plan.optimizer.transforms else None,  # but for SciPy
                state_names=state.optimizer["arrays"],
                is_weighted=self.batches.is_weighted,
                has_ema=state.ema_params is not None,
            )
            executor, is_checked = self.predictor.executor, size != self.batches.batch_size
            is_eager = executor == "eager"
            compiled = formula if is_eager else formula.compile(executor, is_checked=is_checked)
            self._steps[kind, size] = compiled
        return self._steps[kind, size]

    def hold_blas(self) -> AbstractContextManager[Any]:
        """Hold BLAS to one thread, unless it has a single network with large products.

        The threads share the members, however many threads there are: BLAS rounds differently where
        it takes several.
        """
        plan, is_alone = self.plan, len(self.state.params) == 1
        n_multiplications = plan.network.layout.n_params * min(plan.batch_size, len(self.rows))
        return limit_blas_threads(n_multiplications if is_alone else 0)

    def run_epoch(
        self, running: np.ndarray, first_step: int, n_steps: int
    ) -> tuple[np.ndarray, float]:
        """Take one step for each batch; return each running member's mean loss, and the last rate.

        Parameters
        ----------
        running : ndarray of bool of shape (n_members,)
        first_step, n_steps : int
            The steps that the schedule counts: those before this epoch, and those of the training.
        """
        plan, state, batches = self.plan, self.state, self.batches
        counted: Iterable[int] = range(first_step, first_step + batches.n_batches)
        if plan.schedule.counts == "samples":
            counted = [state.n_samples_seen] * batches.n_batches
        rates = plan.learning_rate_init * np.array([plan.schedule(i, n_steps) for i in counted])
        scalars, loss = self._scalars(rates), np.full(len(running), np.nan)

        def train(group: list[int]) -> None:
            memory = self._memories.pop()  # each thread has one
            loss[group] = self._train_group(group, scalars[group], memory)
            self._memories.append(memory)

        members, n_most = np.flatnonzero(running).tolist(), None if state.executor == "numpy" else 1
        groups = group_members(plan.network, members, batches.batch_size, self._n_threads, n_most)
        run_in_threads(train, groups, self._n_threads)
        state.optimizer["step"] += batches.n_batches
        state.n_averaged += batches.n_batches if state.ema_params is not None else 0
        state.n_samples_seen += batches.n_seen
        return loss, float(rates[-1] * state.rate_factor.mean())

    def _train_group(self, group: list[int], scalars: np.ndarray, memory: Memory) -> np.ndarray:
        """Take the steps of an epoch for some members; return their mean losses on the way."""
        batches = self.batches
        orders = batches.orders(group, self.state.shuffling)
        weight = np.array([batches.weight(m) for m in group]) if batches.is_weighted else None
        total, done = np.zeros(len(group)), 0
        for start, size, n in batches.runs(self._count_steps(group)):
            self.interrupt.check()  # the weights are consistent here
            compiled = self._compile(group[0], size)
            executable = memory.executable(compiled, len(group))
            load(executable, self._arrays, group)
            rows = orders[:, start : start + size * n].astype(np.intp)
            logits = np.empty((len(group), n, size), batches.y.dtype)
            feed = Feed(
                batches.X,
                rows.reshape(logits.shape),
                batches.y,
                weight,
                scalars[:, done : done + n],
                draw_bits(self.state.dropout, group, n, compiled.n_bits),
                logits,
            )
            executable.run(feed)
            store(executable, self._arrays, group)
            own = None if weight is None else np.take_along_axis(weight, rows, axis=1)
            total += self.plan.loss.total(batches.y[rows], logits.reshape(rows.shape), own)
            done += n
        return total / batches.n_samples

    def _count_steps(self, group: list[int]) -> int:
        """Return how many steps run without a check for interrupts."""
        if self.state.executor == "eager":  # functions of a user's own may take any time
            return 1
        size = self.batches.batch_size
        n_bits = len(group) * self._compile(group[0], size).n_bits
        n_multiplications = 3 * len(group) * size * self.plan.network.layout.n_params
        limits = (
            STEPS_AT_ONCE,
            MULTIPLICATIONS_AT_ONCE // n_multiplications,
            BITS_AT_ONCE // max(n_bits, 1),
            ROWS_AT_ONCE // (len(group) * size),
        )
        return max(1, min(limits))

    def _scalars(self, rates: np.ndarray) -> np.ndarray:
        """Return what depends on the step: (n_members, n_steps, n_scalars)."""
        plan, state = self.plan, self.state
        steps, values = np.arange(1, len(rates) + 1), []
        factors, place = np.unique(state.rate_factor[:, 0], return_inverse=True)
        for factor in factors.tolist():
            scalars = plan.optimizer.prepare(state.optimizer["step"] + steps, rates * factor)
            columns = list(scalars.values())
            if state.ema_params is not None:
                # Freed of its bias to zero, as Adam's averages: the first weights count as one.
                decay = plan.ema_decay
                columns.append((1.0 - decay) / (1.0 - decay ** (state.n_averaged + steps)))
            values.append(np.stack(columns, axis=1))
        return np.stack(values).astype(state.params.dtype)[place]

    def compute_gradient(self, member: int) -> tuple[float, np.ndarray]:
        """Return the mean loss of a member on all rows as one batch, and its gradient.

        Statistics of its layers become those of these rows.
        """
        self.interrupt.check()
        weight, n = self.batches.weight(member), len(self.rows)
        compiled = self._compile(member, n)
        executable = self._memories[0].executable(compiled)
        load(executable, self._arrays, [member])
        logits = np.empty((1, 1, n), self.state.params.dtype)
        if compiled.n_bits:
            raise ValueError(
                "A layer with dropout makes the cost random, which solver='lbfgs' cannot minimise. "
                "Leave it out, or take another solver."
            )
        index = np.arange(n)[np.newaxis, np.newaxis]
        own = None if weight is None else weight[np.newaxis]
        executable.run(Feed(self.rows.X, index, self.rows.y, own, logits=logits))
        if "statistics" in self._arrays:
            self._arrays["statistics"][member] = executable.views["statistics"][0]
        total = self.plan.loss.total(self.rows.y[np.newaxis], logits[0], own)
        return float(total[0]) / n, executable.views["grads"][0].copy()

    def predict(self, X: Any, index: np.ndarray) -> np.ndarray:
        """Return the members' logits, as they are now: (n_members, n_rows).

        Parameters
        ----------
        X : ndarray, Selection or CSR array of shape (n_samples, n_features)
        index : ndarray of int of shape (n_rows,) or (n_members, n_rows)
            The rows to predict, the same for all members or each one's own.
        """
        sizes = {"n_batch": self._n_predicted, "n_threads": self._n_threads}
        return self.predictor.logits(self.state.weights, X, index, **sizes)

    def penalty(self, params: np.ndarray) -> np.ndarray:
        """Return the L2 penalty of each member: half of `l2` times the squared weights."""
        weights = params[:, : self.plan.network.layout.n_decayed].astype(np.float64, copy=False)
        return 0.5 * self.plan.l2 * np.einsum("ij,ij->i", weights, weights)

    def is_dead(self) -> bool:
        """Say whether a member answers the same to every row, of some that are not all the same."""
        X = self.rows.X[:ROWS_TO_TELL_APART]
        is_varied = X.nnz > 0 if issparse(X) else bool((X[:1] != X).any())
        logits = self.predict(X, np.arange(X.shape[0]))
        return is_varied and bool((logits == logits[:, :1]).all(axis=1).any())

    def evaluate(self, every: int = 1) -> EpochMetrics:
        """Judge the weights by rows that each member learns from, without dropout.

        By one of `every` many of them.
        """
        total, total_weight = np.zeros((2, len(self.state.params)))
        for start in range(0, len(self.rows), ROWS_AT_ONCE * every):
            block = slice(start, min(start + ROWS_AT_ONCE * every, len(self.rows)), every)
            logits = self.predict(self.rows.X, np.arange(block.start, block.stop, every))
            weight = self.rows.weights[np.newaxis, block]
            if self.rows.is_held_out is not None:
                weight = weight * ~self.rows.is_held_out[:, block]
            total += self.plan.loss.total(self.rows.y[np.newaxis, block], logits, weight)
            total_weight += weight.sum(axis=1)
        loss = total / total_weight
        cost = loss + self.penalty(self.state.weights)
        return EpochMetrics(loss, cost, cost)

    def validation_losses(self) -> np.ndarray:
        """Return each member's loss on its validation rows: not finite if it has diverged.

        Where members hold out rows, it is their share of the mean over all of these.
        """
        if self.validation is None:
            raise ValueError("There are no validation rows.")
        validation = self.validation
        self._held_out_logits = self.predict(validation.rows.X, validation.places)
        return self._held_out_loss(validation, self._held_out_logits)

    def _held_out_loss(
        self, validation: Validation, logits: np.ndarray, factor: float = 1.0
    ) -> np.ndarray:
        """Return each member's share of the mean loss, of logits multiplied by a factor."""
        total = self.plan.loss.total(validation.y, logits * factor, validation.weight)
        return total / logits.shape[1]

    def validate(
        self, losses: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return loss, objective and score on the validation rows; `losses` if they are known.

        Where members hold out rows, each is the same number for all members, and the loss to judge
        by is that of `skdnn.training.validation.find_least_loss`.
        """
        loss = self.validation_losses() if losses is None else losses
        validation, logits = self.validation, self._held_out_logits
        if validation is None or logits is None:
            raise ValueError("There are no validation rows.")
        score: np.ndarray | None = None
        if validation.score is not None:
            score = validation.score(self.state.weights, logits)
        if validation.rows.is_held_out is not None:
            if score is None:
                pooled = np.inf
                if np.isfinite(logits).all():
                    pooled = find_least_loss(
                        lambda factor: float(self._held_out_loss(validation, logits, factor).sum())
                    )
                score = np.array(-pooled)
            loss, score = np.full(len(loss), loss.sum()), np.full(len(loss), score)
        if score is None:
            return loss, loss, -loss
        return loss, np.round(-score, N_DECIMALS), score
