"""What optimizers are: chains of small transforms, each changing the one gradient array in place.

A transform has three parts. ``init(params) -> state`` makes the arrays that it carries from step to
step. ``begin(state, numbers, steps, learning_rates)`` writes down what depends on which step it is,
`n_numbers` for each member, for several steps at once. ``update(updates, params, state, work)``
rewrites `updates`, which enters a chain as the gradient and leaves it as what is added to the
parameters. All arrays of parameters have the shape (n_members, n_params); no transform knows of
layers.

Those that say ``is_recordable`` update by functions of `work.xp` alone, in arrays that stay (see
`skdnn._tape`); that is why the numbers of a step come in one too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ._passes import NUMPY, ArrayModule
from ._tape import is_recordable
from ._values import frozen

State = dict[str, np.ndarray]
Numbers = list[np.ndarray]
"""What depends on the step, for each transform: arrays of shape (n_members, n_numbers)."""


class Work(NamedTuple):
    """What a transform computes by, and in."""

    numbers: np.ndarray  # (n_members, n_numbers), what `begin` has written
    scratch: np.ndarray  # (n_members, n_params)
    xp: ArrayModule = NUMPY


class Transform:
    """One stage on the way from a gradient to an update.

    This one carries nothing from step to step, and does the same in each.
    """

    @property
    def n_numbers(self) -> int:
        """How many numbers of a member depend on the step."""
        return 0

    def init(self, params: np.ndarray) -> State:
        """Return the arrays that the transform carries from step to step."""
        return {}

    def begin(
        self, state: State, numbers: np.ndarray, steps: range, learning_rates: np.ndarray
    ) -> None:
        """Write down the numbers of the next steps, which count from 1.

        Shape: numbers (n_steps, n_members, n_numbers), learning_rates (n_steps, n_members or 1, 1).
        """

    def update(self, updates: np.ndarray, params: np.ndarray, state: State, work: Work) -> None:
        """Rewrite `updates` in place."""
        raise NotImplementedError


@frozen
class Optimizer:
    """Run transforms one after the other, then add the result to the parameters.

    Its state is plain data (a step count and arrays), to be pickled, resumed and averaged.
    """

    transforms: tuple[Transform, ...]

    def init(self, params: np.ndarray) -> dict:
        """Return the state before the first step: a count, and arrays by name of transform."""
        arrays = {type(t).__name__: t.init(params) for t in self.transforms}
        return {"step": 0, "arrays": arrays}

    def can_continue(self, state: dict) -> bool:
        """Say whether a state was made by the same transforms."""
        return list(state["arrays"]) == [type(t).__name__ for t in self.transforms]

    @property
    def is_recordable(self) -> bool:
        """Whether all transforms are."""
        return all(is_recordable(transform) for transform in self.transforms)

    def make_numbers(self, params: np.ndarray, n_steps: int) -> list[np.ndarray]:
        """Make arrays for some steps, each (n_steps, n_members, n).

        One of each is what `begin` writes into and `update` reads.
        """
        shape, dtype = (n_steps, len(params)), params.dtype
        return [np.empty((*shape, t.n_numbers), dtype) for t in self.transforms]

    def begin(self, state: dict, numbers: Sequence[np.ndarray], learning_rates: np.ndarray) -> None:
        """Begin the next steps, as many as there are rates: (n_steps, n_members or 1, 1)."""
        n_steps, n_before = len(learning_rates), state["step"]
        state["step"] += n_steps
        steps = range(n_before + 1, n_before + n_steps + 1)
        arrays = state["arrays"].values()
        for transform, own, its in zip(self.transforms, arrays, numbers, strict=True):
            transform.begin(own, its[:n_steps], steps, learning_rates)

    def update(
        self,
        grads: np.ndarray,
        params: np.ndarray,
        state: dict,
        numbers: Numbers,
        scratch: np.ndarray,
        xp: ArrayModule = NUMPY,
    ) -> None:
        """Take the step begun: overwrite `grads` with the update and add it to `params`."""
        arrays = state["arrays"].values()
        for transform, own, its in zip(self.transforms, arrays, numbers, strict=True):
            transform.update(grads, params, own, Work(its, scratch, xp))
        xp.add(params, grads, out=params)


def chain(*transforms: Transform | None) -> Optimizer:
    """Join transforms in the order given; None stands for one that is not wanted."""
    return Optimizer(tuple(t for t in transforms if t is not None))


def powers(base: float, steps: range) -> np.ndarray:
    """Return ``base^step`` for each step: (n_steps, 1, 1).

    Python computes them, as NumPy may do so in another way for many than for one.
    """
    return np.array([base**step for step in steps]).reshape(-1, 1, 1)
