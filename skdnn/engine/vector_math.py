"""Functions of one number as polynomials, which the compiler turns into vector instructions.

Each is written for float32 and float64, and chosen by the type of the number.
"""

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

_OPTIONS: Any = {"fastmath": {"contract", "nsz"}, "error_model": "numpy"}


def _by_dtype(single: Any, double: Any) -> Any:
    """Return a function for compiled code, which is the first for float32, else the second."""

    def function(x):
        raise NotImplementedError

    overload(function, jit_options=_OPTIONS)(lambda x: single if x == types.float32 else double)
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
