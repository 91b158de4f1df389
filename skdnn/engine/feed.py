"""What a program is given: rows, and what differs from step to step and from member to member."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Feed:
    """The inputs of some members for some steps.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features), or CSR array
        Of the dtype of the arena; C-contiguous.
    index : ndarray of intp of shape (n_members, n_steps, batch_size)
        The rows of each batch.
    y : ndarray of shape (n_samples,), or None
    weight : ndarray of shape (n_members, n_samples), or None
        For programs that have inputs of these names.
    scalars : ndarray of shape (n_members, n_steps, n_scalars), or None
        Numbers that depend on the step, such as the learning rate.
    bits : ndarray of uint16 of shape (n_members, n_steps, n_bits), or None
        Random bits.
    logits : ndarray of shape (n_members, n_steps, batch_size), or None
        Where the logits of each step go.
    """

    X: Any
    index: np.ndarray
    y: np.ndarray | None = None
    weight: np.ndarray | None = None
    scalars: np.ndarray | None = None
    bits: np.ndarray | None = None
    logits: np.ndarray | None = None

    def gather(self) -> dict[str, np.ndarray]:
        """Return what is small of all steps, by the names of inputs: (n_members, n_steps, ...)."""
        arrays: dict[str, Any] = {"scalars": self.scalars}
        if self.y is not None:
            arrays["y"] = self.y[self.index]
        if self.weight is not None:
            members = np.arange(len(self.index))[:, np.newaxis, np.newaxis]
            arrays["weight"] = self.weight[members, self.index]
        return {name: array for name, array in arrays.items() if array is not None}

    def write_rows(self, step: int, views: dict[str, np.ndarray]) -> None:
        """Write the rows of a batch of each member, unless X is sparse."""
        if isinstance(self.X, np.ndarray):
            # mode="clip" writes straight into `out`; the default would go through a copy.
            self.X.take(self.index[:, step], axis=0, out=views["x"], mode="clip")

    def sparse_rows(self, step: int) -> list[SparseRows]:
        """Return the batch of each member, where X is sparse."""
        return [SparseRows(self.X[index]) for index in self.index[:, step]]


class SparseRows:
    """Rows of a CSR matrix, which only enter products."""

    def __init__(self, csr: Any) -> None:
        self.csr, self.shape = csr, csr.shape

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def mT(self) -> SparseRows:  # noqa: N802 - the array API's name
        return SparseRows(self.csr.T)

    def __matmul__(self, other: Any) -> Any:
        return self.csr @ other
