"""Run a program by compiled kernels: all steps of a feed in one call, without Python's lock."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from .feed import Feed
from .loading import load_run_steps
from .lowering import Table, lower
from .plan import Program


class NumbaExecutable:
    """A program bound to an arena: one call of compiled code a member for all steps of a feed.

    Members run one after the other, so that what one computes stays in the cache.

    Parameters
    ----------
    program : Program
        Lowered by `prepare`.
    arena : ndarray of shape (n_members, n)
        With at least the program's size in each row.

    Attributes
    ----------
    views : dict of str to ndarray
        The inputs and outputs by name, each with an axis of members in front.

    Raises
    ------
    RuntimeError
        If numba cannot be used.
    """

    def __init__(self, program: Program, arena: np.ndarray) -> None:
        run_steps = load_run_steps(arena.dtype)
        if run_steps is None:
            raise RuntimeError(f"numba cannot be used for {arena.dtype}.")
        self._arena, self._run_steps = arena, run_steps
        self._table: Table = program.executables["numba"]
        self.views = {
            name: arena[:, x.offset : x.offset + x.size].reshape(len(arena), *x.shape)
            for name, x in program.inputs.items()
            if x.memory == "floats"
        }

    def run(self, feed: Feed) -> None:
        """Run the program once for each step of the feed."""
        dtype, n_rows = self._arena.dtype, feed.X.shape[0]
        index = np.ascontiguousarray(feed.index, np.int64)
        if index.size and not 0 <= index.min() <= index.max() < n_rows:
            raise IndexError(f"rows of batches must be from 0 to {n_rows - 1}.")
        X, csr = _prepare_rows(feed.X, dtype)
        y = _prepare(feed.y, (0,), dtype)
        by_member = (
            _prepare(feed.weight, (feed.n_members, 0), dtype),
            _prepare(feed.scalars, (feed.n_members, feed.n_steps, 0), dtype),
            _prepare(feed.bits, (feed.n_members, feed.n_steps, 0), np.uint16),
            _prepare(feed.logits, (feed.n_members, feed.n_steps, 0), dtype),
        )
        if any(len(values) not in (0, n_rows) for values in (y, by_member[0].T)):
            raise ValueError(f"y and weights must be of {n_rows} rows.")
        rows, places = self._table.rows, self._table.places
        for arena, its_index, *arrays in zip(self._arena, index, *by_member, strict=True):
            weight, scalars, bits, logits = arrays
            its = (its_index, y, weight, scalars, bits, logits)
            self._run_steps(rows, places, arena, X, *its, *csr)
        if feed.logits is not None and by_member[-1] is not feed.logits:
            feed.logits[...] = by_member[-1]


def prepare(program: Program) -> Program:
    """Lower a program, before it is given memory.

    Raises
    ------
    NoKernelError
        If there is no kernel for an instruction.
    """
    program.executables["numba"] = lower(program)
    return program


def _prepare(array: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return an array as `run_steps` takes it; an empty one of this shape for None."""
    return np.zeros(shape, dtype) if array is None else np.ascontiguousarray(array, dtype)


def _prepare_rows(X: Any, dtype: np.dtype) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Return X, and the arrays of a sparse one; those that it has not are empty."""
    is_sparse = sparse.issparse(X)
    parts = (X.data, X.indices, X.indptr) if is_sparse else (None, None, None)
    dtypes = (dtype, np.int32, np.int64)
    csr = tuple(_prepare(part, (0,), own) for part, own in zip(parts, dtypes, strict=True))
    return _prepare(None if is_sparse else X, (0, 0), dtype), csr
