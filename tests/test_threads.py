"""BLAS threads are held back for small products only."""

from threadpoolctl import threadpool_info, threadpool_limits

from skdnn._threads import SMALL_PRODUCT, limit_blas_threads


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
