"""The passes of `skdnn._passes` by compiled loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import _kernels
from ._loops import find_streams
from ._passes import PASSES


def add_bias(y, b):
    """Compute ``y += b``."""
    _kernels.add_bias(y, b)
    return y


def rectify(z, out, work):
    """Write ``max(z, 0)`` into `out`."""
    _kernels.rectify(z, out)
    return out


def mask_by_sign(grad, y, work):
    """Compute ``grad *= [y > 0]``."""
    _kernels.mask_by_sign(grad, y)
    return grad


def weigh_by_sigmoid(z, s, out):
    """Compute ``s = 1 / (1 + s)``, and write ``s z`` into `out`."""
    _kernels.weigh_by_sigmoid(z, s, out)
    return out


def slope_of_silu(grad, y, s, work):
    """Compute ``grad *= y - y s + s``."""
    _kernels.slope_of_silu(grad, y, s)
    return grad


def multiply_outer(column, row, out):
    """Write ``column row`` into `out`."""
    _kernels.multiply_outer(column, row, out)
    return out


def clip_to_ramp(u, out):
    """Write ``min(max(u, 0), 1)`` into `out`."""
    for of_member, its_out in zip(u, out, strict=True):  # members may be apart, and are not within
        _kernels.clip_to_ramp(of_member, its_out)
    return out


def mark_equal(y, x):
    """Compute ``y = [y = x]``."""
    for of_member, its_x in zip(y, x, strict=True):
        _kernels.mark_equal(of_member, its_x)
    return y


def mask_from_words(words, n_dropped, factor, out):
    """Write ``factor [words >= n_dropped]`` into `out`."""
    for of_member, its_out in zip(words, out, strict=True):
        _kernels.mask_from_words(of_member, n_dropped, factor, its_out)
    return out


def round_to_codes(x, n_levels, codes):
    """Write numbers as integers from 0 to ``n_levels - 1`` into `codes`."""
    for of_member, its_codes in zip(x, codes, strict=True):
        _kernels.round_to_codes(of_member, n_levels, its_codes)
    return codes


def look_up(codes, table, out):
    """Write ``row codes_i of the table`` into row i of `out`."""
    for of_member, its_table, its_out in zip(codes, table, out, strict=True):
        _kernels.look_up(of_member, its_table, its_out)
    return out


def add_up_rows(codes, rows, out, work):
    """Write the sum of the rows of each code into `out`."""
    for of_member, its_rows, its_out in zip(codes, rows, out, strict=True):
        _kernels.add_up_rows(of_member, its_rows, its_out)
    return out


def add_scaled(y, x, factor, work):
    """Compute ``y += factor x``."""
    _kernels.add_scaled(y, x, factor)
    return y


def move_towards(y, x, shares, work):
    """Compute ``y = s y + t x``."""
    _kernels.move_towards(y, x, shares)
    return y


def draw_words(rngs, out):
    """Fill `out` with words of 64 random bits, for each member from its stream."""
    for stream, of_member in zip(find_streams(rngs), out, strict=True):
        _kernels.draw_words(stream, of_member)
    return out


def scale_by_moments(g, m, v, beta_1, beta_2, numbers):
    """Compute the moments ``m = beta_1 m + g`` and ``v = beta_2 v + g^2``, and scale g by them."""
    _kernels.scale_by_moments(g, m, v, beta_1, beta_2, numbers)
    return g


COMPILED_PASSES: dict[str, Callable[..., Any]] = {name: globals()[name] for name in PASSES}

COMPILED: dict[str, Any] = {
    **COMPILED_PASSES,
    "run_calls": _kernels.run_calls,
    "call_kinds": _kernels.KINDS,
}
"""What stands beside NumPy's functions: the passes, and what runs a `skdnn._tape.Tape`."""
