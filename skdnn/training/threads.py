"""Threads of BLAS, which gain on large products only, and threads that train members side by side.

Which of the two depends on the network alone, never on how many threads are asked for: BLAS rounds
differently where it takes several threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache
from threading import RLock
from typing import Any, TypeVar

from joblib import cpu_count
from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")

SMALL_PRODUCT = 4_000_000
"""Multiplications for each thread of BLAS; with fewer, it waits longer than it computes."""

# BLAS has one number of threads for the whole process: the lowest of all limits that hold now. The
# first limit saves the number from before, and the last one restores it: contexts in several
# threads that each saved and restored it would restore each other's limits.
_lock = RLock()
_limits: list[int] = []
_before: list[int] = []


@contextmanager
def limit_blas_threads(n_multiplications: int) -> Iterator[None]:
    """Limit BLAS to as many threads as its largest product is worth."""
    limit = max(1, -(-n_multiplications // SMALL_PRODUCT))
    with _lock:
        if not _limits:
            _before[:] = [library.get_num_threads() for library in _find_blas()]
        _limits.append(limit)
        _apply_limits()
    try:
        yield
    finally:
        with _lock:
            _limits.remove(limit)
            _apply_limits()


def _apply_limits() -> None:
    for library, n_before in zip(_find_blas(), _before, strict=False):
        # threadpoolctl 3.8 lets one thread of Python set OpenBLAS, and ignores any other.
        release = getattr(library, "clear_controlling_thread", lambda force: None)
        release(force=True)
        library.set_num_threads(min([n_before, *_limits]))
        release(force=True)


def _forget_limits() -> None:
    """Remove all limits in a forked process, which does not have the threads that set them."""
    _limits.clear()
    _apply_limits()
    _lock.release()


if hasattr(os, "register_at_fork"):
    # With our lock: OpenBLAS has one too, which a thread that sets its number would leave locked.
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_forget_limits
    )


@cache
def _find_blas() -> list[Any]:
    """Look for the libraries once; that takes milliseconds."""
    return ThreadpoolController().select(user_api="blas").lib_controllers


def resolve_n_jobs(n_jobs: int | None) -> int:
    """Return how many threads may be used; None stands for as many as BLAS would take.

    joblib, which runs several fits at once, environment variables and threadpoolctl all limit the
    threads of BLAS: their limit is used here too.
    """
    if n_jobs is None:
        return max((library.get_num_threads() for library in _find_blas()), default=1)
    return n_jobs if n_jobs > 0 else max(1, cpu_count() + 1 + n_jobs)


def run_in_threads(task: Callable[[Item], None], items: Iterable[Item], n_threads: int) -> None:
    """Call a task for each item: each thread, of which the caller's is one, takes the next item.

    If one fails, no other is begun, and its error is raised when all are over. Each thread has the
    context of the caller, with NumPy's handling of errors.
    """
    remaining = iter(list(items))  # a thread that is held up leaves them to the others

    def work() -> None:
        try:
            for item in remaining:
                task(item)
        except BaseException:
            list(remaining)  # which nobody begins any more
            raise

    if n_threads <= 1:
        work()
        return
    with ThreadPoolExecutor(n_threads - 1) as pool:
        others = [pool.submit(copy_context().run, work) for _ in range(n_threads - 1)]
        work()
    for other in others:
        other.result()
