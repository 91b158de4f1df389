"""Memory for the buffers of passes, which those that take turns may share."""

from __future__ import annotations

import math

import numpy as np

from ._passes import ArrayModule


class Workspace:
    """Arrays by number, each as large as the largest buffer that was asked for by it.

    The passes in it number their buffers alike. Whoever needs most should come first: a buffer that
    has become too small for others stays with those who have it.
    """

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []

    @property
    def n_bytes(self) -> int:
        """How much all arrays take."""
        return sum(array.size for array in self._arrays)

    def take(
        self, number: int, shape: tuple[int, ...], dtype: np.typing.DTypeLike, xp: ArrayModule
    ) -> np.ndarray:
        """Return the buffer of this number: the next one, or one that there is already."""
        n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        if number == len(self._arrays):
            self._arrays.append(xp.empty(n_bytes, xp.uint8))
        elif self._arrays[number].size < n_bytes:
            self._arrays[number] = xp.empty(n_bytes, xp.uint8)
        return self._arrays[number][:n_bytes].view(dtype).reshape(shape)
