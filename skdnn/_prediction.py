"""Predict many rows in blocks, side by side in threads, and few rows without delay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ._blocks import cut_rows
from ._explanations import average_logits
from ._network import Network, Pass
from ._sparse import is_sparse
from ._threads import Crew, limit_blas_threads, resolve_n_jobs

FEW_ROWS = 8
"""Rows up to which making a pass takes longer than running it."""

MOST_READY = 8
"""Passes that are kept: as many threads predict few rows at a time without making new ones."""

BLOCK_ROWS = 4096
"""Rows that are encoded and predicted at once, unless there are so many columns that it is fewer.

A matter of the table alone, so that predictions do not depend on the number of threads.
"""

BLOCK_VALUES = 1 << 20
"""Numbers of the encoded table in a block, at most."""

WIDEST_BUFFER = 1 << 19
"""Bytes that the widest buffer of all members takes while a block goes through the network."""


class Predictor:
    """A network to predict with, and passes that are ready for the next few rows.

    A pass writes to buffers of its own: it is taken out of the list while it runs, so that no two
    threads ever share one.

    Parameters
    ----------
    network : Network
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._ready: list[Pass] = []
        self._cast: tuple[np.ndarray, np.ndarray] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Predictor, (replace(self.network),)  # copies and pickles are without buffers

    def cast(self, params: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Return the parameters in another dtype: the same array as before if they are the same."""
        if params.dtype == dtype:
            return params
        if self._cast is None or not np.array_equal(self._cast[0], params):
            self._cast = params.copy(), params.astype(dtype)
        return self._cast[1]

    def logits(self, params: np.ndarray, X: Any) -> np.ndarray:
        """Return each member's logits: (n_members, n_samples)."""
        n_samples = X.shape[0]
        if n_samples > FEW_ROWS or is_sparse(X):
            return self.network.logits(params, X)
        prediction = self._make_ready(params, n_samples)
        logits = prediction.forward(X[np.newaxis]).copy()
        if len(self._ready) < MOST_READY:
            self._ready.append(prediction)
        return logits

    def average(
        self,
        params: np.ndarray,
        take: Callable[[slice], Any],
        shape: tuple[int, int],
        n_jobs: int | None,
    ) -> np.ndarray:
        """Return the logit of the members' mean probability for each row: (n_samples,).

        Parameters
        ----------
        params : ndarray of shape (n_members, n_params)
        take : callable
            ``take(rows)`` returns these rows of the matrix that enters the network.
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
        # BLAS raises flags where nothing is wrong, too; and tapes do not look at them.
        with np.errstate(over="ignore", invalid="ignore"):
            if len(blocks) < 2:
                logit = average_logits(self.logits(params, take(slice(0, n_samples))))
            else:
                logit = np.empty(n_samples, params.dtype)
                self._fill(logit, blocks, params, take, n_jobs)
        _check_numbers(logit)
        return logit

    def _fill(
        self,
        logit: np.ndarray,
        blocks: list[slice],
        params: np.ndarray,
        take: Callable[[slice], Any],
        n_jobs: int | None,
    ) -> None:
        """Write the logits of many rows, block by block."""
        block_bytes = WIDEST_BUFFER // self.network.n_members
        remaining = iter(blocks)  # a thread that is held up leaves them to the others

        def predict() -> None:
            passes: dict[int, Pass] = {}
            for rows in remaining:
                logits = self.network.logits(
                    params, take(rows), passes=passes, block_bytes=block_bytes
                )
                logit[rows] = average_logits(logits)

        n_threads = min(resolve_n_jobs(n_jobs), len(blocks))
        with limit_blas_threads(0), Crew(n_threads) as crew:
            crew.run([predict] * n_threads)

    def _make_ready(self, params: np.ndarray, n_samples: int) -> Pass:
        """Take a pass for these parameters out of the list, or make one."""
        try:
            prediction = self._ready.pop()
        except IndexError:
            return self.network.bind(params, n_samples)
        if prediction.params is params and prediction.n_samples == n_samples:
            return prediction
        return self.network.bind(params, n_samples)


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
