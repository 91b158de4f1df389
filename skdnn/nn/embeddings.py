"""Embeddings of numbers and categories: several units for each column.

Within an embedding of numbers, arrays have the shape (n_in, n_functions, n_samples): loops run
along the samples, and the small matrices of each feature are contiguous.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from math import pi, sqrt

import numpy as np

from ..engine.ops import (
    clip,
    concat,
    cos,
    equal,
    fused,
    ones_like,
    scatter_add,
    sin,
    take_rows,
)
from .initializers import Initializer, Scaled, UniformWithin, ones, standard_normal
from .layers import Array, Context, Grads, Layer, Params, ParamSpec

LOW_FREQUENCIES = Scaled(standard_normal, 0.1)
"""The first frequencies of RealMLP, for columns whose deviation is about 1."""

FARTHEST = 3.0
"""Between this number and its negative are the columns of a TabularEncoder."""


def lines(x: Array, w: Array, b: Array) -> Array:
    """Return ``w x + b`` for each function of each feature: (n_in, n_functions, n_samples).

    As one product: by fused multiplications and additions, b first, it rounds once, and steep lines
    far from zero stay exact where w x and b alone are large numbers.
    """
    columns = concat([b[:, :, None], w[:, :, None]], axis=2)
    rows = concat([ones_like(x[:, None, :]), x[:, None, :]], axis=1)
    return columns @ rows


@fused(lambda x, w, b: (*w, x[1]), n_results=2)
def cos_and_sin_turns(x: Array, w: Array, b: Array) -> tuple[Array, Array]:
    """Return cosine and sine of ``2 pi w x + b``; x is (n_in, n_samples)."""
    u = lines(x, w * (2.0 * pi), b)
    return cos(u), sin(u)


@fused(lambda x, w, b: (*w, x[1]), n_results=2)
def piecewise_linear(x: Array, w: Array, b: Array) -> tuple[Array, Array]:
    """Return ``min(max(w x + b, 0), 1)``, and 1 where it rises and 0 elsewhere."""
    u = lines(x, w, b)
    value = clip(u, low=0.0, high=1.0)
    return value, equal(value, u)


FUNCTIONS = {"periodic": cos_and_sin_turns, "piecewise_linear": piecewise_linear}
"""``f(U)`` and ``f'(U)``, the latter without its sign, by the kind of an embedding."""


@fused(lambda grad_C, slope, x: grad_C[:2], n_results=2)
def grad_lines(grad_C: Array, slope: Array, x: Array) -> tuple[Array, Array]:
    """Return the gradients of w and b in ``C = f(w x + b)``, with slope = f'."""
    grad_U = grad_C * slope
    return (grad_U @ x[:, :, None])[:, :, 0], grad_U.sum(axis=2)


@dataclass(frozen=True)
class NumericEmbedding(Layer):
    """Compute several learnt functions of each number, beside the number itself.

    Forward, for each feature x_i, with one row of w, b, U and C for each function: ``C = f(U)``
    where

    - periodic: ``U = 2 pi w x_i + b``, ``f(U) = cos(U)``,
    - piecewise linear: ``U = w x_i + b``, ``f(U) = min(max(U, 0), 1)``,

    and ``Z = V_i C + c_i``, ``y = [Z of the first feature, ..., Z of the last, x]``

    Backward: ``grad_V = grad_Z C^T``, ``grad_c = sum over samples of grad_Z``,
    ``grad_U = f'(U) * (V^T grad_Z)``, ``grad_b = sum over samples of grad_U``,
    ``grad_w = grad_U x_i`` and ``grad_x_i = its part of grad_y + w^T grad_U``, periodic ones
    ``2 pi`` times that; ``f'(U) = -sin(U)``, or 1 where U is within [0, 1] and 0 elsewhere

    A network is slow to learn a function that oscillates or jumps along one feature. It is a
    weighted sum of a few cosines of that feature, or of successive ramps. Cosines give smooth
    functions; ramps suit tables that suit trees: members of the two kinds make different errors.
    The periodic form is the one called PBLD: a bias within the cosine, a linear step of each
    feature's own, and the feature beside it. The other is the piecewise linear encoding.

    Shape: x (n_samples, n_in); w, b (n_in, n_functions); V (n_in, n_units, n_functions); c (n_in,
    n_units); U and C (n_in, n_functions, n_samples); Z (n_in, n_units, n_samples); y (n_samples,
    n_in (n_units + 1)).

    Parameters
    ----------
    n_functions : int, default=16
        Number of functions of a feature.
    n_units : int, default=3
        Number of weighted sums of them that go on, beside the feature itself.
    kind : {"periodic", "piecewise_linear"}, default="periodic"
        The functions.
    frequency_init : callable, default=N(0, 0.1^2)
        ``f(rng, shape) -> array``, the first w of periodic functions: periods per unit of a
        feature. Much depends on their scale; large ones let small differences in, and noise with
        them.
    lr_scale : float, default=0.1
        Factor of the learning rate of w and b.

    Raises
    ------
    ValueError
        By `params`, if there is no such kind.

    Notes
    -----
    The phases b of periodic functions are uniform in +-pi at first, V and c uniform in
    +-1/sqrt(n_functions). V decays, the others do not. Piecewise linear functions begin side by
    side between -3 and 3; before training they are fitted to where the labels change.

    References
    ----------
    Y. Gorishniy, I. Rubachev and A. Babenko, "On embeddings for numerical features in tabular deep
    learning", NeurIPS 2022, arXiv:2203.05556.

    D. Holzmüller, L. Grinsztajn and I. Steinwart, "Better by default: strong pre-tuned MLPs and
    boosted trees on tabular data", NeurIPS 2024, arXiv:2407.04491.

    Examples
    --------
    >>> from skdnn.nn import NumericEmbedding
    >>> NumericEmbedding(n_functions=16, n_units=3).n_out(10)
    40
    """

    n_functions: int = 16
    n_units: int = 3
    kind: str = "periodic"
    frequency_init: Initializer = LOW_FREQUENCIES
    lr_scale: float = 0.1

    def n_out(self, n_in: int) -> int:
        return n_in * (self.n_units + 1)

    def params(self, n_in: int) -> tuple[ParamSpec, ...]:
        if self.kind not in FUNCTIONS:
            raise ValueError(f"kind must be one of {list(FUNCTIONS)}, got {self.kind!r}.")
        shape, within = (n_in, self.n_functions), UniformWithin(1.0 / sqrt(self.n_functions))
        inits: tuple[Initializer, Initializer] = (self.frequency_init, UniformWithin(pi))
        if self.kind == "piecewise_linear":
            inits = Scaled(ones, self.n_functions / (2.0 * FARTHEST)), ramp_offsets
        return (
            ParamSpec("w", shape, inits[0], False, self.lr_scale),
            ParamSpec("b", shape, inits[1], False, self.lr_scale),
            ParamSpec("V", (n_in, self.n_units, self.n_functions), within),
            ParamSpec("c", (n_in, self.n_units), within, weight_decay=False),
        )

    def forward(self, x: Array, p: Params, ctx: Context) -> Array:
        C, _ = FUNCTIONS[self.kind](x.mT, p.w, p.b)
        Z = p.V @ C + p.c[:, :, None]
        return concat([Z.reshape(-1, len(x)), x.mT]).mT

    def backward(self, grad_y: Array, x: Array, p: Params, ctx: Context) -> tuple[Array, Grads]:
        C, slope = FUNCTIONS[self.kind](x.mT, p.w, p.b)
        n_in, n_units = p.c.shape
        turn, sign = (2.0 * pi, -1.0) if self.kind == "periodic" else (1.0, 1.0)
        grad_Z = grad_y.mT[: n_in * n_units].reshape(n_in, n_units, len(x))
        grad_C = (p.V * sign).mT @ grad_Z
        grad_w, grad_b = grad_lines(grad_C, slope, x.mT)
        grad_U = grad_C * slope
        grad_x = grad_y[:, n_in * n_units :] + (p.w[:, None, :] @ grad_U)[:, 0].mT * turn
        return grad_x, {
            "w": grad_w * turn,
            "b": grad_b,
            "V": grad_Z @ C.mT,
            "c": grad_Z.sum(axis=2),
        }


def ramp_offsets(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return the b of ramps side by side between -3 and 3."""
    n_functions = shape[-1]
    return np.broadcast_to(n_functions / 2.0 - np.arange(n_functions), shape)


@dataclass(frozen=True)
class CategoricalEmbedding(Layer):
    """Look up a learnt vector for each category.

    Forward:  ``y = [row x_1 of E_1, row x_2 of E_2, ...]``

    Backward: ``grad_E_j[level] = sum over the samples with x_j = level of their part of grad_y``,
    ``grad_x = 0``: nothing lies between one category and the next

    The same as a linear step over one-hot columns, without making these columns. Levels with
    similar effects end up close to each other.

    Shape: x (n_samples, len(sizes)), E_j (sizes[j], n_units[j]), y (n_samples, sum(n_units)).

    Parameters
    ----------
    sizes : tuple of int
        Number of levels of each column. Codes are integers from 0 to size - 1, stored as floats. A
        number outside counts as the first or last of them.
    n_units : tuple of int
        Number of units of each column.
    init : callable, default=N(0, 1)
        ``f(rng, shape) -> array``, the first rows. The default gives each unit the variance of a
        standardised column, as the first weights of the next layer expect.
    lr_scale : float, default=1.0
        Factor of the learning rate of the tables.
    trainable : bool, default=True
        Whether training changes the tables. Those that it does not change hold numbers that are
        known of each category.

    Raises
    ------
    ValueError
        By `params`, if there is not one size and one number of units for each column, or one of
        them is below 1.

    Notes
    -----
    The tables decay: levels that are rarely seen are drawn to zero, where they have no effect.

    References
    ----------
    C. Guo and F. Berkhahn, "Entity embeddings of categorical variables", 2016, arXiv:1604.06737.

    Examples
    --------
    >>> from skdnn.nn import CategoricalEmbedding
    >>> [spec.shape for spec in CategoricalEmbedding((50, 7), (8, 3)).params(2)]
    [(50, 8), (7, 3)]
    """

    sizes: tuple[int, ...]
    n_units: tuple[int, ...]
    init: Initializer = standard_normal
    lr_scale: float = 1.0
    trainable: bool = True

    def n_out(self, n_in: int) -> int:
        return sum(self.n_units)

    def params(self, n_in: int) -> tuple[ParamSpec, ...]:
        is_complete = len(self.sizes) == len(self.n_units) == n_in
        if not is_complete or min((*self.sizes, *self.n_units), default=1) < 1:
            raise ValueError(
                f"A CategoricalEmbedding must have one size and one number of units, of at least "
                f"1, for each of its {n_in} columns, got sizes={self.sizes!r} and "
                f"n_units={self.n_units!r}."
            )
        return tuple(
            ParamSpec(f"E_{j}", shape, self.init, lr_scale=self.lr_scale, trainable=self.trainable)
            for j, shape in enumerate(zip(self.sizes, self.n_units, strict=True), start=1)
        )

    def forward(self, x: Array, p: Params, ctx: Context) -> Array:
        codes = x.mT
        tables = [getattr(p, f"E_{j}") for j in range(1, len(self.sizes) + 1)]
        return concat([take_rows(E, codes[j]) for j, E in enumerate(tables)], axis=1)

    def backward(self, grad_y: Array, x: Array, p: Params, ctx: Context) -> tuple[Array, Grads]:
        if not self.trainable:
            return 0.0 * x, {}
        codes, ends = x.mT, list(accumulate(self.n_units))
        return 0.0 * x, {
            f"E_{j + 1}": scatter_add(codes[j], grad_y[:, end - width : end], n_rows=size)
            for j, (size, width, end) in enumerate(zip(self.sizes, self.n_units, ends, strict=True))
        }
