"""Run a tape: the calls of `skdnn._tape.Tape`, in a function that numba compiles.

While it runs, other threads may: it has no need of Python, nor of Python's lock.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

from ._compiled import (
    _add_bias,
    _add_up_rows,
    _clip_to_ramp,
    _look_up,
    _mark_equal,
    _mask_by_sign,
    _mask_from_words,
    _multiply_outer,
    _rectify,
    _round_to_codes,
    _slope_of_silu,
    _weigh_by_sigmoid,
    compile_pass,
)
from ._tape import KINDS, N_ARRAYS

UFUNC = KINDS["ufunc"]
ADD_BIAS, RECTIFY, MASK_BY_SIGN = KINDS["add_bias"], KINDS["rectify"], KINDS["mask_by_sign"]
WEIGH_BY_SIGMOID, SLOPE_OF_SILU = KINDS["weigh_by_sigmoid"], KINDS["slope_of_silu"]
MULTIPLY_OUTER, MASK_FROM_WORDS = KINDS["multiply_outer"], KINDS["mask_from_words"]
CLIP_TO_RAMP, MARK_EQUAL = KINDS["clip_to_ramp"], KINDS["mark_equal"]
ROUND_TO_CODES, LOOK_UP, ADD_UP_ROWS = (
    KINDS["round_to_codes"],
    KINDS["look_up"],
    KINDS["add_up_rows"],
)


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
def _make_pointer(context, address, number):
    """Make an address a pointer to numbers of a type."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(number)(address, number), generate


# Whoever calls them leaves out the context, which numba gives.
_call_loop: Any = _make_call
_point_at: Any = _make_pointer


@njit
def _matrix(places, dims, i, number):
    """View the i-th array of a call as the matrix of one member."""
    return carray(_point_at(places[i], number), (1, dims[2 * i], dims[2 * i + 1]))


@njit
def _run_pass(kind, places, dims, numbers, one):
    """Run a pass over the matrices of one member."""
    if kind == MASK_FROM_WORDS:
        words = _matrix(places, dims, 0, np.uint16(0))
        out = _matrix(places, dims, 1, one)
        _mask_from_words(words[0, 0], numbers[0], numbers[1], out[0, 0])
    elif kind == ROUND_TO_CODES:
        codes = _matrix(places, dims, 1, np.intp(0))
        _round_to_codes(_matrix(places, dims, 0, one)[0, 0], numbers[0], codes[0, 0])
    elif kind in (LOOK_UP, ADD_UP_ROWS):
        codes = _matrix(places, dims, 0, np.intp(0))[0, 0]
        second, third = _matrix(places, dims, 1, one), _matrix(places, dims, 2, one)
        if kind == LOOK_UP:
            _look_up(codes, second[0], third[0])
        else:
            _add_up_rows(codes, second[0], third[0])
    else:
        _run_pass_over_numbers(kind, places, dims, one)


@njit
def _run_pass_over_numbers(kind, places, dims, one):
    """Run a pass over matrices of numbers alone."""
    first, second = _matrix(places, dims, 0, one), _matrix(places, dims, 1, one)
    if kind == ADD_BIAS:
        _add_bias(first, second)
    elif kind == RECTIFY:
        _rectify(first, second)
    elif kind == MASK_BY_SIGN:
        _mask_by_sign(first, second)
    elif kind == CLIP_TO_RAMP:
        _clip_to_ramp(first[0], second[0])
    elif kind == MARK_EQUAL:
        _mark_equal(first[0], second[0])
    else:
        third = _matrix(places, dims, 2, one)
        if kind == WEIGH_BY_SIGMOID:
            _weigh_by_sigmoid(first, second, third)
        elif kind == SLOPE_OF_SILU:
            _slope_of_silu(first, second, third)
        elif kind == MULTIPLY_OUTER:
            _multiply_outer(first, second, third)


@compile_pass
def run_calls(functions, starts, strides, moves, all_dims, all_steps, numbers, places, one, shift):
    """Run the calls of a `skdnn._tape.Tape`.

    Parameters
    ----------
    functions : ndarray of shape (n_calls, 7)
        Kind of the function, the addresses of its loop and of what belongs to it, its number of
        arrays, and how often it is repeated along each of three axes.
    starts : ndarray of shape (n_calls, 4)
        Addresses of the arrays.
    strides : ndarray of shape (n_calls, 12)
        Bytes from one call to the next along each axis, array by array.
    moves : ndarray of shape (n_calls, 4)
        1 for the array that may lie elsewhere than when it was recorded, else 0.
    all_dims : ndarray of shape (n_calls, 8)
        Lengths within a call; of passes those of the matrices.
    all_steps : ndarray of shape (n_calls, 12)
        Strides within a call, for loops of NumPy.
    numbers : ndarray of shape (n_calls, 2)
        Numbers that passes take.
    places : ndarray of shape (4,)
        To compute in.
    one : float32 or float64
        Says what the arrays are of.
    shift : int
        Where the array that moves lies, less where it was.
    """
    for call in range(len(functions)):
        kind, loop, data = functions[call, 0], functions[call, 1], functions[call, 2]
        n_arrays = functions[call, 3]
        dims, steps, apart = all_dims[call], all_steps[call], strides[call]
        for i_1 in range(functions[call, 4]):
            for i_2 in range(functions[call, 5]):
                for i_3 in range(functions[call, 6]):
                    for i in range(n_arrays):
                        way = i_1 * apart[i]
                        way += i_2 * apart[N_ARRAYS + i] + i_3 * apart[2 * N_ARRAYS + i]
                        places[i] = starts[call, i] + moves[call, i] * shift + way
                    if kind == UFUNC:
                        _call_loop(
                            loop, places.ctypes.data, dims.ctypes.data, steps.ctypes.data, data
                        )
                    else:
                        _run_pass(kind, places, dims, numbers[call], one)
