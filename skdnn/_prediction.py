"""Predict many rows in blocks, side by side in threads, and few rows without delay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from ._network import Network, Pass
from ._sparse import is_sparse
from ._workspace import Workspace
from .training.calibration import average_logits
from .training.threads import ThreadPool, limit_blas_threads, resolve_n_jobs
from .utils import cut_rows

WIDE = np.dtype(np.float64)

FEW_ROWS = 8
"""Rows up to which making a pass takes longer than running it."""

PRECISE_ROWS = 64
"""Rows up to which predictions are computed in float64, whatever the weights are in.

Of many rows, float32 takes a fraction of the time. But its products round a row among others in
another way than by itself: by less than 1e-6 of a probability, and by more than the 1e-7 to which
scikit-learn compares predictions of a few rows with those of each.
"""

MOST_READY = 8
"""Passes, and memory, that are kept: as many threads predict at a time without taking new ones."""

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

WIDEST_BUFFER = 1 << 19
"""Bytes that the widest buffer of all members takes while a block goes through the network."""


Take = Callable[[slice, np.dtype], Any]
"""``take(rows, dtype)``: rows of the matrix that enters the network."""


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
        self._workspaces: list[Workspace] = []
        self._cast: tuple[np.ndarray, np.ndarray] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Predictor, (replace(self.network),)  # copies and pickles are without buffers

    def cast(self, params: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Return the parameters in another dtype: the same array as before if they are the same."""
        if params.dtype == dtype:
            return params
        known = self._cast  # looked up once: other threads may put another pair there
        if known is None or not np.array_equal(known[0], params):
            self._cast = known = params.copy(), params.astype(dtype)
        return known[1]

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
        logit = np.empty(n_samples)
        n_threads = max(1, min(resolve_n_jobs(n_jobs), len(blocks) // BLOCKS_OF_A_THREAD))
        remaining = iter(blocks)  # a thread that is held up leaves them to the others

        def predict() -> None:
            passes: dict[int, Pass] | None = {} if len(blocks) > 1 else None
            with self._borrow_workspace() as workspace:
                for rows in remaining:
                    pool.check()
                    X = take(rows, params.dtype).astype(dtype, copy=False)
                    logits = self._logits(self.cast(params, dtype), X, passes, workspace)
                    logit[rows] = average_logits(logits)
                    if not np.isfinite(logit[rows]).all():
                        logits = self.network.logits(self.cast(params, WIDE), take(rows, WIDE))
                        logit[rows] = average_logits(logits)

        # BLAS raises flags where nothing is wrong, too; and tapes do not look at them.
        with (
            np.errstate(over="ignore", invalid="ignore"),
            limit_blas_threads(0),
            ThreadPool(n_threads) as pool,
        ):
            pool.run([predict] * n_threads)
        _check_numbers(logit)
        return logit

    def _logits(
        self,
        params: np.ndarray,
        X: Any,
        passes: dict[int, Pass] | None = None,
        workspace: Workspace | None = None,
    ) -> np.ndarray:
        """Return each member's logits, of few rows by a pass that is ready: (n_members, n_samples).

        `passes` and `workspace` are for others, as in `Network.logits`.
        """
        n_samples = X.shape[0]
        if n_samples > FEW_ROWS or is_sparse(X):
            block_bytes = WIDEST_BUFFER // self.network.n_members
            return self.network.logits(
                params, X, passes=passes, workspace=workspace, block_bytes=block_bytes
            )
        prediction = self._make_ready(params, n_samples)
        logits = prediction.forward(X[np.newaxis]).copy()
        if len(self._ready) < MOST_READY:
            self._ready.append(prediction)
        return logits

    @contextmanager
    def _borrow_workspace(self) -> Iterator[Workspace]:
        """Take memory out of the list, or make some, and put it back for the next prediction.

        Memory that is new each time costs more than what few hundred rows compute in it.
        """
        try:
            workspace = self._workspaces.pop()
        except IndexError:
            workspace = Workspace()
        yield workspace
        if workspace.n_bytes <= LARGEST_KEPT and len(self._workspaces) < MOST_READY:
            self._workspaces.append(workspace)

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
