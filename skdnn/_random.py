"""Random bits for dropout, drawn ahead from a stream for each member."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ._passes import NUMPY, ArrayModule

N_WORDS = 1 << 16
"""Number of values of a word of 16 random bits."""

DRAWN_AT_ONCE = 1 << 15
"""Words that a member draws in one call: of fewer, the call takes longer than the drawing."""


class Words(Protocol):
    """What layers draw random numbers from."""

    def draw(self, size: int) -> np.ndarray:
        """Return integers from 0 to 65535, (n_members, size), to look at before the next call.

        There are `DRAWN_AT_ONCE` of them at most.
        """


class RandomWords:
    """Words of 16 random bits, the same number for each member at a time.

    They are drawn ahead, from a stream for each member.

    Parameters
    ----------
    rngs : sequence of Generator
    xp : ArrayModule, default=NUMPY
        What draws them.

    Attributes
    ----------
    ahead : ndarray of shape (n_members, DRAWN_AT_ONCE)
        What was drawn last.
    n_given : ndarray of shape (n_members, 1)
        How many of those have been given, the same number for all members.
    """

    def __init__(self, rngs: Sequence[np.random.Generator], xp: ArrayModule = NUMPY) -> None:
        self.rngs, self._xp = rngs, xp
        self.ahead = np.empty((len(rngs), DRAWN_AT_ONCE), np.uint16)
        self.n_given = np.full((len(rngs), 1), DRAWN_AT_ONCE)

    def draw(self, size: int) -> np.ndarray:
        """Return words that were drawn ahead, or have more drawn."""
        if (self.n_given + size > DRAWN_AT_ONCE).any():
            self._xp.draw_words(self.rngs, self.ahead.view(np.uint64))
            self.n_given[:] = 0
        first = int(self.n_given.max(initial=0))
        self.n_given += size
        return self.ahead[:, first : first + size]

    def discard(self) -> None:
        """Forget words that are drawn and not given: what comes next depends on the streams alone.

        Training does so before each epoch, as it may end and be gone on with there.
        """
        self.n_given[:] = DRAWN_AT_ONCE
