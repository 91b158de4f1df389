"""Decide whether numba's compiled kernels are used. numba is optional, also where it is broken.

A failure of numba is found before anything is computed with it, and never makes a fit fail.
"""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
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
NO_PLACE = (
    "numba finds no folder to keep compiled code in, so it would compile it anew in each process. "
    "NumPy computes without it, but slower, in all but long fits. Set the environment variable "
    "NUMBA_CACHE_DIR to a folder that may be written to, or NUMBA_DISABLE_JIT=1 to do without "
    "numba and without this warning."
)
NOT_KEPT = (
    "The code that numba compiles cannot be kept on disk ({}), so that each process compiles it "
    "anew. Make room, or set the environment variable NUMBA_CACHE_DIR to a folder that may be "
    "written to."
)

RunSteps = Callable[..., int]


class _Loaded:
    """`run_steps` by dtype as this process has loaded it, or None, and the lock of loading."""

    def __init__(self) -> None:
        self.lock, self.functions = Lock(), dict[np.dtype, RunSteps | None]()
        self.warned: set[str] = set()

    def give_up(self) -> None:
        """Compute with NumPy alone from now on."""
        for dtype in map(np.dtype, COMPILED_DTYPES):
            self.functions.setdefault(dtype, None)

    def begin_anew(self) -> None:
        """Free the lock in a forked process; if another thread was loading, do without numba.

        numba has locks of its own, which nobody would free.
        """
        if self.lock.locked():
            self.give_up()
        self.lock = Lock()


_loaded = _Loaded()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _loaded.begin_anew())


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
        run_steps = _loaded.functions.get(np.dtype(dtype))
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
    dtype = np.dtype(dtype)
    with _loaded.lock:
        if dtype in _loaded.functions:
            return _loaded.functions[dtype]
        run_steps, trouble = _load(dtype, seconds)
        is_news = bool(trouble) and trouble not in _loaded.warned
        _loaded.warned.add(trouble)
    if is_news:
        warnings.warn(trouble, UserWarning, stacklevel=2)
    return run_steps


def _load(dtype: np.dtype, seconds: float) -> tuple[RunSteps | None, str]:
    """Return `run_steps`, and what to warn of."""
    trouble = ""
    try:
        if dtype.name not in COMPILED_DTYPES or not _import_numba():
            return None, trouble
        if _declare().stats.cache_path is None:
            trouble = NO_PLACE
            if seconds < SECONDS_BEFORE_COMPILING:
                return None, trouble
        run_steps, fault = compile_run_steps(dtype)
    except Exception as error:
        _loaded.give_up()
        return None, BROKEN.format(_describe(error))
    _loaded.functions[dtype] = run_steps
    return run_steps, trouble if fault is None else NOT_KEPT.format(_describe(fault))


def is_numba_usable() -> bool:
    """Say whether numba is there, not switched off, and has not failed so far."""
    if _loaded.functions:
        return any(run_steps is not None for run_steps in _loaded.functions.values())
    try:
        return _import_numba()
    except Exception:
        return False


def _import_numba() -> bool:
    """Import numba, whole or not at all, and say whether it is there and to be used."""
    try:
        spec = find_spec("numba")
    except ModuleNotFoundError:  # by whoever keeps programs from some packages
        return False
    if spec is None or spec.origin is None:  # a folder of that name is no package
        return False
    _remove_halves()
    try:
        config: Any = import_module("numba").config
    except BaseException:
        _remove_halves()
        raise
    return not config.DISABLE_JIT


def _remove_halves() -> None:
    """Remove what is left of an import that was broken off: it is in the way of the next."""
    for name in list(sys.modules):
        package = name.partition(".")[0]
        if package in ("numba", "llvmlite") and package not in sys.modules:
            del sys.modules[name]


def _describe(error: Exception) -> str:
    """Return the kind of an error, and the first line of what it says."""
    return f"{type(error).__name__}: {error}".partition("\n")[0]


# ---- compiled code


def compile_run_steps(dtype: np.dtype) -> tuple[RunSteps, Exception | None]:
    """Compile `interpreter.run_steps` for arrays of a dtype, or load it from disk.

    numba reads from disk whatever is there. So files are only left to it that are as they were when
    their checksum was written; and what they hold must say that it is of these kernels.

    Returns
    -------
    run_steps : callable
    fault : Exception or None
        Why code that can be used could not be kept on disk.
    """
    from numba import typeof

    from . import interpreter

    arguments = _no_steps(dtype)
    types = tuple(map(typeof, arguments))
    for is_first in (True, False):
        run_steps = _declare()
        files = _CodeFiles(run_steps)
        if not (is_first and files.are_intact()):
            files.remove()
        fault = None
        try:
            run_steps.compile(types)
            files.write_checksum()
        except Exception as error:
            fault = error
        if types in run_steps.overloads:
            run_steps.disable_compile()
            if run_steps(*arguments) == interpreter.SOURCE:
                return run_steps, fault
    raise fault or RuntimeError("numba compiles other code than it was given")


def _declare() -> Any:
    """Return `run_steps` for numba to compile, and to keep on disk if there is a place for it."""
    from numba import njit

    from . import interpreter

    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(interpreter.run_steps, cache=True, **options)
    except (RuntimeError, OSError):
        return njit(interpreter.run_steps, **options)


def _no_steps(dtype: np.dtype) -> list[np.ndarray]:
    """Return arguments with which `run_steps` does nothing but return `SOURCE`."""
    arguments = {
        "table": np.zeros((0, 0), np.int64),
        "places": np.zeros(0, np.int64),
        "arena": np.zeros(0, dtype),
        "X": np.zeros((0, 0), dtype),
        "y": np.zeros(0, dtype),
        "index": np.zeros((0, 0), np.int64),
        "weight": np.zeros(0, dtype),
        "scalars": np.zeros((0, 0), dtype),
        "bits": np.zeros((0, 0), np.uint16),
        "logits": np.zeros((0, 0), dtype),
        "data": np.zeros(0, dtype),
        "indices": np.zeros(0, np.int32),
        "indptr": np.zeros(0, np.int64),
    }
    for name, array in arguments.items():
        array.flags.writeable = name in ("arena", "logits")  # the others may be read-only
    return list(arguments.values())


class _CodeFiles:
    """The files that numba keeps a function in, and a checksum of them in a file of ours."""

    def __init__(self, function: Any) -> None:
        code, folder = function.py_func.__code__, function.stats.cache_path
        version = "py{}{}".format(*sys.version_info)
        self.stem = f"{Path(code.co_filename).stem}.{code.co_name}-{code.co_firstlineno}.{version}"
        self.folder = None if folder is None else Path(folder)

    def _find(self) -> list[Path]:
        return [] if self.folder is None else sorted(self.folder.glob(f"{self.stem}*.nb[ic]"))

    def _checksum(self) -> str:
        checksum = hashlib.sha256()
        for file in self._find():
            with suppress(FileNotFoundError):  # another process has removed it
                checksum.update(file.name.encode() + file.read_bytes())
        return checksum.hexdigest()

    def are_intact(self) -> bool:
        """Say whether all are as they were when the checksum was written."""
        if self.folder is None or not self._find():
            return True
        with suppress(OSError, ValueError):
            return (self.folder / f"{self.stem}.sha256").read_text() == self._checksum()
        return False

    def remove(self) -> None:
        """Remove them: they are compiled anew."""
        for file in self._find():
            file.unlink(missing_ok=True)

    def write_checksum(self) -> None:
        """Say that the files are good."""
        if self.folder is not None and not self.are_intact():
            own = self.folder / f"{self.stem}.{os.getpid()}.tmp"
            own.write_text(self._checksum())
            own.replace(self.folder / f"{self.stem}.sha256")
