"""Threads of BLAS, which gain on large products only, and threads that train members side by side.

Which of the two depends on the network alone, never on how many threads are asked for: BLAS rounds
differently where it takes several threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import copy_context
from functools import cache
from threading import Lock
from typing import Any, Self, TypeVar

from joblib import cpu_count
from threadpoolctl import ThreadpoolController

SMALL_PRODUCT = 4_000_000
"""Multiplications that are worth a thread of BLAS; with fewer, it waits longer than it computes."""


def limit_blas_threads(n_multiplications: int) -> AbstractContextManager[None]:
    """Hold BLAS to as many threads as its largest product is worth."""
    return _HELD.hold(max(1, -(-n_multiplications // SMALL_PRODUCT)))


class _HeldThreads:
    """Threads that BLAS is held to while anyone is in a context, in whichever thread of Python.

    BLAS has one number of threads for the whole process. It is the lowest that anyone asks for; the
    first one in remembers what it was, and the last one out sets it back. Each for itself would set
    back what another has changed it to.
    """

    def __init__(self) -> None:
        self._lock, self._bounds = Lock(), list[int]()
        self._before: list[tuple[Any, int]] = []  # each library, and its number of threads

    @contextmanager
    def hold(self, n_threads: int) -> Iterator[None]:
        with self._lock:
            if not self._bounds:
                self._before = [(library, library.num_threads) for library in _blas_libraries()]
            self._bounds.append(n_threads)
            self._apply()
        try:
            yield
        finally:
            with self._lock:
                self._bounds.remove(n_threads)
                self._apply()

    def _apply(self) -> None:
        for library, n_before in self._before:
            n_threads = min([n_before, *self._bounds])
            if library.num_threads != n_threads:
                library.set_num_threads(n_threads)


_HELD = _HeldThreads()


def resolve_n_jobs(n_jobs: int | None) -> int:
    """Return how many threads may be used; None stands for as many as BLAS would take.

    Whoever runs several fits at once, as joblib does, or limits threads by the environment or by
    threadpoolctl, has told BLAS, and need not tell it again.
    """
    if n_jobs is None:
        return max((library.num_threads for library in _blas_libraries()), default=1)
    return n_jobs if n_jobs > 0 else max(1, cpu_count() + 1 + n_jobs)


Result = TypeVar("Result")


class Halted(Exception):  # noqa: N818 - nobody sees it: what has failed is raised instead
    """Ends a task whose result nobody needs, as another has failed."""


class Crew:
    """Threads that run tasks side by side: the caller's own, and others that wait between calls.

    Parameters
    ----------
    n_threads : int
        With the caller's.

    Attributes
    ----------
    is_halted : bool
        Whether a task has failed: the others should come to an end, as nobody needs their results.
    """

    def __init__(self, n_threads: int) -> None:
        self.is_halted = False
        self._executor = ThreadPoolExecutor(n_threads - 1) if n_threads > 1 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor is not None:
            self._executor.shutdown()

    def run(self, tasks: Sequence[Callable[[], Result]]) -> list[Result]:
        """Run as many tasks as there are threads; return when all are over.

        Each has the context of the caller, with NumPy's handling of errors.
        """
        first, *others = tasks
        if self._executor is None:
            return [first()]
        self.is_halted = False
        futures = [
            self._executor.submit(copy_context().run, self._run_or_halt, task) for task in others
        ]
        try:
            with suppress(Halted):
                own = self._run_or_halt(first)
            for error in [future.exception() for future in futures]:
                if error is not None and not isinstance(error, Halted):
                    raise error
            return [own, *(future.result() for future in futures)]
        except BaseException:
            self.is_halted = True
            raise
        finally:
            wait(futures)

    def check(self) -> None:
        """Raise Halted if a task has failed."""
        if self.is_halted:
            raise Halted

    def _run_or_halt(self, task: Callable[[], Result]) -> Result:
        try:
            return task()
        except BaseException:
            self.is_halted = True
            raise


@cache
def _blas_libraries() -> list[Any]:
    """Look for the libraries once; that takes milliseconds."""
    return ThreadpoolController().select(user_api="blas").lib_controllers
