"""The passes of `skdnn._passes` by compiled loops, which are all made ready before any is used.

Whatever can fail (compiling, loading compiled code from disk, writing it there) does so in
`make_ready`, and never in the middle of a step.
"""

from __future__ import annotations

from collections.abc import Callable
from glob import escape, glob
from inspect import signature
from os import path, remove
from typing import Any

import numpy as np

from . import _kernels
from ._loops import find_streams
from ._passes import PASSES

HAS_PLACE = _kernels.HAS_PLACE
"""Whether there is a directory to keep compiled code in, for the next process."""


def make_ready(dtype: np.dtype) -> tuple[dict[str, Any], Exception | None]:
    """Compile all loops for arrays of a dtype, or load them from disk.

    Returns
    -------
    functions : dict
        What stands beside NumPy's functions: the passes, and what runs a `skdnn._tape.Tape`.
    fault : Exception or None
        Why code that can be used could not be kept on disk.
    """
    faults = [_make_loop_ready(*loop) for loop in _kernels.find_signatures(dtype)]
    functions: dict[str, Any] = {name: make_pass(name, dtype) for name in _kernels.FORMS}
    functions |= {
        "draw_words": draw_words,
        "run_calls": _kernels.run_calls,
        "call_kinds": _kernels.KINDS,
    }
    return functions, next((fault for fault in faults if fault is not None), None)


def _make_loop_ready(loop: Any, types: tuple[Any, ...]) -> Exception | None:
    """Compile a loop for arguments of these types; return why its code could not be kept.

    Code on disk may be damaged, or be that of another loop, where two processes wrote at once: it
    is removed, and compiled anew.
    """
    fault = _compile(loop, types)
    if types not in loop.overloads:
        for file in glob(path.join(escape(loop.stats.cache_path or ""), f"{_stem(loop)}*.nbi")):
            remove(file)
        fault = _compile(loop, types)
    if types not in loop.overloads:
        raise fault or RuntimeError(f"numba compiles {loop} for other types than {types}")
    return fault


def _compile(loop: Any, types: tuple[Any, ...]) -> Exception | None:
    """Compile a loop, or load it; return what went wrong, after which it may be ready or not."""
    try:
        loop.compile(types)
    except Exception as fault:
        return fault
    return None


def _stem(loop: Any) -> str:
    """Return what the names of the files that numba keeps a loop in begin with."""
    return f"{loop.__module__.rpartition('.')[2]}.{loop.__qualname__}-"


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
