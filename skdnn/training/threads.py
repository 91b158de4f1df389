"""Threads of BLAS, which gain on large products only, and threads that train members side by side.

Which of the two depends on the network alone, never on how many threads are asked for: BLAS rounds
differently where it takes several threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import cache
from itertools import product
from threading import RLock
from typing import Any, NamedTuple, Self
from weakref import WeakSet

from joblib import cpu_count
from threadpoolctl import ThreadpoolController

SMALL_PRODUCT = 4_000_000
"""Multiplications for each thread of BLAS; with fewer, it waits longer than it computes."""


@contextmanager
def limit_blas_threads(n_multiplications: int) -> Iterator[None]:
    """Limit BLAS to as many threads as its largest product is worth."""
    limit = _Limit(max(1, -(-n_multiplications // SMALL_PRODUCT)))
    try:
        try:
            _BLAS.add(limit)
            yield
        finally:
            _BLAS.remove(limit)
    finally:  # again, as an interrupt may have come in the middle of the first
        _BLAS.remove(limit)


class _Limit:
    """A limit on the threads of BLAS, as long as this object lives."""

    def __init__(self, n_threads: int) -> None:
        self.n_threads = n_threads


class _BlasThreads:
    """All limits on the number of threads of BLAS, which is one for the whole process.

    It is the lowest of the limits. The first limit saves the number from before, and the last one
    restores it: contexts in several threads that each saved and restored it would restore each
    other's limits.

    A KeyboardInterrupt may come between any two steps, the handler of a signal may predict too, and
    the process may be forked at any time. So each step may be repeated, and references to limits
    are weak: a limit ends with its context, however that ends.
    """

    def __init__(self) -> None:
        self.lock, self._limits = RLock(), WeakSet[_Limit]()
        self._before: list[tuple[_Library, int]] = []  # and their numbers of threads

    # Locks are held on one line: what interrupts between lines, as tracers may, must not keep them.

    def add(self, limit: _Limit) -> None:
        with self.lock: self._add(limit)  # fmt: skip # noqa: E701

    def remove(self, limit: _Limit) -> None:
        with self.lock: self._limits.discard(limit); self._apply()  # fmt: skip # noqa: E701, E702

    def forget(self) -> None:
        """Remove all limits in a forked process, which does not have the threads that set them."""
        self.lock, self._limits = RLock(), WeakSet()
        self._apply()

    def _add(self, limit: _Limit) -> None:
        self._apply()  # sets back what an interrupt has left, if no limit is live
        if not self._before:
            self._before = [(library, library.get()) for library in _blas_libraries()]
        self._limits.add(limit)
        self._apply()

    def _apply(self) -> None:
        """Give each library its number of threads, but no more than any limit."""
        limits = [limit.n_threads for limit in self._limits]
        for library, n_before in self._before:
            library.set(min([n_before, *limits]))
        if not limits:
            self._before = []


_BLAS = _BlasThreads()
if hasattr(os, "register_at_fork"):
    # With our lock: OpenBLAS has one too, which a thread that sets its number would leave locked.
    os.register_at_fork(
        before=lambda: _BLAS.lock.acquire(),
        after_in_parent=lambda: _BLAS.lock.release(),
        after_in_child=_BLAS.forget,
    )


def resolve_n_jobs(n_jobs: int | None) -> int:
    """Return how many threads may be used; None stands for as many as BLAS would take.

    joblib, which runs several fits at once, environment variables and threadpoolctl all limit the
    threads of BLAS: their limit is used here too.
    """
    if n_jobs is None:
        return max((library.get() for library in _blas_libraries()), default=1)
    return n_jobs if n_jobs > 0 else max(1, cpu_count() + 1 + n_jobs)


class Halted(Exception):  # noqa: N818 - never seen by users: the error of the failed task is raised
    """Ends a task whose result is not needed, as another has failed."""


class ThreadPool:
    """Threads that run tasks side by side: the caller's own, and others that wait between calls.

    Parameters
    ----------
    n_threads : int
        With the caller's.

    Attributes
    ----------
    is_halted : bool
        Whether a task has failed: the others should end, as their results are not needed.
    """

    def __init__(self, n_threads: int) -> None:
        self.is_halted = False
        self._executor = ThreadPoolExecutor(n_threads - 1) if n_threads > 1 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def run(self, tasks: Sequence[Callable[[], Any]]) -> None:
        """Run as many tasks as there are threads; return when all are over.

        Each has the context of the caller, with NumPy's handling of errors.
        """
        first, *others = tasks
        if self._executor is None:
            first()
            return
        self.is_halted = False
        futures: list[Future[Any]] = []
        try:
            for task in others:  # which fails where no more threads can be started
                call = copy_context().run
                futures.append(self._executor.submit(call, self._run_or_halt, task))
            with suppress(Halted):
                self._run_or_halt(first)
            for error in [future.exception() for future in futures]:
                if error is not None and not isinstance(error, Halted):
                    raise error
        except BaseException:
            self.is_halted = True
            raise
        finally:
            wait(futures)

    def check(self) -> None:
        """Raise Halted if a task has failed."""
        if self.is_halted:
            raise Halted

    def _run_or_halt(self, task: Callable[[], Any]) -> None:
        try:
            task()
        except BaseException:
            self.is_halted = True
            raise


class _Library(NamedTuple):
    """What gets and sets the number of threads of a BLAS."""

    get: Callable[[], int]
    set: Callable[[int], Any]


@cache
def _blas_libraries() -> list[_Library]:
    """Look for the libraries once; that takes milliseconds."""
    controllers = ThreadpoolController().select(user_api="blas").lib_controllers
    return [_find_functions(controller) for controller in controllers]


def _find_functions(controller: Any) -> _Library:
    """Return the functions of a library itself where it is OpenBLAS with threads of its own.

    threadpoolctl lets one thread of Python set them, and does nothing, silently, in any other.
    """
    if getattr(controller, "threading_layer", None) == "pthreads":
        for prefix, suffix in product(("", "scipy_"), ("", "64_", "_64")):
            get, set_ = (
                getattr(controller.dynlib, f"{prefix}openblas_{verb}_num_threads{suffix}", None)
                for verb in ("get", "set")
            )
            if get is not None and set_ is not None:
                return _Library(get, set_)
    return _Library(controller.get_num_threads, controller.set_num_threads)
