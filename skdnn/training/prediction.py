"""Predict many rows in blocks, side by side in threads, and few rows without delay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import numpy as np
from scipy.special import log_expit

from ..engine.executors import Memory
from ..engine.loading import load_run_steps
from ..nn.network import Network
from ..utils import cut_rows
from .members import FEWEST_ROWS, Programs
from .threads import ThreadPool, limit_blas_threads, resolve_n_jobs

WIDE = np.dtype(np.float64)

PRECISE_ROWS = 64
"""Rows up to which predictions are computed in float64, whatever the weights are in.

Of many rows, float32 takes a fraction of the time. But its products round a row among others in
another way than by itself: by less than 1e-6 of a probability, and by more than the 1e-7 to which
scikit-learn compares predictions of a few rows with those of each.
"""

MOST_KEPT = 8
"""Memories that are kept: as many threads predict at a time without taking new ones."""

LARGEST_KEPT = 1 << 24
"""Bytes of memory that is kept for the next prediction: that of wide tables is given back."""

BLOCK_ROWS = 4096
"""Rows that are encoded and predicted at once, unless there are so many columns that it is fewer.

A matter of the table alone, so that predictions do not depend on the number of threads.
"""

BLOCKS_OF_A_THREAD = 2
"""Blocks that are worth a thread of their own: for fewer, it costs more than it gains."""

BLOCK_VALUES = 1 << 20
"""Numbers of the encoded table in a block, at most."""

Take = Callable[[slice, np.dtype], Any]
"""``take(rows, dtype)``: rows of the matrix that enters the network."""


class Predictor:
    """A network to predict with.

    Parameters
    ----------
    network : Network
    executor : str, default="numpy"
        The name of the executor.
    """

    def __init__(self, network: Network, executor: str = "numpy") -> None:
        self.network, self.executor = network, executor
        self._programs: dict[str, Programs] = {}
        self._memories: list[list[Memory]] = []

    def _choose_programs(self, dtype: np.dtype, *, is_wide: bool) -> Programs:
        """Return the programs to predict with: NumPy's for few rows and where numba is missing."""
        name = self.executor
        if name == "numba" and (is_wide or load_run_steps(dtype) is None):
            name = "numpy"
        if name not in self._programs:
            self._programs[name] = Programs(self.network, name)
        return self._programs[name]

    @np.errstate(over="ignore", invalid="ignore")  # what comes out says so
    def logits(
        self,
        params: np.ndarray,
        X: Any,
        index: np.ndarray | None = None,
        *,
        is_wide: bool = False,
    ) -> np.ndarray:
        """Return the members' logits for some rows: (n_members, n_rows).

        Parameters
        ----------
        params : ndarray of shape (n_members, n_params)
        X : ndarray, Selection or CSR array of shape (n_samples, n_in)
            In the dtype of the computation.
        index : ndarray of int of shape (n_rows,) or (n_members, n_rows), default=None
            The rows, the same for all members or each one's own; None stands for all.
        is_wide : bool, default=False
            Whether that is float64, whatever the parameters are in, for which numba may not be
            ready; else it is the dtype of the parameters.

        Raises
        ------
        ValueError
            If the parameters are those of another network.
        """
        self.network.check_params(params)
        programs = self._choose_programs(params.dtype, is_wide=is_wide)
        dtype = WIDE if is_wide else params.dtype
        index = np.arange(X.shape[0]) if index is None else index
        members, n_rows = range(len(params)), index.shape[-1]
        logits = np.empty((len(params), n_rows), dtype)
        groups = programs.groups(members, min(n_rows, FEWEST_ROWS), n_compiled=len(params))
        # Parameters that take too much to be kept are loaded for one group after the other.
        is_kept = params.size * dtype.itemsize <= LARGEST_KEPT
        with self._borrow_memories(dtype, len(groups) if is_kept else 1) as memories:
            for group, memory in zip(groups, cycle(memories), strict=False):
                own = index if index.ndim == 1 else index[group]
                logits[group] = programs.logits(group, params, X, own, memory)
        return logits

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
            If the logit of a row is not a number.
        """
        n_samples, n_columns = shape
        n_values = min(BLOCK_VALUES, BLOCK_ROWS * n_columns)
        blocks = list(cut_rows(n_samples, n_columns, n_values))
        dtype = WIDE if n_samples <= PRECISE_ROWS else params.dtype
        is_wide = dtype != params.dtype
        logit = np.empty(n_samples)
        n_threads = max(1, min(resolve_n_jobs(n_jobs), len(blocks) // BLOCKS_OF_A_THREAD))
        self.network.check_params(params)
        remaining = iter(blocks)  # a thread that is held up leaves them to the others

        def predict() -> None:
            for rows in remaining:
                pool.check()
                X = take(rows, params.dtype).astype(dtype, copy=False)
                logit[rows] = average_logits(self.logits(params, X, is_wide=is_wide))
                if not np.isfinite(logit[rows]).all():
                    X = take(rows, WIDE).astype(WIDE, copy=False)
                    logit[rows] = average_logits(self.logits(params, X, is_wide=True))

        # BLAS raises flags where nothing is wrong, too.
        with (
            np.errstate(over="ignore", invalid="ignore"),
            limit_blas_threads(0),
            ThreadPool(n_threads) as pool,
        ):
            pool.run([predict] * n_threads)
        _check_numbers(logit)
        return logit

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
        programs = self._choose_programs(params.dtype, is_wide=True)
        X = np.broadcast_to(X, (len(params), *X.shape[-2:]))
        logits, grads = np.empty(X.shape[:2], params.dtype), np.empty(X.shape, params.dtype)
        groups = programs.groups(range(len(params)), min(X.shape[1], FEWEST_ROWS))
        with (
            np.errstate(over="ignore"),
            limit_blas_threads(0),
            self._borrow_memories(params.dtype, 1) as memories,
        ):
            for group in groups:
                own = np.ascontiguousarray(X[group])
                logits[group], grads[group] = programs.gradients(group, params, own, memories[0])
        return logits, grads

    @contextmanager
    def _borrow_memories(self, dtype: np.dtype, n: int) -> Iterator[list[Memory]]:
        """Take memories out of the list, or make some, and put them back for the next prediction.

        Memory that is new each time costs more than what few hundred rows compute in it.
        """
        memories = next((own for own in self._memories if own[0].dtype == dtype), [])
        try:
            self._memories.remove(memories)
        except ValueError:  # there are none, or another thread has taken them
            memories = []
        memories += [Memory(dtype) for _ in range(n - len(memories))]
        yield memories
        n_bytes = sum(memory.n_bytes for memory in memories)
        if n_bytes <= LARGEST_KEPT and len(self._memories) < MOST_KEPT:
            self._memories.append(memories)


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
    return _log_sum(log_expit(logits)) - _log_sum(log_expit(-logits))


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
    log_total = _log_sum(log_expit(logits)) + _log_sum(log_expit(-logits))
    return len(logits) * np.exp(log_slope - log_total)


def _log_sum(logarithms: np.ndarray) -> np.ndarray:
    """Return the logarithm of the sum over members; for one row SciPy's logsumexp is slow."""
    return np.logaddexp.reduce(logarithms, axis=0)
