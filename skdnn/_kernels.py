"""Loops that numba compiles, and the one that runs a tape.

All stand in this file: numba keeps compiled code on disk until the file of a function changes, and
knows nothing of the functions from other files that it has put into it.

The operations on each number are those of the NumPy code, in the same order and precision, so that
the results are equal to the last bit. While a loop runs, other threads may: it has no need of
Python, nor of Python's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

FORMS = {
    "add_bias": "MM",
    "rectify": "MM",
    "mask_by_sign": "MM",
    "weigh_by_sigmoid": "MMM",
    "slope_of_silu": "MMM",
    "multiply_outer": "MMM",
    "clip_to_ramp": "MM",
    "mark_equal": "MM",
    "mask_from_words": "wnnV",
    "round_to_codes": "Vnc",
    "look_up": "cMM",
    "add_up_rows": "cMM",
    "add_scaled": "VVn",
    "scale_by_moments": "VVVnnV",
    "move_towards": "VVV",
}
"""The passes over the arrays of one member, and what each takes: matrices (M), vectors (V) and
numbers (n) of floats, vectors of codes (c) and of random words (w)."""

KINDS = ("ufunc", *FORMS, "give_words")
"""What a call on a tape is, by its number: a loop of NumPy, a pass, or giving random words."""

(
    UFUNC,
    ADD_BIAS,
    RECTIFY,
    MASK_BY_SIGN,
    WEIGH_BY_SIGMOID,
    SLOPE_OF_SILU,
    MULTIPLY_OUTER,
    CLIP_TO_RAMP,
    MARK_EQUAL,
    MASK_FROM_WORDS,
    ROUND_TO_CODES,
    LOOK_UP,
    ADD_UP_ROWS,
    ADD_SCALED,
    SCALE_BY_MOMENTS,
    MOVE_TOWARDS,
    GIVE_WORDS,
) = range(len(KINDS))

HAS_PLACE = True
"""Whether there is a directory to keep compiled code in, for the next process."""


def _compiled(function: Callable[..., None]) -> Any:
    """Let a loop be compiled, and its code be kept on disk if there is a place for it."""
    global HAS_PLACE
    settings: Any = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **settings)(function)
    except (RuntimeError, OSError):  # no directory that may be written to
        HAS_PLACE = False
        return njit(**settings)(function)


@_compiled
def add_bias(y, b):
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[i, j] += b[0, j]


@_compiled
def rectify(z, out):
    zero = z.dtype.type(0)
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            value = z[i, j]
            # `not <=` and not `>`: what is not a number passes, as through NumPy's maximum.
            out[i, j] = value if not value <= zero else zero


@_compiled
def mask_by_sign(grad, y):
    zero, one = y.dtype.type(0), y.dtype.type(1)
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            grad[i, j] *= one if y[i, j] > zero else zero


@_compiled
def weigh_by_sigmoid(z, s, out):
    one = s.dtype.type(1)
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            share = one / (s[i, j] + one)
            s[i, j] = share
            out[i, j] = share * z[i, j]


@_compiled
def slope_of_silu(grad, y, s):
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            value, share = y[i, j], s[i, j]
            grad[i, j] *= value - value * share + share


@_compiled
def multiply_outer(column, row, out):
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = column[i, 0] * row[0, j]


@_compiled
def clip_to_ramp(u, out):
    zero, one = u.dtype.type(0), u.dtype.type(1)
    for i in range(u.shape[0]):
        for j in range(u.shape[1]):
            value = u[i, j]
            value = zero if value < zero else value
            out[i, j] = one if value > one else value


@_compiled
def mark_equal(y, x):
    zero, one = y.dtype.type(0), y.dtype.type(1)
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[i, j] = one if y[i, j] == x[i, j] else zero


@_compiled
def mask_from_words(words, n_dropped, factor, out):
    zero, kept, bound = out.dtype.type(0), out.dtype.type(factor), words.dtype.type(n_dropped)
    for i in range(len(words)):
        out[i] = kept if words[i] >= bound else zero


@_compiled
def round_to_codes(x, n_levels, out):
    zero, last = x.dtype.type(0), x.dtype.type(n_levels - 1)
    for i in range(len(x)):
        value = x[i] if x[i] > zero else zero
        out[i] = out.dtype.type(value if value < last else last)


@_compiled
def look_up(codes, table, out):
    for i in range(len(codes)):
        for j in range(out.shape[1]):
            out[i, j] = table[codes[i], j]


@_compiled
def add_up_rows(codes, rows, out):
    out[:] = 0
    for i in range(len(codes)):
        for j in range(out.shape[1]):
            out[codes[i], j] += rows[i, j]


@_compiled
def add_scaled(y, x, factor):
    # Numbers are brought into the precision of the arrays, as NumPy does with Python's.
    factor = y.dtype.type(factor)
    for i in range(len(y)):
        y[i] += factor * x[i]


@_compiled
def move_towards(y, x, shares):
    kept, share = shares[0], shares[1]
    for i in range(len(y)):
        y[i] = y[i] * kept + x[i] * share


@_compiled
def scale_by_moments(g, m, v, beta_1, beta_2, numbers):
    beta_1, beta_2 = g.dtype.type(beta_1), g.dtype.type(beta_2)
    epsilon, factor = numbers[0], numbers[1]
    for i in range(len(g)):
        slope = g[i]
        mean = beta_1 * m[i] + slope
        square = beta_2 * v[i] + slope * slope
        m[i] = mean
        v[i] = square
        g[i] = mean / (np.sqrt(square) + epsilon) * factor


@intrinsic
def _make_call(context, function, arrays, dims, steps, data):
    """Call a loop of NumPy: all are addresses."""

    def generate(context, builder, signature, addresses):
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer] * 4)
        loop = builder.inttoptr(addresses[0], kind.as_pointer())
        builder.call(loop, [builder.inttoptr(address, pointer) for address in addresses[1:]])
        return context.get_dummy_value()

    return types.void(function, arrays, dims, steps, data), generate


@intrinsic
def _make_draw(context, function, state):
    """Call a function of NumPy's that draws 64 random bits: both are addresses."""

    def generate(context, builder, signature, addresses):
        kind = ir.FunctionType(ir.IntType(64), [ir.IntType(8).as_pointer()])
        draw = builder.inttoptr(addresses[0], kind.as_pointer())
        return builder.call(draw, [builder.inttoptr(addresses[1], ir.IntType(8).as_pointer())])

    return types.uint64(function, state), generate


@intrinsic
def _make_pointer(context, address, number):
    """Make an address a pointer to numbers of a type."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(number)(address, number), generate


# Whoever calls them leaves out the context, which numba gives.
_call_loop: Any = _make_call
_draw: Any = _make_draw
_point_at: Any = _make_pointer


@njit
def _matrix(places, dims, i, number):
    """View the i-th array of a call as the matrix of one member."""
    return carray(_point_at(places[i], number), (dims[2 * i], dims[2 * i + 1]))


@njit
def _vector(places, dims, i, number):
    """View the i-th array of a call, which has one row, as a vector."""
    return _matrix(places, dims, i, number)[0]


@_compiled
def draw_words(stream, out):
    for i in range(len(out)):
        out[i] = _draw(stream[0], stream[1])


@njit
def _give_words(places, dims):
    """Give words that were drawn ahead, or have more drawn, as `RandomWords.draw` does."""
    stream = _vector(places, dims, 0, np.int64(0))
    ahead = _vector(places, dims, 1, np.uint64(0))
    n_given = _vector(places, dims, 2, np.int64(0))
    out = _vector(places, dims, 3, np.uint16(0))
    words = carray(_point_at(places[1], np.uint16(0)), 4 * len(ahead))
    if n_given[0] + len(out) > len(words):
        draw_words(stream, ahead)
        n_given[0] = 0
    given = words[n_given[0] :]  # in the loop, the sum of two places would be one of any sign
    for i in range(len(out)):
        out[i] = given[i]
    n_given[0] += len(out)


@njit
def _run_pass(kind, places, dims, numbers, one):
    """Run a pass over the arrays of one member."""
    if kind == MASK_FROM_WORDS:
        words, mask = _vector(places, dims, 0, np.uint16(0)), _vector(places, dims, 1, one)
        mask_from_words(words, numbers[0], numbers[1], mask)
    elif kind == ROUND_TO_CODES:
        codes = _vector(places, dims, 1, np.intp(0))
        round_to_codes(_vector(places, dims, 0, one), numbers[0], codes)
    elif kind in (LOOK_UP, ADD_UP_ROWS):
        codes = _vector(places, dims, 0, np.intp(0))
        second, third = _matrix(places, dims, 1, one), _matrix(places, dims, 2, one)
        if kind == LOOK_UP:
            look_up(codes, second, third)
        else:
            add_up_rows(codes, second, third)
    elif kind == GIVE_WORDS:
        _give_words(places, dims)
    elif kind in (ADD_SCALED, SCALE_BY_MOMENTS, MOVE_TOWARDS):
        _run_pass_over_params(kind, places, dims, numbers, one)
    else:
        _run_pass_over_numbers(kind, places, dims, one)


@njit
def _run_pass_over_params(kind, places, dims, numbers, one):
    """Run a pass over the parameters of one member."""
    first, second = _vector(places, dims, 0, one), _vector(places, dims, 1, one)
    if kind == ADD_SCALED:
        add_scaled(first, second, numbers[0])
        return
    third = _vector(places, dims, 2, one)
    if kind == MOVE_TOWARDS:
        move_towards(first, second, third)
    elif kind == SCALE_BY_MOMENTS:
        fourth = _vector(places, dims, 3, one)
        scale_by_moments(first, second, third, numbers[0], numbers[1], fourth)


@njit
def _run_pass_over_numbers(kind, places, dims, one):
    """Run a pass over matrices of numbers alone."""
    first, second = _matrix(places, dims, 0, one), _matrix(places, dims, 1, one)
    if kind == ADD_BIAS:
        add_bias(first, second)
    elif kind == RECTIFY:
        rectify(first, second)
    elif kind == MASK_BY_SIGN:
        mask_by_sign(first, second)
    elif kind == CLIP_TO_RAMP:
        clip_to_ramp(first, second)
    elif kind == MARK_EQUAL:
        mark_equal(first, second)
    else:
        third = _matrix(places, dims, 2, one)
        if kind == WEIGH_BY_SIGMOID:
            weigh_by_sigmoid(first, second, third)
        elif kind == SLOPE_OF_SILU:
            slope_of_silu(first, second, third)
        elif kind == MULTIPLY_OUTER:
            multiply_outer(first, second, third)


@_compiled
def run_calls(
    calls, starts, strides, advances, moves, dims, steps, numbers, places, one, shift, first, end
):
    """Run the calls of a `skdnn._tape.Tape`, for several steps.

    Parameters
    ----------
    calls : ndarray of shape (n_calls, 7)
        Kind of the function, the addresses of its loop and of what belongs to it, its number of
        arrays, and how often it is repeated along each of three axes.
    starts : ndarray of shape (n_calls, 4)
        Addresses of the arrays in step 0.
    strides : ndarray of shape (n_calls, 12)
        Bytes from one call to the next along each axis, array by array.
    advances : ndarray of shape (n_calls, 4)
        Bytes from one step to the next.
    moves : ndarray of shape (n_calls, 4)
        1 for the array that may lie elsewhere than when it was recorded, else 0.
    dims : ndarray of shape (n_calls, 8)
        Lengths within a call; of passes those of the matrices.
    steps : ndarray of shape (n_calls, 12)
        Strides within a call, for loops of NumPy.
    numbers : ndarray of shape (n_calls, 2)
        Numbers that passes take.
    places : ndarray of shape (4,)
        To compute in.
    one : float32 or float64
        Says what the arrays are of.
    shift : int
        Where the array that moves lies, less where it was.
    first, end : int
        The steps to run: from the first to the one before the end.
    """
    most = starts.shape[1]
    for step in range(first, end):
        for call in range(len(calls)):
            kind, loop, data = calls[call, 0], calls[call, 1], calls[call, 2]
            n_arrays = calls[call, 3]
            lengths, within, apart = dims[call], steps[call].ctypes.data, strides[call]
            for i_1 in range(calls[call, 4]):
                for i_2 in range(calls[call, 5]):
                    for i_3 in range(calls[call, 6]):
                        for i in range(n_arrays):
                            way = moves[call, i] * shift + step * advances[call, i]
                            way += i_1 * apart[i] + i_2 * apart[most + i]
                            places[i] = starts[call, i] + way + i_3 * apart[2 * most + i]
                        if kind == UFUNC:
                            _call_loop(loop, places.ctypes.data, lengths.ctypes.data, within, data)
                        else:
                            _run_pass(kind, places, lengths, numbers[call], one)
