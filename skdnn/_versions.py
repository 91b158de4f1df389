"""What results and speed depend on beside this package: versions, BLAS and its kernel, threads."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from joblib import cpu_count
from threadpoolctl import threadpool_info

from ._loading import is_numba_usable
from .training.threads import resolve_n_jobs

PACKAGES = ("numpy", "scipy", "scikit-learn", "joblib", "threadpoolctl", "numba")

AVX512 = {"AVX512_SKX", "X86_V4"}
"""What NumPy calls the instructions that OpenBLAS's kernel SkylakeX needs: before 2.4, and since.

Each stands for several; on a processor that has them NumPy names at least one of the two.
"""

KERNELS_WITHOUT_AVX512 = {"haswell", "zen"}
"""OpenBLAS's kernels for AVX2, which it also takes for some processors that have AVX-512."""


def find_versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Return the version of each package; None for one that is not installed."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def find_blas() -> list[dict[str, Any]]:
    """Describe each BLAS that is loaded: NumPy and SciPy may have one each."""
    keys = ("internal_api", "version", "architecture", "num_threads", "filepath")
    return [
        {key: info[key] for key in keys if key in info}
        for info in threadpool_info()
        if info["user_api"] == "blas"
    ]


def describe_blas(library: Mapping[str, Any]) -> str:
    """Say in one line which BLAS it is, what it computes with, and where it stands."""
    kernel = library.get("architecture") or "unknown"
    return (
        f"{library['internal_api']} {library.get('version') or '?'}, kernel {kernel}, "
        f"threads: {library.get('num_threads') or '?'}, {library.get('filepath') or ''}"
    )


def cpu_features() -> set[str]:
    """Return the processor's instruction sets that NumPy was built to look for, and has found."""
    config: Any = np.show_config(mode="dicts")
    extensions = config.get("SIMD Extensions", {})
    return {name for kind in ("baseline", "found") for name in extensions.get(kind, [])}


def advise_kernel(
    features: set[str], libraries: Iterable[Mapping[str, Any]], core_type: str | None
) -> str | None:
    """Return what to set for faster products, where OpenBLAS leaves AVX-512 unused.

    Parameters
    ----------
    features : set of str
        Of the processor, as NumPy names them.
    libraries : iterable of dict
        Each BLAS, as threadpoolctl describes it.
    core_type : str or None
        The environment's OPENBLAS_CORETYPE. Whoever has set one need not be told.
    """
    kernels = {
        library.get("architecture") or ""
        for library in libraries
        if library.get("internal_api") == "openblas"
    }
    unfit = sorted(kernel for kernel in kernels if kernel.lower() in KERNELS_WITHOUT_AVX512)
    if core_type or not unfit or not features & AVX512:
        return None
    return (
        f"This processor has AVX-512, which OpenBLAS's kernel {unfit[0]} does not use. Setting the "
        "environment variable OPENBLAS_CORETYPE=SkylakeX before Python starts may double the speed "
        "of matrix products."
    )


def describe_environment() -> dict[str, Any]:
    """Return all that `show_versions` prints, as plain values."""
    from . import __version__  # which is set after this module is imported

    blas = find_blas()
    return {
        "skdnn": __version__,
        "python": platform.python_version(),
        "packages": find_versions(PACKAGES),
        "has_compiled_passes": is_numba_usable(),
        "blas": blas,
        "n_threads": resolve_n_jobs(None),
        "n_cpus": os.cpu_count(),
        "n_usable_cpus": cpu_count(),
        "advice": advise_kernel(cpu_features(), blas, os.environ.get("OPENBLAS_CORETYPE")),
    }


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
    "compiled passes" says whether numba (``pip install numba``) is there and has not failed; a
    training takes them where NumPy would take half a second or more. Threads are those that
    ``n_jobs=None`` stands for, here and now.

    Examples
    --------
    >>> from skdnn import show_versions
    >>> show_versions()  # doctest: +ELLIPSIS
    skdnn            ...
    Python           ...
    """
    found = describe_environment()
    lines = [("skdnn", found["skdnn"]), ("Python", found["python"])]
    lines += [(name, number or "not installed") for name, number in found["packages"].items()]
    lines.append(("compiled passes", "yes" if found["has_compiled_passes"] else "no"))
    lines += [("BLAS", describe_blas(library)) for library in found["blas"]]
    lines.append(("n_jobs=None", f"threads: {found['n_threads']}"))
    lines.append(("processors", f"{found['n_cpus']}, of which usable: {found['n_usable_cpus']}"))
    for name, value in lines:
        print(f"{name:16} {value}")
    if found["advice"]:
        print(f"\n{found['advice']}")
