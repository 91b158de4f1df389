"""The gradient of the cost on a batch: where a step spends its time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ._network import Network
from ._passes import ArrayModule
from ._random import RandomWords, Words
from ._sparse import InputBatch
from ._tape import Recorder, WatchedWords, record
from ._workspace import Workspace
from .losses import Loss

BATCHES_BEFORE_RECORDING = 16
"""A small table may have no more: then to record would take longer than it saves."""

Use = Callable[[ArrayModule], None]
"""Something to do with gradients, by functions of an array module."""


class BatchGradient:
    """Forward pass, gradient of the loss and backward pass, for batches of `n_samples` rows.

    Where the array module can run tapes, and layers and loss can be recorded, this is done after a
    few batches, and later ones run without Python.

    Parameters
    ----------
    network : Network
    loss : Loss
    params, grads : ndarray of shape (n_members, n_params) and (n_members, n_trainable)
        What the gradient is taken at, and where it goes.
    n_samples : int
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
        *,
        words: RandomWords,
        xp: ArrayModule,
        workspace: Workspace,
    ) -> None:
        self._loss = loss
        self._xp = record(xp, network, loss, n_before=BATCHES_BEFORE_RECORDING)
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
        shape = (network.n_members, n_samples)
        self._grad_logits, self._y, self._weight = (np.empty(shape, params.dtype) for _ in range(3))

    def compute(
        self, x: InputBatch, y: np.ndarray, weight: np.ndarray | None, then: Use | None = None
    ) -> np.ndarray:
        """Fill the gradients by a batch, and return its logits.

        Parameters
        ----------
        x : ndarray of shape (n_members or 1, n_samples, n_in), or SparseBatch
        y : ndarray of shape (n_members or 1, n_samples)
        weight : ndarray of shape (n_members or 1, n_samples), or None
        then : callable, default=None
            ``then(xp)`` does something with the gradients by functions of `xp` alone. It is
            recorded with the rest, and has to be the same thing for all batches.
        """
        if not isinstance(self._xp, Recorder):
            return self._compute(x, y, weight, then)
        self._y[...] = y
        if weight is not None:
            self._weight[...] = weight
            weight = self._weight
        return self._xp.run(partial(self._compute, y=self._y, weight=weight, then=then), x)

    def _compute(
        self, x: InputBatch, y: np.ndarray, weight: np.ndarray | None, then: Use | None
    ) -> np.ndarray:
        logits = self._pass.forward(x, weight)
        self._loss.gradient(y, logits, weight, self._grad_logits, self._xp)
        self._pass.backward(self._grad_logits)
        if then is not None:
            then(self._xp)
        return logits
