"""The passes of `skdnn._passes`, each as one loop that numba compiles.

The operations on each number are those of the NumPy code, in the same order and precision, so that
the results are equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from ._passes import PASSES


def compile_pass(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a loop when it is first called; keep the code on disk if there is a place for it."""
    settings: Any = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **settings)(function)
    except RuntimeError:  # no directory that may be written to
        return njit(**settings)(function)


@compile_pass
def _add_bias(y, b):
    n_members, n_samples, n_units = y.shape
    for member in range(n_members):
        for i in range(n_samples):
            for j in range(n_units):
                y[member, i, j] += b[member, 0, j]


@compile_pass
def _rectify(z, out):
    zero = z.dtype.type(0)
    n_members, n_samples, n_units = z.shape
    for member in range(n_members):
        for i in range(n_samples):
            for j in range(n_units):
                value = z[member, i, j]
                # `not <=` and not `>`: what is not a number passes, as through NumPy's maximum.
                out[member, i, j] = value if not value <= zero else zero


@compile_pass
def _mask_by_sign(grad, y):
    zero, one = y.dtype.type(0), y.dtype.type(1)
    n_members, n_samples, n_units = y.shape
    for member in range(n_members):
        for i in range(n_samples):
            for j in range(n_units):
                grad[member, i, j] *= one if y[member, i, j] > zero else zero


@compile_pass
def _weigh_by_sigmoid(z, s, out):
    one = s.dtype.type(1)
    n_members, n_samples, n_units = z.shape
    for member in range(n_members):
        for i in range(n_samples):
            for j in range(n_units):
                share = one / (s[member, i, j] + one)
                s[member, i, j] = share
                out[member, i, j] = share * z[member, i, j]


@compile_pass
def _slope_of_silu(grad, y, s):
    n_members, n_samples, n_units = y.shape
    for member in range(n_members):
        for i in range(n_samples):
            for j in range(n_units):
                value, share = y[member, i, j], s[member, i, j]
                grad[member, i, j] *= value - value * share + share


@compile_pass
def _multiply_outer(column, row, out):
    n_members, n_samples, n_units = out.shape
    for member in range(n_members):
        for i in range(n_samples):
            for j in range(n_units):
                out[member, i, j] = column[member, i, 0] * row[member, 0, j]


@compile_pass
def _clip_to_ramp(u, out):
    zero, one = u.dtype.type(0), u.dtype.type(1)
    for i in range(u.shape[0]):
        for j in range(u.shape[1]):
            value = u[i, j]
            value = zero if value < zero else value
            out[i, j] = one if value > one else value


@compile_pass
def _mark_equal(y, x):
    zero, one = y.dtype.type(0), y.dtype.type(1)
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[i, j] = one if y[i, j] == x[i, j] else zero


@compile_pass
def _mask_from_words(words, n_dropped, factor, out):
    zero, kept, bound = out.dtype.type(0), out.dtype.type(factor), words.dtype.type(n_dropped)
    for i in range(len(words)):
        out[i] = kept if words[i] >= bound else zero


@compile_pass
def _round_to_codes(x, n_levels, codes):
    zero, last = x.dtype.type(0), x.dtype.type(n_levels - 1)
    for i in range(len(x)):
        value = x[i] if x[i] > zero else zero
        codes[i] = codes.dtype.type(value if value < last else last)


@compile_pass
def _look_up(codes, table, out):
    for i in range(len(codes)):
        for j in range(out.shape[1]):
            out[i, j] = table[codes[i], j]


@compile_pass
def _add_up_rows(codes, rows, out):
    out[:] = 0
    for i in range(len(codes)):
        for j in range(out.shape[1]):
            out[codes[i], j] += rows[i, j]


@compile_pass
def _add_scaled(y, x, factor):
    n_members, n_params = y.shape
    for member in range(n_members):
        for i in range(n_params):
            y[member, i] += factor * x[member, i]


@compile_pass
def _scale_by_moments(g, m, v, beta_1, beta_2, epsilon, factor):
    n_members, n_params = g.shape
    for member in range(n_members):
        for i in range(n_params):
            slope = g[member, i]
            mean = beta_1 * m[member, i] + slope
            square = beta_2 * v[member, i] + slope * slope
            m[member, i] = mean
            v[member, i] = square
            g[member, i] = mean / (np.sqrt(square) + epsilon) * factor


def add_bias(y, b):
    """Compute ``y += b``."""
    _add_bias(y, b)
    return y


def rectify(z, out, work):
    """Write ``max(z, 0)`` into `out`."""
    _rectify(z, out)
    return out


def mask_by_sign(grad, y, work):
    """Compute ``grad *= [y > 0]``."""
    _mask_by_sign(grad, y)
    return grad


def weigh_by_sigmoid(z, s, out):
    """Compute ``s = 1 / (1 + s)``, and write ``s z`` into `out`."""
    _weigh_by_sigmoid(z, s, out)
    return out


def slope_of_silu(grad, y, s, work):
    """Compute ``grad *= y - y s + s``."""
    _slope_of_silu(grad, y, s)
    return grad


def multiply_outer(column, row, out):
    """Write ``column row`` into `out`."""
    _multiply_outer(column, row, out)
    return out


def clip_to_ramp(u, out):
    """Write ``min(max(u, 0), 1)`` into `out`."""
    for of_member, its_out in zip(u, out, strict=True):  # members may be apart, and are not within
        _clip_to_ramp(of_member, its_out)
    return out


def mark_equal(y, x):
    """Compute ``y = [y = x]``."""
    for of_member, its_x in zip(y, x, strict=True):
        _mark_equal(of_member, its_x)
    return y


def mask_from_words(words, n_dropped, factor, out):
    """Write ``factor [words >= n_dropped]`` into `out`."""
    for of_member, its_out in zip(words, out, strict=True):
        _mask_from_words(of_member, n_dropped, factor, its_out)
    return out


def round_to_codes(x, n_levels, codes):
    """Write numbers as integers from 0 to ``n_levels - 1`` into `codes`."""
    for of_member, its_codes in zip(x, codes, strict=True):
        _round_to_codes(of_member, n_levels, its_codes)
    return codes


def look_up(codes, table, out):
    """Write ``row codes_i of the table`` into row i of `out`."""
    for of_member, its_table, its_out in zip(codes, table, out, strict=True):
        _look_up(of_member, its_table, its_out)
    return out


def add_up_rows(codes, rows, out, work):
    """Write the sum of the rows of each code into `out`."""
    for of_member, its_rows, its_out in zip(codes, rows, out, strict=True):
        _add_up_rows(of_member, its_rows, its_out)
    return out


def add_scaled(y, x, factor, work):
    """Compute ``y += factor x``."""
    _add_scaled(y, x, y.dtype.type(factor))
    return y


def scale_by_moments(g, m, v, beta_1, beta_2, epsilon, factor):
    """Compute ``m = beta_1 m + g``, ``v = beta_2 v + g^2``, ``g = factor m / (sqrt(v) + epsilon)``.

    Numbers are brought into the precision of the arrays, as NumPy does with Python's.
    """
    number = g.dtype.type
    _scale_by_moments(g, m, v, number(beta_1), number(beta_2), number(epsilon), number(factor))
    return g


COMPILED_PASSES: dict[str, Callable[..., Any]] = {name: globals()[name] for name in PASSES}
