"""Rows of a sparse table, which layers take for a batch like any other.

Nothing is made dense. The first layer asks for two products, ``x W`` and ``x^T grad_y``, by
`numpy.matmul`; NumPy hands these over to `SparseBatch`, and SciPy computes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import issparse


def is_sparse(X: Any) -> bool:
    """Say whether a table is one of SciPy's sparse matrices or arrays."""
    return issparse(X)


class SparseBatch:
    """Sparse matrices with a member axis in front: one for each member, or one for all.

    Parameters
    ----------
    matrices : sequence of CSR or CSC matrices or arrays, all of one shape
    """

    def __init__(self, matrices: Sequence[Any]) -> None:
        self.matrices = matrices
        self.shape = (len(matrices), *matrices[0].shape)

    def __getitem__(self, key: tuple[slice, slice]) -> SparseBatch:
        """Return some rows of some members."""
        members, rows = key
        return SparseBatch([matrix[rows] for matrix in self.matrices[members]])

    def of_members(self, members: range) -> SparseBatch:
        """Return the rows of some members, where each has its own."""
        return SparseBatch(self.matrices[members.start : members.stop])

    def swapaxes(self, axis1: int, axis2: int) -> SparseBatch:
        """Transpose the matrices: the only two axes that a layer swaps."""
        return SparseBatch([matrix.T for matrix in self.matrices])

    def __array_ufunc__(self, ufunc, method, *inputs, out):
        if ufunc is not np.matmul or method != "__call__" or inputs[0] is not self:
            return NotImplemented
        for member, dense in enumerate(inputs[1]):
            out[0][member] = self.matrices[member % len(self.matrices)] @ dense
        return out[0]


InputBatch = np.ndarray | SparseBatch
"""Rows as they enter a network, of shape (n_members or 1, n_samples, n_features)."""
