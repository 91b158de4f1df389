"""The gradient of the cost on batches: where a step spends its time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ._network import Network
from ._passes import ArrayModule
from ._random import RandomWords, Words
from ._sparse import InputBatch
from ._tape import Recorder, Series, WatchedWords, record
from ._workspace import Workspace
from .losses import Loss

BATCHES_WORTH_RECORDING = 24
"""With fewer batches, to record one takes longer than it saves at the others."""

Use = Callable[[ArrayModule, int], None]
"""Something to do with the gradients of a step, by functions of an array module."""


class BatchGradient:
    """Forward pass, gradient of the loss and backward pass, for batches of `n_samples` rows.

    Where the array module can run tapes, and layers and loss can be recorded, the second batch is,
    unless there are few, and later ones run without Python.

    Parameters
    ----------
    network : Network
    loss : Loss
    params, grads : ndarray of shape (n_members, n_params) and (n_members, n_trainable)
        What the gradient is taken at, and where it goes.
    n_samples, most_steps, n_batches : int
        Rows of a batch; the batches that are given at once, at most, and those of the training.
    series : sequence of Series
        What else of a step differs from that of the one before.
    words : RandomWords
    xp : ArrayModule
    workspace : Workspace
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        params: np.ndarray,
        grads: np.ndarray,
        n_samples: int,
        most_steps: int,
        n_batches: int,
        *,
        series: Sequence[Series],
        words: RandomWords,
        xp: ArrayModule,
        workspace: Workspace,
    ) -> None:
        self.n_samples, self._loss = n_samples, loss
        shape = (network.n_members, most_steps * n_samples)
        self._y, self._weight, self._logits = (np.empty(shape, params.dtype) for _ in range(3))
        self._grad_logits = np.empty((network.n_members, n_samples), params.dtype)
        own = (self._y, self._weight, self._logits)
        series = [*series, *(Series(array, n_samples * array.itemsize) for array in own)]
        is_worth_it = n_batches >= BATCHES_WORTH_RECORDING
        self._xp = record(xp, network, loss, series=series) if is_worth_it else xp
        seen: Words = WatchedWords(words, self._xp) if isinstance(self._xp, Recorder) else words
        self._pass = network.bind(
            params,
            n_samples,
            grads=grads,
            training=True,
            words=seen,
            xp=self._xp,
            workspace=workspace,
        )

    def compute(
        self, x: InputBatch, y: np.ndarray, weight: np.ndarray | None, then: Use | None = None
    ) -> np.ndarray:
        """Fill the gradients by one batch after the other; return the logits that they had.

        Parameters
        ----------
        x : ndarray of shape (n_members or 1, n_steps n_samples, n_in), or SparseBatch
            Batches that follow each other.
        y : ndarray of shape (n_members or 1, n_steps n_samples)
        weight : ndarray of shape (n_members or 1, n_steps n_samples), or None
        then : callable, default=None
            ``then(xp, step)`` does something with the gradients of each step, by functions of `xp`
            alone. It is recorded with the rest, and has to be the same thing for all steps.

        Returns
        -------
        logits : ndarray of shape (n_members, n_steps n_samples)
        """
        n_rows = y.shape[1]
        self._y[:, :n_rows] = y
        if weight is not None:
            self._weight[:, :n_rows] = weight
        compute = partial(self._compute, is_weighted=weight is not None, then=then)
        self._xp.run(compute, x, n_rows // self.n_samples)
        return self._logits[:, :n_rows]

    def _compute(self, x: InputBatch, step: int, is_weighted: bool, then: Use | None) -> None:
        columns = slice(step * self.n_samples, (step + 1) * self.n_samples)
        y, weight = self._y[:, columns], self._weight[:, columns] if is_weighted else None
        logits = self._pass.forward(x, weight)
        self._loss.gradient(y, logits, weight, self._grad_logits, self._xp)
        self._pass.backward(self._grad_logits)
        self._xp.copyto(self._logits[:, columns], logits)
        if then is not None:
            then(self._xp, step)
