"""What results and speed depend on beside this package: versions, BLAS and its kernel, threads."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from joblib import cpu_count
from threadpoolctl import threadpool_info

from .engine.loading import is_numba_usable
from .training.threads import resolve_n_jobs

PACKAGES = ("numpy", "scipy", "scikit-learn", "joblib", "threadpoolctl", "numba")

AVX512 = {"AVX512_SKX", "X86_V4"}
"""What NumPy calls the instructions that OpenBLAS's kernel SkylakeX needs: before 2.4, and since.

Each stands for several; on a processor that has them NumPy names at least one of the two.
"""

KERNELS_WITHOUT_AVX512 = {"haswell", "zen"}
"""OpenBLAS's kernels for AVX2, which it also takes for some processors that have AVX-512."""


def show_versions():
    """Print what results and speed depend on beside this package.

    Versions, the BLAS that NumPy and SciPy compute matrix products with and the kernel that it has
    chosen for the processor, and threads: put it into a report of a bug, and look here first where
    training is slow. On a processor with AVX-512 that OpenBLAS does not make use of, it says what
    to set.

    See Also
    --------
    sklearn.show_versions : The same for scikit-learn, with all that it builds on.

    Notes
    -----
    "compiled kernels" says whether numba (``pip install numba``) is there and has not failed; a
    training runs by them where NumPy would take half a second or more. Threads are those that
    ``n_jobs=None`` stands for, here and now.

    Examples
    --------
    >>> from skdnn import show_versions
    >>> show_versions()  # doctest: +ELLIPSIS
    skdnn            ...
    Python           ...
    """
    from . import __version__  # which is set after this module is imported

    libraries = [info for info in threadpool_info() if info["user_api"] == "blas"]
    lines = [("skdnn", __version__), ("Python", platform.python_version())]
    lines += [(name, find_version(name) or "not installed") for name in PACKAGES]
    lines.append(("compiled kernels", "yes" if is_numba_usable() else "no"))
    for blas in libraries:  # NumPy and SciPy may have one each
        text = (
            f"{blas['internal_api']} {blas.get('version') or '?'}, "
            f"kernel {blas.get('architecture') or 'unknown'}, "
            f"threads: {blas.get('num_threads') or '?'}, {blas.get('filepath') or ''}"
        )
        lines.append(("BLAS", text))
    lines.append(("n_jobs=None", f"threads: {resolve_n_jobs(None)}"))
    lines.append(("processors", f"{os.cpu_count()}, of which usable: {cpu_count()}"))
    for name, value in lines:
        print(f"{name:16} {value}")
    kernels = [i.get("architecture") or "" for i in libraries if i["internal_api"] == "openblas"]
    unfit = sorted(kernel for kernel in kernels if kernel.lower() in KERNELS_WITHOUT_AVX512)
    # Whoever has set a kernel need not be told.
    if unfit and find_cpu_features() & AVX512 and "OPENBLAS_CORETYPE" not in os.environ:
        print(
            f"\nThis processor has AVX-512, which OpenBLAS's kernel {unfit[0]} does not use. "
            "Setting the environment variable OPENBLAS_CORETYPE=SkylakeX before Python starts may "
            "double the speed of matrix products."
        )


def find_version(package: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def find_cpu_features() -> set[str]:
    """Return the processor's instruction sets that NumPy was built to look for, and has found."""
    config: Any = np.show_config(mode="dicts")
    extensions = config.get("SIMD Extensions", {})
    return {name for kind in ("baseline", "found") for name in extensions.get(kind, [])}
