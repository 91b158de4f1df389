"""One seed, many independent streams of random numbers.

Each purpose (first weights, shuffling, dropout) has a stream for each member, so that drawing more
in one moves none of the others, and member k of an ensemble draws what it would draw alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass
class RandomStreams:
    """The generators of each purpose: one for each member, and one to choose validation rows."""

    initialization: list[np.random.Generator]
    shuffling: list[np.random.Generator]
    dropout: list[np.random.Generator]
    split: np.random.Generator

    @classmethod
    def spawn(cls, seed: int, members: Sequence[int]) -> RandomStreams:
        """Make the streams of the members with these numbers."""
        return cls(
            initialization=[_generator(seed, 0, member) for member in members],
            shuffling=[_generator(seed, 1, member) for member in members],
            dropout=[_generator(seed, 2, member) for member in members],
            split=_generator(seed, 3, 0),
        )


def _generator(seed: int, purpose: int, member: int) -> np.random.Generator:
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(purpose, member)))
    )
