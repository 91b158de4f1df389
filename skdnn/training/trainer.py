"""The parts of one fit, joined: members that take the steps of an epoch, and judging them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import issparse

from ..engine.executors import Feed
from ..engine.loading import choose_executor
from ..engine.trace import UntraceableError, locate
from .interrupt import Interrupt
from .prediction import Predictor, group_members, load
from .rows import Rows
from .state import EpochMetrics, TrainingPlan, TrainingProgress, TrainingState
from .step import training_formula, view_state
from .threads import limit_blas_threads, run_in_threads
from .validation import Validation

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


class Batches:
    """The mini-batches of an epoch, each member's in its own order.

    Parameters
    ----------
    rows : Rows
        In a batch of all rows, those that a member holds out have the weight zero; else an epoch
        has as many rows as the member with the fewest, and the others leave out random rows in each
        epoch, or their last ones without shuffling.
    batch_size : int
        Rows in a batch; the last one may be shorter.
    shuffle : bool
        Whether each member shuffles its rows. A batch that holds all of them is left in order.

    Attributes
    ----------
    rows : Rows
    batch_size : int
    n_batches : int
    sizes : tuple of int
        Of the batches, each once.
    n_samples : int
        Rows that the batches of an epoch have together.
    n_seen : int
        Rows that a member learns from in an epoch.
    is_weighted : bool

    Raises
    ------
    ValueError
        If the weights of all rows that a member learns from are negligible.
    """

    def __init__(self, rows: Rows, batch_size: int, shuffle: bool) -> None:
        self.rows, self._is_whole = rows, len(rows) <= batch_size
        self._shuffles = shuffle and not self._is_whole
        self.n_seen, holds_out = len(rows), rows.is_held_out is not None
        if rows.is_held_out is not None:
            self.n_seen -= int(np.count_nonzero(rows.is_held_out, axis=1).max())
        self.n_samples = len(rows) if self._is_whole else self.n_seen
        self.batch_size = min(batch_size, self.n_samples)
        self.n_batches = -(-self.n_samples // self.batch_size)
        rest = self.n_samples % self.batch_size
        self.sizes = (self.batch_size, rest) if rest else (self.batch_size,)
        self.is_weighted = rows.sample_weight is not None or (self._is_whole and holds_out)
        if rows.sample_weight is not None and rows.is_held_out is not None:
            for held_out in rows.is_held_out:
                if not rows.sample_weight[~held_out].any():
                    raise ValueError(
                        "sample_weight of all rows to learn from is next to nothing beside that of "
                        "others, which are held out. Bring the weights nearer together, or set "
                        "early_stopping=False."
                    )

    def orders(self, members: Sequence[int], rngs: Sequence[np.random.Generator]) -> np.ndarray:
        """Return the positions of some members' rows, in the order of an epoch.

        There is a generator for each of all members.
        """
        is_held_out: Any = self.rows.is_held_out
        holds_out = is_held_out is not None and not self._is_whole
        shape, n_rows = (len(members), self.n_samples), len(self.rows)
        orders = np.empty(shape, np.min_scalar_type(n_rows))
        for order, member in zip(orders, members, strict=True):
            own = np.flatnonzero(~is_held_out[member]) if holds_out else np.arange(n_rows)
            if self._shuffles:
                rngs[member].shuffle(own)
            order[:] = own[: self.n_samples]
        return orders

    def weight(self, member: int) -> np.ndarray | None:
        """Return the weights of a member's rows, with a mean of 1."""
        if not self.is_weighted:
            return None
        weight = self.rows.weights.astype(np.float64)
        if self.rows.is_held_out is not None:
            is_own = ~self.rows.is_held_out[member]
            weight[~is_own] = 0.0
            weight *= (len(is_own) if self._is_whole else np.count_nonzero(is_own)) / weight.sum()
        return weight.astype(self.rows.y.dtype, copy=False)


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
        self.batches = Batches(rows, plan.batch_size, plan.shuffle)
        self.rows, self._is_sparse = rows, issparse(rows.X)
        self._n_threads = min(plan.n_threads, len(state.params))
        layout = plan.network.layout
        # Views of all that a step changes, by the names of a program's inputs.
        self.arrays = view_state(layout, state.params)
        if state.ema_params is not None:
            self.arrays |= view_state(layout, state.ema_params, "ema_")
        for name, array in state.optimizer["arrays"].items():
            self.arrays[f"optimizer.{name}"] = array
        self._make_step = partial(
            training_formula,
            loss=plan.loss,
            optimizer=plan.optimizer if plan.optimizer.transforms else None,  # but for SciPy
            state_names=state.optimizer["arrays"],
            is_weighted=self.batches.is_weighted,
            has_ema=state.ema_params is not None,
        )
        # The threads share the members, however many threads there are. BLAS rounds differently
        # where it takes several: a single network with large products alone may have them.
        n_multiplications = layout.n_params * min(plan.batch_size, len(self.rows))
        is_alone = len(state.params) == 1
        self.hold_blas = limit_blas_threads(n_multiplications if is_alone else 0)

    def compile(self) -> None:
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
            self.predictor = predictor = Predictor(plan.network, executor)
            self._compile_step = partial(
                predictor.compile, is_sparse=self._is_sparse, make=self._make_step
            )
            self._n_predicted = predictor.batch_rows(n_judged, state.params.itemsize)
            try:
                for member in range(len(state.params)):
                    for size in self.batches.sizes:
                        self._compile_step(member, size)
                    if not plan.is_part:  # which nobody judges
                        predictor.compile(member, self._n_predicted, is_sparse=self._is_sparse)
                break
            except UntraceableError as error:
                reason = locate(error)
        state.executor = predictor.executor
        if plan.verbose and state.executor == "eager":
            print(f"The formulas run one by one, and not as a program: {reason}.")

    def run_epoch(self, progress: TrainingProgress) -> tuple[np.ndarray, float]:
        """Take one step for each batch; return each running member's mean loss, and the last rate.

        The loss of members that are not running is NaN.
        """
        plan, state, batches = self.plan, self.state, self.batches
        first_step = progress.n_epochs * batches.n_batches
        n_steps = progress.n_epochs_planned * batches.n_batches
        counted: Iterable[int] = range(first_step, first_step + batches.n_batches)
        if plan.schedule.counts == "samples":
            counted = [state.n_samples_seen] * batches.n_batches
        rates = plan.learning_rate_init * np.array([plan.schedule(i, n_steps) for i in counted])
        scalars, loss = self._scalars(rates), np.full(len(state.params), np.nan)
        members = np.flatnonzero(progress.running).tolist()
        n_most = None if state.executor == "numpy" else 1
        groups = group_members(plan.network, members, batches.batch_size, self._n_threads, n_most)
        run_in_threads(partial(self._train_group, scalars, loss), groups, self._n_threads)
        state.optimizer["step"] += batches.n_batches
        state.n_averaged += batches.n_batches if state.ema_params is not None else 0
        state.n_samples_seen += batches.n_seen
        return loss, float(rates[-1] * state.rate_factor.mean())

    def _train_group(self, scalars: np.ndarray, loss: np.ndarray, group: list[int]) -> None:
        """Take the steps of an epoch for some members; set their mean losses on the way."""
        batches, total = self.batches, np.zeros(len(group))
        orders = batches.orders(group, self.state.shuffling)
        weight = np.array([batches.weight(m) for m in group]) if batches.is_weighted else None
        with self.predictor.borrow_memory(scalars.dtype) as memory:
            for start, size, n in self._cut_epoch(group):
                self.interrupt.check()  # the weights are consistent here
                compiled = self._compile_step(group[0], size)
                executable = memory.executable(compiled, len(group))
                load(executable, self.arrays, group)
                rows = orders[:, start : start + size * n].astype(np.intp)
                logits = np.empty((len(group), n, size), self.rows.y.dtype)
                first = start // batches.batch_size
                feed = Feed(
                    self.rows.X,
                    rows.reshape(logits.shape),
                    self.rows.y,
                    weight,
                    scalars[group, first : first + n],
                    draw_bits(self.state.dropout, group, n, compiled.n_bits),
                    logits,
                )
                executable.run(feed)
                for name, array in self.arrays.items():
                    array[group] = executable.views[name]
                own = None if weight is None else np.take_along_axis(weight, rows, axis=1)
                total += self.plan.loss.total(self.rows.y[rows], logits.reshape(rows.shape), own)
        loss[group] = total / batches.n_samples

    def _cut_epoch(self, group: list[int]) -> list[tuple[int, int, int]]:
        """Cut an epoch into batches of a size without a check for interrupts: (row, size, n)."""
        batches, size = self.batches, self.batches.batch_size
        n_bits = len(group) * self._compile_step(group[0], size).n_bits
        n_multiplications = 3 * len(group) * size * self.plan.network.layout.n_params
        n_most = min(
            STEPS_AT_ONCE,
            MULTIPLICATIONS_AT_ONCE // n_multiplications,
            BITS_AT_ONCE // max(n_bits, 1),
            ROWS_AT_ONCE // (len(group) * size),
        )
        if n_most < 1 or self.state.executor == "eager":  # a user's functions may take any time
            n_most = 1
        n_full, rest = divmod(batches.n_samples, size)
        runs = []
        for first in range(0, n_full, n_most):
            runs.append((first * size, size, min(n_most, n_full - first)))
        return [*runs, (n_full * size, rest, 1)] if rest else runs

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
        compiled = self._compile_step(member, n)
        logits = np.empty((1, 1, n), self.state.params.dtype)
        if compiled.n_bits:
            raise ValueError(
                "A layer with dropout makes the cost random, which solver='lbfgs' cannot minimise. "
                "Leave it out, or take another solver."
            )
        index = np.arange(n)[np.newaxis, np.newaxis]
        own = None if weight is None else weight[np.newaxis]
        with self.predictor.borrow_memory(logits.dtype) as memory:
            executable = memory.executable(compiled)
            load(executable, self.arrays, [member])
            executable.run(Feed(self.rows.X, index, self.rows.y, own, logits=logits))
            if "statistics" in self.arrays:
                self.arrays["statistics"][member] = executable.views["statistics"][0]
            gradient = executable.views["grads"][0].copy()
        total = self.plan.loss.total(self.rows.y[np.newaxis], logits[0], own)
        return float(total[0]) / n, gradient

    def predict(self, X: Any, index: np.ndarray) -> np.ndarray:
        """Return the members' logits, as they are now: (n_members, n_rows).

        Parameters
        ----------
        X : ndarray or CSR array of shape (n_samples, n_features)
        index : ndarray of int of shape (n_rows,) or (n_members, n_rows)
            The rows to predict, the same for all members or each one's own.
        """
        sizes = {"n_batch": self._n_predicted, "n_threads": self._n_threads}
        return self.predictor.logits(self.state.weights, X, index, **sizes)

    def penalty(self, params: np.ndarray) -> np.ndarray:
        """Return the L2 penalty of each member: half of `l2` times the squared weights."""
        weights = params[:, : self.plan.network.layout.n_decayed].astype(np.float64, copy=False)
        return 0.5 * self.plan.l2 * np.einsum("ij,ij->i", weights, weights)

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


def draw_bits(
    rngs: Sequence[np.random.Generator], members: list[int], n_steps: int, n_bits: int
) -> np.ndarray | None:
    """Draw random numbers of 16 bits, (n_members, n_steps, n_bits), from the streams of members.

    They are the same ones if each step draws by itself.
    """
    if not n_bits:
        return None
    n_words = -(-n_bits // 4)  # of 64 bits
    words = np.empty((len(members), n_steps * n_words), np.uint64)
    for own, member in zip(words, members, strict=True):
        own[:] = rngs[member].bit_generator.random_raw(n_steps * n_words)
    return words.view(np.uint16).reshape(len(members), n_steps, 4 * n_words)[..., :n_bits]
