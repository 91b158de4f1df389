"""What a program is given, and how it is written into the inputs where Python takes the steps."""

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


class Stepwise:
    """What takes each step of a feed by itself, in Python.

    Attributes
    ----------
    views : dict of str to ndarray
        The inputs and outputs by name, each with an axis of members in front.
    bits : ndarray of uint16 of shape (n_members, n_bits)
        The random bits of a step.
    sparse : list of SparseRows
        The batch of each member, where X is sparse.
    """

    views: dict[str, np.ndarray]
    bits: np.ndarray
    sparse: list[SparseRows]

    def take_step(self) -> None:
        """Compute the outputs of all members."""
        raise NotImplementedError

    def run(self, feed: Feed) -> None:
        """Take a step for each row of ``feed.index``."""
        members = np.arange(len(feed.index))[:, np.newaxis]
        for step in range(feed.index.shape[1]):
            index = feed.index[:, step]
            if isinstance(feed.X, np.ndarray):
                # mode="clip" writes straight into `out`; the default would go through a copy.
                feed.X.take(index, axis=0, out=self.views["x"], mode="clip")
            else:
                self.sparse[:] = [SparseRows(feed.X[own]) for own in index]
            if feed.y is not None:
                self.views["y"][...] = feed.y[index]
            if feed.weight is not None:
                self.views["weight"][...] = feed.weight[members, index]
            if feed.scalars is not None:
                self.views["scalars"][...] = feed.scalars[:, step]
            if feed.bits is not None:
                self.bits[...] = feed.bits[:, step]
            self.take_step()
            if feed.logits is not None:
                feed.logits[:, step] = self.views["logits"]


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
