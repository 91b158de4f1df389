"""BLAS threads are held back for small products only; a pool's threads run tasks side by side."""

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from itertools import count

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from skdnn.training import threads as _threads
from skdnn.training.threads import SMALL_PRODUCT, ThreadPool, limit_blas_threads


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


def hold_and_interrupt(n_lines, event):
    """Hold BLAS once; return whether a KeyboardInterrupt came after so many lines of the module."""
    lines = count(1)

    def trace(frame, kind, argument):
        if frame.f_code.co_filename != _threads.__file__:
            return None
        if kind == event and next(lines) == n_lines:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with limit_blas_threads(0):
            pass
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_interrupt_at_any_line_leaves_no_thread_of_blas_held():
    with threadpool_limits(2, user_api="blas"):
        for n_lines in count(1):
            was_interrupted = hold_and_interrupt(n_lines, "line")
            assert blas_threads() == {2}
            if not was_interrupted:
                break
        assert n_lines > 30


def test_next_hold_lifts_what_a_context_that_is_gone_has_left():
    """A frame that ends while it returns has no chance to clean up."""
    with threadpool_limits(2, user_api="blas"):
        for n_returns in count(1):
            was_interrupted = hold_and_interrupt(n_returns, "return")
            with limit_blas_threads(0):
                assert blas_threads() == {1}
            assert blas_threads() == {2}
            if not was_interrupted:
                break
        assert n_returns > 3


FORK = """
import os, sys, threading, time
from threadpoolctl import threadpool_info, threadpool_limits
from skdnn.training.threads import _BLAS, limit_blas_threads

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
@pytest.mark.parametrize("also_held", ["_BLAS.lock", "threading.Lock()"])
def test_child_forked_while_another_thread_holds_blas_is_free(also_held):
    """A lock of another thread would stay locked in the child."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK % also_held]
    subprocess.run(command, check=True, timeout=60)


def test_pool_runs_tasks_at_the_same_time_and_the_first_in_the_callers_thread():
    """Each waits for the others, which would take forever one after the other."""
    barrier = threading.Barrier(3, timeout=10.0)

    def meet(number):
        barrier.wait()
        threads[number] = threading.get_ident()

    with ThreadPool(3) as pool:
        for _ in range(2):
            threads = {}
            pool.run([lambda number=number: meet(number) for number in range(3)])
            assert len(set(threads.values())) == 3
            assert threads[0] == threading.get_ident()


def test_pool_of_one_calls():
    threads = []
    with ThreadPool(1) as pool:
        pool.run([lambda: threads.append(threading.get_ident())])
    assert threads == [threading.get_ident()]


def test_threads_end_with_their_pool():
    before = set(threading.enumerate())
    with ThreadPool(3) as pool:
        pool.run([int] * 3)
    assert set(threading.enumerate()) <= before  # those of other tests may have ended


def test_pool_ignores_floating_point_errors_where_the_caller_does():
    def overflow():
        return np.exp(np.full(3, 1e3))

    with ThreadPool(2) as pool:
        with np.errstate(over="ignore"):
            pool.run([overflow, overflow])
        with np.errstate(over="raise"), pytest.raises(FloatingPointError):
            pool.run([int, overflow])


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
                pool.check()
                time.sleep(0.001)
        finally:
            ended.append(time.monotonic() - started_at)

    with ThreadPool(3) as pool:
        tasks = [work, work, work]
        tasks[place] = fail
        with pytest.raises(error, match="as a test"):
            pool.run(tasks)
        assert len(ended) == 2, "the others should be over when the error arrives"
        assert max(ended) < 5.0
        is_halted = []
        pool.run([lambda: is_halted.append(pool.is_halted)] * 3)
        assert is_halted == [False] * 3


@pytest.mark.parametrize("n_started", [0, 1])
def test_thread_that_cannot_be_started_halts_the_others(monkeypatch, n_started):
    start, n_starts, ended = threading.Thread.start, count(), []

    def start_few(thread):
        if next(n_starts) >= n_started:
            raise RuntimeError("can't start new thread")
        start(thread)

    def work():
        started_at = time.monotonic()
        with suppress(_threads.Halted):
            while time.monotonic() - started_at < 10.0:
                pool.check()
                time.sleep(0.001)
        ended.append(time.monotonic() - started_at)

    monkeypatch.setattr(threading.Thread, "start", start_few)
    with pytest.raises(RuntimeError, match="can't start new thread"), ThreadPool(3) as pool:
        pool.run([work] * 3)
    assert all(seconds < 5.0 for seconds in ended)
