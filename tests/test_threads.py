"""BLAS threads are held back for small products only; a pool's threads run tasks side by side."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from skdnn.training.threads import SMALL_PRODUCT, limit_blas_threads, run_in_threads


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


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_threads_of_blas_are_held_by_any_thread_of_python(order):
    """Of which the last one, whichever it is, sets back what the first one has found."""
    holds = [limit_blas_threads(0) for _ in range(2)]

    def run_in_thread(task):
        thread = threading.Thread(target=task)
        thread.start()
        thread.join()

    with threadpool_limits(2, user_api="blas"):
        holds[0].__enter__()
        run_in_thread(holds[1].__enter__)
        assert blas_threads() == {1}
        for place, hold in enumerate(holds[i] for i in order):
            run_in_thread(lambda hold=hold: hold.__exit__(None, None, None))
            assert blas_threads() == ({1} if place == 0 else {2})
        run_in_thread(limit_blas_threads(0).__enter__)  # a thread that ended without letting go
        with limit_blas_threads(2 * SMALL_PRODUCT):
            assert blas_threads() == {2}


FORK = """
import os, sys, threading, time
from threadpoolctl import threadpool_info, threadpool_limits
from skdnn.training.threads import _lock, limit_blas_threads

def check_child():
    # In the child there is nobody else: BLAS has its threads, and can be held.
    blas = [info for info in threadpool_info() if info["user_api"] == "blas"]
    assert {info["num_threads"] for info in blas} == {2}, blas
    with limit_blas_threads(0):
        pass

threadpool_limits(2, user_api="blas")
is_held, is_over = threading.Event(), threading.Event()

def hold():
    with limit_blas_threads(0):
        with %s:
            is_held.set()
            time.sleep(0.2)
        is_over.wait()

thread = threading.Thread(target=hold)
thread.start()
is_held.wait()
child = os.fork()
if not child:
    check_child()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
is_over.set()
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.parametrize("also_held", ["_lock", "threading.Lock()"])
def test_child_forked_while_another_thread_holds_blas_is_free(also_held):
    """A lock of another thread would stay locked in the child."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK % also_held]
    subprocess.run(command, check=True, timeout=60)


def test_threads_run_tasks_at_the_same_time_one_of_them_in_the_callers():
    """Each waits for the others, which would take forever one after the other."""
    barrier, threads = threading.Barrier(3, timeout=10.0), set()

    def meet(_):
        barrier.wait()
        threads.add(threading.get_ident())

    before = set(threading.enumerate())
    run_in_threads(meet, range(6), 3)
    assert len(threads) == 3
    assert threading.get_ident() in threads
    assert set(threading.enumerate()) <= before  # those of other tests may have ended


@pytest.mark.parametrize("n_threads", [0, 1])
def test_one_thread_is_the_callers(n_threads):
    threads = []
    run_in_threads(lambda _: threads.append(threading.get_ident()), range(2), n_threads)
    assert threads == [threading.get_ident()] * 2


def test_threads_ignore_floating_point_errors_where_the_caller_does():
    def overflow(_):
        return np.exp(np.full(3, 1e3))

    with np.errstate(over="ignore"):
        run_in_threads(overflow, range(9), 2)
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        run_in_threads(overflow, range(9), 2)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_task_that_fails_is_the_last_to_begin_and_its_error_reaches_the_caller(place, error):
    done = []

    def work(item):
        if item == place:
            raise error("as a test")
        time.sleep(0.2)
        done.append(item)

    with pytest.raises(error, match="as a test"):
        run_in_threads(work, range(100), 3)
    assert len(done) <= 4, "no more should have begun"
    n_done = len(done)
    time.sleep(0.3)
    assert len(done) == n_done, "the others should be over when the error arrives"
