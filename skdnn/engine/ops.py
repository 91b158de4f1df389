"""The operations that formulas are made of, in the array API's words.

Each runs at once on NumPy arrays of any float or complex dtype; with a `Symbol` among its operands
it is recorded instead. What a `fused` one computes is a formula of others: executors that have a
kernel of its name run that, and for the others the formula is recorded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import update_wrapper
from typing import Any

import numpy as np
from scipy import special

Shape = tuple[int, ...]


class Traced:
    """What stands for an array while formulas are traced; operations on it are recorded."""

    __slots__ = ()
    trace: Any
    shape: Shape


class Op:
    """One operation: what it computes, and the shape of its result.

    Attributes
    ----------
    name : str
        Unique; kernels go by it.
    compute : callable
        ``compute(*operands, **attributes) -> array``, on NumPy arrays; the formula of a fused one.
    shape : callable
        ``shape(*shapes, **attributes) -> shape`` of the result, or of each of several.
    ufunc : callable or None
        NumPy's function of each element that computes it.
    is_fused : bool
    n_results : int
    is_elementwise : bool
        Whether each element is computed by itself, so that the result may take the place of an
        operand of its shape.
    """

    def __init__(
        self,
        name: str,
        compute: Callable[..., Any],
        shape: Callable[..., Shape],
        ufunc: Callable[..., Any] | None = None,
        *,
        is_fused: bool = False,
        n_results: int = 1,
    ) -> None:
        self.name, self.compute, self.shape, self.ufunc = name, compute, shape, ufunc
        self.is_fused, self.n_results = is_fused, n_results
        self.is_elementwise = shape is np.broadcast_shapes

    def __call__(self, *operands: Any, **attributes: Any) -> Any:
        for operand in operands:
            if isinstance(operand, Traced) and (
                not self.is_fused or self.name in operand.trace.kernels
            ):
                return operand.trace.record(self, operands, attributes)
        return self.compute(*operands, **attributes)


def fused(shape: Callable[..., Shape], n_results: int = 1) -> Callable[..., Op]:
    """Let an executor run the kernel of a function's name where it has one.

    Parameters
    ----------
    shape : callable
        ``shape(*shapes) -> shape`` of each result.
    n_results : int, default=1
    """

    def make(formula: Callable[..., Any]) -> Op:
        op = Op(formula.__name__, formula, shape, is_fused=True, n_results=n_results)
        update_wrapper(op, formula)
        return op

    return make


fused_elementwise = fused(np.broadcast_shapes)
"""Say the same of a function of each element by itself."""

UFUNCS: dict[Any, Op] = {}
"""NumPy's functions of each element, and the operations that are recorded for them."""


def _elementwise(ufunc: Any, compute: Any = None) -> Op:
    UFUNCS[ufunc] = op = Op(ufunc.__name__, compute or ufunc, np.broadcast_shapes, ufunc)
    return op


def _comparison(ufunc: Any) -> Op:
    """Make an operation that gives 1 and 0 in the dtype of what is compared."""

    def compute(a: Any, b: Any) -> Any:
        return ufunc(a, b).astype(np.result_type(a, b, np.float32).type(0).real.dtype)

    return _elementwise(ufunc, compute)


def _exp(z: Any) -> Any:
    with np.errstate(over="ignore"):  # infinity is the right limit
        return np.exp(z)


add = _elementwise(np.add)
subtract = _elementwise(np.subtract)
multiply = _elementwise(np.multiply)
divide = _elementwise(np.divide)
power = _elementwise(np.power)
maximum = _elementwise(np.maximum)
minimum = _elementwise(np.minimum)
greater = _comparison(np.greater)
greater_equal = _comparison(np.greater_equal)
less = _comparison(np.less)
less_equal = _comparison(np.less_equal)
equal = _comparison(np.equal)
not_equal = _comparison(np.not_equal)
negative = _elementwise(np.negative)
absolute = _elementwise(np.absolute)
sign = _elementwise(np.sign)
square = _elementwise(np.square)
sqrt = _elementwise(np.sqrt)
exp = _elementwise(np.exp, compute=_exp)
expm1 = _elementwise(np.expm1)
log = _elementwise(np.log)
log1p = _elementwise(np.log1p)
tanh = _elementwise(np.tanh)
sin = _elementwise(np.sin)
cos = _elementwise(np.cos)
erf = _elementwise(special.erf)


def _matmul_shape(a: Shape, b: Shape) -> Shape:
    if len(a) < 2 or len(a) != len(b) or a[:-2] != b[:-2] or a[-1] != b[-2]:
        raise ValueError(f"matmul takes (..., m, k) @ (..., k, n), got the shapes {a} and {b}.")
    return (*a[:-1], b[-1])


matmul = Op("matmul", np.matmul, _matmul_shape)
UFUNCS[np.matmul] = matmul


def _sum_shape(a: Shape, *, axis: int | None, keepdims: bool) -> Shape:
    if axis is None:
        return (1,) * len(a) if keepdims else ()
    return (*a[:axis], *([1] if keepdims else []), *a[axis + 1 :])


_sum = Op("sum", np.sum, _sum_shape)


def sum(a: Any, axis: int | None = None, keepdims: bool = False) -> Any:  # noqa: A001
    """Add up along an axis, or all."""
    return _sum(a, axis=axis if axis is None else axis % len(a.shape), keepdims=keepdims)


def mean(a: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """Average along an axis, or all."""
    n = math.prod(a.shape) if axis is None else a.shape[axis]
    return sum(a, axis, keepdims) * (1.0 / n)


transpose = Op("transpose", lambda a: a.mT, lambda a: (*a[:-2], a[-1], a[-2]))

Ranges = tuple[tuple[int, int], ...]


def cut(a: Any, index: Ranges) -> Any:
    return a[tuple(slice(*ends) for ends in index)]


copy_slice = Op(
    "copy_slice",
    cut,
    lambda a, *, index: tuple(stop - start for start, stop in index),
)


def _concat_shape(*shapes: Shape, axis: int) -> Shape:
    joined = list(shapes[0])
    joined[axis] = 0
    for shape in shapes:
        joined[axis] += shape[axis]
    return tuple(joined)


_concat = Op(
    "concat",
    lambda *arrays, axis: np.concatenate(arrays, axis=axis),
    _concat_shape,
)


def concat(arrays: Any, axis: int = 0) -> Any:
    """Join arrays along an axis."""
    arrays = tuple(arrays)
    if len(arrays) == 1:
        return arrays[0]
    return _concat(*arrays, axis=axis % len(arrays[0].shape))


def broadcast_to(a: Any, shape: Shape) -> Any:
    """Repeat an array along axes of length 1 until it has this shape."""
    return _broadcast(a, shape=tuple(shape))


_broadcast = Op(
    "broadcast",
    lambda a, *, shape: np.broadcast_to(a, shape),
    lambda a, *, shape: shape,
)


clip = Op("clip", lambda a, *, low, high: np.clip(a, low, high), lambda a, *, low, high: a)
"""``min(max(a, low), high)`` in one go; compiled code has kernels for what uses it."""


def ones_like(a: Any) -> Any:
    """Return an array of ones; one that is traced is a constant."""
    return a.trace.plain(np.ones(a.shape)) if isinstance(a, Traced) else np.ones_like(a)


def constant_like(values: Any, a: Any) -> Any:
    """Return numbers that never change, in the dtype of an array."""
    return a.trace.plain(values) if isinstance(a, Traced) else np.asarray(values, a.dtype)


copy = Op("copy", np.copy, np.broadcast_shapes, np.positive)


where = Op(
    "where",
    lambda condition, a, b: np.where(condition != 0, a, b),
    np.broadcast_shapes,
)


def to_index(codes: Any, n_levels: int) -> np.ndarray:
    """Return codes, floats that are whole numbers, as positions: the nearest ones that exist.

    What is no number counts as 0.
    """
    return np.fmin(np.fmax(codes.real, 0), n_levels - 1).astype(np.intp)


def _take_rows(table: Any, codes: Any) -> Any:
    return table[to_index(codes, len(table))]


take_rows = Op(
    "take_rows",
    _take_rows,
    lambda table, codes: (*codes, table[1]),
)
"""Row ``codes[i]`` of a table for each i; codes below 0 or beyond the last row are clipped."""


def _scatter_add(codes: Any, rows: Any, *, n_rows: int) -> Any:
    out = np.zeros((n_rows, rows.shape[1]), rows.dtype)
    np.add.at(out, to_index(codes, n_rows), rows)
    return out


scatter_add = Op("scatter_add", _scatter_add, lambda codes, rows, *, n_rows: (n_rows, rows[1]))
"""A table of `n_rows` rows, each the sum of the rows whose code is its number."""


class SparseRows:
    """Rows of a CSR matrix, which only enter products, as the first operand."""

    __array_ufunc__ = None  # arrays of NumPy in front of it are an error, too

    def __init__(self, csr: Any) -> None:
        self.csr, self.shape = csr, csr.shape

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def mT(self) -> SparseRows:  # noqa: N802 - the array API's name
        return SparseRows(self.csr.T)

    def __matmul__(self, other: Any) -> Any:
        return self.csr @ other


N_BITS = 1 << 16
"""Number of values of the 16 random bits that decide about a unit."""


def _dropout_mask(bits: Any, *, n_dropped: int) -> Any:
    return (bits >= n_dropped) * (N_BITS / (N_BITS - n_dropped))


dropout_mask = Op("dropout_mask", _dropout_mask, lambda bits, *, n_dropped: bits)
"""0 for random numbers of 16 bits below `n_dropped`, for others the inverse of their share."""


@fused_elementwise
def sigmoid(z: Any) -> Any:
    """``1 / (1 + e^-z)``."""
    return 1.0 / (1.0 + exp(-z))


@fused_elementwise
def lerp(a: Any, b: Any, t: Any) -> Any:
    """``a + t (b - a)``: linear interpolation."""
    return a + t * (b - a)
