"""Send different columns through different layers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .._values import frozen
from .base import Branch, Buffer, Plan, Slot, Steps, backward_through, forward_through


@frozen
class Concatenate:
    """Cut the columns into ranges, send each through layers of its own, and join what comes out.

    Forward:  ``y = [f_1(x_1), f_2(x_2), ...]``, x_j the columns of branch j and f_j its layers

    Backward: ``grad_x = [f_1'(x_1)^T grad_y_1, f_2'(x_2)^T grad_y_2, ...]``

    A table has columns of several kinds: numbers, categories, and more of both. What comes out of a
    single branch is passed on as it is.

    Shape: x (n_members or 1, n_samples, n_in), with n_in the sum of the branches' n_columns;
    y (n_members, n_samples, sum of their n_out).

    Parameters
    ----------
    branches : tuple of Branch
        The ranges from left to right, ``Branch(n_columns, layers)``. One without layers passes its
        columns on.

    Raises
    ------
    ValueError
        By `plan`, if the branches do not take all columns, or one of them takes none.

    Examples
    --------
    >>> from skdnn.layers import Branch, CategoricalEmbedding, Concatenate, Dense
    >>> lookup = CategoricalEmbedding(sizes=(12, 31), n_units=(4, 5))
    >>> Concatenate((Branch(3), Branch(2, (lookup,)))).plan(5).n_out
    12
    """

    branches: tuple[Branch, ...]

    is_recordable = True

    def plan(self, n_in: int) -> Plan:
        n_columns = [branch.n_columns for branch in self.branches]
        if sum(n_columns) != n_in or min(n_columns, default=1) < 1:
            raise ValueError(
                f"The branches of a Concatenate must take at least one column each and all "
                f"{n_in} together, got n_columns={n_columns!r}; change them to add up."
            )
        n_out = sum(branch.n_out for branch in self.branches)
        buffers = (Buffer("y", n_out), Buffer("grad_x", n_in, kind="grad_x"))
        is_single = len(self.branches) == 1
        return Plan(n_out, buffers=() if is_single else buffers, inner=self.branches)

    def forward(self, x: np.ndarray, slot: Slot) -> np.ndarray:
        if len(slot.inner) == 1:
            return forward_through(slot.inner[0], x)
        for steps, columns, units in self._parts(slot):
            slot.xp.copyto(slot.work.y[..., units], forward_through(steps, x[..., columns]))
        return slot.work.y

    def backward(self, grad_y: np.ndarray, slot: Slot, *, need_grad_x: bool) -> np.ndarray:
        if len(slot.inner) == 1:
            return backward_through(slot.inner[0], grad_y, need_grad_x=need_grad_x)
        for steps, columns, units in self._parts(slot):
            grad = backward_through(steps, grad_y[..., units], need_grad_x=need_grad_x)
            if need_grad_x:
                slot.xp.copyto(slot.work.grad_x[..., columns], grad)
        return slot.work.grad_x if need_grad_x else grad_y

    def _parts(self, slot: Slot) -> Iterator[tuple[Steps, slice, slice]]:
        """Yield each branch's steps, the columns of x it takes, and those of y it fills."""
        column = unit = 0
        for branch, steps in zip(self.branches, slot.inner, strict=True):
            columns = slice(column, column + branch.n_columns)
            units = slice(unit, unit + branch.n_out)
            yield steps, columns, units
            column, unit = columns.stop, units.stop
