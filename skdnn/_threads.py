"""Threads of BLAS: more than one only where a product is large enough to gain by it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache

from threadpoolctl import ThreadpoolController

SMALL_PRODUCT = 4_000_000
"""Multiplications up to which a second thread costs more in waiting than it computes."""


def limit_blas_threads(n_multiplications: int) -> AbstractContextManager:
    """Hold BLAS to one thread if its largest product is a small one."""
    if n_multiplications > SMALL_PRODUCT:
        return nullcontext()
    return _controller().limit(limits=1, user_api="blas")


@cache
def _controller() -> ThreadpoolController:
    """Look for the libraries once; that takes milliseconds."""
    return ThreadpoolController()
