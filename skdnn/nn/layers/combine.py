"""Layers made of layers: a way past some of them, and different ones for different columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ...engine.ops import concat
from .base import Array, Context, Grads, Layer, Params, ParamSpec, Sequential


@dataclass(frozen=True)
class Residual(Sequential):
    """Add to the input what some layers make of it.

    Forward:  ``y = x + f(x)``, f the layers one after the other

    Backward: ``grad_x = grad_y + f'(x)^T grad_y``

    The gradient reaches x undiminished whatever f is, and f only has to learn what is still missing
    in x.

    Shape: x and y (n_samples, n_units).

    Parameters
    ----------
    layers : tuple of Layer
        The layers of f, which ends with as many units as it begins with.

    Raises
    ------
    ValueError
        By `n_out`, if it ends with another number of them.

    References
    ----------
    K. He, X. Zhang, S. Ren and J. Sun, "Deep residual learning for image recognition", CVPR 2016,
    arXiv:1512.03385.

    Examples
    --------
    >>> from skdnn.nn import Activation, Dense, Residual
    >>> Residual((Dense(16), Activation("silu"), Dense(8))).n_out(8)
    8
    """

    def n_out(self, n_in: int) -> int:
        n_out = super().n_out(n_in)
        if n_out != n_in:
            raise ValueError(
                f"The layers of a Residual must end with as many units as they begin with, "
                f"{n_in}, got {n_out}; change their widths or leave the Residual out."
            )
        return n_in

    def forward(self, x: Array, p: Params, ctx: Context) -> Array:
        return x + super().forward(x, p, ctx)

    def backward(self, grad_y: Array, x: Array, p: Params, ctx: Context) -> tuple[Array, Grads]:
        grad_x, grads = super().backward(grad_y, x, p, ctx)
        return grad_y + grad_x, grads


@dataclass(frozen=True)
class Branch:
    """Say which layers some of the columns of a `Concatenate` go through.

    Without layers, they are passed on.

    Parameters
    ----------
    n_columns : int
        How many columns there are, which follow those of the branches before.
    layers : tuple of Layer, default=()
        The layers, one after the other.

    Examples
    --------
    >>> from skdnn.nn import Branch, Concatenate, Dense
    >>> Concatenate((Branch(2, (Dense(5),)), Branch(3))).n_out(5)
    8
    """

    n_columns: int
    layers: tuple[Layer, ...] = ()


@dataclass(frozen=True)
class Concatenate(Layer):
    """Cut the columns into ranges, send each through layers of its own, and join what comes out.

    Forward:  ``y = [f_1(x_1), f_2(x_2), ...]``, x_j the columns of branch j and f_j its layers

    Backward: ``grad_x = [f_1'(x_1)^T grad_y_1, f_2'(x_2)^T grad_y_2, ...]``

    A table has columns of several kinds: numbers, categories, and more of both. What comes out of a
    single branch is passed on as it is.

    Shape: x (n_samples, n_in), with n_in the sum of the branches' n_columns; y (n_samples, sum of
    their n_out).

    Parameters
    ----------
    branches : tuple of Branch
        The ranges from left to right, ``Branch(n_columns, layers)``. One without layers passes its
        columns on.

    Raises
    ------
    ValueError
        By `n_out`, if the branches do not take all columns, or one of them takes none.

    Examples
    --------
    >>> from skdnn.nn import Branch, CategoricalEmbedding, Concatenate, Dense
    >>> lookup = CategoricalEmbedding(sizes=(12, 31), n_units=(4, 5))
    >>> Concatenate((Branch(3), Branch(2, (lookup,)))).n_out(5)
    12
    """

    branches: tuple[Branch, ...]

    def n_out(self, n_in: int) -> int:
        n_columns = [branch.n_columns for branch in self.branches]
        if sum(n_columns) != n_in or min(n_columns, default=1) < 1:
            raise ValueError(
                f"The branches of a Concatenate must take at least one column each and all "
                f"{n_in} together, got n_columns={n_columns!r}; change them to add up."
            )
        return sum(Sequential(branch.layers).n_out(branch.n_columns) for branch in self.branches)

    def params(self, n_in: int) -> tuple[ParamSpec, ...]:
        return tuple(
            replace(spec, name=f"{name}.{spec.name}")
            for name, layer, columns in self._parts()
            for spec in layer.params(columns.stop - columns.start)
        )

    def forward(self, x: Array, p: Params, ctx: Context) -> Array:
        return concat(
            [
                layer.forward(x[:, columns], p[name], ctx[name])
                for name, layer, columns in self._parts()
            ],
            axis=1,
        )

    def backward(self, grad_y: Array, x: Array, p: Params, ctx: Context) -> tuple[Array, Grads]:
        grads_x, grads, start = [], Grads(), 0
        for name, layer, columns in self._parts():
            stop = start + layer.n_out(columns.stop - columns.start)
            grad_x, own = layer.backward(grad_y[:, start:stop], x[:, columns], p[name], ctx[name])
            grads_x.append(grad_x)
            grads |= {f"{name}.{key}": grad for key, grad in own.items()}
            start = stop
        return concat(grads_x, axis=1), grads

    def statistics(self, x: Array, p: Params, ctx: Context) -> Grads:
        return {
            f"{name}.{key}": value
            for name, layer, columns in self._parts()
            for key, value in layer.statistics(x[:, columns], p[name], ctx[name]).items()
        }

    def of_member(self, member: int) -> Concatenate:
        return Concatenate(
            tuple(
                replace(branch, layers=tuple(layer.of_member(member) for layer in branch.layers))
                for branch in self.branches
            )
        )

    def named(self) -> Iterator[tuple[str, Layer]]:
        return ((name, layer) for name, layer, _ in self._parts())

    def _parts(self) -> Iterator[tuple[str, Sequential, slice]]:
        """Yield each branch's name, its layers as one, and the columns of x that it takes."""
        start = 0
        for i, branch in enumerate(self.branches, start=1):
            stop = start + branch.n_columns
            yield f"branch_{i}", Sequential(branch.layers), slice(start, stop)
            start = stop
