"""Decide whether numba's compiled loops are used. numba is optional, also where it is broken.

A failure of numba is found before anything is computed with it, and never makes a fit fail.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from importlib.util import find_spec
from threading import Lock
from typing import Any

import numpy as np

from ._passes import NUMPY, ArrayModule

SECONDS_BEFORE_LOADING = 0.5
"""Time of a training from which on loading numba pays. It takes about as long once for a process,
and saves a third of this and of each further training."""

SECONDS_BEFORE_COMPILING = 30.0
"""Time of a training from which on compiling pays where the code cannot be kept on disk: it
takes ten seconds, and saves a third of the rest."""

SECONDS_TO_COMPILE = 60.0
"""Time that must be left for compiling to begin. Slow machines need half of it."""

COMPILED_DTYPES = ("float32", "float64")

BROKEN = (
    "numba is installed, but cannot be used: {}. NumPy computes without it: the same results, but "
    "slower. Mend or remove numba (or rename a file or folder beside the program that bears the "
    "name of a package), or set the environment variable NUMBA_DISABLE_JIT=1 to do without numba "
    "and without this warning."
)
NO_PLACE = (
    "numba finds no folder to keep compiled code in, so it would compile it anew in each process. "
    "NumPy computes without it, the same results, but slower, in all but long fits. Set the "
    "environment variable NUMBA_CACHE_DIR to a folder that may be written to, or "
    "NUMBA_DISABLE_JIT=1 to do without numba and without this warning."
)
NOT_KEPT = (
    "The code that numba compiles cannot be kept on disk ({}), so that each process compiles it "
    "anew. Make room, or set the environment variable NUMBA_CACHE_DIR to a folder that may be "
    "written to."
)


class _Loaded:
    """The array modules that this process has loaded, by dtype, and the lock of loading."""

    def __init__(self) -> None:
        self.lock, self.modules = Lock(), dict[np.dtype, ArrayModule]()
        self.warned: set[str] = set()

    def give_up(self) -> None:
        """Compute with NumPy alone from now on."""
        for dtype in map(np.dtype, COMPILED_DTYPES):
            self.modules.setdefault(dtype, NUMPY)

    def begin_anew(self) -> None:
        """Free the lock in a forked process; if another thread was loading, do without numba.

        numba has locks of its own, which nobody would free.
        """
        if self.lock.locked():
            self.give_up()
        self.lock = Lock()


_loaded = _Loaded()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_loaded.begin_anew)


def load_compiled(dtype: Any, seconds: float = np.inf) -> ArrayModule:
    """Return NumPy with compiled passes for a dtype, or `NUMPY` itself where there are none.

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
        if dtype in _loaded.modules:
            return _loaded.modules[dtype]
        module, trouble = _load(dtype, seconds)
        is_news = bool(trouble) and trouble not in _loaded.warned
        _loaded.warned.add(trouble)
    if is_news:
        warnings.warn(trouble, UserWarning, stacklevel=2)
    return module


def _load(dtype: np.dtype, seconds: float) -> tuple[ArrayModule, str]:
    """Return a module to compute with, and what to warn of."""
    trouble = ""
    try:
        if dtype.name not in COMPILED_DTYPES or not _import_numba():
            return NUMPY, trouble
        from . import _compiled

        if not _compiled.HAS_PLACE:
            trouble = NO_PLACE
            if seconds < SECONDS_BEFORE_COMPILING:
                return NUMPY, trouble
        functions, fault = _compiled.make_ready(dtype)
    except Exception as error:
        _loaded.give_up()
        return NUMPY, BROKEN.format(_describe(error))
    _loaded.modules[dtype] = module = ArrayModule.extend(np, functions)
    return module, trouble if fault is None else NOT_KEPT.format(_describe(fault))


def is_numba_usable() -> bool:
    """Say whether numba is there, not switched off, and has not failed so far."""
    if _loaded.modules:
        return any(module is not NUMPY for module in _loaded.modules.values())
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


def choose_module(dtype: Any, seconds: float, seconds_left: float = np.inf) -> ArrayModule:
    """Return the module to train with: the compiled one where there is much to compute.

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
        return NUMPY
    if seconds_left < SECONDS_TO_COMPILE:
        return _loaded.modules.get(np.dtype(dtype), NUMPY)
    return load_compiled(dtype, seconds)
