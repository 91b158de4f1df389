"""Compiled kernels of the operations, on views of one arena.

None can write elsewhere, whatever it is called with: lengths are those of the views.
"""

import math
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from .lowering import Kernel

# Inlined, all are part of `run_steps`: the process that compiles it has then the same code as those
# that load it. Else it would take kernels that were compiled by themselves, which round otherwise.
_OPTIONS: Any = {"error_model": "numpy", "nogil": True, "forceinline": True}
FASTMATH = {"contract", "nsz"}
exact = njit(fastmath=FASTMATH, **_OPTIONS)
reducing = njit(fastmath={"contract", "nsz", "reassoc"}, **_OPTIONS)


# ---- functions of one number, as polynomials that the compiler turns into vector instructions


def _by_dtype(single: Any, double: Any) -> Any:
    """Return a function for compiled code, which is the first for float32, else the second."""

    def function(x):
        raise NotImplementedError

    options: Any = {"fastmath": FASTMATH, "error_model": "numpy"}
    overload(function, jit_options=options)(lambda x: single if x == types.float32 else double)
    return function


def _exp_single(x):
    f = np.float32
    inside = min(max(x if x == x else f(0), f(-104)), f(89))
    k = np.rint(inside * f(1.44269504))
    r = inside - k * f(0.693359375) - k * f(-2.12194440e-4)
    p = f(8.3334519e-3) + r * f(1.3981999e-3)
    p = f(0.5) + r * (f(1.6666666e-1) + r * (f(4.1665796e-2) + r * p))
    p = f(1) + r * (f(1) + r * p)
    # 2^k as two factors, each of which is a normal number.
    whole = np.int32(k)
    half = whole >> 1
    p *= np.int32((half + np.int32(127)) << 23).view(np.float32)
    p *= np.int32((whole - half + np.int32(127)) << 23).view(np.float32)
    return p if x == x else x


def _exp_double(x):
    inside = min(max(x if x == x else 0.0, -746.0), 710.0)
    k = np.rint(inside * 1.4426950408889634)
    r = inside - k * 6.93147180369123816490e-01 - k * 1.90821492927058770002e-10
    p = 1 / 479001600 + r / 6227020800
    p = 1 / 362880 + r * (1 / 3628800 + r * (1 / 39916800 + r * p))
    p = 1 / 720 + r * (1 / 5040 + r * (1 / 40320 + r * p))
    p = 1.0 + r * (1.0 + r * (1 / 2 + r * (1 / 6 + r * (1 / 24 + r * (1 / 120 + r * p)))))
    whole = np.int64(k)
    half = whole >> 1
    p *= np.int64((half + 1023) << 52).view(np.float64)
    p *= np.int64((whole - half + 1023) << 52).view(np.float64)
    return p if x == x else x


def _tanh_single(x):
    f = np.float32
    c = min(max(x if x == x else f(0), f(-7.9053111)), f(7.9053111))
    q = c * c
    p = f(-8.60467152e-11) + q * (f(2.00018790e-13) + q * f(-2.76076848e-16))
    p = f(6.37261929e-04) + q * (f(1.48572236e-05) + q * (f(5.12229709e-08) + q * p))
    p = c * (f(4.89352456e-03) + q * p)
    d = f(2.26843463e-03) + q * (f(1.18534706e-04) + q * f(1.19825839e-06))
    d = f(4.89352519e-03) + q * d
    return p / d if x == x else x


def _sin_single(x):
    f, q = np.float32, x * x
    p = f(-1.9840874e-04) + q * (f(2.7525562e-06) + q * f(-2.3889859e-08))
    return x + x * q * (f(-1.6666667e-01) + q * (f(8.3333310e-03) + q * p))


def _sin_double(x):
    q = x * x
    p = -1 / 121645100408832000 + q / 5.109094217170944e19
    p = -1 / 1307674368000 + q * (1 / 355687428096000 + q * p)
    p = -1 / 39916800 + q * (1 / 6227020800 + q * p)
    p = -1 / 5040 + q * (1 / 362880 + q * p)
    return x + x * q * (-1 / 6 + q * (1 / 120 + q * p))


def _cos_single(x):
    f, q = np.float32, x * x
    p = f(-1.3888397e-03) + q * (f(2.4760495e-05) + q * f(-2.6051615e-07))
    return f(1) + q * (f(-0.5) + q * (f(4.16666418e-02) + q * p))


def _cos_double(x):
    q = x * x
    p = -1 / 6402373705728000 + q * (1 / 2432902008176640000 - q / 1.1240007277776077e21)
    p = -1 / 87178291200 + q * (1 / 20922789888000 + q * p)
    p = -1 / 3628800 + q * (1 / 479001600 + q * p)
    p = -1 / 720 + q * (1 / 40320 + q * p)
    return 1.0 + q * (-1 / 2 + q * (1 / 24 + q * p))


exp = _by_dtype(_exp_single, _exp_double)
"""e^x. For NaN and beyond the range of the dtype as NumPy: NaN, 0 and infinity."""

tanh = _by_dtype(_tanh_single, lambda x: math.tanh(x))
sin_quarter = _by_dtype(_sin_single, _sin_double)
cos_quarter = _by_dtype(_cos_single, _cos_double)
"""Sine and cosine for x in [-pi/2, pi/2]."""


# ---- each element by itself


@exact
def copy(a, out):
    for i in range(min(a.size, out.size)):
        out[i] = a[i]


@exact
def unary(kernel, a, out):  # noqa: C901
    f, n = a.dtype.type, min(a.size, out.size)
    if kernel == Kernel.copy:
        for i in range(n):
            out[i] = a[i]
    elif kernel == Kernel.negative:
        for i in range(n):
            out[i] = -a[i]
    elif kernel == Kernel.absolute:
        for i in range(n):
            out[i] = abs(a[i])
    elif kernel == Kernel.sign:
        for i in range(n):
            out[i] = f(1) if a[i] > f(0) else (f(-1) if a[i] < f(0) else a[i])
    elif kernel == Kernel.square:
        for i in range(n):
            out[i] = a[i] * a[i]
    elif kernel == Kernel.sqrt:
        for i in range(n):
            out[i] = np.sqrt(a[i])
    elif kernel == Kernel.exp:
        for i in range(n):
            out[i] = exp(a[i])
    elif kernel == Kernel.sigmoid:
        for i in range(n):
            z = a[i] if a[i] < f(40) or a[i] != a[i] else f(40)  # subnormal numbers are slow
            out[i] = f(1) / (f(1) + exp(-z))
    elif kernel == Kernel.tanh:
        for i in range(n):
            out[i] = tanh(a[i])
    else:
        _unary_of_libm(kernel, a, out)


@exact
def _unary_of_libm(kernel, a, out):  # noqa: C901
    f, n = a.dtype.type, min(a.size, out.size)
    if kernel == Kernel.expm1:
        for i in range(n):
            out[i] = math.expm1(a[i])
    elif kernel == Kernel.log:
        for i in range(n):
            out[i] = np.log(a[i])
    elif kernel == Kernel.log1p:
        for i in range(n):
            out[i] = np.log1p(a[i])
    elif kernel == Kernel.sin:
        for i in range(n):
            out[i] = np.sin(a[i])
    elif kernel == Kernel.cos:
        for i in range(n):
            out[i] = np.cos(a[i])
    elif kernel == Kernel.erf:
        for i in range(n):
            out[i] = f(math.erf(a[i]))


@exact
def binary(kernel, a, b, out):  # noqa: C901
    f, n = a.dtype.type, min(a.size, b.size, out.size)
    if kernel == Kernel.add:
        for i in range(n):
            out[i] = a[i] + b[i]
    elif kernel == Kernel.subtract:
        for i in range(n):
            out[i] = a[i] - b[i]
    elif kernel == Kernel.multiply:
        for i in range(n):
            out[i] = a[i] * b[i]
    elif kernel == Kernel.divide:
        for i in range(n):
            out[i] = a[i] / b[i]
    elif kernel == Kernel.power:
        for i in range(n):
            out[i] = a[i] ** b[i]
    elif kernel == Kernel.maximum:  # NaN wins, as in NumPy
        for i in range(n):
            out[i] = a[i] if a[i] >= b[i] or a[i] != a[i] else b[i]
    elif kernel == Kernel.minimum:
        for i in range(n):
            out[i] = a[i] if a[i] <= b[i] or a[i] != a[i] else b[i]
    elif kernel == Kernel.silu_slope:
        for i in range(n):
            out[i] = a[i] + b[i] * (f(1) - a[i])
    else:
        _compare(kernel, a, b, out)


@exact
def _compare(kernel, a, b, out):  # noqa: C901
    f, n = a.dtype.type, min(a.size, b.size, out.size)
    if kernel == Kernel.greater:
        for i in range(n):
            out[i] = f(1) if a[i] > b[i] else f(0)
    elif kernel == Kernel.greater_equal:
        for i in range(n):
            out[i] = f(1) if a[i] >= b[i] else f(0)
    elif kernel == Kernel.less:
        for i in range(n):
            out[i] = f(1) if a[i] < b[i] else f(0)
    elif kernel == Kernel.less_equal:
        for i in range(n):
            out[i] = f(1) if a[i] <= b[i] else f(0)
    elif kernel == Kernel.equal:
        for i in range(n):
            out[i] = f(1) if a[i] == b[i] else f(0)
    elif kernel == Kernel.not_equal:
        for i in range(n):
            out[i] = f(1) if a[i] != b[i] else f(0)


@exact
def where(condition, a, b, out):
    zero = a.dtype.type(0)
    for i in range(min(condition.size, a.size, b.size, out.size)):
        out[i] = a[i] if condition[i] != zero else b[i]


@exact
def lerp(a, b, t, out):
    for i in range(min(a.size, b.size, t.size, out.size)):
        out[i] = a[i] + t[i] * (b[i] - a[i])


@exact
def add_scaled(a, b, factor, rate, out):
    for i in range(min(a.size, b.size, factor.size, rate.size, out.size)):
        out[i] = a[i] + b[i] * factor[i] * rate[i]


@exact
def dropout_mask(n_dropped, bits, out):
    zero, scale = out.dtype.type(0), out.dtype.type(65536.0 / (65536 - n_dropped))
    threshold = np.uint16(n_dropped)
    for i in range(min(bits.size, out.size)):
        out[i] = scale if bits[i] >= threshold else zero


# ---- whole arrays


@exact
def transpose(a, out):
    m, n = a.shape
    if out.shape != (n, m):
        raise ValueError("a transpose has another shape")
    m_even, n_even = m // 8 * 8, n // 8 * 8
    for i_0 in range(0, m_even, 8):  # loops of known length become vector instructions
        for j_0 in range(0, n_even, 8):
            for j in range(8):
                row = out[j_0 + j]
                for i in range(8):
                    row[i_0 + i] = a[i_0 + i, j_0 + j]
    for i in range(m):
        for j in range(0 if i >= m_even else n_even, n):
            out[j, i] = a[i, j]


@reducing
def sum_middle(a, out):
    """Add up along the second of three axes, which has length 1 in the result."""
    zero = a.dtype.type(0)
    n_0, n_1, n_2 = a.shape
    if out.shape != (n_0, 1, n_2):
        raise ValueError("a sum has another shape")
    for i in range(n_0):
        if n_2 == 1:
            column, total = a[i].reshape(-1), zero
            for j in range(n_1):
                total += column[j]
            out[i, 0, 0] = total
        else:
            totals = out[i, 0]
            totals[:] = zero
            for j in range(n_1):
                row = a[i, j]
                for k in range(n_2):
                    totals[k] += row[k]


@reducing
def product(a, b, out):  # noqa: C901
    """out = a b, where rows of b are long; four of them at once."""
    n_terms, n = min(a.shape[1], b.shape[0]), min(b.shape[1], out.shape[1])
    zero, n_first = a.dtype.type(0), n_terms % 4
    for i in range(min(a.shape[0], out.shape[0])):  # a view of each row would take as long
        if n_first == 0:
            for j in range(n):
                out[i, j] = zero
        elif n_first == 1:
            x_0 = a[i, 0]
            for j in range(n):
                out[i, j] = x_0 * b[0, j]
        elif n_first == 2:
            x_0, x_1 = a[i, 0], a[i, 1]
            for j in range(n):
                out[i, j] = x_0 * b[0, j] + x_1 * b[1, j]
        else:
            x_0, x_1, x_2 = a[i, 0], a[i, 1], a[i, 2]
            for j in range(n):
                out[i, j] = x_0 * b[0, j] + x_1 * b[1, j] + x_2 * b[2, j]
        for k in range(n_first, n_terms, 4):
            x_0, x_1, x_2, x_3 = a[i, k], a[i, k + 1], a[i, k + 2], a[i, k + 3]
            for j in range(n):
                first = x_0 * b[k, j] + x_1 * b[k + 1, j]
                out[i, j] += first + x_2 * b[k + 2, j] + x_3 * b[k + 3, j]


@reducing
def product_with_transposed(a, b, out):
    """out = a b^T."""
    for i in range(min(out.shape[0], a.shape[0])):
        first = a[i]
        for j in range(min(out.shape[1], b.shape[0])):
            second, total = b[j], a.dtype.type(0)
            for k in range(min(first.size, second.size)):
                total += first[k] * second[k]
            out[i, j] = total


@exact
def _find_level(code, n_levels):
    """Return a code, a float that is a whole number, as the nearest position that exists."""
    if not code > 0:
        return 0
    return n_levels - 1 if code >= n_levels - 1 else np.int64(code)


@exact
def take_rows(table, codes, out):
    for i in range(min(codes.size, len(out))):
        copy(table[_find_level(codes[i], len(table))], out[i])


@exact
def scatter_add(codes, rows, out):
    out[:] = out.dtype.type(0)
    for i in range(min(codes.size, len(rows))):
        total = out[_find_level(codes[i], len(out))]
        for j in range(min(total.size, rows.shape[1])):
            total[j] += rows[i, j]


@exact
def _axpy(factor, a, out):
    for i in range(min(a.size, out.size)):
        out[i] += factor * a[i]


@exact
def _terms(row, data, indices, indptr):
    """Return where the numbers of a row are: within the arrays, whatever these say."""
    if row + 1 >= indptr.size:
        return range(0, 0)
    return range(max(indptr[row], 0), min(indptr[row + 1], data.size, indices.size))


@exact
def csr_matmul(index, data, indices, indptr, w, out):
    out[:] = out.dtype.type(0)
    for i in range(min(index.size, len(out))):
        for j in _terms(index[i], data, indices, indptr):
            if 0 <= indices[j] < len(w):
                _axpy(data[j], w[indices[j]], out[i])


@exact
def csr_transposed_matmul(index, data, indices, indptr, grad, out):
    out[:] = out.dtype.type(0)
    for i in range(min(index.size, len(grad))):
        for j in _terms(index[i], data, indices, indptr):
            if 0 <= indices[j] < len(out):
                _axpy(data[j], grad[i], out[indices[j]])


@exact
def _reduce_turns(u):
    """Return an angle within [-pi/2, pi/2], and the sign, for the sine and cosine of u turns.

    To take off whole and half turns is exact.
    """
    f = type(u)
    k = np.rint(f(2) * u)
    return (u - f(0.5) * k) * f(2 * np.pi), f(1) - f(2) * (k - f(2) * np.floor(f(0.5) * k))


@exact
def cos_and_sin_turns(x, w, b, cosines, sines):
    """Cosine and sine of 2 pi w x + b, along the samples; `sines` may be empty."""
    f = x.dtype.type
    if sines.size and sines.shape != cosines.shape:
        raise ValueError("sines and cosines have other shapes")
    for i in range(min(len(x), len(w), len(b), len(cosines))):
        row = x[i]
        for k in range(min(w.shape[1], b.shape[1], cosines.shape[1])):
            cosine, slope, phase = cosines[i, k], w[i, k], b[i, k] * f(0.5 / np.pi)
            n = min(row.size, cosine.size)
            if sines.size == 0:
                for j in range(n):
                    angle, sign = _reduce_turns(slope * row[j] + phase)
                    cosine[j] = sign * cos_quarter(angle)
            else:
                sine = sines[i, k]
                for j in range(min(n, sine.size)):
                    angle, sign = _reduce_turns(slope * row[j] + phase)
                    cosine[j] = sign * cos_quarter(angle)
                    sine[j] = sign * sin_quarter(angle)


@exact
def piecewise_linear(x, w, b, clipped, inside):
    """Clip w x + b to [0, 1], and mark what lay inside with 1. `inside` may be empty."""
    f = x.dtype.type
    if inside.size and inside.shape != clipped.shape:
        raise ValueError("slopes have another shape")
    for i in range(min(len(x), len(w), len(b), len(clipped))):
        row = x[i]
        for k in range(min(w.shape[1], b.shape[1], clipped.shape[1])):
            result, slope, start = clipped[i, k], w[i, k], b[i, k]
            for j in range(min(row.size, result.size)):
                u = slope * row[j] + start
                u = u if u > f(0) or u != u else f(0)
                result[j] = f(1) if u > f(1) else u
            if inside.size:
                mark = inside[i, k]
                for j in range(min(row.size, mark.size)):
                    u = slope * row[j] + start
                    mark[j] = f(1) if f(0) <= u <= f(1) else f(0)


@reducing
def grad_lines(grads, slopes, x, grad_w, grad_b):
    """Sum grads slopes x and grads slopes over the samples of each function."""
    for i in range(min(len(grads), len(slopes), len(x), len(grad_w), len(grad_b))):
        row = x[i]
        n_functions = min(grads.shape[1], slopes.shape[1], grad_w.shape[1], grad_b.shape[1])
        for k in range(n_functions):
            grad, slope = grads[i, k], slopes[i, k]
            sum_w, sum_b = x.dtype.type(0), x.dtype.type(0)
            for j in range(min(row.size, grad.size, slope.size)):
                product = grad[j] * slope[j]
                sum_w += product * row[j]
                sum_b += product
            grad_w[i, k], grad_b[i, k] = sum_w, sum_b


@exact
def adam_direction(grads, m, v, out, beta_1, beta_2, scale, epsilon):
    """Take gradients into both moments, and write the direction."""
    f = grads.dtype.type
    rest_1, rest_2 = f(1) - beta_1, f(1) - beta_2
    for i in range(min(grads.size, m.size, v.size, out.size)):
        m_i = beta_1 * m[i] + rest_1 * grads[i]
        v_i = beta_2 * v[i] + rest_2 * grads[i] * grads[i]
        m[i], v[i] = m_i, v_i
        out[i] = scale * m_i / (np.sqrt(v_i) + epsilon)
