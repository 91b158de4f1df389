"""Measure for `speed.py`: runs that alternate, threads held to a number, memory, fresh processes.

Whatever slows the machine down for a while slows all of those down that take turns: what is
compared are runs that came one after the other.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from warnings import simplefilter

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

Call = Callable[[], object]

WARM_UP_SECONDS = 1.5
MEGABYTE = 2**20


def make_rows(n_samples: int, n_features: int) -> tuple[np.ndarray, np.ndarray]:
    """Return standard normal rows in float32, and labels that half depend on them."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_samples, n_features), dtype=np.float32)
    y = (X[:, 0] + X[:, 1] * X[:, 2] + rng.normal(size=n_samples) > 0).astype(np.int64)
    return X, y


def warm_up(call: Call) -> None:
    """Run for long enough that all is loaded and compiled, numba's passes too."""
    ends_at = time.perf_counter() + WARM_UP_SECONDS
    while time.perf_counter() < ends_at:
        call()
    call()


def alternate(
    calls: dict[str, Call],
    repeats: int,
    n_calls: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return the seconds of each call, run by run; of `n_calls` in a row, the mean."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            started = clock()
            for _ in range(n_calls):
                call()
            seconds[name].append((clock() - started) / n_calls)
    return seconds


def paired_ratios(numerators: list[float], denominators: list[float]) -> tuple[float, ...]:
    """Divide runs by those that came next to them."""
    return tuple(a / b for a, b in zip(numerators, denominators, strict=True))


@contextmanager
def limited(n_threads: int) -> Iterator[None]:
    """Hold BLAS, OpenMP and PyTorch to a number of threads.

    PyTorch is loaded first: a library that is loaded later would not be held, and what it was built
    with threadpoolctl cannot see.
    """
    try:
        import torch
    except ImportError:
        torch = None
    before = torch.get_num_threads() if torch else 0
    with threadpool_limits(n_threads):
        if torch:
            torch.set_num_threads(n_threads)
        try:
            yield
        finally:
            if torch:
                torch.set_num_threads(before)


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function of a module in a new Python that has done nothing else."""
    silence = {"initializer": simplefilter, "initargs": ("ignore", ConvergenceWarning)}
    with ProcessPoolExecutor(1, get_context("spawn"), **silence) as executor:
        return executor.submit(function, *arguments).result()


def extra_memory(call: Call) -> float:
    """Return by how many megabytes the memory of this process grew at most during a call.

    The resident set: what the system really had to give, whoever asked for it. tracemalloc would
    see NumPy's arrays and not the buffers of BLAS, and counts what is allocated and never touched.
    Linux can forget an earlier peak; elsewhere a higher one from before hides the call's.
    """
    gc.collect()
    _return_free_memory()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = _peak()
    call()
    return (_peak() - before) / MEGABYTE


def _return_free_memory() -> None:
    """Give back what was freed and kept: a call that takes it again would seem to need nothing."""
    with suppress(AttributeError, OSError, TypeError):  # where there is no glibc
        ctypes.CDLL(None).malloc_trim(0)


def _peak() -> int:
    """Return the largest resident set of this process, in bytes."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource  # which Windows has not

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
