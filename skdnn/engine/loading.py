"""Decide whether numba's compiled kernels are used. numba is optional, also where it is broken.

A failure of numba is found before anything is computed with it, and never makes a fit fail.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

SECONDS_BEFORE_LOADING = 0.5
"""Time of a training from which on loading numba pays: it takes as long, once for a process."""

SECONDS_BEFORE_COMPILING = 30.0
"""Time of a training from which on compiling pays where the code cannot be kept on disk."""

SECONDS_TO_COMPILE = 60.0
"""Time that must be left for compiling to begin. Slow machines need half of it."""

COMPILED_DTYPES = ("float32", "float64")

BROKEN = (
    "numba is installed, but cannot be used: {}. NumPy computes without it: the same results up to "
    "rounding, but slower. Mend or remove numba (or rename a file or folder beside the program "
    "that bears the name of a package), or set the environment variable NUMBA_DISABLE_JIT=1 to do "
    "without numba and without this warning."
)
NO_FOLDER = "numba finds no folder for it"
NOT_KEPT = (
    "The code that numba compiles cannot be kept on disk ({}). So each process compiles it anew, "
    "or computes with NumPy, which is slower, in all but long fits. Make room, or set the "
    "environment variable NUMBA_CACHE_DIR to a folder that may be written to, or "
    "NUMBA_DISABLE_JIT=1 to do without numba and without this warning."
)

KERNELS = [
    Path(__file__).with_name(f"{name}.py") for name in ("interpreter", "kernels", "lowering")
]
"""Sources of compiled code. numba looks only at the time and size of the first when it loads it."""

RunSteps = Callable[..., None]

_lock = Lock()
_functions: dict[np.dtype, RunSteps | None] = {}
"""`run_steps` by dtype as this process has loaded it, or None if it cannot."""


def _give_up() -> None:
    """Load nothing from now on: compute with NumPy."""
    for dtype in map(np.dtype, COMPILED_DTYPES):
        _functions.setdefault(dtype, None)


def _begin_anew() -> None:
    """Free the lock in a forked process; if another thread was loading, do without numba.

    numba has locks of its own, which nobody would free.
    """
    if _lock.locked():
        _give_up()
        _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def choose_executor(dtype: Any, seconds: float, seconds_left: float = np.inf) -> str:
    """Return "numba" where there is much to compute and numba can be used, else "numpy".

    Parameters
    ----------
    dtype : dtype
    seconds : float
        An estimate of the time that NumPy would take. It comes from the training itself, never
        from a clock or from what else the process has done, so that the choice is the same in each
        run.
    seconds_left : float, default=inf
        What a training may take; compiling takes its part of it, and does not begin where it might
        take all.
    """
    seconds = min(seconds, seconds_left)
    if seconds <= SECONDS_BEFORE_LOADING:
        return "numpy"
    if seconds_left < SECONDS_TO_COMPILE:
        run_steps = _functions.get(np.dtype(dtype))
    else:
        run_steps = load_run_steps(dtype, seconds)
    return "numpy" if run_steps is None else "numba"


def load_run_steps(dtype: Any, seconds: float = np.inf) -> RunSteps | None:
    """Return `interpreter.run_steps` for arrays of a dtype, or None where numba cannot be used.

    Nothing is said where numba is missing, or switched off by NUMBA_DISABLE_JIT. Whatever else
    keeps it from its work is said once, in a warning.

    Parameters
    ----------
    dtype : dtype
    seconds : float, default=inf
        Time that NumPy would take: see `SECONDS_BEFORE_COMPILING`.
    """
    dtype, trouble = np.dtype(dtype), ""
    with _lock:
        if dtype not in _functions and dtype.name in COMPILED_DTYPES:
            try:
                trouble = _load(dtype, seconds)
            except Exception as error:
                _give_up()
                trouble = BROKEN.format(_describe(error))
    if trouble:
        _warn_once(trouble)
    return _functions.get(dtype)


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=3)


def _describe(error: Exception) -> str:
    """Return the kind of an error, and the first line of what it says."""
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _load(dtype: np.dtype, seconds: float) -> str:
    """Load `run_steps` if that is worth it, and return what to warn of."""
    if not _import_numba():
        return ""
    if _declare().stats.cache_path is None and seconds < SECONDS_BEFORE_COMPILING:
        return NOT_KEPT.format(NO_FOLDER)
    _functions[dtype], fault = compile_run_steps(dtype)
    return NOT_KEPT.format(fault) if fault else ""


def is_numba_usable() -> bool:
    """Say whether numba is there, not switched off, and has not failed so far."""
    try:
        return any(_functions.values()) if _functions else _import_numba()
    except Exception:
        return False


def _import_numba() -> bool:
    """Say whether numba is there and to be used; import it."""
    try:
        import numba
    except ModuleNotFoundError as error:
        if error.name == "numba":
            return False
        raise
    config: Any = numba.config
    return not config.DISABLE_JIT


# ---- compiled code


def compile_run_steps(dtype: np.dtype) -> tuple[RunSteps, str]:
    """Compile `interpreter.run_steps` for arrays of a dtype, or load it from disk.

    numba reads from disk whatever is there. So files are only left to it that are as they were when
    their checksum was written.

    Returns
    -------
    run_steps : callable
    fault : str
        Why code that can be used could not be kept on disk, if so.
    """
    types = _argument_types(dtype)
    for is_first in (True, False):
        run_steps, fault = _declare(), NO_FOLDER
        folder = run_steps.stats.cache_path
        try:
            if folder is not None:
                fault = ""
                record, code = Path(folder, "code.sha256"), _find_code(folder)
                is_intact = record.exists() and record.read_bytes() == _checksum(code)
                for file in [] if is_first and is_intact else code:
                    file.unlink(missing_ok=True)
            run_steps.compile(types)
            if folder is not None:
                record.write_bytes(_checksum(_find_code(folder)))
        except Exception as error:
            fault = _describe(error)
        # Two processes that compile at once may have given their code the same name.
        if types in run_steps.overloads:
            run_steps.disable_compile()
            return run_steps, fault
    raise RuntimeError(fault or "numba loads other code than it was asked for")


def _declare() -> Any:
    """Return `run_steps` for numba to compile, and to keep on disk if there is a place for it."""
    from numba import njit

    from . import interpreter

    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(interpreter.run_steps, cache=True, **options)
    except (RuntimeError, OSError):
        return njit(interpreter.run_steps, **options)


def _argument_types(dtype: np.dtype) -> tuple[Any, ...]:
    """Return numba's types of the arguments of `run_steps`, which writes into two of them."""
    from numba import from_dtype, types

    real, whole = from_dtype(dtype), types.int64
    arguments = {
        "table": (whole, 2),
        "places": (whole, 1),
        "arena": (real, 1),
        "X": (real, 2),
        "y": (real, 1),
        "index": (whole, 2),
        "weight": (real, 1),
        "scalars": (real, 2),
        "bits": (types.uint16, 2),
        "logits": (real, 2),
        "data": (real, 1),
        "indices": (types.int32, 1),
        "indptr": (whole, 1),
    }
    return tuple(
        types.Array(kind, ndim, "C", readonly=name not in ("arena", "logits"))
        for name, (kind, ndim) in arguments.items()
    )


def _find_code(folder: str) -> list[Path]:
    """Return the files that numba keeps in a folder; there are none but of `run_steps`."""
    return sorted(Path(folder).glob("*.nb[ic]"))


def _checksum(code: list[Path]) -> bytes:
    """Return the checksum of files of compiled code, and of their sources."""
    checksum = hashlib.sha256()
    for file in (*KERNELS, *code):
        with suppress(FileNotFoundError):  # another process has removed it
            checksum.update(file.name.encode() + file.read_bytes())
    return checksum.digest()
