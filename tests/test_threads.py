"""BLAS threads are held back for small products only; a crew's threads run tasks side by side."""

import threading
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from skdnn._threads import SMALL_PRODUCT, Crew, limit_blas_threads


def blas_threads() -> set[int]:
    return {info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"}


def test_small_products_run_on_one_thread_and_then_all_is_as_before():
    with threadpool_limits(2, user_api="blas"):
        with limit_blas_threads(SMALL_PRODUCT):
            assert blas_threads() == {1}
        assert blas_threads() == {2}


def test_large_products_keep_their_threads():
    with threadpool_limits(2, user_api="blas"), limit_blas_threads(SMALL_PRODUCT + 1):
        assert blas_threads() == {2}


@pytest.mark.parametrize(("n_products", "n_threads"), [(1, 1), (2, 2), (3, 3), (4, 4), (9, 4)])
def test_each_thread_has_enough_to_multiply(n_products, n_threads):
    """A product of a few times the smallest gains nothing by all threads of a large machine."""
    with threadpool_limits(4, user_api="blas"):
        if blas_threads() != {4}:
            pytest.skip("this BLAS takes no more threads than there are processors")
        for n_multiplications in ((n_products - 1) * SMALL_PRODUCT + 1, n_products * SMALL_PRODUCT):
            with limit_blas_threads(n_multiplications):
                assert blas_threads() == {n_threads}
        assert blas_threads() == {4}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("sizes", [(0, 0), (0, 2), (2, 0), (2, 2)])
def test_threads_of_blas_come_back_when_the_last_one_lets_them_go(sizes, order):
    """One that begins while another holds them must not take one thread for what was before."""
    with threadpool_limits(2, user_api="blas"):
        holds = [limit_blas_threads(size * SMALL_PRODUCT) for size in sizes]
        for hold in holds:
            hold.__enter__()
        assert blas_threads() == {max(1, min(sizes))}
        first, second = order
        holds[first].__exit__(None, None, None)
        assert blas_threads() == {max(1, sizes[second])}
        holds[second].__exit__(None, None, None)
        assert blas_threads() == {2}


def test_crew_runs_tasks_at_the_same_time_and_returns_in_order():
    """Each waits for the others, which would take forever one after the other."""
    barrier = threading.Barrier(3, timeout=10.0)

    def meet(number):
        barrier.wait()
        return number, threading.get_ident()

    with Crew(3) as crew:
        for _ in range(2):
            results = crew.run([lambda number=number: meet(number) for number in range(3)])
            assert [number for number, _ in results] == [0, 1, 2]
            assert len({thread for _, thread in results}) == 3
            assert results[0][1] == threading.get_ident()


def test_crew_of_one_calls():
    with Crew(1) as crew:
        assert crew.run([threading.get_ident]) == [threading.get_ident()]


def test_threads_end_with_their_crew():
    before = set(threading.enumerate())
    with Crew(3) as crew:
        crew.run([int] * 3)
    assert set(threading.enumerate()) <= before  # those of other tests may have ended


def test_crew_ignores_floating_point_errors_where_the_caller_does():
    def overflow():
        return np.exp(np.full(3, 1e3))

    with Crew(2) as crew:
        with np.errstate(over="ignore"):
            crew.run([overflow, overflow])
        with np.errstate(over="raise"), pytest.raises(FloatingPointError):
            crew.run([int, overflow])


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_task_that_fails_halts_the_others_and_its_error_reaches_the_caller(place, error):
    ended = []

    def fail():
        raise error("as a test")

    def work():
        started_at = time.monotonic()
        try:
            while time.monotonic() - started_at < 10.0:
                crew.check()
                time.sleep(0.001)
        finally:
            ended.append(time.monotonic() - started_at)

    with Crew(3) as crew:
        tasks = [work, work, work]
        tasks[place] = fail
        with pytest.raises(error, match="as a test"):
            crew.run(tasks)
        assert len(ended) == 2, "the others should be over when the error arrives"
        assert max(ended) < 5.0
        assert crew.run([lambda: crew.is_halted] * 3) == [False] * 3
