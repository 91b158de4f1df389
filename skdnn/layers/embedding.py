"""Give numbers and categories a form that a network reads easily: several units for each column.

Within an embedding of numbers arrays lie as (n_members, n_in, n_functions, n_samples): NumPy's
loops then run along the samples, and the small products of each feature over contiguous memory.
Most of the time goes into the cosines and sines, each taken once.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import pi, sqrt
from types import SimpleNamespace

import numpy as np
from scipy.sparse import csc_array

from .._values import frozen
from ..initializers import Initializer, Scaled, UniformWithin, ones, standard_normal, zeros
from .base import Buffer, ParamSpec, Plan, Slot

LOW_FREQUENCIES = Scaled(standard_normal, 0.1)
"""The first frequencies of RealMLP, for columns whose deviation is about 1."""

FARTHEST = 3.0
"""Between this number and its negative are the columns of a TabularEncoder."""


@frozen
class NumericEmbedding:
    """Describe each number by several functions of it, waves or ramps, and keep the number itself.

    Forward, for each feature x_i: ``C = f(U)`` with

    - waves: ``U = 2 pi x_i w_i + b_i``, ``f(U) = cos(U)``,
    - ramps: ``U = x_i w_i + b_i``, ``f(U) = min(max(U, 0), 1)``,

    ``Z = V_i C + c_i``; ``y = [Z of the first feature, ..., Z of the last, x]``

    Backward: ``grad_V = grad_Z C^T``, ``grad_c = sum over samples of grad_Z``,
    ``grad_U = f'(U) * (V^T grad_Z)``, ``grad_b = sum over samples of grad_U``,
    ``grad_w = grad_U x_i`` and ``grad_x_i = its part of grad_y + w_i^T grad_U``, with waves
    ``2 pi`` times that; ``f'(U) = -sin(U)``, or 1 within a ramp and 0 beside it

    A network is slow to learn a function that goes up and down along one feature, or jumps. Of a
    few periods of that feature, or ramps that follow one another, it is a weighted sum. Waves make
    smooth functions, ramps are at home where trees are: two kinds of members whose errors differ.
    With waves the form is the one called PBLD: a bias within the cosine, a linear step of each
    feature's own, and the feature beside it. With ramps it is the piecewise linear encoding.

    Shape: x (n_members or 1, n_samples, n_in); w, b (n_members, n_in, n_functions); V (n_members,
    n_in, n_units, n_functions); c (n_members, n_in, n_units); is_ramp (n_members, 1); U and C
    (n_members, n_in, n_functions, n_samples); Z (n_members, n_in, n_units, n_samples); y
    (n_members, n_samples, n_in (n_units + 1)).

    Parameters
    ----------
    n_functions : int, default=16
        Number of waves or ramps of a feature.
    n_units : int, default=3
        Number of weighted sums of them that go on, beside the feature itself.
    kinds : tuple of {"waves", "ramps"}, default=("waves",)
        What members see. With both, they take turns.
    frequency_init : callable, default=N(0, 0.1^2)
        ``f(rng, shape) -> array``, the first w of waves: periods per unit of a feature. Much
        depends on their scale; large ones let small differences in, and noise with them.
    lr_scale : float, default=0.1
        Factor of the learning rate of w and b.

    Notes
    -----
    The phases b of waves are uniform in +-pi at first, V and c uniform in +-1/sqrt(n_functions). V
    decays, the others do not. Ramps begin side by side between -3 and 3, and
    `skdnn.training.bins` moves them to where the labels change. The backward pass computes in
    the buffers of the forward pass, and can run once after it.

    References
    ----------
    Y. Gorishniy, I. Rubachev and A. Babenko, "On embeddings for numerical features in tabular deep
    learning", NeurIPS 2022, arXiv:2203.05556.

    D. Holzmüller, L. Grinsztajn and I. Steinwart, "Better by default: strong pre-tuned MLPs and
    boosted trees on tabular data", NeurIPS 2024, arXiv:2407.04491.

    Examples
    --------
    >>> from skdnn.layers import NumericEmbedding
    >>> NumericEmbedding(n_functions=16, n_units=3).plan(10).n_out
    40
    """

    n_functions: int = 16
    n_units: int = 3
    kinds: tuple[str, ...] = ("waves",)
    frequency_init: Initializer = LOW_FREQUENCIES
    lr_scale: float = 0.1

    is_recordable = True

    def plan(self, n_in: int) -> Plan:
        n_functions, n_units = self.n_functions, self.n_units
        within = UniformWithin(1.0 / sqrt(n_functions))

        def of_functions(name: str, waves: Initializer, ramps: Initializer) -> ParamSpec:
            return ParamSpec(name, (n_in, n_functions), turns(waves, ramps), False, self.lr_scale)

        def turns(waves: Initializer, ramps: Initializer) -> tuple[Initializer, ...]:
            return tuple({"waves": waves, "ramps": ramps}[kind] for kind in self.kinds)

        return Plan(
            n_out=n_in * (n_units + 1),
            params=(
                of_functions("w", self.frequency_init, ramp_slopes),
                of_functions("b", UniformWithin(pi), ramp_offsets),
                ParamSpec("V", (n_in, n_units, n_functions), within),
                ParamSpec("c", (n_in, n_units), within, weight_decay=False),
                ParamSpec("is_ramp", (1,), turns(zeros, ones), False, trainable=False),
            ),
            buffers=(
                Buffer("y", n_in * (n_units + 1)),
                Buffer("rows", 2 * n_in),
                Buffer("U", n_in * n_functions),
                Buffer("C", n_in * n_functions),
                Buffer("Z", n_in * n_units, kind="scratch"),
                Buffer("pull", n_in, kind="scratch"),
                Buffer("grad_x", n_in, kind="grad_x"),
            ),
        )

    def forward(self, x: np.ndarray, slot: Slot) -> np.ndarray:
        xp, work, params = slot.xp, slot.work, slot.params
        rows, U, C, Z, _ = self._unfold(slot)
        if not hasattr(work, "turn"):
            work.turn = self._turn(slot)
            work.lines = np.empty((*params.w.shape, 2), params.w.dtype)
        xp.copyto(rows[:, :, 1], x.swapaxes(1, 2))
        xp.copyto(rows[:, :, 0], 1.0)
        # [b, 2 pi w] [1; x] is one product where multiplying and adding are two passes. By fused
        # multiplications and additions, b first, it rounds once: steep ramps far from zero stay
        # exact, where w x and b alone are large numbers.
        xp.multiply(params.w, work.turn, out=work.lines[..., 1])
        xp.copyto(work.lines[..., 0], params.b)
        xp.matmul(work.lines, rows, out=U)
        for members, have_ramps in self._kinds(slot):
            if have_ramps:
                xp.clip_to_ramp(work.U[members], work.C[members])
            else:
                xp.cos(work.U[members], out=work.C[members])
        xp.matmul(params.V, C, out=Z)
        # Shifted first and transposed then: in one step it takes three times as long.
        xp.add(Z, params.c[..., np.newaxis], out=Z)
        n_embedded = work.y.shape[2] - x.shape[2]
        xp.copyto(work.y[:, :, :n_embedded], _side_by_side(Z).swapaxes(1, 2))
        xp.copyto(work.y[:, :, n_embedded:], x)
        return work.y

    def backward(self, grad_y: np.ndarray, slot: Slot, *, need_grad_x: bool) -> np.ndarray:
        xp, work, params, grads = slot.xp, slot.work, slot.params, slot.grads
        rows, U, C, grad_Z, pull = self._unfold(slot)
        ones = slot.ones.swapaxes(1, 2)
        n_embedded = grad_Z.shape[1] * grad_Z.shape[2]
        xp.copyto(_side_by_side(grad_Z), grad_y[:, :, :n_embedded].swapaxes(1, 2))
        xp.matmul(grad_Z, C.swapaxes(2, 3), out=grads.V)
        xp.matmul(grad_Z, ones, out=grads.c[..., np.newaxis])
        for members, have_ramps in self._kinds(slot):
            slope = work.U[members]
            if have_ramps:
                xp.mark_equal(slope, work.C[members])
            else:
                xp.negative(xp.sin(slope, out=slope), out=slope)
        grad_U = xp.matmul(params.V.swapaxes(2, 3), grad_Z, out=C)
        xp.multiply(grad_U, U, out=grad_U)
        xp.matmul(grad_U, ones, out=grads.b[..., np.newaxis])
        xp.matmul(grad_U, rows[:, :, 1, :, np.newaxis], out=grads.w[..., np.newaxis])
        xp.multiply(grads.w, work.turn, out=grads.w)
        if not need_grad_x:
            return grad_y
        xp.matmul(work.lines[:, :, np.newaxis, :, 1], grad_U, out=pull)
        xp.copyto(work.grad_x, pull[:, :, 0].swapaxes(1, 2))
        return xp.add(work.grad_x, grad_y[:, :, n_embedded:], out=work.grad_x)

    def _kinds(self, slot: Slot) -> Iterator[tuple[slice, bool]]:
        """Yield members of one kind, and whether they have ramps.

        Some of all members are here, equally spaced; so they take turns as all of them do, or are
        all of one kind.
        """
        is_ramp = slot.params.is_ramp[:, 0].real > 0.5
        n_turns = len(self.kinds)
        for first, have_ramps in enumerate(is_ramp[:n_turns].tolist()):
            yield slice(first, None, n_turns), have_ramps

    @staticmethod
    def _turn(slot: Slot) -> np.ndarray:
        """Return for each member what x w is multiplied by: a whole turn for waves."""
        is_ramp = slot.params.is_ramp[..., np.newaxis].real > 0.5
        return np.where(is_ramp, 1.0, 2.0 * pi).astype(slot.params.w.real.dtype)

    def _unfold(self, slot: Slot) -> list[np.ndarray]:
        """View the buffers as (n_members, n_in, ..., n_samples)."""
        work = slot.work
        n_members, n_samples, width = work.rows.shape
        n_in = width // 2
        buffers = (work.rows, work.U, work.C, work.Z, work.pull)
        return [buffer.reshape(n_members, n_in, -1, n_samples) for buffer in buffers]


def ramp_slopes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return the w of ramps side by side between -3 and 3."""
    return np.full(shape, shape[-1] / (2.0 * FARTHEST))


def ramp_offsets(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return the b of ramps side by side between -3 and 3."""
    n_functions = shape[-1]
    return np.broadcast_to(n_functions / 2.0 - np.arange(n_functions), shape)


def _side_by_side(Z: np.ndarray) -> np.ndarray:
    """View (n_members, n_in, n_units, n_samples) as (n_members, n_in n_units, n_samples)."""
    return Z.reshape(len(Z), -1, Z.shape[3])


@frozen
class CategoricalEmbedding:
    """Look up, for each category, units that are learnt.

    Forward:  ``y = [row x_1 of E_1, row x_2 of E_2, ...]``

    Backward: ``grad_E_j[level] = sum over the samples with x_j = level of their part of grad_y``,
    ``grad_x = 0``: nothing lies between one category and the next

    The same as a linear step over one-hot columns, for as many levels as there are, without ever
    making the columns. Levels that act alike end up close to each other.

    Shape: x (n_members or 1, n_samples, len(sizes)), E_j (n_members, sizes[j], n_units[j]),
    y (n_members, n_samples, sum(n_units)).

    Parameters
    ----------
    sizes : tuple of int
        Number of levels of each column. Codes are integers from 0 to size - 1, stored as floats;
        whoever makes them sees to that. A number outside counts as the first or last of them.
    n_units : tuple of int
        Number of units to describe a category of each column with.
    init : callable, default=N(0, 1)
        ``f(rng, shape) -> array``, the first rows. The default gives each unit the variance of a
        standardised column, which is what the first weights of the next layer are made for.
    lr_scale : float, default=1.0
        Factor of the learning rate of the tables.

    Raises
    ------
    ValueError
        By `plan`, if there is not one size and one number of units for each column, or one of them
        is below 1.

    Notes
    -----
    The tables decay: levels that are rarely seen are drawn to zero, where they say nothing.

    References
    ----------
    C. Guo and F. Berkhahn, "Entity embeddings of categorical variables", 2016, arXiv:1604.06737.

    Examples
    --------
    >>> from skdnn.layers import CategoricalEmbedding
    >>> [spec.shape for spec in CategoricalEmbedding((50, 7), (8, 3)).plan(2).params]
    [(50, 8), (7, 3)]
    """

    sizes: tuple[int, ...]
    n_units: tuple[int, ...]
    init: Initializer = standard_normal
    lr_scale: float = 1.0

    is_recordable = True

    def plan(self, n_in: int) -> Plan:
        if not len(self.sizes) == len(self.n_units) == n_in:
            raise ValueError(
                f"A CategoricalEmbedding must have one size and one number of units for each of "
                f"its n_in={n_in} columns, got sizes={self.sizes!r} and n_units={self.n_units!r}; "
                f"make them equally long."
            )
        if min((*self.sizes, *self.n_units), default=1) < 1:
            raise ValueError(
                f"The sizes and n_units of a CategoricalEmbedding must be at least 1, got "
                f"sizes={self.sizes!r} and n_units={self.n_units!r}; leave empty columns out."
            )
        n_out = sum(self.n_units)
        # Tables of the same width share the array that rows are gathered in.
        widths = sorted(set(self.n_units))
        return Plan(
            n_out,
            params=tuple(
                ParamSpec(f"E_{j}", shape, self.init, lr_scale=self.lr_scale)
                for j, shape in enumerate(zip(self.sizes, self.n_units, strict=True), start=1)
            ),
            buffers=(
                Buffer("y", n_out),
                Buffer("columns", n_in, kind="scratch", real=True),
                Buffer("codes", n_in, integer=True),
                *(Buffer(f"rows_{width}", width, kind="scratch") for width in widths),
                Buffer("grad_x", n_in, kind="grad_x"),
            ),
        )

    def forward(self, x: np.ndarray, slot: Slot) -> np.ndarray:
        xp, work = slot.xp, slot.work
        columns = self._by_column(work.columns)
        xp.copyto(columns, x.real.transpose(2, 0, 1))
        parts = self._parts(slot, slot.params, work.y)
        for column, (codes, table, rows, part) in zip(columns, parts, strict=True):
            xp.round_to_codes(column, table.shape[1], codes)
            xp.look_up(codes, table, rows)
            xp.copyto(part, rows)
        return work.y

    def backward(self, grad_y: np.ndarray, slot: Slot, *, need_grad_x: bool) -> np.ndarray:
        xp, work = slot.xp, slot.work
        if not hasattr(work, "one_hots"):
            work.one_hots = self._make_one_hots(grad_y)
        parts = self._parts(slot, slot.grads, grad_y)
        for one_hot, (codes, grad_E, rows, part) in zip(work.one_hots, parts, strict=True):
            xp.copyto(rows, part)
            xp.add_up_rows(codes, rows, grad_E, one_hot)
        if not need_grad_x:
            return grad_y
        xp.copyto(work.grad_x, 0.0)
        return work.grad_x

    @staticmethod
    def _by_column(buffer: np.ndarray) -> np.ndarray:
        """View numbers of all columns as (n_in, n_members, n_samples): a column side by side."""
        n_members, n_samples, n_in = buffer.shape
        return buffer.reshape(n_in, n_members, n_samples)

    def _parts(
        self, slot: Slot, tables: SimpleNamespace, y: np.ndarray
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield each column's codes, its table, the array for its rows, and their place in y."""
        start, all_codes = 0, self._by_column(slot.work.codes)
        for codes, table in zip(all_codes, vars(tables).values(), strict=True):
            width = table.shape[2]
            yield codes, table, getattr(slot.work, f"rows_{width}"), y[..., start : start + width]
            start += width

    def _make_one_hots(self, grad_y: np.ndarray) -> list[csc_array]:
        """Make what `add_up_rows` works in; that takes longer than to add up."""
        n_members, n_samples, _ = grad_y.shape
        n_rows = n_members * n_samples
        ones, starts = np.ones(n_rows, grad_y.dtype), np.arange(n_rows + 1, dtype=np.int32)
        return [
            csc_array((ones, np.zeros(n_rows, np.int32), starts), shape=(n_members * size, n_rows))
            for size in self.sizes
        ]
