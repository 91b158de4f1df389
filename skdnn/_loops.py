"""Where NumPy keeps what compiled code may call: loops of its functions, and random generators."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np


class _UFuncObject(ctypes.Structure):
    """The first fields of `PyUFuncObject`, which NumPy's C API makes public."""

    _fields_ = (
        ("head", ctypes.c_byte * object.__basicsize__),
        ("nin", ctypes.c_int),
        ("nout", ctypes.c_int),
        ("nargs", ctypes.c_int),
        ("identity", ctypes.c_int),
        ("functions", ctypes.POINTER(ctypes.c_void_p)),
        ("data", ctypes.POINTER(ctypes.c_void_p)),
        ("ntypes", ctypes.c_int),
        ("reserved1", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("types", ctypes.POINTER(ctypes.c_char)),
    )


def find_loop(ufunc: np.ufunc, dtypes: Sequence[np.dtype]) -> tuple[int, int] | None:
    """Return the address of the loop of a function for arrays of these dtypes, and of its data.

    A loop is called with the addresses of its arrays, of their lengths, of their strides, and of
    its data: ``void loop(char **args, npy_intp *dimensions, npy_intp *steps, void *data)``.

    Returns None if there is no such loop, or if what is found at the address of the function is not
    what NumPy says of it.
    """
    found = _UFuncObject.from_address(id(ufunc))
    sizes = (ufunc.nin, ufunc.nout, ufunc.nargs, ufunc.ntypes)
    if (found.nin, found.nout, found.nargs, found.ntypes) != sizes:
        return None
    if found.name != ufunc.__name__.encode():
        return None
    wanted, n = bytes(dtype.num for dtype in dtypes), ufunc.nargs
    for i in range(ufunc.ntypes):
        if found.types[i * n : (i + 1) * n] == wanted and found.functions[i]:
            return found.functions[i], (found.data[i] or 0) if found.data else 0
    return None


def find_streams(rngs: Sequence[np.random.Generator]) -> np.ndarray:
    """Return the addresses of what draws 64 random bits, and of its state: (n_streams, 2).

    They are good as long as the generators live.
    """
    sources = [rng.bit_generator.ctypes for rng in rngs]
    addresses = [
        (ctypes.cast(source.next_uint64, ctypes.c_void_p).value, source.state_address)
        for source in sources
    ]
    return np.array(addresses, np.int64).reshape(-1, 2)
