"""Predict many rows in blocks, side by side in threads, and few rows without delay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy.sparse import issparse
from scipy.special import log_expit

from ..engine.executors import Executable, Feed, Memory
from ..engine.formula import Formula
from ..engine.loading import load_run_steps
from ..engine.plan import Program
from ..nn.network import Network
from ..utils import cut_rows
from .step import gradient_formula, prediction_formula, view_state
from .threads import limit_blas_threads, resolve_n_jobs, run_in_threads

WIDE = np.dtype(np.float64)

log_sum = np.logaddexp.reduce  # over members; for one row SciPy's logsumexp is slow

PRECISE_ROWS = 64
"""Rows up to which predictions are computed in float64, whatever the weights are in.

Of many rows, float32 takes a fraction of the time. But its products round a row among others in
another way than by itself: by less than 1e-6 of a probability, and by more than the 1e-7 to which
scikit-learn compares predictions of a few rows with those of each.
"""

BYTES_OF_A_BLOCK = 1 << 17
"""Prediction goes through its rows in batches whose widest array takes about this much: more would
not fit into a core's cache."""

FEWEST_ROWS = 128
"""Rows of a batch, however wide: products of fewer are slow."""

MOST_KEPT = 8
"""Memories that are kept: as many threads run programs at a time without taking new ones."""

LARGEST_KEPT = 1 << 24
"""Bytes of memory that is kept for the next program: that of wide tables is given back."""

BLOCK_ROWS = 4096
"""Rows that are encoded and predicted at once, unless there are so many columns that it is fewer.

A matter of the table alone, so that predictions do not depend on the number of threads.
"""

BLOCKS_OF_A_THREAD = 2
"""Blocks that are worth a thread of their own: for fewer, it costs more than it gains."""

NUMBERS_AT_ONCE = 1 << 17
"""Numbers that one call of NumPy is to compute, in the widest layer: with fewer, Python takes
longer than NumPy."""

BLOCK_VALUES = 1 << 20
"""Numbers of the encoded table in a block, at most."""

Take = Callable[[slice, np.dtype], Any]
"""``take(rows, dtype)``: rows of the matrix that enters the network."""


class Predictor:
    """A network to predict with, in training and after it.

    Parameters
    ----------
    network : Network
    executor : str, default="numpy"
        The name of the executor; "eager" stands for formulas that run at once.
    """

    def __init__(self, network: Network, executor: str = "numpy") -> None:
        self.network, self.executor = network, executor
        self._compiled: dict[Any, Program | Formula] = {}
        self._memories: dict[np.dtype, list[Memory]] = {}

    def compile(
        self,
        member: int,
        n_samples: int,
        *,
        is_sparse: bool,
        executor: str = "",
        make: Callable[..., Formula] = prediction_formula,
    ) -> Program | Formula:
        """Return what computes the logits of so many rows by a member, or the formula of `make`."""
        executor = executor or self.executor
        key = (self.network.kind_of_member(member), n_samples, is_sparse, executor, make)
        if key not in self._compiled:
            layers = self.network.of_member(member)
            formula: Any = make(self.network, layers, n_samples, is_sparse=is_sparse)
            if executor != "eager":
                # Formulas of a user's own are checked in the steps of training, which come first.
                formula = formula.compile(executor, is_checked="y" not in formula.shapes)
            self._compiled[key] = formula
        return self._compiled[key]

    @np.errstate(over="ignore", invalid="ignore")  # what comes out says so
    def logits(
        self,
        params: np.ndarray,
        X: Any,
        index: np.ndarray | None = None,
        *,
        n_batch: int = 0,
        n_threads: int = 1,
    ) -> np.ndarray:
        """Return the members' logits for some rows: (n_members, n_rows).

        Parameters
        ----------
        params : ndarray of shape (n_members, n_params)
        X : ndarray or CSR array of shape (n_samples, n_in)
            In the dtype of the computation, for which numba may not be ready unless it is that of
            the parameters.
        index : ndarray of int of shape (n_rows,) or (n_members, n_rows), default=None
            The rows, the same for all members or each one's own; None stands for all.
        n_batch : int, default=0
            Rows of a batch; 0 stands for what suits so many rows.
        n_threads : int, default=1
            Threads that members are predicted in.
        """
        dtype, executor = X.dtype, self.executor
        if executor == "numba" and (dtype != params.dtype or load_run_steps(dtype) is None):
            executor = "numpy"
        index = np.arange(X.shape[0]) if index is None else index
        n_rows = index.shape[-1]
        n_batch = n_batch or self.batch_rows(n_rows, dtype.itemsize)
        n_batches = -(-n_rows // n_batch)
        logits = np.empty((len(params), n_batches, n_batch), dtype)
        state = view_state(self.network.layout, params)

        def predict(group: list[int]) -> None:
            places = np.empty((len(group), n_batches * n_batch), np.intp)
            places[:, :n_rows] = index if index.ndim == 1 else index[group]
            places[:, n_rows:] = places[:, :1]  # filled up by one of them
            own = np.empty((len(group), n_batches, n_batch), dtype)
            with self.borrow_memory(dtype) as memory:
                executable = memory.executable(compiled[group[0]], len(group))
                load(executable, state, group)
                executable.run(Feed(X, places.reshape(own.shape), logits=own))
            logits[group] = own

        groups, compiled = self._groups(n_rows, executor, n_threads), {}
        for first, *_ in groups:
            compiled[first] = self.compile(first, n_batch, is_sparse=issparse(X), executor=executor)
        run_in_threads(predict, groups, n_threads)
        return logits.reshape(len(params), -1)[:, :n_rows]

    def batch_rows(self, n_rows: int, n_bytes: int) -> int:
        """Return the size of batches of the same size to predict so many rows in.

        It is a power of two or a multiple of 16, so that there are few programs.

        Parameters
        ----------
        n_rows : int
        n_bytes : int
            Of a number.
        """
        if n_rows <= 16:
            return 1 << max(n_rows - 1, 0).bit_length()
        most = max(BYTES_OF_A_BLOCK // (self.network.widest * n_bytes) // 16 * 16, FEWEST_ROWS)
        n_batches = -(-n_rows // most)
        return -(-n_rows // n_batches // 16) * 16

    def average(
        self,
        params: np.ndarray,
        take: Take,
        shape: tuple[int, int],
        n_jobs: int | None,
    ) -> np.ndarray:
        """Return the logit of the members' mean probability for each row: (n_samples,) of float64.

        The matrix has the precision of the weights, as in training, so that a row is the same
        however many there are; a block in which that overflows is all in float64.

        Parameters
        ----------
        params : ndarray of shape (n_members, n_params)
        take : callable
            ``take(rows, dtype)`` returns these rows of the matrix that enters the network.
        shape : tuple of int
            Of that matrix.
        n_jobs : int or None
            Threads to predict blocks in.

        Raises
        ------
        ValueError
            If the parameters are those of another network, or the logit of a row is not a number.
        """
        self.network.check_params(params)
        n_samples, n_columns = shape
        n_values = min(BLOCK_VALUES, BLOCK_ROWS * n_columns)
        blocks = list(cut_rows(n_samples, n_columns, n_values))
        dtype = WIDE if n_samples <= PRECISE_ROWS else params.dtype
        logit = np.empty(n_samples)
        n_threads = min(resolve_n_jobs(n_jobs), len(blocks) // BLOCKS_OF_A_THREAD)

        def predict(rows: slice) -> None:
            X = take(rows, params.dtype).astype(dtype, copy=False)
            logit[rows] = average_logits(self.logits(params, X))
            if not np.isfinite(logit[rows]).all():
                X = take(rows, WIDE).astype(WIDE, copy=False)
                logit[rows] = average_logits(self.logits(params, X))

        # BLAS raises flags where nothing is wrong, too.
        with np.errstate(over="ignore", invalid="ignore"), limit_blas_threads(0):
            run_in_threads(predict, blocks, n_threads)
        _check_numbers(logit)
        return logit

    @np.errstate(over="ignore")
    @limit_blas_threads(0)
    def input_gradients(self, params: np.ndarray, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return each member's logits, and their gradients with respect to the rows.

        Parameters
        ----------
        params : ndarray of shape (n_members, n_params)
        X : ndarray of shape (n_samples, n_in) or (n_members, n_samples, n_in)
            Rows of the dtype of the parameters, the same for all members or each one's own.

        Returns
        -------
        logits : ndarray of shape (n_members, n_samples)
        grads : ndarray of shape (n_members, n_samples, n_in)
        """
        self.network.check_params(params)
        executor = "numpy" if self.executor == "numba" else self.executor
        X = np.broadcast_to(X, (len(params), *X.shape[-2:]))
        n_rows, n_in = X.shape[1:]
        logits, grads = np.empty(X.shape[:2], params.dtype), np.empty(X.shape, params.dtype)
        n_batch = self.batch_rows(n_rows, params.itemsize)
        for group in self._groups(n_rows, executor):
            table = np.ascontiguousarray(X[group]).reshape(-1, n_in)
            firsts = np.arange(len(group))[:, np.newaxis, np.newaxis] * n_rows
            compiled = self.compile(
                group[0], n_batch, is_sparse=False, executor=executor, make=gradient_formula
            )
            found = np.empty((len(group), 1, n_batch), params.dtype)
            with self.borrow_memory(params.dtype) as memory:
                executable = memory.executable(compiled, len(group))
                load(executable, view_state(self.network.layout, params), group)
                for start in range(0, n_rows, n_batch):
                    rows = np.minimum(np.arange(start, start + n_batch), n_rows - 1)
                    executable.run(Feed(table, firsts + rows, logits=found))
                    logits[np.ix_(group, rows)] = found[:, 0]
                    grads[np.ix_(group, rows)] = executable.views["grad_x"]
        return logits, grads

    def _groups(self, n_rows: int, executor: str, n_threads: int = 1) -> list[list[int]]:
        """Return members to predict so many rows with side by side; compiled code takes any."""
        members = range(self.network.n_members)
        n_most = None if executor == "numpy" else len(members)
        return group_members(self.network, members, min(n_rows, FEWEST_ROWS), n_threads, n_most)

    @contextmanager
    def borrow_memory(self, dtype: np.dtype) -> Iterator[Memory]:
        """Take memory that an earlier program has left, or new one, and leave it to the next.

        Memory that is new each time costs more than what few hundred rows compute in it.
        """
        kept = self._memories.setdefault(dtype, [])
        try:
            memory = kept.pop()
        except IndexError:  # there is none, or other threads have taken all
            memory = Memory(dtype)
        yield memory
        if memory.n_bytes <= LARGEST_KEPT and len(kept) < MOST_KEPT:
            kept.append(memory)


def group_members(
    network: Network, members: Sequence[int], n_rows: int, n_threads: int, n_most: int | None
) -> list[list[int]]:
    """Return members that run side by side, in batches of so many rows.

    They have the same layers. `n_most` of them are in a group; None stands for as many as make a
    call of NumPy worth its time.
    """
    n_most = max(1, NUMBERS_AT_ONCE // (n_rows * network.widest)) if n_most is None else n_most
    n_most = min(n_most, -(-len(members) // n_threads))
    by_kind: dict[int, list[int]] = {}
    for member in members:
        by_kind.setdefault(network.kind_of_member(member), []).append(member)
    groups = []
    for alike in by_kind.values():
        n_groups = -(-len(alike) // n_most)
        for first in range(n_groups):
            groups.append(alike[first::n_groups])
    return groups


def load(executable: Executable, state: dict[str, np.ndarray], members: list[int]) -> None:
    """Write the state of members into the memory of a program, without a copy on the way."""
    for name, array in state.items():
        for view, member in zip(executable.views[name], members, strict=True):
            view[...] = array[member]


def _check_numbers(logit: np.ndarray) -> None:
    """Refuse predictions that are not numbers: to compare with them would make class 0 of them."""
    is_unknown = np.isnan(logit)
    if is_unknown.any():
        raise ValueError(
            f"The network has no prediction for {is_unknown.sum()} of {len(logit)} rows, row "
            f"{is_unknown.argmax()} the first: numbers of X are so large that {logit.dtype} "
            f"overflows on the way. Check them, bring all columns to a similar scale before fit "
            f"and predict, or leave encoder='auto', which does."
        )


def average_logits(logits: np.ndarray) -> np.ndarray:
    """Return the logit of the members' mean probability: (n_samples,) of float64."""
    logits = logits.astype(np.float64, copy=False)
    if len(logits) == 1:
        return logits[0]
    return log_sum(log_expit(logits)) - log_sum(log_expit(-logits))


def average_gradients(logits: np.ndarray, grads: np.ndarray) -> np.ndarray:
    """Return the gradient of the averaged logit: (n_samples, n_features).

    Parameters
    ----------
    logits : ndarray of shape (n_members, n_samples)
    grads : ndarray of shape (n_members, n_samples, n_features)
        Of each member's logit.
    """
    return np.einsum("mi,mij->ij", find_shares(logits), grads)


def find_shares(logits: np.ndarray) -> np.ndarray:
    """Return the derivative of the averaged logit by that of each member: (n_members, n_samples).

    With p the mean of the members' probabilities p_m, and s_m = p_m (1 - p_m) the slope of each,
    ``d logit(p) / dx = mean_m(s_m dz_m/dx) / (p (1 - p))``. As ``1 - p`` is a mean of its own and
    s_m = sigmoid(z_m) sigmoid(-z_m), no difference of nearly equal numbers is taken.
    """
    if len(logits) == 1:
        return np.ones_like(logits)
    log_slope = log_expit(logits) + log_expit(-logits)
    log_total = log_sum(log_expit(logits)) + log_sum(log_expit(-logits))
    return len(logits) * np.exp(log_slope - log_total)
