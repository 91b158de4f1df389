"""The passes of `skdnn._passes` by compiled loops, which are all made ready before any is used.

Whatever can fail (compiling, loading compiled code from disk, writing it there) does so in
`make_ready`, and never in the middle of a step.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Callable, Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numba import from_dtype, types

from . import _kernels
from ._loops import find_streams
from ._passes import PASSES

HAS_PLACE = _kernels.HAS_PLACE
"""Whether there is a directory to keep compiled code in, for the next process."""

SEAL_BYTES = 9


def make_ready(dtype: np.dtype) -> tuple[dict[str, Any], Exception | None]:
    """Compile all loops for arrays of a dtype, or load them from disk.

    Returns
    -------
    functions : dict
        What stands beside NumPy's functions: the passes, and what runs a `skdnn._tape.Tape`.
    fault : Exception or None
        Why code that can be used could not be kept on disk.
    """
    faults = [_make_loop_ready(*loop) for loop in find_signatures(dtype)]
    functions: dict[str, Any] = {name: make_pass(name, dtype) for name in _kernels.FORMS}
    functions |= {
        "draw_words": draw_words,
        "run_calls": _kernels.run_calls,
        "call_kinds": _kernels.KINDS,
    }
    return functions, next((fault for fault in faults if fault is not None), None)


def find_signatures(dtype: np.dtype) -> Iterator[tuple[Any, Any]]:
    """Yield each loop and its signature for arrays of a dtype, those that others call first."""
    number = from_dtype(dtype)

    def vector(of: Any, n_axes: int = 1) -> Any:
        return types.Array(of, n_axes, "C")

    kinds = {
        "M": vector(number, 2),
        "V": vector(number),
        "n": types.float64,
        "c": vector(types.intp),
        "w": vector(types.uint16),
    }
    for name, form in _kernels.FORMS.items():
        yield getattr(_kernels, name), tuple(kinds[letter] for letter in form)
    yield _kernels.draw_words, (vector(types.int64), vector(types.uint64))
    tables = [vector(types.int64, 2)] * 7 + [vector(types.float64, 2), vector(types.int64)]
    yield _kernels.run_calls, (*tables, number, types.int64, types.int64, types.int64)


def _make_loop_ready(loop: Any, arguments: tuple[Any, ...]) -> Exception | None:
    """Compile a loop for arguments of these types; return why its code could not be kept.

    Code on disk may be damaged, or be that of another loop, where two processes wrote at once: it
    is removed, and compiled anew. That of a file without its seal may end the process if it runs.
    """
    if not all(map(_is_sealed, _find_files(loop))):
        _remove_files(loop)
    fault = _compile(loop, arguments)
    if arguments not in loop.overloads:
        _remove_files(loop)
        fault = _compile(loop, arguments)
    if arguments not in loop.overloads:
        raise fault or RuntimeError(f"numba compiles {loop} for other types than {arguments}")
    return fault


def _compile(loop: Any, arguments: tuple[Any, ...]) -> Exception | None:
    """Compile a loop, or load it; return what went wrong, after which it may be ready or not."""
    try:
        loop.compile(arguments)
        for file in _find_files(loop):
            _seal(file)
    except Exception as fault:
        return fault
    return None


def _find_files(loop: Any) -> list[Path]:
    """Return the files that numba keeps a loop in: an index, and one for each signature."""
    if loop.stats.cache_path is None:
        return []
    module, line = loop.__module__.rpartition(".")[2], loop.py_func.__code__.co_firstlineno
    version = "py{}{}".format(*sys.version_info)
    pattern = f"{module}.{loop.__qualname__}-{line}.{version}*.nb[ic]"
    return sorted(Path(loop.stats.cache_path).glob(pattern))


def _remove_files(loop: Any) -> None:
    for file in _find_files(loop):
        file.unlink(missing_ok=True)


def _make_seal(data: bytes) -> bytes:
    return b"skdnn" + zlib.crc32(data).to_bytes(4, "little")


def _is_sealed(file: Path) -> bool:
    """Say whether a file is as it was when it was sealed."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:  # another process has removed it
        return True
    return data[-SEAL_BYTES:] == _make_seal(data[:-SEAL_BYTES])


def _seal(file: Path) -> None:
    """Put a checksum behind what numba wrote, where it reads no more."""
    if _is_sealed(file):
        return
    sealed, data = file.with_suffix(f".{os.getpid()}.tmp"), file.read_bytes()
    sealed.write_bytes(data + _make_seal(data))
    sealed.replace(file)


def make_pass(name: str, dtype: np.dtype) -> Callable[..., Any]:
    """Return a pass that runs a loop over the arrays of each member.

    Where they are not what the loop is compiled for (they have gaps, or may not be written to),
    NumPy's runs.
    """
    loop, plain = getattr(_kernels, name), PASSES[name]
    parameters = [parameter for parameter in signature(plain).parameters if parameter != "work"]
    n_used, result = len(parameters), parameters.index("out") if "out" in parameters else 0
    dtypes = {dtype, np.dtype(np.intp), np.dtype(np.uint16)}

    def run(*arguments: Any) -> Any:
        used = arguments[:n_used]
        arrays = [x for x in used if isinstance(x, np.ndarray)]
        if not all(x.dtype in dtypes and x[0].flags.carray for x in arrays):
            return plain(*arguments)
        n_members = len(arrays[0])
        by_member = [x if isinstance(x, np.ndarray) else [float(x)] * n_members for x in used]
        for of_member in zip(*by_member, strict=True):
            loop(*of_member)
        return used[result]

    return run


def draw_words(rngs, out):
    """Fill `out` with words of 64 random bits, for each member from its stream."""
    for stream, of_member in zip(find_streams(rngs), out, strict=True):
        _kernels.draw_words(stream, of_member)
    return out
